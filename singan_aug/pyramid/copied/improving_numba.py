"""Better coordinates for pixels at seams, compiled for the CPU: a part of steps_numba.py.

Whoever changes coordinates.py touches this file too (see compiled.py).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact, summing
from singan_aug.pyramid.copied.coordinates import MARGIN, STEPS

__all__ = ["improved", "packed_basis"]

Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]
Halves = NDArray[np.int16]  # the bits of bfloat16
Places = NDArray[np.int64]

LANES = 16  # floats in the widest register: rows of patches are padded to a multiple of it
FILTERS = 8  # whose products with a patch are summed at once
ONWARD = np.array(STEPS)
ZERO = np.float32(0)


def packed_basis(basis: Tensor) -> Tensor:
    """[D, C, p, p] as [D, p, R]: rows of patches as they lie in memory channels last, R padded to the registers.

    And D padded with filters of zeros to a multiple of FILTERS.
    """
    rows = basis.permute(0, 2, 3, 1).flatten(2) / basis.shape[-1]
    return F.pad(rows, (0, -rows.shape[2] % LANES, 0, 0, 0, -len(rows) % FILTERS)).contiguous()


def improved(seen: Tensor, origin: Tensor, described: Tensor, basis: Tensor, tolerance: float) -> Tensor:
    """As steps_torch.improved."""
    where, halves = origin.contiguous().numpy(), described.view(torch.int16).numpy()
    made = where.copy()
    _improved(seen.movedim(1, -1).contiguous().numpy(), where, halves, basis.numpy(), np.float32(tolerance), made)
    return torch.from_numpy(made)


@exact
def _improved(
    seen: Floats, origin: Places, described: Halves, basis: Floats, tolerance: np.float32, made: Places
) -> None:
    """Coordinates where those of pixels at seams are the best that their neighbours lead to; row by row.

    A place is one number here, of a row of `described`; no step leads from what surrounds the canvas to the source.
    """
    n, h, w, _ = seen.shape
    stride = described.shape[1]
    canvas = np.full((h + 2 * MARGIN, w + 2 * MARGIN), (described.shape[0] - MARGIN - 1) * stride + MARGIN, np.int64)
    onward, back = np.empty(len(ONWARD), np.int64), np.empty(len(ONWARD), np.int64)
    for k in range(len(ONWARD)):
        onward[k] = ONWARD[k, 0] * stride + ONWARD[k, 1]
        back[k] = ONWARD[k, 0] * canvas.shape[1] + ONWARD[k, 1]
    ends, active = np.empty((h, w), np.bool_), np.empty(w, np.int64)
    patches = np.zeros((w, basis.shape[1] * basis.shape[2]), np.float32)
    filters, wanted = basis.reshape(len(basis), -1), np.empty((w, len(basis)), np.float32)
    places, better = canvas.reshape(-1), np.empty(w, np.int64)
    known = described.reshape(-1, described.shape[2])
    for s in range(n):
        for i in range(h):
            for j in range(w):
                canvas[i + MARGIN, j + MARGIN] = (origin[s, 0, i, j] + MARGIN) * stride + origin[s, 1, i, j] + MARGIN
        _mark_seams(canvas, stride, ends)
        for i in range(h):
            count, first = 0, (i + MARGIN) * canvas.shape[1] + MARGIN
            for j in range(w):
                if ends[i, j]:
                    active[count] = j
                    count += 1
            if not count:
                continue
            here = active[:count]
            _cut(seen[s], i, here, basis.shape[1], basis.shape[2], patches)
            _describe(patches[:count], filters, wanted)
            _choose(places, first, here, back, onward, wanted, known, tolerance, better)
            for a in range(count):
                if better[a] != places[first + here[a]]:
                    made[s, 0, i, here[a]] = better[a] // stride - MARGIN
                    made[s, 1, i, here[a]] = better[a] % stride - MARGIN


@exact
def _mark_seams(canvas: Places, stride: int, ends: Flags) -> None:
    """[h, w]: the pixels beside which another piece begins, given places in a margin."""
    h, w = ends.shape
    above, below, beside = np.zeros(w, np.bool_), np.zeros(w, np.bool_), np.zeros(w + 1, np.bool_)
    for i in range(h):
        here, under = canvas[i + MARGIN, MARGIN:], canvas[i + MARGIN + 1, MARGIN:]
        for j in range(w - 1):
            beside[j + 1] = here[j + 1] - here[j] != 1
        if i + 1 < h:
            for j in range(w):
                below[j] = under[j] - here[j] != stride
        else:
            below[:] = False
        own = ends[i]
        for j in range(w):
            own[j] = above[j] | below[j] | beside[j] | beside[j + 1]
        above, below = below, above


@exact
def _cut(seen: Floats, i: int, active: Places, side: int, run: int, patches: Floats) -> None:
    """[A, side * run]: the patch around each of these pixels of a row, edges repeated, as `packed_basis` has it.

    What lies behind the end of a row of a patch is multiplied with zeros.
    """
    h, w, channels = seen.shape
    radius, made = side // 2, patches.reshape(-1)
    for y in range(side):
        row = seen[min(max(i + y - radius, 0), h - 1)]
        flat = row.reshape(-1)
        for a in range(len(active)):
            j, to = active[a], a * patches.shape[1] + y * run
            first = (j - radius) * channels
            if j >= radius and first + run <= len(flat):
                for k in range(run):
                    made[np.uint64(to + k)] = flat[np.uint64(first + k)]
            else:
                for x in range(side):
                    for c in range(channels):
                        made[to + x * channels + c] = row[min(max(j + x - radius, 0), w - 1), c]


@summing
def _describe(patches: Floats, filters: Floats, made: Floats) -> None:
    """[A, D]: the products of patches with D filters, FILTERS at once."""
    for a in range(len(patches)):
        patch = patches[a]
        for d in range(0, len(filters), FILTERS):
            f0, f1, f2, f3 = filters[d], filters[d + 1], filters[d + 2], filters[d + 3]
            f4, f5, f6, f7 = filters[d + 4], filters[d + 5], filters[d + 6], filters[d + 7]
            t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = ZERO
            for k in range(len(patch)):
                value = patch[k]
                t0 += value * f0[k]
                t1 += value * f1[k]
                t2 += value * f2[k]
                t3 += value * f3[k]
                t4 += value * f4[k]
                t5 += value * f5[k]
                t6 += value * f6[k]
                t7 += value * f7[k]
            made[a, d], made[a, d + 1], made[a, d + 2], made[a, d + 3] = t0, t1, t2, t3
            made[a, d + 4], made[a, d + 5], made[a, d + 6], made[a, d + 7] = t4, t5, t6, t7


@exact
def _choose(
    places: Places,
    first: int,
    active: Places,
    back: Places,
    onward: Places,
    wanted: Floats,
    known: Halves,
    tolerance: np.float32,
    made: Places,
) -> None:
    """[A]: for each of these pixels of a row, whose first one has the place `first`, the best place."""
    for a in range(len(active)):
        at = first + active[a]
        own = places[np.uint64(at)]
        made[a] = own
        best = _distance(known, own, wanted, a)
        if best <= tolerance:
            continue
        for k in range(len(back)):
            place = places[np.uint64(at - back[k])] + onward[k]
            if place != own:
                distance = _distance(known, place, wanted, a)
                if distance < best:
                    best = distance
                    made[a] = place


@summing
def _distance(known: Halves, place: int, wanted: Floats, a: int) -> np.float32:
    total = ZERO
    for d in range(known.shape[1]):
        value = np.int32(np.int32(known[np.uint64(place), d]) << 16).view(np.float32)  # of a float the upper half
        total += (value - wanted[a, d]) ** 2
    return total
