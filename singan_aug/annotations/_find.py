"""The masks of images: mask files, COCO or YOLO outlines, named or found beside the images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from singan_aug.annotations._coco import Coco, Record, match_coco, read_coco
from singan_aug.annotations._listings import Listings
from singan_aug.annotations._masks import LOSSY_SUFFIXES, MASK_SUFFIXES, read_mask
from singan_aug.annotations._match import (
    EXACT,
    Parts,
    Place,
    common_end,
    counted,
    match,
    of_two_images,
    parts_of,
    places,
    two_of_one_image,
)
from singan_aug.annotations._shapes import Shape, Size, instance_mask
from singan_aug.annotations._yolo import has_outlines, is_yolo, read_yolo, refuse_poses
from singan_aug.errors import ConfigError, LabelError
from singan_aug.images import IMAGE_SUFFIXES, Mask, walk_files

__all__ = ["MaskSource", "Masks", "find_masks"]

IMAGES, MASKS, ENDING = "images", "masks", "_mask"


class MaskSource(Protocol):
    """Where the mask of one image is. It pickles: worker processes read it again."""

    def read(self, size: Size) -> Mask:
        """The mask of the image of this (height, width). Raises `LabelError`."""

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Objects that the mask does not show since they are broken: where each is, and why. Raises `LabelError`."""


@dataclass(frozen=True)
class Masks:
    """What was found."""

    of: Mapping[Path, MaskSource]  # by image
    not_images: frozenset[Path]  # of the images that a walk found, those that are masks
    notes: tuple[str, ...] = ()  # what no image claimed, and what is no annotation


@dataclass(frozen=True)
class MaskFile:
    """An image file of class or instance numbers."""

    path: Path

    def read(self, size: Size) -> Mask:
        """Its values, at the size of the image."""
        mask = read_mask(self.path)
        own = (mask.shape[0], mask.shape[1])
        if own != size:
            raise LabelError(
                f"expected a mask of the image's size, {size[1]}x{size[0]}, got {own[1]}x{own[0]} ({self.path}): masks "
                "lie over the upright image, pixel for pixel"
            )
        return mask

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Nothing."""
        del size
        return ()


@dataclass(frozen=True)
class CocoObjects:
    """Objects of a COCO file."""

    coco: Coco  # what there is about the image
    record: Record

    def read(self, size: Size) -> Mask:
        """Numbers of instances, from 1 in the file's order."""
        return _instances(self.coco.shapes(self.record, size).shapes, size, f"{self.coco.path}: {self._name}")

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Annotations that are broken."""
        return self.coco.shapes(self.record, size).left_out

    @property
    def _name(self) -> str:
        return str(self.record["file_name"])


@dataclass(frozen=True)
class YoloFile:
    """Objects of a YOLO file."""

    path: Path

    def read(self, size: Size) -> Mask:
        """Numbers of instances, from 1 in the file's order."""
        return _instances(read_yolo(self.path, size).shapes, size, str(self.path))

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Lines that are broken."""
        return read_yolo(self.path, size).left_out


@dataclass(frozen=True)
class Unclear:
    """Nobody can say which mask it is."""

    why: str

    def read(self, size: Size) -> Mask:
        """Raises."""
        del size
        raise LabelError(self.why)

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Raises."""
        del size
        raise LabelError(self.why)


def _instances(shapes: Sequence[Shape], size: Size, where: str) -> Mask:
    try:
        return instance_mask(shapes, size)
    except LabelError as error:
        raise LabelError(f"{where}: {error}") from None


def find_masks(images: Sequence[Path], roots: Iterable[Path], masks: Path | None) -> Masks:
    """The masks of these images, found below or named by `roots`.

    `masks` is a folder of mask files, YOLO files or COCO files (the image's path below its root, or the longest end of
    it; mask files with or without `_mask`), or a COCO file. For None: `masks/` beside `images/` with the same path
    below, or `NAME_mask` beside the image.

    Raises `ConfigError` where `masks` has nothing of the kind, `LabelError` for a broken COCO file.
    """
    roots = [Path(root) for root in roots]
    found = places(images, roots)
    named = {image.parent / image.stem for image in images}
    not_images = {image for image in images if _is_mask(image, found[image], named)}
    below = set() if masks is None else {i for i in images if i.absolute().is_relative_to(masks.absolute())}
    apart = len(below) < len(images)  # whether the folder holds masks alone: where all images are, they are the images
    if apart:
        not_images |= below
    left = {image: found[image] for image in images if image not in not_images}
    if masks is None:
        return _beside(left, not_images)
    if masks.is_dir():
        of, notes = _in_folder(left, masks, None if apart else not_images)
    elif masks.is_file():
        of, notes = _in_coco(left, [read_coco(masks)])
    else:
        raise ConfigError(f"expected --masks to be a folder or a COCO file, got {masks}: there is no such thing")
    return Masks(of, frozenset(not_images), notes)


def _is_mask(image: Path, place: Place, named: set[Path]) -> bool:
    """Whether a file that a walk took for an image is a mask by its place or its name."""
    own = image.stem.removesuffix(ENDING)
    if own != image.stem and image.suffix.lower() in MASK_SUFFIXES and image.parent / own in named:
        return True
    folders = place.below[:-1]
    for i, folder in enumerate(folders):
        if folder == MASKS and image.parents[len(folders) - i].joinpath(IMAGES).is_dir():
            return True
    return False


def _beside(images: Mapping[Path, Place], not_images: set[Path]) -> Masks:
    """`masks/` beside `images/`, and NAME_mask beside NAME."""
    listings = Listings()
    candidates = {image: _candidates(image, listings) for image in images}
    claims: defaultdict[Path, list[Path]] = defaultdict(list)
    for image, files in candidates.items():
        for file in files:
            claims[file].append(image)
    of: dict[Path, MaskSource] = {}
    for image, files in candidates.items():
        if len(files) > 1:
            of[image] = Unclear(two_of_one_image("mask", image, [str(file) for file in files]))
        elif files and len(claims[files[0]]) > 1:
            of[image] = Unclear(of_two_images("mask", str(files[0]), claims[files[0]]))
        elif files:
            of[image] = MaskFile(files[0])
    notes = []
    orphans = [path for path in not_images if path not in claims]
    if orphans:
        notes.append(f"{counted(len(orphans), 'mask')} matched no image, such as {min(orphans)}")
    stems = {image.parent / image.stem for image in images}
    pairs = any(path.stem.endswith(ENDING) for path in claims)
    odd = [path for path in images if path.stem.endswith(ENDING) and (pairs or _without_ending(path) in stems)]
    if odd:
        notes.append(
            f"{counted(len(odd), 'file')} called NAME{ENDING} taken for images, such as {min(odd)}: a mask is a "
            f"{', '.join(MASK_SUFFIXES)} beside NAME"
        )
    return Masks(of, frozenset(not_images), tuple(notes))


def _without_ending(path: Path) -> Path:
    return path.with_name(path.stem.removesuffix(ENDING) or path.stem)


def _candidates(image: Path, listings: Listings) -> list[Path]:
    """The mask files that an image may have; one in a lossy format only where there is no other."""
    beside = listings.called(image.parent, image.stem + ENDING, MASK_SUFFIXES)
    folders = [
        Path(*image.parts[:i], MASKS, *image.parts[i + 1 : -1])
        for i, part in enumerate(image.parts[:-1])
        if part == IMAGES
    ]
    for suffixes in (MASK_SUFFIXES, LOSSY_SUFFIXES):
        inside = [
            file
            for folder in folders
            for stem in (image.stem, image.stem + ENDING)
            for file in listings.called(folder, stem, suffixes)
        ]
        if beside or inside:
            return [file for file in beside + inside if file != image]
    return []


def _in_folder(
    images: Mapping[Path, Place],
    folder: Path,
    not_images: Collection[Path] | None,  # the masks among its image files, None where all of them are
) -> tuple[dict[Path, MaskSource], tuple[str, ...]]:
    files = [path for path in walk_files(folder) if path not in images and path.is_file()]
    by_suffix: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_suffix[path.suffix.lower()].append(path)
    pictures = files if not_images is None else [path for path in files if path in not_images]
    masks = [path for path in pictures if path.suffix.lower() in MASK_SUFFIXES]
    lossy = [path for path in pictures if path.suffix.lower() in LOSSY_SUFFIXES]
    texts = [path for path in by_suffix[".txt"] if path.name != "classes.txt"]
    if masks or lossy:
        of, unclaimed = _by_name(images, folder, masks, "mask")
        rest = {image: place for image, place in images.items() if image not in of}
        more, unclaimed_lossy = _by_name(rest, folder, lossy, "mask")
        return of | more, _unclaimed("mask", folder, [*unclaimed, *unclaimed_lossy])
    if texts:
        of, unclaimed = _by_name(images, folder, texts, "label file")
        labels = {image: source.path for image, source in of.items() if isinstance(source, MaskFile)}
        beside = [each for place in (folder, *folder.parents[:2]) for each in place.glob("*.y*ml") if each.is_file()]
        refuse_poses(labels.values(), beside)
        read = {image: YoloFile(path) for image, path in labels.items() if has_outlines(path)}
        unsure = {image: source for image, source in of.items() if isinstance(source, Unclear)}
        return {**unsure, **read}, _unclaimed("label file", folder, [path for path in unclaimed if is_yolo(path)])
    cocos = [coco for coco in map(_coco_or_none, by_suffix[".json"]) if coco is not None]
    if not cocos:
        raise ConfigError(
            f"expected masks ({', '.join(MASK_SUFFIXES)}), YOLO's .txt or COCO's .json files in {folder}, got none"
        )
    return _in_coco(images, cocos)


def _unclaimed(what: str, folder: Path, files: Sequence[Path]) -> tuple[str, ...]:
    if not files:
        return ()
    return (f"{counted(len(files), what)} in {folder.name} matched no image, such as {files[0].relative_to(folder)}",)


def _coco_or_none(path: Path) -> Coco | None:
    try:
        coco = read_coco(path)
    except LabelError:
        return None  # some other JSON
    return coco if "categories" in coco.document else None


def _by_name(
    images: Mapping[Path, Place], folder: Path, files: Sequence[Path], what: str
) -> tuple[dict[Path, MaskSource], list[Path]]:
    """The files of images by the longest common end of their paths, without suffixes; and those of no image."""
    listings = Listings()
    stems = {image: place.stem for image, place in images.items()}
    known = {place.parts[-1] for place in stems.values()}
    names = []
    for file in files:
        *folders, name = parts_of(file.relative_to(folder).with_suffix("").as_posix())
        names.append((*folders, name if name in known else name.removesuffix(ENDING)))

    def score(number: int, image: Path) -> int:
        name, place = names[number], stems[image]
        if name == place.below:
            return EXACT
        common = common_end(name, place.parts)
        strange = common < min(len(name), place.depth) or place.depth == 1 < len(name)
        other = strange and common < len(name) and _is_of_another(name, files[number].parent, image, listings)
        return 0 if other else common

    found = match(
        names, {image: place.parts for image, place in stems.items()}, score, lambda number: str(files[number]), what
    )
    of: dict[Path, MaskSource] = {image: MaskFile(files[number]) for image, number in found.of.items()}
    of.update({image: Unclear(why) for image, why in found.unclear.items()})
    return of, [files[number] for number in found.unclaimed]


def _is_of_another(name: Parts, own: Path, image: Path, listings: Listings) -> bool:
    """Whether the folders of a mask or label file, in the folder `own`, lead to another image, which was not given."""
    return any(
        listings.called(folder, name[-1], IMAGE_SUFFIXES)
        for folder in listings.folders(name[:-1], image.absolute().parent)
        if folder != own.absolute()
    )


def _in_coco(images: Mapping[Path, Place], files: Sequence[Coco]) -> tuple[dict[Path, MaskSource], tuple[str, ...]]:
    found = match_coco(files, images)
    of: dict[Path, MaskSource] = {image: Unclear(why) for image, why in found.unclear.items()}
    for image, (coco, record) in found.of.items():
        if coco.has_outlines(record):
            of[image] = CocoObjects(coco.only(record), record)
    return of, found.notes
