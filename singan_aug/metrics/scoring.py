"""Every measure of files: what each scores against its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as functional
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.images import load_image, quiet_decoding, to_signed, to_unit
from singan_aug.metrics.coherence import KnownPatches, incoherence
from singan_aug.metrics.diversity import Deviation
from singan_aug.metrics.frechet import InceptionStem, sifid
from singan_aug.metrics.patches import nearest_copy, patch_distance
from singan_aug.metrics.perceptual import LpipsAlex, lpips
from singan_aug.metrics.weights import ALEX, STEM

__all__ = ["MEASURES", "Networks", "Scored", "score_files"]

MEASURES = ("sifid_64", "sifid_192", "lpips", "patch_distance", "copy_distance", "copied_ratio", "incoherence")
BATCH = 8  # images of one size that are held and scored at once
Values = dict[str, float]
Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Networks:
    """What SIFID and LPIPS see with."""

    stems: tuple[InceptionStem, InceptionStem]  # 64 and 192 channels
    alex: LpipsAlex

    @classmethod
    def load(cls, folder: Path) -> Networks:
        """Of the files that `fetch_weights` writes. Raises `ConfigError` where they are missing or others."""
        stems = InceptionStem.load(folder / STEM), InceptionStem.load(folder / STEM, 192)
        return cls(stems, LpipsAlex.load(folder / ALEX))


@dataclass
class Scored:
    """What the fakes of one real image score."""

    real: Path
    values: dict[Path, Values] = field(default_factory=dict)  # of each fake; without what could not be measured
    pixel_diversity: float | None = None  # of all its fakes; None for one alone, or of several sizes
    lpips_between: float | None = None  # mean over neighbours in the order of names; None where there are none
    failed: dict[Path, str] = field(default_factory=dict)  # files that are no images, and why
    notes: dict[str, None] = field(default_factory=dict)  # what was left out or to be read with care


def score_files(
    real: Path, fakes: Sequence[Path], networks: Networks | None, on_image: Callable[[], None] = lambda: None
) -> Scored:
    """All measures of each fake, as `MEASURES` names them; without networks those that need none.

    LPIPS to the source compares at the real image's size (bicubic, antialiased), every other measure as the files are.
    Images are read a few at a time, however many there are. A file that is no image is named in `failed`.
    """
    scored = Scored(real)
    try:
        source = _unit(real)
    except (ImageError, OSError) as error:
        scored.failed[real] = str(error)
        return scored
    measures = _Measures(source, networks, scored.notes)
    deviation, between = Deviation(), list[float]()
    sizes, last = set[tuple[int, ...]](), None
    for paths, images in _batches(fakes, scored.failed):
        for path, values in zip(paths, measures.of(images), strict=True):
            scored.values[path] = values
            on_image()
        sizes.add(tuple(images.shape[-2:]))
        if len(sizes) == 1:
            deviation.add(images)
        together = images if last is None or last.shape != images[:1].shape else torch.cat([last, images])
        between += measures.between(together)
        last = images[-1:]
    if between:
        scored.lpips_between = sum(between) / len(between)
    if len(sizes) > 1:
        scored.notes["no pixel diversity where the fakes of one image are of several sizes"] = None
    elif deviation.count > 1:
        try:
            scored.pixel_diversity = deviation.ratio_to(source)
        except ImageError as error:
            scored.notes[f"no pixel diversity: {error}"] = None
    return scored


class _Measures:
    """Of images of one size against one source, as far as they can be taken; `notes` says what cannot, and why."""

    def __init__(self, source: Tensor, networks: Networks | None, notes: dict[str, None]) -> None:
        self._source, self._networks, self._notes = source, networks, notes
        self._known = self._taken("incoherence", lambda: KnownPatches.of(source))

    def of(self, fakes: Tensor) -> list[Values]:
        """Of each image of [N, C, H, W] in [0, 1] its measures by name."""
        source, networks, known = self._source, self._networks, self._known
        columns: dict[str, Tensor | None] = {}
        if networks is not None:
            columns["sifid_64"] = self._taken("sifid_64", lambda: sifid(source, fakes, networks.stems[0]))
            columns["sifid_192"] = self._taken("sifid_192", lambda: sifid(source, fakes, networks.stems[1]))
            columns["lpips"] = self._taken("lpips", lambda: lpips(source, self._at_source_size(fakes), networks.alex))
        columns["patch_distance"] = self._taken("patch_distance", lambda: patch_distance(source, fakes))
        copies = self._taken("copy_distance", lambda: nearest_copy(source, fakes))
        columns["copy_distance"], columns["copied_ratio"] = copies or (None, None)
        if known is not None:
            columns["incoherence"] = self._taken("incoherence", lambda: incoherence(known, fakes))
        there: dict[str, list[float]] = {name: found.tolist() for name, found in columns.items() if found is not None}
        return [{name: found[i] for name, found in there.items()} for i in range(len(fakes))]

    def between(self, fakes: Tensor) -> list[float]:
        """LPIPS of each two neighbours."""
        alex = None if self._networks is None else self._networks.alex
        if alex is None or len(fakes) < 2:
            return []
        found = self._taken("lpips between fakes", lambda: lpips(fakes[:-1], fakes[1:], alex))
        return [] if found is None else found.tolist()

    def _at_source_size(self, fakes: Tensor) -> Tensor:
        size = self._source.shape[-2:]
        if fakes.shape[-2:] == size:
            return fakes
        note = "some files are of another size than their source: LPIPS compares at the source's, all else as they are"
        self._notes[note] = None
        return functional.interpolate(fakes, size, mode="bicubic", antialias=True).clamp(0, 1)

    def _taken(self, name: str, measure: Callable[[], Measured]) -> Measured | None:
        """None, and a note, where the images are too small for it."""
        try:
            return measure()
        except ImageError as error:
            self._notes[f"no {name}: {error}"] = None
            return None


def _batches(paths: Sequence[Path], failed: dict[Path, str]) -> Iterator[tuple[list[Path], Tensor]]:
    """Neighbours of one size, [N, 1 or 3, H, W] in [0, 1]."""
    held: list[tuple[Path, Tensor]] = []
    for path in paths:
        try:
            image = _unit(path)
        except (ImageError, OSError) as error:
            failed[path] = str(error)
            continue
        if held and (len(held) == BATCH or held[0][1].shape != image.shape):
            yield [path for path, _ in held], torch.cat([image for _, image in held])
            held = []
        held.append((path, image))
    if held:
        yield [path for path, _ in held], torch.cat([image for _, image in held])


def _unit(path: Path) -> Tensor:
    """[1, 1 or 3, H, W] in [0, 1]."""
    try:
        with quiet_decoding():
            return to_unit(to_signed(load_image(path).pixels))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
