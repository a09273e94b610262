"""What a dataset folder looks like: where the labels of an image are, and how those of a variant are written.

To add one: a class with these methods, and a line in LAYOUTS.
"""

from __future__ import annotations

import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from singan_aug.annotations import (
    Coco,
    Outline,
    Shape,
    encode_rle,
    find_masks,
    joined,
    polygons_of,
    read_coco,
    read_yolo,
    yolo_line,
)
from singan_aug.errors import ConfigError, LabelError
from singan_aug.pyramid.scales import Size
from singan_aug.transforms._labels import boxes_of, carry_keypoints, carry_mask

__all__ = ["LAYOUTS", "Carrier", "Layout", "copied", "open_layout", "written_aside"]


class Carrier(ABC):
    """Where the pixels of one variant come from, for labels that follow them."""

    size: Size  # (height, width) of the image

    @abstractmethod
    def field(self) -> Tensor:
        """int64 [2, H, W], as transforms._labels has it. Raises `LabelError` where it is not known."""

    @abstractmethod
    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [N, 4] without outlines. Raises `LabelError` where they could not follow."""


class Layout(ABC):
    """One way to lay out a dataset in a folder. It pickles: worker processes write variants."""

    def __init__(self, folder: Path, images: Sequence[Path], annotations: Path | None) -> None:
        del annotations
        self.folder = folder
        self.images = tuple(images)  # those that belong to the dataset

    @classmethod
    @abstractmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """Whether the folder looks like one of these."""

    @abstractmethod
    def write(self, image: Path, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Write the labels of a variant that is called `stem`; what has to be known of it at the end is returned.

        Raises `LabelError`.
        """

    def labels_of(self, image: Path) -> Path | None:
        """The file that an original brings along, if it has one of its own."""
        del image
        return None

    def finish(self, done: Mapping[str, Mapping[str, Any]], originals: bool, out: Path) -> None:
        """Write what belongs to the whole dataset. `done` is the journal: for each image its size and variants."""
        del done, originals, out


LAYOUTS: dict[str, Callable[[Path, Sequence[Path], Path | None], Layout]] = {}


def written_aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under another name and rename it, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@dataclass(frozen=True)
class Carried:
    """An object of a variant."""

    shape: Shape  # as it was annotated in the source
    box: tuple[float, float, float, float]
    outline: Outline | None  # None for a box alone


def _carried(shapes: Sequence[Shape], carrier: Carrier) -> list[Carried]:
    """The objects that are left in a variant, with their outlines there and the boxes around these."""
    found = []
    for shape in shapes:
        outline = shape.outline(carrier.size)
        if outline is None:
            if shape.box is not None:
                box = carrier.boxes(torch.tensor([shape.box]))[0].tolist()
                found.append(Carried(shape, (box[0], box[1], box[2], box[3]), None))
            continue
        moved = carry_mask(torch.from_numpy(outline), carrier.field())
        boxes, survives = boxes_of(moved[None])
        if bool(survives[0]):
            x1, y1, x2, y2 = boxes[0].tolist()
            found.append(Carried(shape, (x1, y1, x2, y2), moved.numpy()))
    return found


class ImageFolder(Layout):
    """Images in folders, whose names may be classes; nothing else belongs to an image."""

    @classmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """Any folder does."""
        del folder, images
        return True

    def write(self, image: Path, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Nothing."""
        del image, stem, carrier, out
        return []


class MaskFolder(Layout):
    """`images/` and `masks/`, or NAME_mask.png beside NAME.jpg."""

    def __init__(self, folder: Path, images: Sequence[Path], annotations: Path | None) -> None:
        super().__init__(folder, images, annotations)
        found = find_masks(images, [folder], None)
        self.images = tuple(image for image in images if image not in found.not_images)
        self.masks: dict[Path, Path] = {}
        for image in self.images:
            source = found.of.get(image)
            path = getattr(source, "path", None)
            if source is not None and path is None:
                raise LabelError(f"{image}: {getattr(source, 'why', 'no mask file')}")
            if path is not None and not path.is_relative_to(folder):
                raise ConfigError(
                    f"expected images and masks in {folder}, but {path} lies outside: name the folder of both"
                )
            if path is not None:
                self.masks[image] = path

    @classmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """Some image has a mask file."""
        return bool(find_masks(images, [folder], None).of)

    def labels_of(self, image: Path) -> Path | None:
        """Its mask."""
        return self.masks.get(image)

    def write(self, image: Path, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """The carried mask, in the mode and palette of the original's."""
        path = self.masks.get(image)
        if path is None:
            return []
        try:
            with Image.open(path) as mask:
                values, palette = np.asarray(mask), mask.getpalette() if mask.mode == "P" else None
        except (OSError, SyntaxError, ValueError) as error:
            raise LabelError(f"mask {path}: cannot be read ({error})") from None
        if values.shape[:2] != carrier.size:
            (height, width), (wanted_height, wanted_width) = values.shape[:2], carrier.size
            raise LabelError(
                f"mask {path}: expected {wanted_width}x{wanted_height}, as the image, got {width}x{height}"
            )
        rows, columns = carrier.field().numpy()
        carried = Image.fromarray(values[rows, columns])
        if palette is not None:
            carried.putpalette(palette)
        suffix = ".png" if path.suffix.lower() == ".gif" else path.suffix  # GIF reorders palettes
        name = stem + path.stem.removeprefix(image.stem) + suffix
        written_aside(out / path.relative_to(self.folder).with_name(name), carried.save)
        return []


class YoloFolder(Layout):
    """`images/` and `labels/`, or the labels beside the images; boxes or polygons in text files."""

    def __init__(self, folder: Path, images: Sequence[Path], annotations: Path | None) -> None:
        super().__init__(folder, images, annotations)
        self.lists = [path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml", ".names")]
        self.lists += [path for path in (folder / "classes.txt", folder / "labels" / "classes.txt") if path.is_file()]
        for path in self.lists:
            if re.search(r"^kpt_shape\s*:", path.read_text(errors="replace"), re.MULTILINE):
                raise ConfigError(
                    f"{path}: expected labels for detection or segmentation, got ones for poses (kpt_shape)"
                )

    @classmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """Some image has a label file."""
        return any(_yolo_labels(image, folder).is_file() for image in images)

    def labels_of(self, image: Path) -> Path | None:
        """Its label file; an image without one has no objects."""
        path = _yolo_labels(image, self.folder)
        return path if path.is_file() else None

    def write(self, image: Path, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """A line for each object that is left: a polygon where the original's had one, else a box."""
        path = self.labels_of(image)
        if path is None:
            return []
        lines = []
        for each in _carried(read_yolo(path, carrier.size), carrier):
            corners = np.asarray(each.box, dtype=np.float64).reshape(2, 2)
            points = corners if each.outline is None else joined(polygons_of(each.outline))
            lines.append(yolo_line(each.shape.category, carrier.size, points) + "\n")
        text = "".join(lines)
        target = out / path.relative_to(self.folder).with_name(f"{stem}.txt")
        written_aside(target, partial(Path.write_text, data=text))
        return []

    def finish(self, done: Mapping[str, Mapping[str, Any]], originals: bool, out: Path) -> None:
        """Names of classes. Without `path`, a data.yaml is about the folder that it is in."""
        del done, originals
        for source in self.lists:
            text = re.sub(r"^path\s*:.*\n?", "", source.read_text(errors="replace"), flags=re.MULTILINE)
            written_aside(out / source.relative_to(self.folder), partial(Path.write_text, data=text))


def _yolo_labels(image: Path, folder: Path) -> Path:
    """Where Ultralytics looks: `images` becomes `labels`, the last of several."""
    parts = list(image.relative_to(folder).with_suffix(".txt").parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return folder.joinpath(*parts)


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

    def write(self, image: Path, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Nothing yet; the annotations of the variant are returned."""
        del stem, out
        return [_coco_record(each, carrier) for each in _carried(self.coco.shapes(self.records[image]), carrier)]

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


LAYOUTS |= {"coco": CocoFolder, "yolo": YoloFolder, "masks": MaskFolder, "imagefolder": ImageFolder}


def open_layout(name: str, folder: Path, images: Sequence[Path], annotations: Path | None) -> tuple[str, Layout]:
    """The layout of that name, or for "auto" the one that fits: COCO, YOLO, masks, or folders of images.

    Raises `ConfigError` for an unknown name, or where both COCO and YOLO fit.
    """
    kinds: dict[str, type[Layout]] = {"coco": CocoFolder, "yolo": YoloFolder, "masks": MaskFolder}
    if name == "auto":
        fitting = ["coco"] if annotations is not None else [k for k, v in kinds.items() if v.fits(folder, images)]
        if "coco" in fitting and "yolo" in fitting:
            raise ConfigError(
                f"{folder} holds labels for COCO and for YOLO: choose with --layout coco or --layout yolo"
            )
        name = [*fitting, "imagefolder"][0]
    if name not in LAYOUTS:
        raise ConfigError(f"expected a layout out of auto, {', '.join(LAYOUTS)}, got {name!r}")
    return name, LAYOUTS[name](folder, images, annotations)


def copied(source: Path, target: Path, link: bool) -> None:
    """A copy, or a hard link where the file system has them and both lie on one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            target.unlink(missing_ok=True)
            target.hardlink_to(source)
            return
        except OSError:
            pass
    written_aside(target, lambda aside: shutil.copy2(source, aside))
