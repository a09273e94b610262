"""Blending the low frequencies of neighbouring pieces, compiled for the CPU: a part of steps_numba.py.

Whoever changes coordinates.py touches this file too (see compiled.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact, summing
from singan_aug.pyramid.copied.coordinates import SEAM_LIMIT

__all__ = ["blended", "low_frequencies"]

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

ZERO, ONE, LIMIT = np.float32(0), np.float32(1), np.float32(SEAM_LIMIT)
TAPS = 4  # of a blur, added at once
BLOCK_PX = 16  # side of the blocks that are left out where no seam is near
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


def low_frequencies(image: Tensor, sigma_px: float) -> Tensor:
    """As resample.blur of [1, C, h, w], for `sigma_px` above 0."""
    made = np.empty(tuple(image.shape), np.float32)
    _blurred(image.contiguous().numpy(), *_taps(sigma_px), made)
    return torch.from_numpy(made)


@summing
def _blurred(image: Floats, taps: Floats, radius: int, made: Floats) -> None:
    n, channels, h, w = image.shape
    row = np.zeros(w + len(taps), np.float32)
    across = np.zeros((h + len(taps), w), np.float32)
    for s in range(n):
        for c in range(channels):
            for i in range(h):
                row[radius : radius + w] = image[s, c, i]
                row[:radius] = row[radius]
                row[radius + w :] = row[radius + w - 1]
                _weighted(row, taps, 1, across[radius + i])
            _repeat_edges(across, h, radius)
            flat = across.reshape(-1)
            for i in range(h):
                _weighted(flat[i * w :], taps, w, made[s, c, i])


@exact
def _repeat_edges(across: Floats, h: int, radius: int) -> None:
    for i in range(radius):
        across[i] = across[radius]
    for i in range(radius + h, len(across)):
        across[i] = across[radius + h - 1]


@exact
def _near_seams(rows: Places, columns: Places, height: int, width: int, reach: int) -> Flags:
    """[h / BLOCK_PX, w / BLOCK_PX]: blocks in which, or up to `reach` blocks from which, pieces of [h, w] meet.

    Or the canvas ends where its source, [height, width], does not.
    """
    h, w = rows.shape
    found = np.zeros((-(-h // BLOCK_PX), -(-w // BLOCK_PX)), np.bool_)
    for i in range(h):
        below = min(i + 1, h - 1)
        for j in range(w):
            right = min(j + 1, w - 1)
            apart = (rows[below, j] - rows[i, j] != below - i) | (columns[below, j] != columns[i, j])
            apart |= (rows[i, right] != rows[i, j]) | (columns[i, right] - columns[i, j] != right - j)
            if apart:
                found[i // BLOCK_PX, j // BLOCK_PX] = True
                found[below // BLOCK_PX, right // BLOCK_PX] = True
    for i in range(h):
        found[i // BLOCK_PX, 0] |= columns[i, 0] != 0
        found[i // BLOCK_PX, (w - 1) // BLOCK_PX] |= columns[i, w - 1] != width - 1
    for j in range(w):
        found[0, j // BLOCK_PX] |= rows[0, j] != 0
        found[(h - 1) // BLOCK_PX, j // BLOCK_PX] |= rows[h - 1, j] != height - 1
    return _spread(_spread(found, reach, True), reach, False)


@exact
def _spread(found: Flags, reach: int, down: bool) -> Flags:
    made = found.copy()
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            for k in range(-reach, reach + 1):
                y, x = (i + k, j) if down else (i, j + k)
                if 0 <= y < found.shape[0] and 0 <= x < found.shape[1] and found[y, x]:
                    made[i, j] = True
    return made


@exact
def _runs(blocks: Flags, w: int) -> Places:
    """[K, 2]: first column, and the one behind the last, of the blocks in a row of them that are set."""
    made = np.empty((len(blocks), 2), np.int64)
    count = 0
    for j in range(len(blocks)):
        if blocks[j]:
            if count and made[count - 1, 1] == j * BLOCK_PX:
                made[count - 1, 1] = min(w, (j + 1) * BLOCK_PX)
            else:
                made[count, 0], made[count, 1] = j * BLOCK_PX, min(w, (j + 1) * BLOCK_PX)
                count += 1
    return made[:count]


@summing
def _blended(origin: Places, colours: Floats, taps: Floats, radius: int, made: Floats) -> None:
    """Far from seams, where nothing would change, pixels are copied alone: block by block."""
    n, h, w, channels = made.shape
    blent, longest, reach = (colours.shape[2] - channels) // 2, len(taps), -(-len(taps) // BLOCK_PX)
    low = np.zeros((blent, h, w + longest), np.float32)
    across = np.zeros((blent, h + longest, w), np.float32)
    step = np.empty((blent, w), np.float32)
    for s in range(n):
        rows, columns = origin[s, 0], origin[s, 1]
        changed = _near_seams(rows, columns, colours.shape[0], colours.shape[1], reach)
        needed = _spread(changed, reach, True)
        gathered = _spread(needed, reach, False)
        for i in range(h):
            for j in range(w):
                found = colours[rows[i, j], columns[i, j]]
                for c in range(channels):
                    made[s, i, j, c] = found[c]
            for first, last in _runs(gathered[i // BLOCK_PX], w):
                for j in range(first, last):
                    found = colours[rows[i, j], columns[i, j]]
                    for c in range(blent):
                        low[c, i, radius + j] = found[channels + c]
            for c in range(blent):
                row = low[c, i]
                row[:radius] = row[radius]
                row[radius + w :] = row[radius + w - 1]
                for first, last in _runs(needed[i // BLOCK_PX], w):
                    _weighted(row[first:], taps, 1, across[c, radius + i, first:last])
        for c in range(blent):
            _repeat_edges(across[c], h, radius)
        for i in range(h):
            for first, last in _runs(changed[i // BLOCK_PX], w):
                for c in range(blent):
                    _weighted(across[c].reshape(-1)[i * w + first :], taps, w, step[c, first:last])
                for j in range(first, last):
                    found = colours[rows[i, j], columns[i, j]]
                    most = ZERO
                    for c in range(blent):
                        step[c, j] -= found[channels + blent + c]
                        most = max(most, abs(step[c, j]))
                    share = np.exp(-((most / LIMIT) ** 2)) if most > FLAT else ONE
                    for c in range(blent):
                        made[s, i, j, c] += share * step[c, j]
