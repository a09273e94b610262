"""The layouts, and which one a folder has. To add one: a class with the methods of Layout, and a line in LAYOUTS."""

from __future__ import annotations

from pathlib import Path

from singan_aug.errors import ConfigError
from singan_aug.export._coco import CocoFolder
from singan_aug.export._folders import ImageFolder, MaskFolder
from singan_aug.export._layout import Dataset, Layout
from singan_aug.export._yolo import YoloFolder

__all__ = ["LAYOUTS", "open_layout"]

# In the order in which `auto` looks for them.
LAYOUTS: dict[str, type[Layout]] = {
    "coco": CocoFolder,
    "yolo": YoloFolder,
    "masks": MaskFolder,
    "imagefolder": ImageFolder,
}


def open_layout(name: str, dataset: Dataset, annotations: Path | None) -> tuple[str, Layout]:
    """The layout of that name, or for "auto" the first that fits, and its name.

    Raises `ConfigError` for an unknown name, or where both COCO and YOLO fit.
    """
    if name == "auto":
        fitting = ["coco"] if annotations is not None else [key for key, each in LAYOUTS.items() if each.fits(dataset)]
        if {"coco", "yolo"} <= set(fitting):
            folder = dataset.folder
            raise ConfigError(f"{folder} holds labels for COCO and YOLO: choose with --layout coco or --layout yolo")
        name = fitting[0]
    if name not in LAYOUTS:
        raise ConfigError(f"expected a layout out of auto, {', '.join(LAYOUTS)}, got {name!r}")
    return name, LAYOUTS[name](dataset, annotations)
