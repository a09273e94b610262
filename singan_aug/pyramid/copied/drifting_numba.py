"""Coordinates that drift, compiled for the CPU: a part of steps_numba.py; one pass in place of a dozen."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact
from singan_aug.pyramid.sizes import Size

__all__ = ["moved"]

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

ONE = np.float32(1)


def moved(origin: Tensor, moves: Tensor, size: Size) -> Tensor:
    """As steps_torch.moved."""
    rows, columns = (_between(*sides) for sides in zip(moves.shape[2:], origin.shape[2:], strict=True))
    made = np.empty(tuple(origin.shape), np.int64)
    last = np.array(size) - 1
    _moved(origin.contiguous().numpy(), moves.contiguous().numpy(), *rows, *columns, last, made)
    return torch.from_numpy(made)


@lru_cache(maxsize=256)
def _between(coarse: int, side: int) -> tuple[Places, Floats]:
    """Along an axis, of each of `side` pixels: the coarse pixel before it, and how far it is on the way to the next."""
    place = np.maximum((np.arange(side) + 0.5) * (coarse / side) - 0.5, 0).astype(np.float32)
    before = np.minimum(place.astype(np.int64), coarse - 1)
    return before, (place - before.astype(np.float32)).astype(np.float32)


@exact
def _moved(
    origin: Places,
    moves: Floats,
    above: Places,
    down: Floats,
    before: Places,
    right: Floats,
    last: Places,
    made: Places,
) -> None:
    n, _, h, w = origin.shape
    coarse, width = moves.shape[2], moves.shape[3]
    line = np.empty(width + 1, np.float32)
    for s in range(n):
        for axis in range(2):
            for i in range(h):
                first, second = moves[s, axis, above[i]], moves[s, axis, min(above[i] + 1, coarse - 1)]
                for x in range(width):
                    line[x] = first[x] * (ONE - down[i]) + second[x] * down[i]
                line[width] = line[width - 1]
                for j in range(w):
                    one, other = line[np.uint64(before[j])], line[np.uint64(before[j] + 1)]
                    move = one * (ONE - right[j]) + other * right[j]
                    made[s, axis, i, j] = min(max(origin[s, axis, i, j] + int(np.rint(move)), 0), last[axis])
