"""What a layout is: where the labels of an image are, and how those of a variant are written."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singan_aug.annotations import (
    Outline,
    Shape,
)
from singan_aug.pyramid.sizes import Size
from singan_aug.transforms._labels import boxes_of, carry_mask

__all__ = ["Carried", "Carrier", "Labels", "Layout", "NoLabels", "carried_objects", "copied", "written_aside"]


class Carrier(ABC):
    """Where the pixels of one variant come from, for labels that follow them."""

    size: Size  # (height, width) of the image

    @abstractmethod
    def field(self) -> Tensor:
        """int64 [2, H, W], as transforms._labels has it. Raises `LabelError` where it is not known."""

    @abstractmethod
    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [N, 4] without outlines. Raises `LabelError` where they could not follow."""


class Labels(ABC):
    """What rides along with one image. It pickles, and is small: worker processes write variants."""

    @abstractmethod
    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Write the labels of a variant that is called `stem`; what has to be known of it at the end is returned.

        Raises `LabelError`.
        """


class Layout(ABC):
    """One way to lay out a dataset in a folder."""

    def __init__(self, folder: Path, images: Sequence[Path], annotations: Path | None) -> None:
        del annotations
        self.folder = folder
        self.images = tuple(images)  # those that belong to the dataset

    @classmethod
    @abstractmethod
    def fits(cls, folder: Path, images: Sequence[Path]) -> bool:
        """Whether the folder looks like one of these."""

    @abstractmethod
    def labels(self, image: Path) -> Labels:
        """What rides along with an image. Raises `LabelError`."""

    def label_file(self, image: Path) -> Path | None:
        """The file that an original brings along, if it has one of its own."""
        del image
        return None

    def finish(self, done: Mapping[str, Mapping[str, Any]], originals: bool, out: Path) -> None:
        """Write what belongs to the whole dataset. `done` is the journal: for each image its size and variants."""
        del done, originals, out


class NoLabels(Labels):
    """Nothing."""

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Nothing."""
        del stem, carrier, out
        return []


@dataclass(frozen=True)
class Carried:
    """An object of a variant."""

    shape: Shape  # as it was annotated in the source
    box: tuple[float, float, float, float]
    outline: Outline | None  # None for a box alone


def carried_objects(shapes: Sequence[Shape], carrier: Carrier) -> list[Carried]:
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


def written_aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under another name and rename it, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


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
