"""COCO's JSON: images, annotations, categories."""

from __future__ import annotations

import json
import math
import os
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import Any

from singan_aug.annotations._listings import Listings
from singan_aug.annotations._match import EXACT, Parts, Place, common_end, counted, match, parts_of
from singan_aug.annotations._shapes import Objects, Shape, Size, checked_number, checked_polygons, checked_runs
from singan_aug.errors import LabelError

__all__ = ["Coco", "CocoImages", "match_coco", "read_coco"]

Record = Mapping[str, Any]  # an entry of "images" or of "annotations"
Ident = int | float | str  # 7, and what other writers make of it: 7.0, "7"
MOST_ID = 2**63  # JSON has integers that no float holds


@dataclass(frozen=True)
class Coco:
    """An annotation file. Records that are none are left out and counted."""

    path: Path
    document: Mapping[str, Any]  # all of it
    images: tuple[Record, ...]
    by_image: Mapping[Ident, list[Record]]  # annotation records by image id
    notes: tuple[str, ...]  # what was left out

    def only(self, image: Record) -> Coco:
        """What there is about one image."""
        return Coco(self.path, {}, (image,), {image["id"]: self.by_image.get(image["id"], [])}, ())

    def has_outlines(self, image: Record) -> bool:
        """Whether an object of an image says which pixels are its own, or there is none."""
        records = self.by_image.get(image["id"], [])
        return not records or any(record.get("segmentation") for record in records)

    def shapes(self, image: Record, size: Size) -> Objects:
        """The objects of an image of this (height, width), in the file's order; what is no object is left out.

        Raises `LabelError` where the file is about an image of another size, or all of its objects are none.
        """
        own, name, records = size_of(image), image["file_name"], self.by_image.get(image["id"], [])
        if records and own is not None and own != size:
            turned = ": that is its size before its EXIF rotation, so its annotations lie over pixels on their side"
            raise LabelError(
                f"expected annotations of {name} at its size, {size[1]}x{size[0]}, got {own[1]}x{own[0]} in {self.path}"
                + (turned if own == size[::-1] else "")
            )
        shapes, left_out = [], []
        for record in records:
            try:
                shapes.append(_shape(record, size))
            except (LabelError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                reason = str(error) if isinstance(error, LabelError) else f"not COCO ({type(error).__name__}: {error})"
                left_out.append(f"{self.path}: annotation {record.get('id')}: {reason}")
        return Objects.of(shapes, left_out)


@dataclass(frozen=True)
class CocoImages:
    """Which records are about which images."""

    of: Mapping[Path, tuple[Coco, Record]]
    unclear: Mapping[Path, str]  # images whose record nobody can tell, and why
    claimed_twice: Mapping[Path, tuple[Path, ...]]  # of these, those that several files list, and the files
    doubtful: tuple[tuple[Coco, Record], ...]  # records that may be about the unclear ones
    notes: tuple[str, ...]  # what no image claimed, and what is none


def _shape(record: Record, size: Size) -> Shape:
    category = checked_number(record["category_id"])
    found, box = record.get("segmentation") or (), record.get("bbox")
    _check_keypoints(record.get("keypoints") or ())
    if isinstance(found, Mapping):
        height, width = found["size"]
        counts = checked_runs(found["counts"], (height, width), size)
        return Shape(category, counts=counts, size=size, record=record)
    if found:
        return Shape(category, polygons=checked_polygons(found), record=record)
    if not box:
        return Shape(category, record=record)
    x, y, across, down = (float(value) for value in box)
    if not (math.isfinite(x + y + across + down) and across > 0 and down > 0):
        raise LabelError(f"expected a box of x, y, width and height, got {list(box)}")
    return Shape(category, (x, y, x + across, y + down), record=record)


def _check_keypoints(values: Sequence[float]) -> None:
    if len(values) % 3 or not all(math.isfinite(value) for value in values):
        raise LabelError("expected keypoints of three finite numbers each: x, y and visibility")


def size_of(image: Record) -> Size | None:
    """(height, width) that an image's record gives, if it does."""
    try:
        height, width = float(image["height"]), float(image["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (int(height), int(width)) if 0 < height < math.inf and 0 < width < math.inf else None  # nor where it is NaN


def read_coco(path: Path) -> Coco:
    """Read an annotation file. Raises `LabelError` for one that is not COCO's."""
    try:
        data = path.read_bytes()
        try:
            document = json.loads(data)
        except UnicodeDecodeError:
            document = json.loads(data.decode("latin-1"))
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise LabelError(f"{path}: expected COCO annotations, got JSON that is nested without end") from None
    except ValueError as error:
        raise LabelError(f"{path}: expected COCO annotations, got a file that is not JSON ({error})") from None
    if not isinstance(document, dict) or not all(isinstance(document.get(n), list) for n in ("images", "annotations")):
        raise LabelError(f'{path}: expected COCO annotations, an object with lists of "images" and "annotations"')
    images = tuple(each for each in document["images"] if _has(each, "id") and isinstance(each.get("file_name"), str))
    records = [each for each in document["annotations"] if _has(each, "image_id")]
    no_images, no_records = len(document["images"]) - len(images), len(document["annotations"]) - len(records)
    if (no_images and not images) or (no_records and not records):
        raise LabelError(f"{path}: expected images with id and file_name, annotations with image_id")
    by_image: defaultdict[Ident, list[Record]] = defaultdict(list)
    for record in records:
        by_image[record["image_id"]].append(record)
    ids = {image["id"] for image in images}
    lost = sum(len(some) for ident, some in by_image.items() if ident not in ids)
    notes = []
    if no_images:
        notes.append(f"{counted(no_images, 'record')} of {path.name} without id or file_name")
    if no_records:
        notes.append(f"{counted(no_records, 'annotation')} of {path.name} without image_id")
    if lost:
        notes.append(f"{counted(lost, 'annotation')} of {path.name} of images that it does not list")
    return Coco(path, document, images, by_image, tuple(notes))


def _has(record: Any, ident: str) -> bool:
    value = record.get(ident) if isinstance(record, dict) else None
    return isinstance(value, str) or (isinstance(value, int | float) and abs(value) < MOST_ID)


def match_coco(files: Iterable[Coco], images: Mapping[Path, Place]) -> CocoImages:
    """Which record of these files is about which image."""
    of: dict[Path, tuple[Coco, Record]] = {}
    unclear: dict[Path, str] = {}
    claimed: defaultdict[Path, list[Path]] = defaultdict(list)
    doubtful: list[tuple[Coco, Record]] = []
    notes: list[str] = []
    for coco in files:
        own, why, unclaimed = _match_file(coco, images)
        sure = {id(record) for record in (*own.values(), *unclaimed)}
        doubtful += [(coco, record) for record in coco.images if id(record) not in sure]
        for image, record in own.items():
            of[image] = (coco, record)
        unclear |= why
        for image in chain(own, why):
            claimed[image].append(coco.path)
        notes += coco.notes
        if unclaimed:
            what, name = counted(len(unclaimed), "record"), unclaimed[0]["file_name"]
            notes.append(f"{what} of {coco.path.name} matched no image, such as {name}")
    twice = {image: tuple(paths) for image, paths in claimed.items() if len(paths) > 1}
    for image, paths in twice.items():
        unclear[image] = f"expected annotations of {image} in one file, got them in {' and '.join(map(str, paths[:2]))}"
    of = {image: each for image, each in of.items() if image not in unclear}
    return CocoImages(of, unclear, twice, tuple(doubtful), tuple(notes))


def _match_file(
    coco: Coco, images: Mapping[Path, Place]
) -> tuple[dict[Path, Record], dict[Path, str], tuple[Record, ...]]:
    """(records by image, why none by image, records that no image has)."""
    last = {place.parts[-1] for place in images.values()}
    names = [_Name.of(record["file_name"], coco.path.parent, last) for record in coco.images]
    listings = Listings()
    found = match(
        [name.parts for name in names],
        {image: place.parts for image, place in images.items()},
        lambda number, image: _score(names[number], image, images[image], listings),
        lambda number: f"record {coco.images[number]['id']} ({coco.images[number]['file_name']}) of {coco.path}",
        "record",
    )
    by_id: defaultdict[Ident, list[str]] = defaultdict(list)
    for record in coco.images:
        by_id[record["id"]].append(record["file_name"])
    of, unclear = {}, dict(found.unclear)
    for image, number in found.of.items():
        record = coco.images[number]
        same = by_id[record["id"]]
        if len(same) > 1:
            unclear[image] = (
                f"{coco.path}: expected an id for each image, got {record['id']} for {same[0]} and {same[1]}"
            )
        else:
            of[image] = record
    return of, unclear, tuple(coco.images[number] for number in found.unclaimed)


@dataclass(frozen=True)
class _Name:
    """The `file_name` of a record, in which a backslash counts as a slash unless an image is called so."""

    parts: Parts
    outright: Path  # where it leads from the folder of the annotation file
    elsewhere: bool  # it says where the image was on some machine, rather than where it is in the dataset

    @classmethod
    def of(cls, name: str, folder: Path, last: Collection[str]) -> _Name:
        posix = name if parts_of(name)[-1:] and parts_of(name)[-1] in last else name.replace("\\", "/")
        elsewhere = posix.startswith(("/", "..")) or PureWindowsPath(name).is_absolute()
        path = os.path.abspath(os.path.join(folder, posix))  # noqa: PTH100, PTH118 (links stay as they are named)
        parts = parts_of(posixpath.normpath(posix)) if posix else ()
        return cls(tuple(part for part in parts if part != ".."), Path(path), elsewhere)

    @cached_property
    def leads_to_a_file(self) -> bool:
        return os.path.isfile(self.outright)  # noqa: PTH113 (false for what can be no path)


def _score(name: _Name, image: Path, place: Place, listings: Listings) -> int:
    """How well a record's name fits an image. Its folders must be those of the image, as far as both say them."""
    if parts_of(name.outright.as_posix()) == place.parts:
        return EXACT
    if name.leads_to_a_file:
        same = image.is_file() and name.outright.samefile(image)
        return EXACT - 1 if same else 0  # by a link; another file is another image
    if name.parts == place.below:
        return EXACT - 1
    common = common_end(name.parts, place.parts)
    agrees = common == len(name.parts) or (common >= place.depth and (common > 1 or name.elsewhere))
    if agrees and common == 1 < len(name.parts):  # its folder is another: where that is there, so may be its image
        folders = listings.folders(name.parts[-2:-1], image.absolute().parent)
        agrees = not any(os.path.isfile(folder / name.parts[-1]) for folder in folders)  # noqa: PTH113
    return common if agrees else 0
