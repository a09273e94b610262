"""Folders whose labels are files beside the images: class folders, mask folders, YOLO."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from singan_aug.annotations import (
    find_masks,
    joined,
    polygons_of,
    read_yolo,
    yolo_line,
)
from singan_aug.errors import ConfigError, LabelError
from singan_aug.export._layout import Carrier, Labels, Layout, NoLabels, carried_objects, written_aside

__all__ = ["ImageFolder", "MaskFolder", "YoloFolder"]


class ImageFolder(Layout):
    """Images in folders, whose names may be classes; nothing else belongs to an image."""

    @classmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """Any folder does."""
        del folder, images
        return True

    def labels(self, image: Path) -> Labels:
        """None."""
        del image
        return NoLabels()


@dataclass(frozen=True)
class MaskLabels(Labels):
    """A mask file."""

    path: Path
    inside: Path  # the folder that it is in, below the dataset's
    ending: str  # what its name has beyond the image's

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """The carried mask, in the mode and palette of the original's."""
        try:
            with Image.open(self.path) as mask:
                values, palette = np.asarray(mask), mask.getpalette() if mask.mode == "P" else None
        except (OSError, SyntaxError, ValueError) as error:
            raise LabelError(f"mask {self.path}: cannot be read ({error})") from None
        if values.shape[:2] != carrier.size:
            own, wanted = (f"{width}x{height}" for height, width in (values.shape[:2], carrier.size))
            raise LabelError(f"mask {self.path}: expected {wanted}, as the image, got {own}")
        rows, columns = carrier.field().numpy()
        carried = Image.fromarray(values[rows, columns])
        if palette is not None:
            carried.putpalette(palette)
        suffix = ".png" if self.path.suffix.lower() == ".gif" else self.path.suffix  # GIF reorders palettes
        written_aside(out / self.inside / f"{stem}{self.ending}{suffix}", carried.save)
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

    def labels(self, image: Path) -> Labels:
        """Its mask, if it has one."""
        path = self.masks.get(image)
        if path is None:
            return NoLabels()
        return MaskLabels(path, path.relative_to(self.folder).parent, path.stem.removeprefix(image.stem))

    def label_file(self, image: Path) -> Path | None:
        """Its mask."""
        return self.masks.get(image)


@dataclass(frozen=True)
class YoloLabels(Labels):
    """A YOLO file."""

    path: Path
    inside: Path  # the folder that it is in, below the dataset's

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """A line for each object that is left: a polygon where the original's had one, else a box."""
        lines = []
        for each in carried_objects(read_yolo(self.path, carrier.size), carrier):
            corners = np.asarray(each.box, dtype=np.float64).reshape(2, 2)
            points = corners if each.outline is None else joined(polygons_of(each.outline))
            lines.append(yolo_line(each.shape.category, carrier.size, points) + "\n")
        written_aside(out / self.inside / f"{stem}.txt", partial(Path.write_text, data="".join(lines)))
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

    def labels(self, image: Path) -> Labels:
        """Its objects; an image without a label file has none."""
        path = self.label_file(image)
        return NoLabels() if path is None else YoloLabels(path, path.relative_to(self.folder).parent)

    def label_file(self, image: Path) -> Path | None:
        """Its label file."""
        path = _yolo_labels(image, self.folder)
        return path if path.is_file() else None

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
