"""The compiled part of a look-up: hashes that are near, means over the cells of a box, and the box that fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from singan_aug.compiled import exact, summing

__all__ = ["least_different", "nearly_alike", "settle", "slopes_by_edges", "weigh_each"]

Floats = NDArray[np.float32]

FURTHEST = np.float32(0.15)  # that an edge moves in one step


@exact
def _different_bits(one: np.uint64, other: np.uint64) -> Any:
    """How many; in the form that compilers know as one instruction."""
    bits = one ^ other
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)


@exact
def least_different(hashes: NDArray[np.uint64], wanted: np.uint64) -> int:
    """The fewest bits in which one of the hashes is different from the wanted one; 64 where there are none."""
    least = np.uint64(64)
    for k in range(len(hashes)):
        least = min(least, _different_bits(hashes[k], wanted))
    return int(least)


@exact
def nearly_alike(hashes: NDArray[np.uint64], wanted: np.uint64, most: int) -> Any:
    """(places, bits): the hashes that are different in so many bits at most, and in how many, both int64."""
    count = 0
    for k in range(len(hashes)):
        count += _different_bits(hashes[k], wanted) <= np.uint64(most)
    places, bits = np.empty(count, np.int64), np.empty(count, np.int64)
    count = 0
    for k in range(len(hashes)):
        different = _different_bits(hashes[k], wanted)
        if different <= np.uint64(most):
            places[count], bits[count] = k, different
            count += 1
    return places, bits


@exact
def weigh(start: float, stop: float, summed: Floats, steps: int, weights: Floats) -> None:
    """Into `weights`, [cells, source_cells]: the means over equal parts of an interval in shares of the side.

    `summed`: how much of a cell has been summed at a place -1 to 2 cells past its start, in `steps` a cell.
    """
    cells, length = weights.shape
    width = stop - start
    gain = np.float32(cells / length / width)
    weights[:] = np.float32(0)
    last = len(summed) - 1
    high = int(start * length * steps + 0.5)
    for k in range(cells):
        low, high = high, int((start + width * ((k + 1) / cells)) * length * steps + 0.5)
        for c in range(max(-1, low // steps - 3), min(length, high // steps + 2) + 1):
            begins = (c - 1) * steps
            more = summed[min(max(high - begins, 0), last)] - summed[min(max(low - begins, 0), last)]
            weights[k, min(max(c, 0), length - 1)] += more * gain  # beyond a side is as the cell beside it


@exact
def weigh_each(starts: Floats, stops: Floats, summed: Floats, steps: int, weights: Floats) -> None:
    """The same of M intervals, into [M, cells, source_cells]."""
    for m in range(len(starts)):
        weigh(starts[m], stops[m], summed, steps, weights[m])


@exact
def _slope(line: Floats, place: int) -> Any:
    """How much it grows from one cell to the next: a central difference of fourth order, zero at the borders."""
    last = len(line) - 1
    if place in (0, last):
        return np.float32(0)
    near = (line[place + 1] - line[place - 1]) / 2
    if place in (1, last - 1):
        return near
    return (4 * near - (line[place + 2] - line[place - 2]) / 4) / 3


@exact
def slopes_by_edges(query: Floats, jacobian: Floats) -> None:
    """Into `jacobian`, [K, 4, N * N]: how [K, N, N] grows as its top, left, bottom and right edge move, in sides."""
    count, cells = query.shape[:2]
    for k in range(count):
        for i in range(cells):
            for j in range(cells):
                down, right = cells * _slope(query[k, :, j], i), cells * _slope(query[k, i], j)
                below, beside = (i + np.float32(0.5)) / cells, (j + np.float32(0.5)) / cells
                place = i * cells + j
                jacobian[k, 0, place], jacobian[k, 2, place] = (1 - below) * down, below * down
                jacobian[k, 1, place], jacobian[k, 3, place] = (1 - beside) * right, beside * right


@summing
def settle(
    source: Floats,  # [K, S, S]
    query: Floats,  # [K, N, N]
    box: Floats,  # [K, 4], which is moved
    jacobian: Floats,  # [K, 4, N * N]
    covariance: Floats,  # [K, 4, 4]
    most: int,  # steps
    still: float,  # no edge moves further: it ends
    summed: Floats,
    steps: int,
) -> None:
    """Gauss-Newton steps of all K, as `_descriptor.register` explains."""
    count, cells = query.shape[:2]
    length = source.shape[1]
    down, right = np.empty((cells, length), np.float32), np.empty((cells, length), np.float32)
    rows = np.empty((cells, length), np.float32)
    error = np.empty(cells * cells, np.float32)
    slope, move = np.empty(4, np.float32), np.empty(4, np.float32)
    for _ in range(most):
        furthest = np.float32(0)
        for k in range(count):
            weigh(box[k, 0], box[k, 2], summed, steps, down)
            weigh(box[k, 1], box[k, 3], summed, steps, right)
            rows[:] = np.float32(0)
            for i in range(cells):
                made = rows[i]
                for c in range(length):
                    weight = down[i, c]
                    if weight != 0:
                        seen = source[k, c]
                        for x in range(length):
                            made[x] += weight * seen[x]
                for j in range(cells):
                    total, weights = np.float32(0), right[j]
                    for x in range(length):
                        total += made[x] * weights[x]
                    error[i * cells + j] = total - query[k, i, j]
            for e in range(4):
                total, slopes = np.float32(0), jacobian[k, e]
                for x in range(len(error)):
                    total += slopes[x] * error[x]
                slope[e] = total
            for e in range(4):
                total = np.float32(0)
                for f in range(4):
                    total += covariance[k, e, f] * slope[f]
                move[e] = min(max(total, -FURTHEST), FURTHEST)
                furthest = max(furthest, abs(total))
            for axis in range(2):
                near, far = move[axis], 1 + move[axis + 2]
                size = (box[k, axis + 2] - box[k, axis]) / (far - near)
                begins = box[k, axis] - near * size
                box[k, axis] = min(max(begins, 0), 0.5)
                box[k, axis + 2] = min(max(begins + size, 0.5), 1)
        if furthest < still:
            break
