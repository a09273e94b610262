"""Which mask belongs to which image: mask files, COCO or YOLO outlines, named or found beside the images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from singan_aug.annotations._coco import read_coco, size_of
from singan_aug.annotations._shapes import Shape, Size, instance_mask
from singan_aug.annotations._yolo import has_outlines, read_yolo
from singan_aug.errors import ConfigError, ImageError, LabelError
from singan_aug.images import Mask, to_mask

__all__ = ["MaskSource", "Masks", "find_masks", "read_mask"]

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # formats that keep numbers as they are
IMAGES, MASKS, ENDING = "images", "masks", "_mask"


class MaskSource(Protocol):
    """Where the mask of one image is. It pickles: worker processes read it again."""

    def read(self, size: Size) -> Mask:
        """The mask of the image of this (height, width). Raises `LabelError`."""


@dataclass(frozen=True)
class Masks:
    """What was found."""

    of: Mapping[Path, MaskSource]  # by image
    not_images: frozenset[Path]  # of the images that a walk found, those that are masks


@dataclass(frozen=True)
class MaskFile:
    """An image file of class or instance numbers."""

    path: Path

    def read(self, size: Size) -> Mask:
        """Its values, at the size of the image."""
        mask = read_mask(self.path)
        _check_size(f"mask {self.path}", (mask.shape[0], mask.shape[1]), size)
        return mask


@dataclass(frozen=True)
class Outlines:
    """Objects of a COCO file."""

    shapes: tuple[Shape, ...]
    size: Size | None  # of the image, where the file says it
    where: str

    def read(self, size: Size) -> Mask:
        """Numbers of instances, from 1 in the file's order."""
        _check_size(self.where, self.size or size, size)
        return _instances(self.shapes, size, self.where)


@dataclass(frozen=True)
class YoloFile:
    """Objects of a YOLO file."""

    path: Path

    def read(self, size: Size) -> Mask:
        """Numbers of instances, from 1 in the file's order."""
        return _instances(read_yolo(self.path, size), size, str(self.path))


@dataclass(frozen=True)
class Unclear:
    """Nobody can say which mask it is."""

    why: str

    def read(self, size: Size) -> Mask:
        """Raises."""
        del size
        raise LabelError(self.why)


def _check_size(what: str, own: Size, wanted: Size) -> None:
    if own != wanted:
        raise LabelError(
            f"expected a mask of the image's size, {wanted[1]}x{wanted[0]}, got {own[1]}x{own[0]} ({what}): masks lie "
            "over the upright image, pixel for pixel"
        )


def _instances(shapes: Sequence[Shape], size: Size, where: str) -> Mask:
    try:
        return instance_mask(shapes, size)
    except LabelError as error:
        raise LabelError(f"{where}: {error}") from None


def read_mask(path: Path) -> Mask:
    """A mask file's values, int32 [H, W]. Raises `LabelError`."""
    try:
        with Image.open(path) as image:
            bands = image.split() if image.mode == "RGB" else ()
            equal = bool(bands) and all(band.tobytes() == bands[0].tobytes() for band in bands)
            return to_mask(bands[0] if equal else image)
    except ImageError as error:
        raise LabelError(f"mask {path}: {error}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # Pillow's, on damaged files
        raise LabelError(f"mask {path}: cannot be read ({error})") from None


def find_masks(images: Sequence[Path], roots: Iterable[Path], masks: Path | None) -> Masks:
    """The masks of these images, found below or named by `roots`.

    `masks` is a folder of mask files or YOLO files (the image's path below its root, or its name, with or without
    `_mask`), or a COCO file. For None: `masks/` beside `images/` with the same path below, or `NAME_mask` beside the
    image.

    Raises `ConfigError` where `masks` has nothing of the kind, `LabelError` for a broken COCO file.
    """
    tops = [Path(root) if Path(root).is_dir() else Path(root).parent for root in roots]
    relative = {image: _below(image, tops) for image in images}
    named = {image.parent / image.stem for image in images}
    not_images = {image for image in images if _is_mask(image, relative[image], named)}
    if masks is not None and masks.is_dir():
        not_images |= {image for image in images if image.is_relative_to(masks)}
    left = [image for image in images if image not in not_images]
    if masks is None:
        found: dict[Path, MaskSource] = _beside(left)
    elif masks.is_dir():
        found = _in_folder(left, relative, masks)
    elif masks.is_file():
        found = _in_coco(left, relative, masks)
    else:
        raise ConfigError(f"expected --masks to be a folder or a COCO file, got {masks}: there is no such thing")
    return Masks(found, frozenset(not_images))


def _below(image: Path, tops: Sequence[Path]) -> Path:
    for top in tops:
        if image.is_relative_to(top):
            return image.relative_to(top)
    return Path(image.name)


def _is_mask(image: Path, relative: Path, named: set[Path]) -> bool:
    """Whether a file that a walk took for an image is a mask by its place or its name."""
    own = image.stem.removesuffix(ENDING)
    if own != image.stem and image.suffix.lower() in MASK_SUFFIXES and image.parent / own in named:
        return True
    folders = relative.parts[:-1]
    for i, folder in enumerate(folders):
        if folder == MASKS and image.parents[len(folders) - i].joinpath(IMAGES).is_dir():
            return True
    return False


def _chosen(image: Path, candidates: Sequence[Path]) -> MaskSource | None:
    others = [path for path in candidates if path != image]
    if len(others) > 1:
        return Unclear(f"expected one mask, got {', '.join(map(str, others))}: leave one of them")
    return MaskFile(others[0]) if others else None


def _beside(images: Sequence[Path]) -> dict[Path, MaskSource]:
    listed: dict[Path, set[str]] = {}

    def existing(folder: Path, stem: str) -> list[Path]:
        if folder not in listed:
            listed[folder] = set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 (names alone)
        return [folder / f"{stem}{suffix}" for suffix in MASK_SUFFIXES if f"{stem}{suffix}" in listed[folder]]

    found: dict[Path, MaskSource] = {}
    for image in images:
        candidates = existing(image.parent, image.stem + ENDING)
        for i, part in enumerate(image.parts[:-1]):
            if part == IMAGES:
                folder = Path(*image.parts[:i], MASKS, *image.parts[i + 1 : -1])
                candidates += existing(folder, image.stem) + existing(folder, image.stem + ENDING)
        source = _chosen(image, candidates)
        if source is not None:
            found[image] = source
    return found


def _in_folder(images: Sequence[Path], relative: Mapping[Path, Path], folder: Path) -> dict[Path, MaskSource]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    known = set(images)
    masks = [path for path in files if path.suffix.lower() in MASK_SUFFIXES and path not in known]
    texts = [path for path in files if path.suffix.lower() == ".txt" and path.name != "classes.txt"]
    if not masks and not texts:
        raise ConfigError(f"expected masks ({', '.join(MASK_SUFFIXES)}) or YOLO's .txt files in {folder}, got neither")
    by_path: dict[Path, list[Path]] = {}
    by_stem: dict[str, list[Path]] = {}
    for path in masks or texts:
        by_path.setdefault(path.relative_to(folder).with_suffix(""), []).append(path)
        by_stem.setdefault(path.stem, []).append(path)
    namesakes: dict[str, int] = {}
    for image in images:
        namesakes[image.stem] = namesakes.get(image.stem, 0) + 1
    found: dict[Path, MaskSource] = {}
    for image in images:
        own = relative[image].with_suffix("")
        candidates = by_path.get(own, []) + by_path.get(own.with_name(own.name + ENDING), [])
        if not candidates:
            candidates = by_stem.get(image.stem, []) + by_stem.get(image.stem + ENDING, [])
            if candidates and namesakes[image.stem] > 1:
                found[image] = Unclear(
                    f"expected the mask of one image, but {namesakes[image.stem]} are called {image.stem}: put masks "
                    f"into {folder} under the same folders as the images"
                )
                continue
        source = _chosen(image, candidates)
        if isinstance(source, MaskFile) and not masks:
            source = YoloFile(source.path) if has_outlines(source.path) else None
        if source is not None:
            found[image] = source
    return found


def _in_coco(images: Sequence[Path], relative: Mapping[Path, Path], path: Path) -> dict[Path, MaskSource]:
    coco = read_coco(path)
    found: dict[Path, MaskSource] = {}
    for image in images:
        try:
            record = coco.image(relative[image])
            if record is None:
                continue
            shapes = coco.shapes(record)
            if not shapes or any(shape.has_outline for shape in shapes):
                found[image] = Outlines(shapes, size_of(record), f"{path}: {record['file_name']}")
        except LabelError as error:
            found[image] = Unclear(str(error))
    return found
