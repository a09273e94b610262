"""Folders with COCO files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.annotations import (
    Coco,
    Outline,
    added_polygons,
    counted,
    encode_rle,
    match_coco,
    places,
    read_coco,
)
from singan_aug.errors import ConfigError, LabelError
from singan_aug.export._files import write_text
from singan_aug.export._layout import Carried, Carrier, Dataset, Labels, Layout, carried_objects, outlined
from singan_aug.pyramid.sizes import Size
from singan_aug.transforms._labels import carry_keypoints

__all__ = ["CocoFolder"]


@dataclass(frozen=True)
class CocoLabels(Labels):
    """The objects of an image in a COCO file."""

    coco: Coco  # what there is about the image
    record: Mapping[str, Any]

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Nothing yet; the annotations of the variant are returned."""
        del stem, out
        shapes = self.coco.shapes(self.record, carrier.size).shapes
        return [_coco_record(each, carrier) for each in carried_objects(shapes, carrier)]

    def objects(self, size: Size) -> Outline:
        """Inside their polygons or run lengths."""
        return outlined(self.coco.shapes(self.record, size).shapes, size)

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Annotations that are broken."""
        return self.coco.shapes(self.record, size).left_out


class CocoFolder(Layout):
    """Images anywhere, and files that say what is in them: one for all, or one for each split."""

    def __init__(self, dataset: Dataset, annotations: Path | None) -> None:
        super().__init__(dataset, annotations)
        self.cocos = (read_coco(annotations),) if annotations is not None else dataset.cocos
        if not self.cocos:
            raise ConfigError(f"expected a COCO file in {self.folder}, got none: name it with --annotations FILE")
        found = match_coco(self.cocos, places(dataset.images, [self.folder]))
        for image, files in found.claimed_twice.items():
            names = ", ".join(str(self._inside(path)) for path in files)
            raise ConfigError(
                f"expected each image in one COCO file of {self.folder}, got {names} for {image.name}: choose with "
                "--annotations FILE"
            )
        self.records, self.unclear, self.doubtful = found.of, found.unclear, found.doubtful
        self.images = tuple(image for image in dataset.images if image in self.records or image in self.unclear)
        self.used = {coco.path for coco in self.cocos}
        self.notes = list(found.notes)
        unlisted = len(dataset.images) - len(self.images)
        if unlisted:
            listing = ", ".join(coco.path.name for coco in self.cocos)
            self.notes.append(f"{counted(unlisted, 'image')} left out, not listed in {listing}")

    @classmethod
    def fits(cls, dataset: Dataset) -> bool:
        """There is a COCO file in it."""
        return bool(dataset.cocos)

    def labels(self, image: Path) -> Labels:
        """Its annotations."""
        if image in self.unclear:
            raise LabelError(self.unclear[image])
        coco, record = self.records[image]
        return CocoLabels(coco.only(record), record)

    def _inside(self, path: Path) -> Path:
        """Where a COCO file has its place in an export."""
        return path.relative_to(self.folder) if path.is_relative_to(self.folder) else Path("annotations", path.name)

    def finish(self, done: Mapping[str, Mapping[str, Any]], originals: bool, out: Path) -> None:
        """The annotation files: originals keep their ids, variants get the next ones, in the order of their names."""
        for coco in self.cocos:
            images, records = self._contents(coco, done, originals)
            text = json.dumps({**coco.document, "images": images, "annotations": records})
            write_text(out, self._inside(coco.path), text)

    def _contents(
        self, coco: Coco, done: Mapping[str, Mapping[str, Any]], originals: bool
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        images: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = []
        next_image = _next(image["id"] for image in coco.images)
        next_record = _next(record.get("id") for some in coco.by_image.values() for record in some)
        for image in sorted(image for image, (own, _) in self.records.items() if own is coco):
            known = self.records[image][1]
            if originals:
                images.append(dict(known))
                records += map(dict, coco.by_image.get(known["id"], ()))
            entry = done.get(image.relative_to(self.folder).as_posix(), {"variants": []})
            for variant in entry["variants"]:
                height, width = entry["size"]
                name = _renamed(known["file_name"], image.name, variant["name"])
                new = {**known, "id": next_image, "file_name": name, "height": height, "width": width}
                images.append({key: value for key, value in new.items() if not key.endswith("_url")})
                for record in variant["labels"]:
                    records.append({**record, "id": next_record, "image_id": next_image})
                    next_record += 1
                next_image += 1
        if originals:  # as they are: which image they are about is for their owner to say
            doubtful = [record for own, record in self.doubtful if own is coco]
            images += map(dict, doubtful)
            for ident in dict.fromkeys(record["id"] for record in doubtful):
                records += map(dict, coco.by_image.get(ident, ()))
        return images, records


def _next(ids: Iterable[Any]) -> int:
    return 1 + max((int(each) for each in ids if isinstance(each, int | float) and abs(each) < 2**63), default=0)


def _renamed(file_name: str, image: str, variant: str) -> str:
    """A record's `file_name` with the name of a variant in place of the image's, its folders as they are written."""
    start = file_name.rfind("/") + 1 if "\\" in image else max(file_name.rfind("/"), file_name.rfind("\\")) + 1
    return file_name[:start] + variant


def _coco_record(each: Carried, carrier: Carrier) -> dict[str, Any]:
    """The annotation of an object of a variant, but for its ids. Outlines stay polygons where they were polygons."""
    record = dict(each.shape.record)
    if each.outline is not None and each.box is not None:
        x1, y1, x2, y2 = each.box
        record |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(each.outline.sum())}
        record["segmentation"] = (
            [polygon.reshape(-1).tolist() for polygon in added_polygons(each.outline)]
            if each.shape.polygons
            else encode_rle(each.outline)
        )
    if record.get("keypoints"):
        values = np.asarray(record["keypoints"], dtype=np.float64).reshape(-1, 3)
        values = _carried_keypoints(values, carrier.field())
        record["keypoints"] = [int(v) if v == int(v) else v for v in values.reshape(-1).tolist()]
        record["num_keypoints"] = int((values[:, 2] > 0).sum())
    return record


def _carried_keypoints(values: NDArray[np.float64], field: Tensor) -> NDArray[np.float64]:
    """x, y, visibility of each. COCO counts from the middle of the first pixel; points that are lost become 0, 0, 0."""
    labelled = values[:, 2] > 0
    moved, seen = carry_keypoints(torch.from_numpy(values[:, :2] + 0.5), field)
    kept = labelled & seen.numpy()
    carried = np.column_stack([moved.numpy() - 0.5, values[:, 2]])
    return np.where(kept[:, None], carried, 0.0)
