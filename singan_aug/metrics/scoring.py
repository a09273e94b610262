"""Every measure of files: which belong together, and what each scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.images import IMAGE_SUFFIXES, load_image, quiet_decoding, to_signed, to_unit
from singan_aug.metrics.diversity import pixel_diversity
from singan_aug.metrics.frechet import InceptionStem, sifid
from singan_aug.metrics.patches import nearest_copy, patch_distance
from singan_aug.metrics.perceptual import LpipsAlex, lpips
from singan_aug.metrics.weights import ALEX, STEM

__all__ = ["MEASURES", "Networks", "Scored", "pair_files", "score_files"]

MEASURES = ("sifid_64", "sifid_192", "lpips", "patch_distance", "copy_distance", "copied_ratio")


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


@dataclass(frozen=True)
class Scored:
    """What the fakes of one real image score."""

    real: Path
    values: Mapping[Path, Mapping[str, float]]  # of each fake its measures; those are left out that cannot be taken
    pixel_diversity: float | None  # of all its fakes; None for one alone, or of several sizes
    notes: tuple[str, ...]  # which measures were left out, and why


def pair_files(real: Path, fake: Path) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Of each real image its fakes, and the fakes that belong to none.

    Each of the two is an image or a folder of them. All fakes belong to a real image that is named outright. In a
    folder a fake belongs to the image of its own stem, else to the one of its number (1.png and 001.jpg), else to the
    one of the longest stem that its own continues with "_", as `singan-aug draw` names variants.

    Raises `ImageError` where there are no images, two reals of one stem, or no pair.
    """
    if not real.is_dir():
        return {real: _images(fake)}, []
    reals: dict[str, Path] = {}
    for path in _images(real):
        if path.stem in reals:
            raise ImageError(f"expected one image for each stem, got {reals[path.stem].name} and {path.name} in {real}")
        reals[path.stem] = path
    numbers = {int(stem): path for stem, path in reals.items() if stem.isdecimal()}
    pairs: dict[Path, list[Path]] = {}
    alone = []
    for path in _images(fake):
        parts = path.stem.split("_")
        stems = ["_".join(parts[:count]) for count in range(len(parts), 0, -1)]
        found = reals.get(path.stem) or (numbers.get(int(path.stem)) if path.stem.isdecimal() else None)
        found = found or next((reals[stem] for stem in stems if stem in reals), None)
        if found is None:
            alone.append(path)
        else:
            pairs.setdefault(found, []).append(path)
    if not pairs:
        raise ImageError(
            f"expected files in {fake} named after those in {real}, such as a_0.png after a.jpg, got none: "
            "name one real image outright to compare all with it"
        )
    return dict(sorted(pairs.items())), alone


def score_files(real: Path, fakes: list[Path], networks: Networks | None) -> Scored:
    """All measures of each fake, as `MEASURES` names them; without networks those that need none.

    LPIPS compares at the real image's size (bicubic, antialiased), every other measure as the files are.

    Raises `ImageError` for a file that is no image.
    """
    source = _unit(real)
    images = {path: _unit(path) for path in fakes}
    notes: dict[str, None] = {}
    values = {path: _values(source, image, networks, notes) for path, image in images.items()}
    diversity = None
    if len(images) > 1 and len({image.shape for image in images.values()}) == 1:
        diversity = pixel_diversity(torch.cat(list(images.values())), source)
    return Scored(real, values, diversity, tuple(notes))


def _values(source: Tensor, fake: Tensor, networks: Networks | None, notes: dict[str, None]) -> dict[str, float]:
    measures: dict[str, Callable[[], Tensor]] = {}
    if networks is not None:
        resized = fake
        if fake.shape[-2:] != source.shape[-2:]:
            resized = functional.interpolate(fake, source.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
        measures["sifid_64"] = lambda: sifid(source, fake, networks.stems[0])
        measures["sifid_192"] = lambda: sifid(source, fake, networks.stems[1])
        measures["lpips"] = lambda: lpips(source, resized, networks.alex)
    measures["patch_distance"] = lambda: patch_distance(source, fake)
    values = {}
    for name, measure in measures.items():
        try:
            values[name] = float(measure())
        except ImageError as error:  # too small for it
            notes[f"no {name}: {error}"] = None
    try:
        distance, ratio = nearest_copy(source, fake)
        values |= {"copy_distance": float(distance), "copied_ratio": float(ratio)}
    except ImageError as error:
        notes[f"no copy_distance: {error}"] = None
    return values


def _images(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ImageError(f"expected images in {path}, got none")
    return found


def _unit(path: Path) -> Tensor:
    """[1, 1 or 3, H, W] in [0, 1]."""
    try:
        with quiet_decoding():
            return to_unit(to_signed(load_image(path).pixels))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
