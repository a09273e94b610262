"""Blending the low frequencies of neighbouring pieces, compiled for the CPU: a part of steps_numba.py.

Whoever changes coordinates.py touches this file too (see compiled.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import summing
from singan_aug.pyramid.copied.coordinates import SEAM_LIMIT

__all__ = ["blended"]

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

ZERO, ONE, LIMIT = np.float32(0), np.float32(1), np.float32(SEAM_LIMIT)
TAPS = 4  # of a blur, added at once
FLAT = np.float32(4e-3)  # steps of which all but 1e-3 of themselves is blended, which needs no exponential


def blended(origin: Tensor, colours: Tensor, channels: int, blend_px: float) -> Tensor:
    """As steps_torch.blended."""
    made = np.empty((len(origin), *origin.shape[2:], channels), np.float32)
    _blended(origin.contiguous().numpy(), colours.numpy(), *_taps(blend_px), made)
    return torch.from_numpy(made).movedim(-1, 1)


@lru_cache(maxsize=64)
def _taps(sigma_px: float) -> tuple[Floats, int]:
    """The blur's kernel, with zeros up to a multiple of TAPS, and its radius."""
    radius = max(1, round(3 * sigma_px))
    offsets = np.arange(-radius, radius + 1, dtype=np.float32)
    kernel = np.exp(-(offsets**2) / np.float32(2 * sigma_px**2))
    return np.pad(kernel / kernel.sum(), (0, -len(kernel) % TAPS)).astype(np.float32), radius


@summing
def _weighted(seen: Floats, taps: Floats, apart: int, made: Floats) -> None:
    """The sum of `seen` shifted by 0, `apart`, 2 `apart`, ..., each weighted with its tap."""
    w = len(made)
    made[:] = ZERO
    for k in range(0, len(taps), TAPS):
        first, second, third, fourth = taps[k], taps[k + 1], taps[k + 2], taps[k + 3]
        at = k * apart
        one, two = seen[at : at + w], seen[at + apart : at + apart + w]
        at += 2 * apart
        three, four = seen[at : at + w], seen[at + apart : at + apart + w]
        for j in range(w):
            made[j] += (first * one[j] + second * two[j]) + (third * three[j] + fourth * four[j])


@summing
def _blended(origin: Places, colours: Floats, taps: Floats, radius: int, made: Floats) -> None:
    n, h, w, channels = made.shape
    blent, longest = (colours.shape[2] - channels) // 2, len(taps)
    low = np.zeros((blent, h, w + longest), np.float32)
    lower = np.empty((blent, h, w), np.float32)
    across = np.zeros((h + longest, w), np.float32)
    step = np.empty((blent, h, w), np.float32)
    for s in range(n):
        for i in range(h):
            for j in range(w):
                found = colours[origin[s, 0, i, j], origin[s, 1, i, j]]
                for c in range(channels):
                    made[s, i, j, c] = found[c]
                for c in range(blent):
                    low[c, i, radius + j] = found[channels + c]
                    lower[c, i, j] = found[channels + blent + c]
        for c in range(blent):
            for i in range(h):
                row = low[c, i]
                row[:radius] = row[radius]
                row[radius + w :] = row[radius + w - 1]
                _weighted(row, taps, 1, across[radius + i])
            for i in range(radius):
                across[i] = across[radius]
            for i in range(radius + h, h + longest):
                across[i] = across[radius + h - 1]
            for i in range(h):
                _weighted(across[i : i + longest].reshape(-1), taps, w, step[c, i])
        step -= lower
        for i in range(h):
            for j in range(w):
                most = ZERO
                for c in range(blent):
                    most = max(most, abs(step[c, i, j]))
                share = np.exp(-((most / LIMIT) ** 2)) if most > FLAT else ONE
                for c in range(blent):
                    made[s, i, j, c] += share * step[c, i, j]
