"""Outlines of objects: polygons, COCO's run lengths, and masks made of either.

Coordinates lie between pixels, as in COCO: the square of the first pixel is 0, 0, 1, 0, 1, 1, 0, 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from singan_aug.errors import LabelError
from singan_aug.images import Mask

__all__ = [
    "Objects",
    "Outline",
    "Shape",
    "Size",
    "added_polygons",
    "checked_number",
    "checked_polygons",
    "checked_runs",
    "decode_rle",
    "encode_rle",
    "instance_mask",
    "joined",
    "polygons_of",
]

Outline = NDArray[np.bool_]  # [H, W]: which pixels belong to an object
Size = tuple[int, int]  # (height, width)

MOST = 1_000_000  # beyond this no number of a class and no coordinate is meant
FINER = 5  # polygons are drawn this much larger, as pycocotools does; odd, so that a pixel has a middle
INSTANCES = 255  # that a mask of one byte can hold beside the background


@dataclass(frozen=True)
class Shape:
    """One annotated object."""

    category: int
    box: tuple[float, float, float, float] | None = None  # x1, y1, x2, y2 in pixels
    polygons: tuple[tuple[float, ...], ...] = ()  # x1, y1, x2, y2, ... in pixels; the object is their union
    counts: tuple[int, ...] | None = None  # run lengths, column by column, the first of them outside
    size: Size | None = None  # (height, width) of the image that the run lengths are for
    record: Mapping[str, Any] = field(default_factory=dict)  # whatever else the annotation says

    @property
    def has_outline(self) -> bool:
        """Whether it says which pixels belong to the object."""
        return bool(self.polygons) or self.counts is not None

    def outline(self, size: Size) -> Outline | None:
        """[H, W]: its pixels, those whose middle lies inside; None for a box alone. Raises `LabelError`."""
        if self.counts is not None:
            if self.size != size:
                raise LabelError(f"expected run lengths for {_spelled(size)}, got {_spelled(self.size)}")
            return decode_rle(self.counts, size)
        if not self.polygons:
            return None
        inside = np.zeros(size, dtype=np.bool_)
        for polygon in self.polygons:
            _fill(inside, polygon)
        return inside


@dataclass(frozen=True)
class Objects:
    """The objects of one image, and what was left out because it is none."""

    shapes: tuple[Shape, ...]
    left_out: tuple[str, ...] = ()  # where each is, and what is wrong with it

    @classmethod
    def of(cls, shapes: Sequence[Shape], left_out: Sequence[str]) -> Objects:
        """Raises `LabelError` where nothing is left: an image would be taken for one of the background alone."""
        if left_out and not shapes:
            more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
            raise LabelError(f"{left_out[0]}{more}")
        return cls(tuple(shapes), tuple(left_out))


def checked_number(value: Any) -> int:
    """The number of a class, 0 or more, also where it is written 3.0. Raises `LabelError`."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer() or not 0 <= number <= MOST:
        raise LabelError(f"expected the number of a class, got {str(value)[:40]!r}")
    return int(number)


def checked_polygons(polygons: Any) -> tuple[tuple[float, ...], ...]:
    """Those that enclose something. Raises `LabelError` where none does, or one has no pairs of finite coordinates."""
    read = [tuple(float(value) for value in polygon) for polygon in polygons]
    for polygon in read:
        if len(polygon) % 2 or not all(abs(value) <= MOST for value in polygon):  # nor where it is NaN
            raise LabelError("expected polygons of x and y of each point, finite numbers within the image")
    good = tuple(polygon for polygon in read if _encloses(polygon))
    if not good:
        raise LabelError("expected polygons of three points or more that enclose something")
    return good


def _encloses(polygon: tuple[float, ...]) -> bool:
    points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    return bool(len(points) > 2 and np.linalg.matrix_rank(points - points[0]) == 2)  # not all on one line


def checked_runs(counts: Any, own: Size, size: Size) -> tuple[int, ...]:
    """Run lengths, as a list. Raises `LabelError` where they are not those of an image of this (height, width)."""
    if own != size:
        raise LabelError(f"expected run lengths for {size[1]}x{size[0]}, got {own[1]}x{own[0]}")
    runs = unpack_runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
    _check_runs(runs, size)
    return tuple(runs)


def _spelled(size: Size | None) -> str:
    return "no size" if size is None else f"{size[1]}x{size[0]}"


def _fill(inside: Outline, polygon: Sequence[float]) -> None:
    """Add the pixels of a polygon. Drawn larger, since Pillow's polygons are half a pixel too wide all around."""
    height, width = inside.shape
    points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    low = np.clip(np.floor(points.min(0)).astype(int), 0, (width, height))
    high = np.clip(np.ceil(points.max(0)).astype(int), 0, (width, height))
    across, down = (high - low).tolist()
    if across < 1 or down < 1:
        return
    canvas = Image.new("L", (across * FINER, down * FINER))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in ((points - low) * FINER - 0.5).tolist()], fill=1)
    middles = np.asarray(canvas)[FINER // 2 :: FINER, FINER // 2 :: FINER]
    inside[low[1] : high[1], low[0] : high[0]] |= middles > 0


def instance_mask(shapes: Sequence[Shape], size: Size) -> Mask:
    """int32 [H, W]: 0 for the background, else the number of a shape, 1 for the first.

    Where objects overlap the smaller one is on top, and of equal ones the later. Boxes without an outline are left out.
    Raises `LabelError` for more than 255.
    """
    if len(shapes) > INSTANCES:
        raise LabelError(f"expected at most {INSTANCES} objects in one image, got {len(shapes)}")
    mask = np.zeros(size, dtype=np.int32)
    outlines = [(number, shape.outline(size)) for number, shape in enumerate(shapes, start=1)]
    known = [(int(outline.sum()), number, outline) for number, outline in outlines if outline is not None]
    for _, number, outline in sorted(known, key=lambda each: (-each[0], each[1])):
        mask[outline] = number
    return mask


def decode_rle(counts: Sequence[int] | str, size: Size) -> Outline:
    """[H, W] of COCO's run lengths: a list of them, or the string that pycocotools packs them into.

    Raises `LabelError` where they do not add up to the size.
    """
    runs = unpack_runs(counts) if isinstance(counts, str) else list(counts)
    _check_runs(runs, size)
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(size[::-1]).T)


def _check_runs(runs: Sequence[int], size: Size) -> None:
    if any(run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise LabelError(f"expected run lengths of {size[0] * size[1]} pixels together, got {sum(runs)}")


def encode_rle(outline: Outline) -> dict[str, Any]:
    """COCO's `segmentation` of a mask [H, W]: its size, and its run lengths packed as pycocotools packs them."""
    flat = outline.T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    runs = [0, *runs] if flat.size and flat[0] else runs
    return {"size": [*outline.shape], "counts": _pack_runs(runs)}


def _pack_runs(runs: Sequence[int]) -> str:
    """Each run less the one but one before it, five bits a character, the lowest first; 32 marks that more follow."""
    text = []
    for i, run in enumerate(runs):
        left = run - runs[i - 2] if i > 2 else run
        while True:
            bits, left = left & 31, left >> 5
            last = left == (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + (0 if last else 32)))
            if last:
                break
    return "".join(text)


def unpack_runs(text: str) -> list[int]:
    """The run lengths in pycocotools' string. Raises `LabelError`."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise LabelError(f"expected run lengths packed as pycocotools packs them, got the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs


def polygons_of(outline: Outline) -> list[NDArray[np.int64]]:
    """Its borders, each [K, 2] of x, y: along the edges of pixels, corners alone, the object on the right-hand side.

    Borders of holes run the other way round. Filled by the even-odd rule, or added up with their direction, they give
    back the mask to the pixel.
    """
    padded = np.pad(outline, 1)
    ends: dict[tuple[int, int], list[tuple[int, int]]] = {}
    height, width = outline.shape
    for (down, right), (x1, y1), (x2, y2) in (
        ((-1, 0), (0, 0), (1, 0)),  # nothing above: the upper edge, to the right
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        beside = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for y, x in np.argwhere(outline & ~beside).tolist():
            ends.setdefault((x + x1, y + y1), []).append((x + x2, y + y2))
    borders = []
    while ends:
        start = next(iter(ends))
        walked, here = [start], ends[start][0]
        _take(ends, start, here)
        while here != start:
            before = walked[-1]
            walked.append(here)
            # Where two pixels touch at a corner, turn right: each keeps a border of its own.
            turned = (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0]))
            there = turned if turned in ends[here] else ends[here][0]
            _take(ends, here, there)
            here = there
        borders.append(_corners(np.array(walked)))
    return borders


def _take(ends: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int], end: tuple[int, int]) -> None:
    ends[start].remove(end)
    if not ends[start]:
        del ends[start]


def _corners(border: NDArray[np.int64]) -> NDArray[np.int64]:
    steps = np.diff(np.concatenate([border[-1:], border, border[:1]]), axis=0)
    turns: NDArray[np.bool_] = (steps[1:] != steps[:-1]).any(axis=1)
    return border[turns]


def joined(polygons: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Several borders as one, [K, 2]: each is entered and left by the same line, which encloses nothing.

    For formats that have one polygon for an object. Filled by the even-odd rule it is the same object.
    """
    closed = [np.concatenate([polygon, polygon[:1]]) for polygon in polygons]
    if len(closed) == 1:
        return polygons[0]
    way_back = [polygon[:1] for polygon in reversed(polygons[1:-1])]
    path = np.concatenate([*closed, *way_back])
    kept = [True, *(bool((a != b).any()) for a, b in pairwise(path))]
    return path[kept]


def added_polygons(outline: Outline) -> list[NDArray[np.int64]]:
    """Its borders, each [K, 2], for formats that add polygons up: one along all of them where holes must be cut."""
    borders = polygons_of(outline)
    return [joined(borders)] if any(_turns_left(border) for border in borders) else borders


def _turns_left(border: NDArray[np.int64]) -> bool:
    x, y = border.T
    return bool((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0)
