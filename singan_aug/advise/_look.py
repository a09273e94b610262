"""What a folder holds: layout, counts, sizes, and what its images look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from singan_aug.annotations import find_masks
from singan_aug.dataset import find_images
from singan_aug.errors import ConfigError
from singan_aug.images import Mask, Pixels, is_grey, load_image, no_images, quiet_decoding, resize_pixels

__all__ = ["COMPOSITIONS", "Composition", "Sight", "look"]

Composition = Literal["fixed", "surfaces", "thin structures", "objects"]
COMPOSITIONS: tuple[Composition, ...] = get_args(Composition)
LOOKED_AT = 24  # images, evenly spread
THUMBNAIL_PX = 24
FIXED = 0.45  # mean correlation of two images of a class from which the composition is fixed
THIN = 0.05  # width of what a mask shows, as a share of the short side, under which it is thin
T = TypeVar("T")
PARTS = ("train", "test", "val", "valid", "validation")


@dataclass(frozen=True)
class Sight:
    """What was seen."""

    folder: Path
    images: tuple[Path, ...]
    classes: dict[str, int]  # images of each; empty where folders name none
    masks: int  # images that have one
    size: tuple[int, int]  # median height and width
    composition: Composition
    examples: tuple[tuple[Pixels, Mask | None], ...]  # a handful, with their masks

    @property
    def per_class(self) -> int:
        """Images to train on of the smallest class, or in all."""
        return min(self.classes.values()) if self.classes else len(self.images)


def look(folder: Path, *, composition: Composition | None = None, examples: int = 4) -> Sight:
    """Look at a folder: images in folders of classes, or with masks as `singan-aug fit` finds them, or neither.

    The composition, where it is not given, is a guess: fixed where images of a class correlate at a small size, thin
    structures or objects by how wide what masks show is, surfaces where all images are grey, else objects.

    Raises `ConfigError` where there is no such folder, `ImageError` where there are no images that can be read, and
    what `find_masks` raises.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a folder of images, got {folder}: there is no such folder")
    found = find_images([folder]).images
    masks = find_masks(found, [folder], _annotations(folder))
    images = [path for path in found if path not in masks.not_images]
    if not images:
        raise no_images(folder)
    with quiet_decoding():
        seen: list[tuple[Path, Pixels, Mask | None]] = []
        for path in _spread(images, LOOKED_AT):
            pixels = load_image(path).pixels[..., :3]
            source = masks.of.get(path)
            seen.append((path, pixels, None if source is None else source.read((pixels.shape[0], pixels.shape[1]))))
    classes = {} if masks.of else _classes(folder, images)
    sizes = np.array([pixels.shape[:2] for _, pixels, _ in seen])
    height, width = np.median(sizes, 0).round().astype(int).tolist()
    kept = _spread(seen, examples)
    return Sight(
        folder,
        tuple(images),
        classes,
        len([path for path in images if path in masks.of]),
        (height, width),
        composition or _composition(seen, classes),
        tuple((pixels, mask) for _, pixels, mask in kept),
    )


def _annotations(folder: Path) -> Path | None:
    """A COCO file at the top or in annotations/, or a folder of YOLO labels; None: masks are looked for beside."""
    for path in sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")]):
        return path
    return folder / "labels" if (folder / "labels").is_dir() else None


def _classes(folder: Path, images: Sequence[Path]) -> dict[str, int]:
    """Images of each class to train on, by the folder they lie in; empty where that is one folder."""
    parts = [path.relative_to(folder).parts for path in images]
    trained = [part[1:] for part in parts if part[0] == "train"] or [part for part in parts if part[0] not in PARTS]
    names = [part[0] for part in trained if len(part) > 1]
    counts = {name: names.count(name) for name in sorted(set(names))}
    return counts if len(counts) > 1 else {}


def _composition(seen: Sequence[tuple[Path, Pixels, Mask | None]], classes: dict[str, int]) -> Composition:
    widths = [_width(mask > 0) / min(mask.shape) for _, _, mask in seen if mask is not None and (mask > 0).any()]
    if widths:
        return "thin structures" if np.median(widths) < THIN else "objects"
    groups: dict[Path, list[NDArray[np.float64]]] = {}
    for path, pixels, _ in seen:
        groups.setdefault(path.parent if classes else Path(), []).append(_thumbnail(pixels))
    alike = [np.mean(_correlations(group)) for group in groups.values() if len(group) > 1]
    if alike and np.mean(alike) >= FIXED:
        return "fixed"
    return "surfaces" if all(is_grey(pixels) for _, pixels, _ in seen) else "objects"


def _width(mask: NDArray[np.bool_]) -> float:
    """About how wide what a mask shows is, in pixels: twice its area by the length of its edge."""
    edge = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    return float(2 * mask.sum() / max(1, edge))


def _thumbnail(pixels: Pixels) -> NDArray[np.float64]:
    small = resize_pixels(pixels, (THUMBNAIL_PX, THUMBNAIL_PX)).mean(-1).ravel()
    return np.asarray((small - small.mean()) / max(small.std(), 1e-6))


def _correlations(thumbnails: Sequence[NDArray[np.float64]]) -> list[float]:
    return [float(np.mean(one * other)) for i, one in enumerate(thumbnails) for other in thumbnails[i + 1 :]]


def _spread(items: Sequence[T], most: int) -> list[T]:
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[i] for i in places]
