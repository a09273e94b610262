"""The steps of a draw from a pyramid of patches, compiled for the CPU: as steps_torch.py, several times as fast.

Rounding aside both modules give the same. Blending, improving, drifting and searching are in modules of their own.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact, summing
from singan_aug.pyramid.copied.blending_numba import (
    Blendable,
    blendable,
    blended,
    blended_levels,
    blending,
    low_frequencies,
)
from singan_aug.pyramid.copied.drifting_numba import moved
from singan_aug.pyramid.copied.improving_numba import improved, packed_basis
from singan_aug.pyramid.copied.searching_numba import best_columns
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size

__all__ = [
    "Blendable",
    "best_columns",
    "blendable",
    "blended",
    "blended_levels",
    "blending",
    "copied",
    "followed",
    "improved",
    "low_frequencies",
    "moved",
    "packed_basis",
    "packed_pixels",
    "placed",
    "resized",
]

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

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


def resized(image: Tensor, size: Size, how: str) -> Tensor:
    """As steps_torch.resized."""
    if tuple(image.shape[2:]) == size:
        return image
    made = np.empty((len(image), *size, image.shape[1]), np.float32)
    _resized(_channels_last(image), *_band(image.shape[2], size[0], how), *_band(image.shape[3], size[1], how), made)
    return torch.from_numpy(made).movedim(-1, 1)


def packed_pixels(source: Tensor) -> Floats:
    """[1, C, h', w'] as [h', w', C]: what is copied of a place side by side."""
    packed: Floats = _channels_last(source)[0]
    return packed


def copied(origin: Tensor, pixels: Floats) -> Tensor:
    """As steps_torch.copied."""
    made = np.empty((len(origin), *origin.shape[2:], pixels.shape[2]), np.float32)
    _copied(origin.contiguous().numpy(), pixels, made)
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
def _copied(origin: Places, pixels: Floats, made: Floats) -> None:
    n, h, w, channels = made.shape
    flat, places = pixels.reshape(-1), np.empty(w, np.uint32)
    for s in range(n):
        for i in range(h):
            rows, columns = origin[s, 0, i], origin[s, 1, i]
            for j in range(w):
                places[j] = rows[j] * pixels.shape[1] + columns[j]
            if channels == 3:  # several times as fast as what follows
                row = made[s, i].reshape(-1)
                for j in range(w):
                    at = 3 * places[j]
                    row[3 * j], row[3 * j + 1], row[3 * j + 2] = (
                        flat[at],
                        flat[at + np.uint32(1)],
                        flat[at + np.uint32(2)],
                    )
            else:
                for j in range(w):
                    for c in range(channels):
                        made[s, i, j, c] = pixels[rows[j], columns[j], c]
