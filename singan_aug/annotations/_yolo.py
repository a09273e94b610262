"""YOLO's text files: one object a line, a class number and coordinates as shares of the image's width and height."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singan_aug.annotations._shapes import Shape, Size
from singan_aug.errors import LabelError

__all__ = ["read_yolo", "yolo_line"]

BOX_VALUES = 5  # class, middle, width and height; more are the points of a polygon
OUTSIDE = 0.05  # how far beyond an edge a coordinate may lie: annotators overshoot


def read_yolo(path: Path, size: Size) -> tuple[Shape, ...]:
    """The objects of an image of this (height, width). Raises `LabelError`, with the line, for anything else."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read ({error})") from None
    return tuple(_shape(line, size, f"{path}, line {n}") for n, line in enumerate(lines, start=1) if line.strip())


def _shape(line: str, size: Size, where: str) -> Shape:
    words = line.split()
    try:
        category, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise LabelError(f"{where}: expected a class number and coordinates, got {line.strip()[:60]!r}") from None
    if not all(math.isfinite(value) and -OUTSIDE <= value <= 1 + OUTSIDE for value in values):
        raise LabelError(f"{where}: expected coordinates in 0..1, as shares of width and height")
    height, width = size
    if len(words) == BOX_VALUES:
        x, y, across, down = values
        box = ((x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height)
        return Shape(category, box)
    if len(values) < 6 or len(values) % 2:
        raise LabelError(f"{where}: expected 4 values (a box) or 6 or more (a polygon), got {len(values)}")
    points = tuple(value * (height if i % 2 else width) for i, value in enumerate(values))
    box = (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))
    return Shape(category, box, (points,))


def has_outlines(path: Path) -> bool:
    """Whether a file has polygons, or says that there is nothing."""
    lines = [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return not lines or any(len(words) > BOX_VALUES for words in lines)


def yolo_line(category: int, size: Size, points: NDArray[Any]) -> str:
    """The line of a polygon, [K, 2] of x, y in pixels, or of a box, [2, 2] of its corners."""
    shares = np.clip(np.asarray(points, dtype=np.float64) / (size[1], size[0]), 0, 1)
    if len(shares) == 2:
        shares = np.stack([shares.mean(0), shares[1] - shares[0]])
    return " ".join([str(category), *(f"{value:.6g}" for value in shares.reshape(-1).tolist())])
