"""The curl of a stream function, compiled for the CPU (see compiled.py)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact

__all__ = ["curl"]

Floats = NDArray[np.float32]

ZERO, HALF = np.float32(0), np.float32(0.5)


def curl(
    stream: Tensor,  # [h + 1, w + 1]
    gain: float,
    step_px: int,
) -> Tensor:
    """[1, 2, h, w]: the curl of a stream function times `gain`, rounded to multiples of `step_px` unless that is 0."""
    made = np.empty((2, stream.shape[0] - 1, stream.shape[1] - 1), np.float32)
    _curl(stream.numpy(), np.float32(gain), np.float32(step_px), made)
    return torch.from_numpy(made)[None]


@exact
def _curl(stream: Floats, gain: np.float32, step_px: np.float32, made: Floats) -> None:
    for i in range(made.shape[1]):
        for j in range(made.shape[2]):
            a, b, c, d = stream[i, j], stream[i, j + 1], stream[i + 1, j], stream[i + 1, j + 1]
            down, right = ((b - a) + (d - c)) * HALF * gain, -((c - a) + (d - b)) * HALF * gain
            if step_px > ZERO:
                down, right = np.rint(down / step_px) * step_px, np.rint(right / step_px) * step_px
            made[0, i, j] = down
            made[1, i, j] = right
