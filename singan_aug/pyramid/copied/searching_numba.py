"""The last step of a search, compiled for the CPU: a part of steps_numba.py; one pass in place of five."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact

__all__ = ["best_columns"]

Floats = NDArray[np.float32]
Numbers = NDArray[Any]


def best_columns(distance: Tensor, factors: Tensor) -> Tensor:
    """As steps_torch.best_columns."""
    made = np.empty(len(distance), np.int64)
    low = (1 << (distance.shape[1] - 1).bit_length()) - 1
    _best_columns(distance.contiguous().numpy(), factors.contiguous().numpy(), np.int32(low), made)
    return torch.from_numpy(made)


@exact
def _best_columns(distance: Floats, factors: Floats, low: np.int32, made: Numbers) -> None:
    row = np.empty(distance.shape[1], np.float32)
    bits, high = row.view(np.int32), ~low
    for a in range(len(distance)):
        own = distance[a]
        for b in range(len(row)):
            row[b] = own[b] * factors[b]
        best = np.int32(2**31 - 1)
        for b in range(len(row)):
            best = min(best, (bits[b] & high) | np.int32(b))
        made[a] = best & low
