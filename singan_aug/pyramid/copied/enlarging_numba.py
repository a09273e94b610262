"""A small draw carried over to a large image: its origins and its pixels, compiled for the CPU (see compiled.py)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact
from singan_aug.pyramid.sizes import Size

__all__ = ["enlarged", "redrawn"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]

ONE_PIECE_PX = 1.5  # pixels of the draw: displacements that differ by no more bend into each other, others are cut
TOP, ONE, ZERO = np.float32(255), np.float32(1), np.float32(0)


def enlarged(
    origins: Tensor,  # int64 [2, h, w]: rows and columns in a source
    source_size: Size,  # of that source
    size: Size,  # (H, W), at least as large as the draw both ways
) -> Tensor:
    """int64 [2, H, W]: rows and columns in a source of `size` for each pixel of a draw enlarged to it.

    Of the four pixels of the draw around a place those decide that move alike and have the greatest share in bilinear
    interpolation, so that the edges of pieces run aslant, not in steps; among these the displacement is interpolated.
    """
    made = np.empty((2, *size), np.int64)
    _enlarged(_moved(origins, source_size, size), made)
    return torch.from_numpy(made).to(origins.device)


def redrawn(
    origins: Tensor,  # as `enlarged` takes them
    source_size: Size,
    pixels: Bytes,  # [H, W, C]: the source at a larger size
    change: Tensor,  # [C', h, w], C' = C or less: what is added to its first channels, of a range of 1
) -> Tensor:
    """uint8 [C', H, W]: the pixels at `enlarged` places and the change, interpolated; it takes no further memory."""
    made = np.empty((*pixels.shape[:2], len(change)), np.uint8)
    size = (pixels.shape[0], pixels.shape[1])
    lines = change.cpu().movedim(0, -1).contiguous().numpy()
    _redrawn(_moved(origins, source_size, size), np.ascontiguousarray(pixels), lines, made)
    return torch.from_numpy(made).movedim(-1, 0)


def _moved(origins: Tensor, source_size: Size, size: Size) -> NDArray[np.float64]:
    """[h, w, 2]: how far the pixels of a draw have moved, in pixels of the large image."""
    made = np.empty((*origins.shape[1:], 2))
    _move(origins.contiguous().cpu().numpy(), source_size[0], source_size[1], size[0], size[1], made)
    return made


@exact
def _move(
    origins: Places, source_height: int, source_width: int, height: int, width: int, made: NDArray[np.float64]
) -> None:
    _, h, w = origins.shape
    for i in range(h):
        for j in range(w):
            made[i, j, 0] = (origins[0, i, j] + 0.5) * height / source_height - (i + 0.5) * height / h
            made[i, j, 1] = (origins[1, i, j] + 0.5) * width / source_width - (j + 0.5) * width / w


@exact
def _enlarged(moved: NDArray[np.float64], made: Places) -> None:
    _, height, width = made.shape
    cells = _cells(width, moved.shape[1])
    for y in range(height):
        _row(moved, y, height, cells, made[0, y], made[1, y])


@exact
def _redrawn(moved: NDArray[np.float64], pixels: Bytes, change: Floats, made: Bytes) -> None:
    height, width, channels = made.shape
    h, w, _ = change.shape
    cells = _cells(width, w)
    rows, columns = np.empty(width, np.int64), np.empty(width, np.int64)
    near, far, beside = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.float32)
    for x in range(width):
        column = (x + 0.5) * w / width - 0.5
        left = math.floor(column)
        beside[x] = column - left
        near[x], far[x] = max(left, 0), min(left + 1, w - 1)
    line, flat = np.empty((w, channels), np.float32), pixels.reshape(-1)
    for y in range(height):
        _row(moved, y, height, cells, rows, columns)
        row = (y + 0.5) * h / height - 0.5
        top = math.floor(row)
        below = np.float32(row - top)
        first, second = change[max(top, 0)], change[min(top + 1, h - 1)]
        for j in range(w):
            for c in range(channels):
                line[j, c] = (first[j, c] * (ONE - below) + second[j, c] * below) * TOP
        _add(flat, rows, columns, line.reshape(-1), near, far, beside, pixels.shape[2], made[y])


@exact
def _add(
    pixels: Bytes,
    rows: Places,
    columns: Places,
    line: Floats,
    near: Places,
    far: Places,
    beside: Floats,
    held: int,
    made: Bytes,
) -> None:
    """One row: the pixels at these places, of `held` channels, and a line of change between its near and far pixels."""
    width, channels = made.shape
    row = made.reshape(-1)
    for x in range(width):
        at, share = (rows[x] * width + columns[x]) * held, beside[x]
        one, other = near[x] * channels, far[x] * channels
        for c in range(channels):
            own = line[np.uint64(one + c)]
            value = np.float32(pixels[np.uint64(at + c)]) + own + share * (line[np.uint64(other + c)] - own)
            row[x * channels + c] = np.uint8(min(max(np.rint(value), ZERO), TOP))


@exact
def _cells(side: int, coarse: int) -> Places:
    """[coarse + 2]: the first of `side` pixels that lies behind the middle of coarse pixel -1, 0, ..., and the end."""
    made = np.full(coarse + 2, side, np.int64)
    last = -2
    for x in range(side):
        left = math.floor((x + 0.5) * coarse / side - 0.5)
        while last < left:
            last += 1
            made[last + 1] = x
    return made


@exact
def _row(
    moved: NDArray[np.float64],
    y: int,
    height: int,
    cells: Places,
    rows: Places,
    columns: Places,
) -> None:
    """The origins of one row of the large image; where the four pixels of the draw around move alike, all at once."""
    h, w, _ = moved.shape
    width = len(rows)
    down, across = height / h, width / w  # pixels of the image in one of the draw
    row = (y + 0.5) / down - 0.5
    top = math.floor(row)
    below = row - top
    first, second = max(top, 0), min(top + 1, h - 1)
    for left in range(-1, w):
        begin, end = cells[left + 1], cells[left + 2]
        one, other = max(left, 0), min(left + 1, w - 1)
        move_down, move_right = moved[first, one, 0], moved[first, one, 1]
        alike = moved[first, other, 0] == move_down and moved[first, other, 1] == move_right
        alike &= moved[second, one, 0] == move_down and moved[second, one, 1] == move_right
        alike &= moved[second, other, 0] == move_down and moved[second, other, 1] == move_right
        if alike:
            place = min(max(math.floor(y + 0.5 + move_down), 0), height - 1)
            for x in range(begin, end):
                rows[x] = place
                columns[x] = min(max(math.floor(x + 0.5 + move_right), 0), width - 1)
            continue
        for x in range(begin, end):
            beside = (x + 0.5) / across - 0.5 - left
            move_down, move_right = _majority(moved, first, second, one, other, below, beside, down, across)
            rows[x] = min(max(math.floor(y + 0.5 + move_down), 0), height - 1)
            columns[x] = min(max(math.floor(x + 0.5 + move_right), 0), width - 1)


@exact
def _majority(
    moved: NDArray[np.float64],
    first: int,
    second: int,
    one: int,
    other: int,
    below: float,
    beside: float,
    down: float,
    across: float,
) -> tuple[float, float]:
    """The displacement between four pixels of the draw: the mean of those that move alike and count most."""
    best, greatest, own = -1, -1.0, -1.0
    for k in range(4):
        i, j = (first if k < 2 else second), (one if k % 2 == 0 else other)
        share = 0.0
        for m in range(4):
            share += _share(moved, first, second, one, other, below, beside, down, across, m, i, j)
        weight = (1 - below if k < 2 else below) * (1 - beside if k % 2 == 0 else beside)
        if share > greatest or (share == greatest and weight > own):
            best, greatest, own = k, share, weight
    i, j = (first if best < 2 else second), (one if best % 2 == 0 else other)
    move_down = move_right = total = 0.0
    for m in range(4):
        share = _share(moved, first, second, one, other, below, beside, down, across, m, i, j)
        y, x = (first if m < 2 else second), (one if m % 2 == 0 else other)
        move_down += share * moved[y, x, 0]
        move_right += share * moved[y, x, 1]
        total += share
    return move_down / total, move_right / total


@exact
def _share(
    moved: NDArray[np.float64],
    first: int,
    second: int,
    one: int,
    other: int,
    below: float,
    beside: float,
    down: float,
    across: float,
    m: int,
    i: int,
    j: int,
) -> float:
    """The share in bilinear interpolation of the m-th of the four pixels; 0 where it does not move as (i, j) does."""
    y, x = (first if m < 2 else second), (one if m % 2 == 0 else other)
    if abs(moved[y, x, 0] - moved[i, j, 0]) > ONE_PIECE_PX * down:
        return 0.0
    if abs(moved[y, x, 1] - moved[i, j, 1]) > ONE_PIECE_PX * across:
        return 0.0
    return (1 - below if m < 2 else below) * (1 - beside if m % 2 == 0 else beside)
