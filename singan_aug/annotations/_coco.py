"""COCO's JSON: images, annotations, categories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from singan_aug.annotations._shapes import Shape, Size, unpack_runs
from singan_aug.errors import LabelError

__all__ = ["Coco", "read_coco"]


@dataclass(frozen=True)
class Coco:
    """An annotation file, and where in it an image is."""

    path: Path
    document: Mapping[str, Any]  # all of it
    by_name: Mapping[str, Mapping[str, Any]]  # image records by `file_name`
    by_base: Mapping[str, list[Mapping[str, Any]]]  # the same by file name without folder
    by_image: Mapping[int, list[Mapping[str, Any]]]  # annotation records by image id

    def image(self, relative: Path) -> Mapping[str, Any] | None:
        """The record of an image by its path in the dataset, or by its name where that is the only one.

        None where there is none. Raises `LabelError` where several have its name and none its path.
        """
        for start in range(len(relative.parts)):
            named = self.by_name.get(PurePosixPath(*relative.parts[start:]).as_posix())
            if named is not None:
                return named
        found = self.by_base.get(relative.name, [])
        if len(found) > 1:
            raise LabelError(
                f"{self.path}: {len(found)} images are called {relative.name}: give `file_name` with folders"
            )
        return found[0] if found else None

    def shapes(self, image: Mapping[str, Any]) -> tuple[Shape, ...]:
        """The objects of an image, in the file's order. Raises `LabelError`."""
        return tuple(self._shape(record) for record in self.by_image.get(image["id"], []))

    def _shape(self, record: Mapping[str, Any]) -> Shape:
        where = f"{self.path}: annotation {record.get('id')}"
        try:
            category, box = int(record["category_id"]), record.get("bbox")
            found = record.get("segmentation") or ()
            corners = None if not box else (box[0], box[1], box[0] + box[2], box[1] + box[3])
            if isinstance(found, Mapping):
                counts = found["counts"]
                runs = unpack_runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
                height, width = found["size"]
                return Shape(category, corners, counts=tuple(runs), size=(height, width), record=record)
            polygons = tuple(tuple(float(value) for value in polygon) for polygon in found)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LabelError(f"{where}: not COCO ({type(error).__name__}: {error})") from None
        if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
            raise LabelError(f"{where}: expected polygons of three points or more, x and y of each")
        return Shape(category, corners, polygons, record=record)


def size_of(image: Mapping[str, Any]) -> Size | None:
    """(height, width) that an image's record gives, if it does."""
    return (image["height"], image["width"]) if "height" in image and "width" in image else None


def read_coco(path: Path) -> Coco:
    """Read an annotation file. Raises `LabelError` for one that is not COCO's."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise LabelError(f"{path}: expected COCO annotations, got a file that is not JSON ({error})") from None
    if not isinstance(document, dict) or not all(isinstance(document.get(n), list) for n in ("images", "annotations")):
        raise LabelError(f'{path}: expected COCO annotations, an object with lists of "images" and "annotations"')
    by_name: dict[str, Mapping[str, Any]] = {}
    by_base: dict[str, list[Mapping[str, Any]]] = {}
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    try:
        for image in document["images"]:
            name = PurePosixPath(image["file_name"])
            by_name[name.as_posix()] = image
            by_base.setdefault(name.name, []).append(image)
            by_image[image["id"]] = []
        for record in document["annotations"]:
            by_image.setdefault(record["image_id"], []).append(record)
    except (KeyError, TypeError) as error:
        raise LabelError(
            f"{path}: expected images with id and file_name, annotations with image_id ({error})"
        ) from None
    return Coco(path, document, by_name, by_base, by_image)
