"""What a layout is: where the labels of an image are, and how those of a variant are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from singan_aug.annotations import Coco, Masks, Outline, Shape, counted, find_masks, read_coco
from singan_aug.errors import LabelError
from singan_aug.pyramid.sizes import Size
from singan_aug.transforms._labels import boxes_of, carry_mask

__all__ = ["Carried", "Carrier", "Dataset", "Labels", "Layout", "NoLabels", "carried_objects", "outlined"]


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

    def objects(self, size: Size) -> Outline | None:
        """Bool [H, W]: where objects are in the source; None where that is not for these labels to say.

        Raises `LabelError` where an object has no outline.
        """
        del size
        return None

    def target(self, stem: str) -> Path | None:
        """The file that `write` writes, below the export's folder, if it writes one."""
        del stem
        return None

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Objects that are broken: where each is, and why. Raises `LabelError`."""
        del size
        return ()


@dataclass
class Dataset:
    """The files of a dataset's folder."""

    folder: Path
    images: tuple[Path, ...]
    others: tuple[Path, ...]

    @cached_property
    def masks(self) -> Masks:
        """The mask files beside the images."""
        return find_masks(self.images, [self.folder], None)

    @cached_property
    def cocos(self) -> tuple[Coco, ...]:
        """The COCO files, at any depth."""
        found = []
        for path in self.others:
            if path.suffix.lower() == ".json":
                try:
                    coco = read_coco(path)
                except LabelError:
                    continue  # some other JSON
                if "categories" in coco.document:
                    found.append(coco)
        return tuple(found)


class Layout(ABC):
    """One way to lay out a dataset in a folder."""

    def __init__(self, dataset: Dataset, annotations: Path | None) -> None:
        del annotations
        self.folder = dataset.folder
        self.images = dataset.images  # those that belong to the dataset
        self.notes: list[str] = []  # what of the annotations belongs to no image, a clause for each kind
        self.used: set[Path] = set()  # files beside the images that are carried, or told of in the notes

    @classmethod
    @abstractmethod
    def fits(cls, dataset: Dataset) -> bool:
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

    def left_behind(self, dataset: Dataset) -> list[str]:
        """Files that nothing in the export stands for."""
        lost = [path for path in dataset.others if path not in self.used]
        return [f"{counted(len(lost), 'other file')} not copied, such as {lost[0]}"] if lost else []


@dataclass(frozen=True)
class NoLabels(Labels):
    """Nothing."""

    of_objects: bool = False  # whether that means that there are no objects

    def objects(self, size: Size) -> Outline | None:
        """None, or nowhere."""
        return np.zeros(size, bool) if self.of_objects else None

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """Nothing."""
        del stem, carrier, out
        return []


def outlined(shapes: Sequence[Shape], size: Size) -> Outline:
    """Bool [H, W]: where any of the objects is. Raises `LabelError` where one has no outline."""
    outlines = [shape.outline(size) for shape in shapes]
    known = [outline for outline in outlines if outline is not None]
    if len(known) < len(outlines):
        raise LabelError(
            f"expected outlines of all objects to confine variants to, got {len(outlines) - len(known)} without one: "
            "give polygons or masks"
        )
    return np.asarray(np.any([np.zeros(size, bool), *known], axis=0))


@dataclass(frozen=True)
class Carried:
    """An object of a variant."""

    shape: Shape  # as it was annotated in the source
    box: tuple[float, float, float, float] | None  # around the outline, or as it was; None where it has neither
    outline: Outline | None  # None for a box alone


def carried_objects(shapes: Sequence[Shape], carrier: Carrier) -> list[Carried]:
    """The objects that are left in a variant, with their outlines there and the boxes around these."""
    found = []
    for shape in shapes:
        outline = shape.outline(carrier.size)
        if outline is None:
            if shape.box is not None:
                carrier.boxes(
                    torch.tensor([shape.box], dtype=torch.float32, device="cpu")
                )  # the same ones, or a refusal
            found.append(Carried(shape, shape.box, None))
            continue
        moved = carry_mask(torch.from_numpy(outline), carrier.field())
        boxes, survives = boxes_of(moved[None])
        if bool(survives[0]):
            x1, y1, x2, y2 = boxes[0].tolist()
            found.append(Carried(shape, (x1, y1, x2, y2), moved.numpy()))
    return found
