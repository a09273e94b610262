"""What to do with such a folder: rules that rest on what was measured, each with the row it rests on."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from singan_aug.advise._look import Composition, Sight, look
from singan_aug.errors import ImageError
from singan_aug.fitting import fit
from singan_aug.presets import preset
from singan_aug.pyramid import trace
from singan_aug.pyramid.sizes import DEFAULT_START, resolve_start_scale

__all__ = ["Advice", "Line", "advise"]

DRAWS = 4  # timed, of each example
LIVE_MS = 3.0  # a draw that takes longer holds a loader up
FEW_MASKS, FEW_A_CLASS, FEW_SURFACES = 20, 25, 10  # images up to which something was gained


@dataclass(frozen=True)
class Line:
    """One word of advice."""

    about: str  # worth trying, preset, start scale, p, live or bank, cost; with masks labels, confine, paste
    say: str
    because: str  # what it rests on: a row of docs/when-it-helps.md or a page of figures


@dataclass(frozen=True)
class Advice:
    """What to do with a folder."""

    seen: str
    worth_it: bool
    preset: str
    start_scale: str
    p: float
    lines: tuple[Line, ...]

    def to_json(self) -> str:
        """All of it, for scripts."""
        return json.dumps(asdict(self), indent=1)


def advise(folder: Path | str, *, composition: Composition | None = None) -> Advice:
    """Look at a folder, fit a handful of its images, and say whether variants are worth while, and which.

    Args:
        folder: images in folders of classes, or with masks as `singan-aug fit` finds them, or neither.
        composition: what the images show, where the guess is wrong: "fixed" (writing, aligned parts), "surfaces",
            "thin structures" (vessels, membranes) or "objects".

    Raises `ImageError` where there are no images that can be read, `LabelError` for broken labels.
    """
    sight = look(Path(folder), composition=composition)
    worth_it, why = _worth_trying(sight)
    name = "smooth" if sight.composition in ("fixed", "thin structures") else "fast"
    p = 1.0 if sight.composition == "fixed" and sight.per_class <= 5 and not sight.masks else 0.5
    fit_sec, draw_ms, stored = _cost(sight, name)
    total_sec = fit_sec * len(sight.images)
    lines = [
        Line("worth trying", "yes" if worth_it else "no", why),
        Line("preset", name, _WHY_PRESET[sight.composition]),
        Line("start scale", DEFAULT_START, "coarser ones gained no more and harmed more often (when-it-helps.md)"),
        Line("p", f"{p:g}", _why_p(p)),
        _live_or_bank(sight, draw_ms),
        Line(
            "cost",
            f"{total_sec:.0f} processor-seconds to fit all, {stored / 1e6:.0f} MB, {draw_ms:.1f} ms a draw",
            f"measured here on {len(sight.examples)} of the images",
        ),
    ]
    return Advice(_seen(sight), worth_it, name, DEFAULT_START, p, (*lines, *_of_masks(sight)))


def _of_masks(sight: Sight) -> list[Line]:
    if not sight.masks:
        return []
    lines = [
        Line(
            "labels",
            "fit with the masks, which are carried along",
            "left behind they lost most of the gain (downstream.md: horses)",
        ),
        Line("confine", "no", "of horses' backgrounds it gained nothing (downstream.md: horses128-learned)"),
    ]
    if sight.composition == "objects" and sight.masks <= FEW_MASKS:
        lines.append(
            Line(
                "paste",
                "try SinGANPaste too, beside flips, affine and colour",
                "pasted figures gained more there than variants (downstream.md: horses128, horses128-paste)",
            )
        )
    return lines


def _seen(sight: Sight) -> str:
    height, width = sight.size
    labels = f"{sight.masks} with masks" if sight.masks else "no masks"
    if sight.classes:
        labels = f"{len(sight.classes)} classes, {sight.per_class} images in the smallest"
    return f"{len(sight.images)} images, about {width}x{height} px, {labels}; taken for: {sight.composition}"


def _worth_trying(sight: Sight) -> tuple[bool, str]:
    count, shown = sight.per_class, sight.composition
    if sight.masks:
        if shown == "thin structures":
            return False, (
                "with 2 images membranes gained nothing on top of flips and turns (-0.8 to 0.1 points of Dice), nor "
                "vessels on top of flips, affine and colour changes (-1.0 to 1.5; "
                "downstream.md: membranes, vessels-long)"
            )
        if sight.masks <= FEW_MASKS:
            return True, (
                "+3 to +5 points of IoU over no augmentation, +3 over mirroring, with 20 masks of horses; nothing on "
                "top of crops and colour: leave these out (downstream.md: horses, horses-long)"
            )
        return (
            False,
            f"more than {FEW_MASKS} masks were not measured; a trial on them tells (--train)",
        )
    if shown == "fixed" and count <= FEW_A_CLASS:
        return True, "+16 points with 5 images a class, +9 with 10, +3 with 25, alone (downstream.md: digits)"
    if shown == "surfaces" and count <= FEW_SURFACES:
        return True, (
            "+1 to +4 points where flips and crops harm; nothing on top of these "
            "(downstream.md: defects, defects-learned)"
        )
    if shown in ("fixed", "surfaces"):
        return (
            False,
            f"with {count} images a class or more nothing was gained, or not measured (downstream.md)",
        )
    if not sight.classes:
        return False, "no labels were found: what variants do without a task was not measured"
    return False, (
        "photos of scenes, flowers and animals gained nothing on top of the usual augmentation with 1 to 25 images a "
        "class (downstream.md: scenes, flowers, cifar)"
    )


_WHY_PRESET: dict[Composition, str] = {
    "fixed": "strokes bend instead of being cut: 4 points on digits (downstream.md: digits, digits-fast)",
    "thin structures": "walls and vessels stay whole from the finest scale (benchmarks.md: topology)",
    "surfaces": (
        'the default; with 2 images of each class `learned` from "coarse" gained 2 points more on steel, for a second '
        "an image (downstream.md: defects, defects-learned)"
    ),
    "objects": "the default; measured on horses and photos (downstream.md)",
}


def _why_p(p: float) -> str:
    if p == 1:
        return "all replaced: +17.6 points with 5 images a class instead of +16 (downstream.md: digits)"
    return "with all images replaced networks learned less but for writing (when-it-helps.md)"


def _live_or_bank(sight: Sight, draw_ms: float) -> Line:
    if sight.masks:
        return Line("live or bank", "live", "a bank holds images alone; masks are carried by live draws (labels.md)")
    if draw_ms > LIVE_MS:
        return Line("live or bank", "bank", f"a draw takes {draw_ms:.1f} ms here; a bank only reads (bank.md)")
    return Line("live or bank", "live", f"a draw takes {draw_ms:.1f} ms here, and is another one each time")


def _cost(sight: Sight, name: str) -> tuple[float, float, float]:
    """Process seconds of a fit, milliseconds of a draw, and bytes of all pyramids, from the examples."""
    fits, draws, sizes = [], [], []
    for pixels, mask in sight.examples:
        try:
            started_sec = time.process_time()
            pyramid = fit(pixels, preset(name), mask=mask)
        except ImageError:  # one that is too small or of one colour; `singan-aug fit` names it
            continue
        fits.append(time.process_time() - started_sec)
        start = resolve_start_scale(DEFAULT_START, len(pyramid))
        trace(pyramid, 1, start)  # what is made once
        started_sec = time.process_time()
        trace(pyramid, DRAWS, start)
        draws.append((time.process_time() - started_sec) * 1000 / DRAWS)
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in pyramid.tensors().values()))
    if not fits:
        raise ImageError(f"expected images that can be fitted in {sight.folder}, got none of those looked at")
    fits.sort()
    return fits[len(fits) // 2], sum(draws) / len(draws), len(sight.images) * sum(sizes) / len(sizes)
