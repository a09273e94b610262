"""The steps of a draw from a pyramid of patches, compiled for the CPU: as steps_torch.py, several times as fast.

Rounding aside both modules give the same. Whoever changes coordinates.py touches this file too (see compiled.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact, summing
from singan_aug.pyramid.copied.blending_numba import blended, low_frequencies
from singan_aug.pyramid.copied.coordinates import MARGIN, STEPS
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size

__all__ = [
    "blended",
    "copied",
    "followed",
    "improved",
    "low_frequencies",
    "packed_basis",
    "packed_colours",
    "placed",
    "resized",
]

Floats = NDArray[np.float32]
Halves = NDArray[np.int16]  # the bits of bfloat16
Places = NDArray[np.int64]

LANES = 16  # floats in the widest register: rows of patches are padded to a multiple of it
ONWARD = np.array(STEPS)
ZERO, HALF = np.float32(0), np.float32(0.5)


def placed(shift: Tensor, own: Size, *, mirrored: bool) -> Tensor:
    """As steps_torch.placed."""
    made = np.empty(tuple(shift.shape), np.int64)
    _placed(shift.contiguous().numpy(), own[0], own[1], mirrored, made)
    return torch.from_numpy(made)


def followed(origin: Tensor, below: Size, own: Size, size: Size) -> Tensor:
    """As steps_torch.followed."""
    made = np.empty((len(origin), 2, *size), np.int64)
    rows, columns = (_sampled(*axis) for axis in zip(origin.shape[2:], size, below, own, strict=True))
    _followed(origin.contiguous().numpy(), *rows, *columns, own[0], own[1], made)
    return torch.from_numpy(made)


def packed_basis(basis: Tensor) -> Tensor:
    """[D, C, p, p] as [D, p, R]: rows of patches as they lie in memory channels last, R padded to the registers."""
    rows = basis.permute(0, 2, 3, 1).flatten(2) / basis.shape[-1]
    return F.pad(rows, (0, -rows.shape[2] % LANES)).contiguous()


def improved(seen: Tensor, origin: Tensor, described: Tensor, basis: Tensor, tolerance: float) -> Tensor:
    """As steps_torch.improved."""
    where = origin.contiguous().numpy()
    active = _at_seams(where)
    patches = torch.from_numpy(_patches(_channels_last(seen), active, basis.shape[1], basis.shape[2]))
    wanted = F.linear(patches, basis.flatten(1)).numpy()
    halves = described.view(torch.int16).numpy()
    return torch.from_numpy(_better(where, active, wanted, halves, np.float32(tolerance)))


def resized(image: Tensor, size: Size, how: str) -> Tensor:
    """As steps_torch.resized."""
    if tuple(image.shape[2:]) == size:
        return image
    made = np.empty((len(image), *size, image.shape[1]), np.float32)
    _resized(_channels_last(image), *_band(image.shape[2], size[0], how), *_band(image.shape[3], size[1], how), made)
    return torch.from_numpy(made).movedim(-1, 1)


def packed_colours(source: Tensor, low: Tensor, lower: Tensor) -> Tensor:
    """[h', w', C + 2 C']: all that is copied of a place side by side."""
    return torch.cat([source[0], low[0], lower[0]]).movedim(0, -1).contiguous()


def copied(origin: Tensor, colours: Tensor, channels: int) -> Tensor:
    """As steps_torch.copied."""
    made = np.empty((len(origin), *origin.shape[2:], channels), np.float32)
    _copied(origin.contiguous().numpy(), colours.numpy(), made)
    return torch.from_numpy(made).movedim(-1, 1)


def _channels_last(image: Tensor) -> Floats:
    """[N, C, h, w] as [N, h, w, C], which is how these functions hold images."""
    held: Floats = image.movedim(1, -1).contiguous().numpy()
    return held


@lru_cache(maxsize=256)
def _band(own: int, side: int, how: str) -> tuple[Places, Floats]:
    """Along one axis, of each of `side` pixels: the first pixel it is made of, [side], and weights [side, taps]."""
    weights = resize(torch.eye(own, dtype=torch.float32, device="cpu")[None, None], (side, own), how)[0, 0].numpy()
    used = weights != 0
    first = used.argmax(1)
    taps = int((own - used[:, ::-1].argmax(1) - first).max())
    first = np.minimum(first, own - taps)
    return first, np.ascontiguousarray(np.take_along_axis(weights, first[:, None] + np.arange(taps), axis=1))


@lru_cache(maxsize=256)
def _sampled(coarse: int, side: int, below: int, own: int) -> tuple[Places, Floats, np.float32]:
    """Along one axis: the coarse pixel each of `side` lies in; how far from its middle, in the source; the growth."""
    place = (np.arange(side, dtype=np.float32) + HALF) * np.float32(coarse / side)
    which = np.minimum(place.astype(np.int64), coarse - 1)
    grow = own / below
    inside = (place - which.astype(np.float32) - HALF) * np.float32(side / coarse) + np.float32(0.5 * grow - 0.5)
    return which, inside.astype(np.float32), np.float32(grow)


@exact
def _placed(shift: Floats, height: int, width: int, mirrored: bool, made: Places) -> None:
    n, _, h, w = shift.shape
    for axis in range(2):
        last = height - 1 if axis == 0 else width - 1
        pitch = np.float32(height / h if axis == 0 else width / w)
        for s in range(n):
            for i in range(h):
                for j in range(w):
                    own = (np.float32(i if axis == 0 else j) + HALF) * pitch - HALF
                    place = own + shift[s, axis, i, j]
                    if mirrored:
                        place = np.float32(last) - abs(np.float32(last) - abs(place))
                    made[s, axis, i, j] = min(max(int(np.rint(place)), 0), last)


@exact
def _followed(
    origin: Places,
    rows: Places,
    down: Floats,
    grow_down: np.float32,
    columns: Places,
    right: Floats,
    grow_right: np.float32,
    height: int,
    width: int,
    made: Places,
) -> None:
    n, _, h, w = made.shape
    for s in range(n):
        for i in range(h):
            for j in range(w):
                row = np.float32(origin[s, 0, rows[i], columns[j]]) * grow_down + down[i]
                column = np.float32(origin[s, 1, rows[i], columns[j]]) * grow_right + right[j]
                made[s, 0, i, j] = min(max(int(np.rint(row)), 0), height - 1)
                made[s, 1, i, j] = min(max(int(np.rint(column)), 0), width - 1)


@exact
def _at_seams(origin: Places) -> Places:
    """[A, 3]: sample, row and column of each pixel beside which another piece begins."""
    n, _, h, w = origin.shape
    active = np.empty((n * h * w, 3), np.int64)
    ends = np.empty((h, w), np.bool_)
    count = 0
    for s in range(n):
        ends[:] = False
        for i in range(h):
            rows, columns, own = origin[s, 0, i], origin[s, 1, i], ends[i]
            if i + 1 < h:
                rows_below, columns_below, below = origin[s, 0, i + 1], origin[s, 1, i + 1], ends[i + 1]
                for j in range(w):
                    apart = (rows_below[j] - rows[j] != 1) | (columns_below[j] != columns[j])
                    own[j] |= apart
                    below[j] |= apart
            for j in range(w - 1):
                apart = (rows[j + 1] != rows[j]) | (columns[j + 1] - columns[j] != 1)
                own[j] |= apart
                own[j + 1] |= apart
        for i in range(h):
            for j in range(w):
                if ends[i, j]:
                    active[count, 0], active[count, 1], active[count, 2] = s, i, j
                    count += 1
    return active[:count]


@exact
def _patches(seen: Floats, active: Places, side: int, run: int) -> Floats:
    """[A, side * run]: the patch around each of these pixels, edges repeated, as `packed_basis` has it."""
    _, h, w, channels = seen.shape
    radius, length = side // 2, side * channels
    patches = np.zeros((len(active), side * run), np.float32)
    for a in range(len(active)):
        s, i, j = active[a, 0], active[a, 1], active[a, 2]
        inside = radius <= j < w - radius
        for y in range(side):
            row, made = seen[s, min(max(i + y - radius, 0), h - 1)], patches[a, y * run : y * run + length]
            if inside:
                flat, first = row.reshape(-1), (j - radius) * channels
                for k in range(length):
                    made[k] = flat[first + k]
            else:
                for x in range(side):
                    for c in range(channels):
                        made[x * channels + c] = row[min(max(j + x - radius, 0), w - 1), c]
    return patches


@summing
def _distance(described: Halves, row: int, column: int, wanted: Floats) -> np.float32:
    found = described[row + MARGIN, column + MARGIN]
    total = ZERO
    for d in range(len(wanted)):
        value = np.int32(np.int32(found[d]) << 16).view(np.float32)  # a bfloat16 is the upper half of a float
        total += (value - wanted[d]) ** 2
    return total


@summing
def _better(origin: Places, active: Places, wanted: Floats, described: Halves, tolerance: np.float32) -> Places:
    """Coordinates where those of the active pixels are the best that their neighbours lead to."""
    h, w = origin.shape[2:]
    height, width = described.shape[0] - 4 * MARGIN - 1, described.shape[1] - 2 * MARGIN
    made = origin.copy()
    for a in range(len(active)):
        s, i, j = active[a]
        own_row, own_column = origin[s, 0, i, j], origin[s, 1, i, j]
        best = _distance(described, own_row, own_column, wanted[a])
        if best <= tolerance:
            continue
        for step in range(len(ONWARD)):
            y, x = i - ONWARD[step, 0], j - ONWARD[step, 1]
            if y < 0 or x < 0 or y >= h or x >= w:
                continue
            row, column = origin[s, 0, y, x] + ONWARD[step, 0], origin[s, 1, y, x] + ONWARD[step, 1]
            if row < 0 or column < 0 or row >= height or column >= width or (row == own_row and column == own_column):
                continue
            distance = _distance(described, row, column, wanted[a])
            if distance < best:
                best = distance
                made[s, 0, i, j] = row
                made[s, 1, i, j] = column
    return made


@summing
def _resized(image: Floats, top: Places, down: Floats, left: Places, across: Floats, made: Floats) -> None:
    n, h, w, channels = made.shape
    lines = np.empty((image.shape[1], w * channels), np.float32)
    for s in range(n):
        for i in range(len(lines)):
            row = image[s, i]
            for j in range(w):
                for c in range(channels):
                    total = ZERO
                    for k in range(across.shape[1]):
                        total += across[j, k] * row[left[j] + k, c]
                    lines[i, j * channels + c] = total
        for i in range(h):
            row = made[s, i].reshape(-1)
            row[:] = ZERO
            for k in range(down.shape[1]):
                weight, line = down[i, k], lines[top[i] + k]
                for j in range(len(row)):
                    row[j] += weight * line[j]


@exact
def _copied(origin: Places, colours: Floats, made: Floats) -> None:
    n, h, w, channels = made.shape
    for s in range(n):
        for i in range(h):
            for j in range(w):
                found = colours[origin[s, 0, i, j], origin[s, 1, i, j]]
                for c in range(channels):
                    made[s, i, j, c] = found[c]
