"""Folders with a COCO file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.annotations import (
    Coco,
    Outline,
    Shape,
    encode_rle,
    joined,
    polygons_of,
    read_coco,
)
from singan_aug.errors import ConfigError, LabelError
from singan_aug.export._layout import Carried, Carrier, Labels, Layout, carried_objects, written_aside
from singan_aug.transforms._labels import carry_keypoints

__all__ = ["CocoFolder"]


@dataclass(frozen=True)
class CocoLabels(Labels):
    """The objects of an image in a COCO file."""

    shapes: tuple[Shape, ...]

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Nothing yet; the annotations of the variant are returned."""
        del stem, out
        return [_coco_record(each, carrier) for each in carried_objects(self.shapes, carrier)]


class CocoFolder(Layout):
    """Images anywhere, and a file that says what is in them."""

    def __init__(self, folder: Path, images: Sequence[Path], annotations: Path | None) -> None:
        found = [annotations] if annotations is not None else _coco_files(folder)
        if len(found) != 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
            raise ConfigError(
                f"expected one COCO file in {folder} or {folder / 'annotations'}, got {names}: name it with "
                "--annotations FILE"
            )
        self.coco: Coco = read_coco(found[0])
        records = {image: self.coco.image(image.relative_to(folder)) for image in images}
        self.records = {image: record for image, record in records.items() if record is not None}
        ids = [*self.coco.by_image, *(record.get("id", 0) for record in self.coco.document["annotations"])]
        if not all(isinstance(each, int) for each in ids):
            raise LabelError(f"{self.coco.path}: expected ids of images and annotations to be integers")
        super().__init__(folder, list(self.records), annotations)

    @classmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """There is a COCO file in it, or in `annotations/`."""
        del images
        return bool(_coco_files(folder))

    def labels(self, image: Path) -> Labels:
        """Its annotations."""
        return CocoLabels(self.coco.shapes(self.records[image]))

    def finish(self, done: Mapping[str, Mapping[str, Any]], originals: bool, out: Path) -> None:
        """The annotation file: originals keep their ids, variants get the next ones, in the order of their names."""
        document = self.coco.document
        images: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = []
        next_image = 1 + max((image["id"] for image in document["images"]), default=0)
        next_record = 1 + max((record.get("id", 0) for record in document["annotations"]), default=0)
        for image in sorted(self.records):
            known = self.records[image]
            if originals:
                images.append(dict(known))
                records += map(dict, self.coco.by_image[known["id"]])
            entry = done.get(image.relative_to(self.folder).as_posix(), {"variants": []})
            for variant in entry["variants"]:
                height, width = entry["size"]
                name = PurePosixPath(known["file_name"]).with_name(variant["name"]).as_posix()
                new = {**known, "id": next_image, "file_name": name, "height": height, "width": width}
                images.append({key: value for key, value in new.items() if not key.endswith("_url")})
                for record in variant["labels"]:
                    records.append({**record, "id": next_record, "image_id": next_image})
                    next_record += 1
                next_image += 1
        text = json.dumps({**document, "images": images, "annotations": records})
        path = self.coco.path
        inside = path.relative_to(self.folder) if path.is_relative_to(self.folder) else Path("annotations", path.name)
        written_aside(out / inside, partial(Path.write_text, data=text))


def _coco_files(folder: Path) -> list[Path]:
    found = []
    for path in sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")]):
        try:
            if "categories" in read_coco(path).document:
                found.append(path)
        except LabelError:
            continue  # some other JSON
    return found


def _coco_record(each: Carried, carrier: Carrier) -> dict[str, Any]:
    """The annotation of an object of a variant, but for its ids. Outlines stay polygons where they were polygons."""
    record = dict(each.shape.record)
    x1, y1, x2, y2 = each.box
    if each.outline is not None:
        record |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(each.outline.sum())}
        record["segmentation"] = _polygons(each.outline) if each.shape.polygons else encode_rle(each.outline)
    if record.get("keypoints"):
        values = np.asarray(record["keypoints"], dtype=np.float64).reshape(-1, 3)
        values = _carried_keypoints(values, carrier.field())
        record["keypoints"] = [int(v) if v == int(v) else v for v in values.reshape(-1).tolist()]
        record["num_keypoints"] = int((values[:, 2] > 0).sum())
    return record


def _polygons(outline: Outline) -> list[list[int]]:
    """COCO adds polygons up, so holes are cut in one that goes along all borders."""
    borders = polygons_of(outline)
    holes = any(_turns_left(border) for border in borders)
    return [border.reshape(-1).tolist() for border in ([joined(borders)] if holes else borders)]


def _turns_left(border: NDArray[np.int64]) -> bool:
    x, y = border.T
    return bool((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0)


def _carried_keypoints(values: NDArray[np.float64], field: Tensor) -> NDArray[np.float64]:
    """x, y, visibility of each. COCO counts from the middle of the first pixel; points that are lost become 0, 0, 0."""
    labelled = values[:, 2] > 0
    moved, seen = carry_keypoints(torch.from_numpy(values[:, :2] + 0.5), field)
    kept = labelled & seen.numpy()
    carried = np.column_stack([moved.numpy() - 0.5, values[:, 2]])
    return np.where(kept[:, None], carried, 0.0)
