"""Folders whose labels are images, or their own names: mask folders, class folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from singan_aug.annotations import Outline, counted, open_mask
from singan_aug.errors import ConfigError, LabelError
from singan_aug.export._files import written_aside
from singan_aug.export._layout import Carrier, Dataset, Labels, Layout, NoLabels
from singan_aug.pyramid.sizes import Size

__all__ = ["ImageFolder", "MaskFolder"]

# What a mask is written as. GIF reorders palettes, and other lossy formats would not keep black and white.
_SAVED_AS = {".gif": ".png", ".jp2": ".png", ".avif": ".png"}
_OPTIONS: dict[str, dict[str, Any]] = {".webp": {"lossless": True}}
_OPTIONS |= {suffix: {"quality": 95} for suffix in (".jpg", ".jpeg", ".jpe", ".jfif")}


class ImageFolder(Layout):
    """Images in folders, whose names may be classes; nothing else belongs to an image."""

    @classmethod
    def fits(cls, dataset: Dataset) -> bool:
        """Any folder does."""
        del dataset
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
        values, palette = self._read(carrier.size)
        rows, columns = carrier.field().numpy()
        carried = Image.fromarray(values[rows, columns])
        if palette is not None:
            carried.putpalette(palette)
        target = self.target(stem)
        save: Callable[[Path], Any] = partial(carried.save, **_OPTIONS.get(target.suffix.lower(), {}))
        written_aside(out, target, save)
        return []

    def objects(self, size: Size) -> Outline:
        """Where the mask is above 0."""
        found = self._read(size)[0] > 0
        return np.asarray(found if found.ndim == 2 else found.any(-1))

    def _read(self, size: Size) -> tuple[NDArray[Any], list[int] | None]:
        """Its values, and its palette. Raises `LabelError` where it has another size than the image."""
        mask = open_mask(self.path)
        values = np.asarray(mask)
        if values.shape[:2] != size:
            own, wanted = (f"{width}x{height}" for height, width in (values.shape[:2], size))
            raise LabelError(f"mask {self.path}: expected {wanted}, as the image, got {own}")
        return values, mask.getpalette() if mask.mode == "P" else None

    def target(self, stem: str) -> Path:
        """Beside the original's mask, or where that would be."""
        suffix = self.path.suffix
        return self.inside / f"{stem}{self.ending}{_SAVED_AS.get(suffix.lower(), suffix)}"


class MaskFolder(Layout):
    """`images/` and `masks/`, or NAME_mask.png beside NAME.jpg."""

    def __init__(self, dataset: Dataset, annotations: Path | None) -> None:
        super().__init__(dataset, annotations)
        found = dataset.masks
        self.images = tuple(image for image in dataset.images if image not in found.not_images)
        self.sources = found.of
        self.notes = list(found.notes)
        for image in self.images:
            path = self.label_file(image)
            if path is not None and not path.is_relative_to(self.folder):
                raise ConfigError(
                    f"expected images and masks in {self.folder}, but {path} lies outside: name the folder of both"
                )
        without = sum(image not in self.sources for image in self.images)
        if without:
            self.notes.append(f"{counted(without, 'image')} without a mask")

    @classmethod
    def fits(cls, dataset: Dataset) -> bool:
        """Some image has a mask file, or some file is a mask by its place."""
        return bool(dataset.masks.of or dataset.masks.not_images)

    def labels(self, image: Path) -> Labels:
        """Its mask, if it has one."""
        path = self.label_file(image)
        if path is not None:
            return MaskLabels(path, path.relative_to(self.folder).parent, path.stem.removeprefix(image.stem))
        if image in self.sources:
            raise LabelError(getattr(self.sources[image], "why", f"{image}: no mask file"))
        return NoLabels()

    def label_file(self, image: Path) -> Path | None:
        """Its mask."""
        path = getattr(self.sources.get(image), "path", None)
        return path if isinstance(path, Path) else None
