"""YOLO's text files: one object a line, a class number and coordinates as shares of the image's width and height."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singan_aug.annotations._shapes import Objects, Shape, Size, checked_number, checked_polygons
from singan_aug.errors import ConfigError, LabelError

__all__ = ["has_outlines", "is_yolo", "read_yolo", "refuse_poses", "yolo_line"]

BOX_VALUES = 5  # class, middle, width and height; more are the points of a polygon
MANY_VALUES = 16  # of a line: so many points in any order, joined in turn, cross themselves
OUTSIDE = 0.05  # how far beyond an edge a coordinate may lie: annotators overshoot
NEAR = 0.01  # the same for the points of a pose and their box


def read_yolo(path: Path, size: Size) -> Objects:
    """The objects of an image of this (height, width); lines that are none are left out.

    Raises `LabelError`, with the line, where none is left.
    """
    shapes, left_out = [], []
    for number, words in _lines(path):
        try:
            shapes.append(_shape(words, size))
        except LabelError as error:
            left_out.append(f"{path}, line {number}: {error}")
    return Objects.of(shapes, left_out)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of every line that has any. Whatever the encoding, what counts is ASCII."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16", "replace") if wide else data.removeprefix(codecs.BOM_UTF8).decode("latin-1")
    return [(number, line.split()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1) if line.strip()]


def _shape(words: Sequence[str], size: Size) -> Shape:
    category = checked_number(words[0])
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        raise LabelError(f"expected a class number and coordinates, got {' '.join(words)[:60]!r}") from None
    if not all(math.isfinite(value) and -OUTSIDE <= value <= 1 + OUTSIDE for value in values):
        raise LabelError("expected coordinates in 0..1, as shares of width and height")
    height, width = size
    if len(words) == BOX_VALUES:
        x, y, across, down = values
        if across <= 0 or down <= 0:
            raise LabelError(f"expected a box of some width and height, got {across:g} and {down:g}")
        box = ((x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height)
        return Shape(category, box)
    if len(values) < 6 or len(values) % 2:
        raise LabelError(f"expected 4 values (a box) or 6 or more (a polygon), got {len(values)}")
    points = tuple(value * (height if i % 2 else width) for i, value in enumerate(values))
    box = (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))
    return Shape(category, box, checked_polygons([points]))


def has_outlines(path: Path) -> bool:
    """Whether a file has polygons, or says that there is nothing. One that cannot be read may have some."""
    try:
        lines = _lines(path)
    except LabelError:
        return True
    return not lines or any(len(words) > BOX_VALUES for _, words in lines)


def is_yolo(path: Path) -> bool:
    """Whether a file has lines of a number and coordinates, rather than other text."""
    try:
        return any(len(_numbers(words)) >= BOX_VALUES for _, words in _lines(path))
    except LabelError:
        return False


def _numbers(words: Sequence[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        return []


# Poses: a box and points, some with a third value for visibility. Their lines look like those of polygons.


def refuse_poses(labels: Iterable[Path], yamls: Iterable[Path]) -> None:
    """Raise `ConfigError` where these are labels for poses, as a data.yaml says (`kpt_shape`) or their lines do.

    Lines may read as either: then a data.yaml without `kpt_shape` says that they are polygons, and so do edges that
    never cross, of rectangles or of many points.
    """
    told = False
    for path in yamls:
        text = path.read_bytes().decode("utf-8", errors="replace")
        told = told or bool(re.search(r"^\s*(names|nc|train)\s*:", text, re.MULTILINE))
        if re.search(r"^\s*kpt_shape\s*:", text, re.MULTILINE):
            raise ConfigError(f"{path}: expected labels for detection or segmentation, got ones for poses (kpt_shape)")
    first, length, simple, certain = None, 0, True, True
    for path in labels:
        for number, words in _readable(path):
            values = _numbers(words)[1:]
            if len(values) < BOX_VALUES or not all(map(math.isfinite, values)):
                continue  # a box, or no object
            if (first is not None and len(values) != length) or not _is_pose(values):
                return
            first, length = first or (path, number), len(values)
            simple = simple and _is_simple(values)
            certain = certain and (length >= MANY_VALUES or _is_rectangle(values))
    if first is not None and not (simple and (told or certain)):
        raise ConfigError(
            f"{first[0]}, line {first[1]}: expected boxes or polygons, got lines that read as poses, a box and "
            f"{length - 4} values of points in it: export labels for detection or segmentation"
            + ("; if these are polygons, put a data.yaml without kpt_shape beside them" if simple else "")
        )


def _readable(path: Path) -> list[tuple[int, list[str]]]:
    try:
        return _lines(path)
    except LabelError:
        return []


def _is_pose(values: Sequence[float]) -> bool:
    """Whether the first four read as a box within the image and the others as points in it, or as not annotated."""
    x, y, across, down = values[:4]
    box = np.array([[x - across / 2, y - down / 2], [x + across / 2, y + down / 2]])
    if across <= 0 or down <= 0 or box.min() < -NEAR or box.max() > 1 + NEAR:
        return False
    rest = np.array(values[4:])
    for each in (2, 3):
        if len(rest) and len(rest) % each == 0:
            points = rest.reshape(-1, each)
            inside = ((points[:, :2] >= box[0] - NEAR) & (points[:, :2] <= box[1] + NEAR)).all(axis=1)
            seen = np.isin(points[:, 2:], (0, 1, 2)).all()
            if seen and (inside | (points[:, :2] == 0).all(axis=1)).all():
                return True
    return False


def _is_simple(values: Sequence[float]) -> bool:
    """Whether these are the points of a polygon whose edges do not cross."""
    if len(values) % 2 or max(values) > 1 + OUTSIDE:
        return False
    points = [(values[i], values[i + 1]) for i in range(0, len(values), 2)]
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    return not any(_cross(*one, *other) for one, other in combinations(edges, 2))


def _is_rectangle(values: Sequence[float]) -> bool:
    return len(values) == 8 and len(set(values[::2])) == len(set(values[1::2])) == 2


def _cross(a: Sequence[float], b: Sequence[float], c: Sequence[float], d: Sequence[float]) -> bool:
    def side(p: Sequence[float], q: Sequence[float], r: Sequence[float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def yolo_line(category: int, size: Size, points: NDArray[Any]) -> str:
    """The line of a polygon, [K, 2] of x, y in pixels, or of a box, [2, 2] of its corners."""
    shares = np.clip(np.asarray(points, dtype=np.float64) / (size[1], size[0]), 0, 1)
    if len(shares) == 2:
        shares = np.stack([shares.mean(0), shares[1] - shares[0]])
    return " ".join([str(category), *(f"{value:.6g}" for value in shares.reshape(-1).tolist())])
