"""Origins of a small draw, enlarged to those of a large image, compiled for the CPU (see compiled.py)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact
from singan_aug.pyramid.sizes import Size

__all__ = ["enlarged"]

Places = NDArray[np.int64]

ONE_PIECE_PX = 1.5  # pixels of the draw: displacements that differ by no more bend into each other, others are cut


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
    _enlarged(origins.contiguous().cpu().numpy(), source_size[0], source_size[1], made)
    return torch.from_numpy(made).to(origins.device)


@exact
def _enlarged(origins: Places, source_height: int, source_width: int, made: Places) -> None:
    _, h, w = origins.shape
    _, height, width = made.shape
    down, across = height / h, width / w  # pixels of the image in one of the draw
    moved = np.empty((h, w, 2))
    for i in range(h):
        for j in range(w):
            moved[i, j, 0] = (origins[0, i, j] + 0.5) * height / source_height - (i + 0.5) * height / h
            moved[i, j, 1] = (origins[1, i, j] + 0.5) * width / source_width - (j + 0.5) * width / w
    most_down, most_across = ONE_PIECE_PX * down, ONE_PIECE_PX * across
    around, share, alike = np.empty((4, 2)), np.empty(4), np.empty(4)
    for y in range(height):
        row = (y + 0.5) / down - 0.5
        top = math.floor(row)
        below = row - top
        first, second = max(top, 0), min(top + 1, h - 1)
        for x in range(width):
            column = (x + 0.5) / across - 0.5
            left = math.floor(column)
            beside = column - left
            one, other = max(left, 0), min(left + 1, w - 1)
            rows, columns = moved[first, one, 0], moved[first, one, 1]
            for k in range(4):
                i, j = (first if k < 2 else second), (one if k % 2 == 0 else other)
                around[k, 0], around[k, 1] = moved[i, j, 0], moved[i, j, 1]
                share[k] = (1 - below if k < 2 else below) * (1 - beside if k % 2 == 0 else beside)
            is_one = True
            for k in range(1, 4):
                is_one &= around[k, 0] == rows and around[k, 1] == columns
            if not is_one:
                best = 0
                for k in range(4):
                    alike[k] = 0.0
                    for m in range(4):
                        near = abs(around[m, 0] - around[k, 0]) <= most_down
                        if near and abs(around[m, 1] - around[k, 1]) <= most_across:
                            alike[k] += share[m]
                    if alike[k] > alike[best] or (alike[k] == alike[best] and share[k] > share[best]):
                        best = k
                rows = columns = total = 0.0
                for m in range(4):
                    near = abs(around[m, 0] - around[best, 0]) <= most_down
                    if near and abs(around[m, 1] - around[best, 1]) <= most_across:
                        rows += share[m] * around[m, 0]
                        columns += share[m] * around[m, 1]
                        total += share[m]
                rows, columns = rows / total, columns / total
            made[0, y, x] = min(max(math.floor(y + 0.5 + rows), 0), height - 1)
            made[1, y, x] = min(max(math.floor(x + 0.5 + columns), 0), width - 1)
