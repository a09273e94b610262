"""Blending the low frequencies of neighbouring pieces, compiled for the CPU: a part of steps_numba.py.

Whoever changes coordinates.py touches this file too (see compiled.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact, summing
from singan_aug.pyramid.copied.coordinates import SEAM_LIMIT
from singan_aug.pyramid.copied.sampling import phases, sampled_places

__all__ = ["Blendable", "blendable", "blended", "blended_levels", "blending", "low_frequencies"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]
Numbers = NDArray[Any]  # integers of another width

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
TAPS = 4  # of a blur, added at once
BLOCK_PX = 16  # side of the blocks that are left out where no seam is near
SHARPNESS = np.float32(1.4426950408889634 / SEAM_LIMIT**2)  # exp(-(s / SEAM_LIMIT)^2) = 2^(-SHARPNESS s^2)
FADED = np.float32(120)  # exponent from which on nothing is left of a step
# 2^f = 1 + f (C1 + f (C2 + ...)) for f in [-1/2, 1/2], to the last bit but one
C1, C2, C3 = np.float32(0.6931471805), np.float32(0.2402265069), np.float32(0.0555041087)
C4, C5, C6 = np.float32(0.0096181291), np.float32(0.0013333558), np.float32(0.0001540353)
HALF_RANGE, TOP = np.float32(127.5), np.float32(255)


@dataclass(frozen=True, eq=False)
class Blendable:
    """A source, as `blended` takes it."""

    pixels: Floats  # [C, h', w']
    low: Floats  # [C', h', w'], C' = 3 at most: the low frequencies of its colours
    lower: Floats  # the same, blurred once more
    blend_px: float


def blendable(source: Tensor, blend_px: float) -> Blendable:
    """As steps_torch.blendable."""
    low = low_frequencies(source[:, :3], blend_px)
    lower = low_frequencies(low, blend_px)
    return Blendable(source[0].contiguous().numpy(), low[0].numpy(), lower[0].numpy(), blend_px)


def blended(origin: Tensor, source: Blendable) -> Tensor:
    """As steps_torch.blended."""
    made = np.empty((len(origin), len(source.pixels), *origin.shape[2:]), np.float32)
    _blended(origin.contiguous().numpy(), source.pixels, *_smoothed(origin, source), made)
    return torch.from_numpy(made)


def blending(origin: Tensor, source: Blendable) -> Tensor:
    """As steps_torch.blending."""
    made = np.empty((len(origin), len(source.low), *origin.shape[2:]), np.float32)
    _blended(origin.contiguous().numpy(), np.zeros_like(source.low), *_smoothed(origin, source), made)
    return torch.from_numpy(made)


def blended_levels(origin: Tensor, source: Blendable) -> Tensor:
    """The same as uint8, rounded as `signed_to_bytes` does it."""
    made = np.empty((len(origin), *origin.shape[2:], len(source.pixels)), np.uint8)
    _blended(origin.contiguous().numpy(), source.pixels, *_smoothed(origin, source), made)
    return torch.from_numpy(made).movedim(-1, 1)


def _smoothed(origin: Tensor, source: Blendable) -> tuple[Floats, Floats, Places, Places, Floats]:
    """What the compiled steps take of the low frequencies, for a canvas of this size."""
    rows, columns = (sampled_places(side, source.blend_px) for side in origin.shape[2:])
    return source.low, source.lower, rows, columns, _padded_phases(source.blend_px)


@lru_cache(maxsize=64)
def _padded_phases(sigma_px: float) -> Floats:
    """`phases` with zeros up to a multiple of TAPS."""
    taps = phases(sigma_px)
    return np.pad(taps, ((0, 0), (0, -taps.shape[1] % TAPS)))


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
    apart = np.zeros(found.shape[1] * BLOCK_PX, np.bool_)
    for i in range(h):
        own_rows, own_columns = rows[i], columns[i]
        for j in range(w - 1):
            apart[j] = (own_rows[j + 1] != own_rows[j]) | (own_columns[j + 1] - own_columns[j] != 1)
        apart[w - 1] = (own_columns[0] != 0) | (own_columns[w - 1] != width - 1)
        if i + 1 < h:
            rows_below, columns_below = rows[i + 1], columns[i + 1]
            for j in range(w):
                apart[j] |= (rows_below[j] - own_rows[j] != 1) | (columns_below[j] != own_columns[j])
        if i == 0 or i == h - 1:
            last = 0 if i == 0 else height - 1
            for j in range(w):
                apart[j] |= own_rows[j] != last
        for block in range(found.shape[1]):
            some = False
            for j in range(block * BLOCK_PX, (block + 1) * BLOCK_PX):
                some |= apart[j]
            found[i // BLOCK_PX, block] |= some
        found[i // BLOCK_PX, 0] |= own_columns[0] != 0
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


@summing
def _blended(
    origin: Places,
    pixels: Floats,
    low: Floats,
    lower: Floats,
    rows_at: Places,
    columns_at: Places,
    taps: Floats,
    made: Floats | Bytes,
) -> None:
    """Far from seams, where nothing would change, pixels are copied alone: block by block."""
    n, _, h, w = origin.shape
    blent, height, width = low.shape
    apart, count = taps.shape
    run = -(-w // apart)  # pixels of each phase in a row, which lie side by side until the row is done
    seen = np.zeros(run + count, np.float32)
    across = np.zeros((len(rows_at) + TAPS, blent, apart, run), np.float32)
    smooth, step = np.empty(blent * apart * run, np.float32), np.empty((blent, w), np.float32)
    places, bits = np.empty(w, np.uint32), np.empty(w, np.int32)
    share, shown = np.empty(w, np.float32), np.empty((len(pixels), w), np.float32)
    at = np.empty(w, np.uint32)
    for j in range(w):
        at[j] = j % apart * run + j // apart
    rounded = np.empty(shown.shape, np.uint8)
    reach = -(-(apart * count // 2) // BLOCK_PX)
    flat, flat_lower, flat_pixels = across.reshape(-1), lower.reshape(blent, -1), pixels.reshape(len(pixels), -1)
    for s in range(n):
        rows, columns = origin[s, 0], origin[s, 1]
        changed = _near_seams(rows, columns, height, width, reach)
        for a in range(len(rows_at)):
            near_rows, near_columns = rows[rows_at[a]], columns[rows_at[a]]
            for c in range(blent):
                for b in range(len(columns_at)):
                    x = columns_at[b]
                    seen[b] = low[c, near_rows[x], near_columns[x]]
                for p in range(apart):
                    _weighted(seen, taps[p], 1, across[a, c, p])
        for i in range(h):
            for j in range(w):
                places[j] = rows[i, j] * width + columns[i, j]
            for c in range(len(pixels)):
                _gather(flat_pixels[c], places, shown[c])
            blocks = changed[i // BLOCK_PX]
            if blocks.any():
                _weighted(flat[i // apart * len(smooth) :], taps[i % apart], len(smooth), smooth)
                _steps(smooth, at, flat_lower, places, step)
                _shares(step, bits, share)
                for block in range(len(blocks)):
                    if not blocks[block]:
                        share[block * BLOCK_PX : (block + 1) * BLOCK_PX] = ZERO
                for c in range(blent):
                    for j in range(w):
                        shown[c, j] += share[j] * step[c, j]
            _keep(shown, rounded, made[s], i)


@exact
def _gather(pixels: Floats, places: Numbers, made: Floats) -> None:
    for j in range(len(places)):
        made[j] = pixels[places[j]]


@exact
def _steps(smooth: Floats, at: Numbers, lower: Floats, places: Numbers, made: Floats) -> None:
    """[C', w]: how far the blended low frequencies of a row are from a piece's own."""
    run = len(smooth) // len(made)
    for c in range(len(made)):
        blent, own, step = smooth[c * run : (c + 1) * run], lower[c], made[c]
        for j in range(len(places)):
            step[j] = blent[at[j]] - own[places[j]]


@summing
def _shares(step: Floats, bits: Numbers, made: Floats) -> None:
    """[w]: exp(-(s / SEAM_LIMIT)^2) of the largest of the steps of each pixel: large ones are meant to be there."""
    made[:] = ZERO
    for c in range(len(step)):
        own = step[c]
        for j in range(len(made)):
            made[j] = max(made[j], abs(own[j]))
    for j in range(len(made)):
        power = min(made[j] * made[j] * SHARPNESS, FADED)
        whole = np.int32(power + HALF)
        f = np.float32(whole) - power
        bits[j] = (127 - whole) << 23
        made[j] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
    of_two = bits.view(np.float32)  # a float with this exponent and no fraction is 2^-whole
    for j in range(len(made)):
        made[j] *= of_two[j]


@exact
def _keep(shown: Floats, rounded: Bytes, made: Floats | Bytes, i: int) -> None:
    """A finished row, [C, w]: as floats in [C, h, w], or rounded to bytes in [h, w, C]."""
    if made.itemsize != 1:
        made[:, i] = shown
        return
    for c in range(len(shown)):
        own, levels = shown[c], rounded[c]
        for j in range(len(own)):
            levels[j] = np.uint8(min(max(np.rint((own[j] + ONE) * HALF_RANGE), ZERO), TOP))
    row = made[i].reshape(-1)
    if len(shown) == 3:  # several times as fast as what follows
        red, green, blue = rounded[0], rounded[1], rounded[2]
        for j in range(len(red)):
            row[3 * j], row[3 * j + 1], row[3 * j + 2] = red[j], green[j], blue[j]
        return
    for c in range(len(shown)):
        row[c :: len(shown)] = rounded[c]
