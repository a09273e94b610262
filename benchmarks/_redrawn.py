"""Harmonized, edited and filled images beside plain pasting (or a smooth filling) and the input: measured, and seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import singan_aug
from benchmarks._photos import images_in, opened, unit
from benchmarks._result import Row, say
from singan_aug import fast, fit, tasks
from singan_aug.images import resize_pixels, to_pixels, unit_to_pil
from singan_aug.metrics import LpipsAlex, lpips
from singan_aug.pyramid.copied.region import grown

__all__ = ["PHOTOS", "Case", "authors_cases", "packaged_cases", "redrawn"]

PHOTOS = Path(singan_aug.__file__).parent / "photos"
PATCH_PX = 7
REACH_PX = 4  # of patches whose middle is so near to the edge of a mask, the distance to the source counts
LOOKED_AT = 300  # of these patches, at most
CHANGED_PX = {"harmonize": 7, "edit": 10, "inpaint": 2}  # beyond the mask
HOLES = ((0.35, 0.55, 0.2, 0.4), (0.6, 0.8, 0.55, 0.8))  # top, bottom, left, right, as shares of the sides
SHOWN_PX = 160  # height of a picture on the sheet


@dataclass(frozen=True, eq=False)
class Case:
    """One image to redraw."""

    task: str
    of: str  # whose input it is
    name: str
    source: Image.Image  # what is fitted
    given: Image.Image  # with the object pasted, or parts moved; for a hole the source
    mask: Image.Image


def authors_cases(folder: Path) -> list[Case]:
    """Of SinGAN's authors, out of a folder of inputs/, editing/ and harmonization/; holes in three of their inputs."""
    cases = []
    for task, name in (("edit", "stone"), ("edit", "tree"), ("harmonize", "starry_night"), ("harmonize", "tree")):
        place = folder / {"edit": "editing", "harmonize": "harmonization"}[task]
        stem = {"edit": f"{name}_edit", "harmonize": name if name == "tree" else f"{name}_naive"}[task]
        given, mask = (opened(next(place.glob(f"{stem}{end}.*"))) for end in ("", "_mask"))
        source = given if (task, name) == ("harmonize", "tree") else opened(folder / "inputs" / f"{name}.png")
        cases.append(Case(task, "SinGAN's authors", name, source, given, mask))
    for name, hole in (("stone", (60, 110, 20, 60)), ("trees3", (30, 110, 20, 60)), ("cows", (90, 135, 60, 130))):
        source = opened(folder / "inputs" / f"{name}.png")
        height, width = fit(source, fast()).size
        shares = (hole[0] / height, hole[1] / height, hole[2] / width, hole[3] / width)
        cases.append(Case("inpaint", "SinGAN's authors", name, source, source, _rectangle(source, shares)))
    return cases


def packaged_cases() -> list[Case]:
    """The same on the photos that come with the package: two objects pasted, two edits, and two holes in each photo."""
    photos = {path.stem: opened(path) for path in images_in(PHOTOS)}
    cases = [
        _pasted(photos["landscape"], "a flower in the landscape", photos["dandelion"], (0.13, 0.1, 0.42, 0.6)),
        _pasted(photos["dandelion"], "a cup on the meadow", photos["coffee"], (0.2, 0.05, 0.75, 0.75)),
        _moved(photos["landscape"], "landscape", (0.15, 0.2, 0.45, 0.5), (0.6, 0.35)),
        _moved(photos["dandelion"], "dandelion", (0.77, 0.6, 1.0, 0.93), (0.5, 0.39)),
    ]
    for name, photo in photos.items():
        for i, hole in enumerate(HOLES):
            cases.append(Case("inpaint", "the package", f"{name} {i}", photo, photo, _rectangle(photo, hole)))
    return cases


def _rectangle(image: Image.Image, shares: tuple[float, float, float, float]) -> Image.Image:
    mask = Image.new("L", image.size)
    top, bottom = (round(share * image.height) for share in shares[:2])
    left, right = (round(share * image.width) for share in shares[2:])
    ImageDraw.Draw(mask).rectangle((left, top, right - 1, bottom - 1), fill=255)
    return mask


def _box(image: Image.Image, shares: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = shares
    width, height = image.size
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def _pasted(into: Image.Image, name: str, of: Image.Image, shares: tuple[float, float, float, float]) -> Case:
    """An ellipse out of one photo, at half its size, in the middle of another, below."""
    box = _box(of, shares)
    cut = of.crop(box).resize(((box[2] - box[0]) // 2, (box[3] - box[1]) // 2), Image.Resampling.LANCZOS)
    place = ((into.width - cut.width) // 2, round(into.height * 0.9) - cut.height)
    mask, given = Image.new("L", into.size), into.copy()
    corner = (place[0] + cut.width - 1, place[1] + cut.height - 1)
    ImageDraw.Draw(mask).ellipse((*place, *corner), fill=255)
    given.paste(cut, place, mask.crop((*place, corner[0] + 1, corner[1] + 1)))
    return Case("harmonize", "the package", name, into, given, mask)


def _moved(image: Image.Image, name: str, shares: tuple[float, float, float, float], to: tuple[float, float]) -> Case:
    box = _box(image, shares)
    place = (round(to[0] * image.width), round(to[1] * image.height))
    given, mask = image.copy(), Image.new("L", image.size)
    given.paste(image.crop(box), place)
    ImageDraw.Draw(mask).rectangle((*place, place[0] + box[2] - box[0] - 1, place[1] + box[3] - box[1] - 1), fill=255)
    return Case("edit", "the package", name, image, given, mask)


def redrawn(cases: Sequence[Case], network: LpipsAlex | None, sheet: Path | None) -> list[Row]:
    """A row of each; on the sheet, if one is wanted, a line of each: source, plain, redrawn."""
    rows, lines = [], []
    for case in cases:
        row, pictures = _measured(case, network)
        rows.append(row)
        lines.append([_shown(pictures[name]) for name in ("input", "plain", "task")])
        say(f"{case.task} {case.name}")
    if sheet is not None:
        _write_sheet(lines, sheet)
    return rows


def _measured(case: Case, network: LpipsAlex | None) -> tuple[Row, dict[str, Tensor]]:
    pyramid = fit(case.source, fast())
    own, given = (
        unit(Image.fromarray(resize_pixels(to_pixels(each), pyramid.size))) for each in (case.source, case.given)
    )
    region = torch.from_numpy(resize_pixels(to_pixels(case.mask), pyramid.size).max(-1) > 127)
    started_sec = time.process_time()
    made = getattr(tasks, case.task)(pyramid, given[0], region)
    spent_sec = time.process_time() - started_sec
    plain = _biharmonic(own, region) if case.task == "inpaint" else given
    pictures = {"plain": plain, "task": made, "input": own}
    row: Row = {"what": case.task, "of": case.of, "image": case.name, "process_sec": spent_sec}
    row |= {"mask_share": float(region.float().mean())}
    row |= {f"{which}_edge": _edge_distance(picture, own, region) for which, picture in pictures.items()}
    outside = torch.where(grown(region, CHANGED_PX[case.task]), given, made)
    row["changed_outside"] = float((outside - given).abs().max())
    if network is not None:
        row["lpips_outside"] = float(lpips(outside, given, network))
        row |= {f"{which}_lpips": float(lpips(pictures[which], own, network)) for which in ("plain", "task")}
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}, pictures


def _biharmonic(own: Tensor, region: Tensor) -> Tensor:
    from skimage.restoration import inpaint_biharmonic

    smooth = inpaint_biharmonic(own[0].movedim(0, -1).numpy(), region.numpy(), channel_axis=-1)
    return torch.from_numpy(np.clip(smooth, 0, 1)).float().movedim(-1, 0)[None]


def _edge_distance(picture: Tensor, source: Tensor, region: Tensor) -> float:
    """Mean root mean square difference, in 8-bit steps, of patches at a mask's edge from the most similar ones of the
    source that do not overlap them."""
    edge = grown(region, REACH_PX) & grown(~region, REACH_PX)
    half = PATCH_PX // 2
    edge[:half], edge[-half:], edge[:, :half], edge[:, -half:] = False, False, False, False
    shown, known = (torch.nn.functional.unfold(each, PATCH_PX, padding=half)[0].T for each in (picture, source))
    height, width = region.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inner = (rows >= half) & (rows < height - half) & (columns >= half) & (columns < width - half)
    places = inner.flatten().nonzero()[:, 0]
    found = []
    looked_at = edge.flatten().nonzero()[:, 0]
    for some in looked_at[:: len(looked_at) // LOOKED_AT + 1].split(128):
        apart = torch.cdist(shown[some], known[places])
        near = ((some // width)[:, None] - places // width).abs() < PATCH_PX
        near &= ((some % width)[:, None] - places % width).abs() < PATCH_PX
        found.append(apart.masked_fill(near, torch.inf).amin(1))
    return float(torch.cat(found).mean() * 255 / known.shape[1] ** 0.5)


def _shown(picture: Tensor) -> Image.Image:
    image = unit_to_pil(picture[0]).convert("RGB")
    return image.resize((round(image.width * SHOWN_PX / image.height), SHOWN_PX), Image.Resampling.LANCZOS)


def _write_sheet(lines: Sequence[Sequence[Image.Image]], path: Path) -> None:
    """Two lines side by side."""
    width = max(image.width for line in lines for image in line) + 4
    sheet = Image.new("RGB", (6 * width + 12, (len(lines) + 1) // 2 * (SHOWN_PX + 4)), "white")
    for i, line in enumerate(lines):
        for j, image in enumerate(line):
            sheet.paste(image, ((i % 2 * 3 + j) * width + i % 2 * 12, i // 2 * (SHOWN_PX + 4)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=80)
