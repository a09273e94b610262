"""Hashes of crops: which images of an index could a query be a part of?

Every descriptor is looked at through 35 crops of 70 % of the image or more. A crop is known by its mean brightness and
by the signs of 62 low frequencies (as the perceptual hash of Zauner 2010, sec. 3.2.1), in an orientation of its own,
so that flips and quarter turns need no entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from singan_aug.images import Pixels, inverse_turn
from singan_aug.images.descriptor import CELLS, Floats
from singan_aug.lookup._registration import QUERY_CELLS, Box, mean_weights

__all__ = ["CROPS", "Candidates", "CropHashes", "candidates", "composed"]

M = TypeVar("M", float, Floats)

_STEP = 0.1  # between crops: no query is further than half of it from one, a side
_FREQUENCIES = 9
_NEAR_BITS = 20  # more different bits than this are another image
_BEHIND_BITS = 8  # than the likeliest: not worth a closer look
_NEAR_LEVELS = 8.0  # of mean brightness, between a query and the nearest crop
_NEAR_LEVELS_GREY = 16.0  # conversion to grey weighs the channels differently
_NEAR_MOMENTS = 0.15  # of the low frequencies: a query may be oriented as a crop is not


def _spans() -> list[tuple[float, float]]:
    count = round(0.3 / _STEP) + 1
    return [(i * _STEP, 1 - j * _STEP) for i, j in product(range(count), repeat=2) if i + j < count]


_SPANS = _spans()
_PAIRS = [
    (i, j)
    for (i, (top, bottom)), (j, (left, right)) in product(enumerate(_SPANS), repeat=2)
    if (bottom - top) * (right - left) > 0.69
]
CROPS: Box = np.array([(_SPANS[i][0], _SPANS[j][0], _SPANS[i][1], _SPANS[j][1]) for i, j in _PAIRS], dtype=np.float32)

_ORDER = sorted(product(range(_FREQUENCIES), repeat=2), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
_U, _V = np.array([uv for uv in _ORDER if max(uv) > 1 or uv == (1, 1)][:62]).T
_WEIGHTS = np.left_shift(np.uint64(1), np.arange(62, dtype=np.uint64))


def _cosines(cells: int) -> Floats:
    """[frequencies, cells]: the orthonormal DCT-II of a row, divided so that the first is the mean."""
    place = (np.arange(cells) + 0.5) / cells
    waves = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * place) * np.sqrt(2)
    waves[0] = 1
    return np.asarray(waves / cells, dtype=np.float32)


_COSINES = _cosines(QUERY_CELLS)


@cache
def _span_cosines() -> Floats:
    """[spans * frequencies, CELLS]: the same of each span of a descriptor."""
    starts, stops = np.array(_SPANS, dtype=np.float32).T
    return np.asarray((_cosines(32) @ mean_weights(starts, stops, 32, CELLS)).reshape(-1, CELLS), dtype=np.float32)


def composed(first: int, then: int) -> int:
    """The turn code of two turns one after the other: turn(turn(x, first), then)."""
    flips = first & 3
    if then & 4:
        flips = (flips & 1) << 1 | flips >> 1
    return (first ^ then) & 4 | flips ^ (then & 3)


# [query's code, crop's code]: the turn from a query to a descriptor, where both codes lead to one orientation
_CODES = np.array([[composed(query, inverse_turn(crop)) for crop in range(8)] for query in range(8)])


def _turned_moments(down: M, right: M, turn_code: int) -> tuple[M, M]:
    """How much the brightness grows downwards and to the right, after a turn."""
    if turn_code & 4:
        down, right = right, down
    return -down if turn_code & 2 else down, -right if turn_code & 1 else right


_SIGNS = np.where(np.arange(_FREQUENCIES) % 2, -1, 1).astype(np.float32)


def _turned(spectrum: Floats, turn_code: int) -> Floats:
    if turn_code & 4:
        spectrum = spectrum.swapaxes(-1, -2)
    if turn_code & 2:
        spectrum = spectrum * _SIGNS[:, None]
    return spectrum * _SIGNS if turn_code & 1 else spectrum


def _hashed(spectrum: Floats) -> NDArray[np.uint64]:
    return np.asarray((spectrum[..., _U, _V] > 0) @ _WEIGHTS, dtype=np.uint64)


@dataclass(frozen=True)
class Candidates:
    """What a query could be, the likeliest first, each image in each orientation once."""

    images: NDArray[np.intp]
    turn_codes: list[int]  # images.turn(query, code) is held as the descriptor is
    boxes: Box  # the crop, in the descriptor's orientation


@dataclass(frozen=True)
class CropHashes:
    """Hashes of all crops of all descriptors, by mean brightness."""

    levels: Floats  # [M], ascending
    hashes: NDArray[np.uint64]  # [M]
    owners: NDArray[np.uint32]  # [M]: number of the image * len(CROPS) + number of the crop
    turn_codes: NDArray[np.uint8]  # [M]: images.turn(crop, code) is the orientation that was hashed

    @classmethod
    def of(cls, grey: Pixels, first: int = 0) -> CropHashes:
        """Of descriptors' brightness, [N, 60, 60], numbered from `first`. Those without contrast have no crops."""
        return cls._of_some(grey, first)._sorted()

    @classmethod
    def _of_some(cls, levels: Pixels, first: int) -> CropHashes:
        grey = levels.astype(np.float32)
        cosines = _span_cosines()
        products: Floats = np.asarray(cosines @ grey @ cosines.T, dtype=np.float32)
        spectra = products.reshape(-1, len(_SPANS), _FREQUENCIES, len(_SPANS), _FREQUENCIES)
        rows, columns = np.array(_PAIRS).T
        spectrum = spectra.transpose(0, 1, 3, 2, 4)[:, rows, columns]  # [N, crops, frequencies, frequencies]
        turn_codes = np.zeros(spectrum.shape[:2], dtype=np.uint8)
        hashes = np.zeros(spectrum.shape[:2], dtype=np.uint64)
        for code in range(7, -1, -1):
            down, right = _turned_moments(spectrum[..., 1, 0], spectrum[..., 0, 1], code)
            upright = (right >= 0) & (down >= right)
            turn_codes[upright] = code
            hashes[upright] = _hashed(_turned(spectrum[upright], code))
        owners = (np.arange(len(grey))[:, None] + first) * len(CROPS) + np.arange(len(CROPS))
        kept = (grey.std(axis=(1, 2)) > 0)[:, None].repeat(len(CROPS), axis=1)
        return cls(spectrum[..., 0, 0][kept], hashes[kept], owners[kept].astype(np.uint32), turn_codes[kept])

    @classmethod
    def joined(cls, parts: Sequence[CropHashes]) -> CropHashes:
        """Those of all parts."""
        fields = zip(*((part.levels, part.hashes, part.owners, part.turn_codes) for part in parts), strict=True)
        return cls(*map(np.concatenate, fields))._sorted()

    def is_of(self, images: int) -> bool:
        """Whether the arrays can be of so many images: what is read from a file may be anything."""
        lengths = {len(each) for each in vars(self).values()}
        owners = int(self.owners.max(initial=0)) // len(CROPS)
        turns = int(self.turn_codes.max(initial=0))
        return len(lengths) == 1 and owners < max(images, 1) and turns < 8

    def _sorted(self) -> CropHashes:
        return self._at(np.argsort(self.levels, kind="stable"))

    def _at(self, places: Any) -> CropHashes:
        return CropHashes(self.levels[places], self.hashes[places], self.owners[places], self.turn_codes[places])

    def between(self, low: Floats, high: Floats, alive: NDArray[np.bool_]) -> CropHashes:
        """Those of a mean brightness from `low` to `high`, of images that are there."""
        start, stop = np.searchsorted(self.levels, np.array([low, high], dtype=np.float32))
        found = self._at(slice(int(start), int(stop)))
        return found if alive.all() else found._at(alive[found.owners // len(CROPS)])


def candidates(
    parts: Sequence[tuple[CropHashes, NDArray[np.bool_]]], query: Floats, *, is_grey: bool, limit: int
) -> Candidates | None:
    """The images whose crops are like a query's brightness, [20, 20]; None where there are none.

    `parts`: hashes, and which of their images are there. Images are numbered on from part to part.
    """
    from singan_aug.lookup._compiled import least_different, nearly_alike

    spectrum = np.asarray(_COSINES @ query @ _COSINES.T, dtype=np.float32)
    level, reach = spectrum[0, 0], _NEAR_LEVELS_GREY if is_grey else _NEAR_LEVELS
    windows = [hashes.between(level - reach, level + reach, alive) for hashes, alive in parts]
    slack = _NEAR_MOMENTS * float(np.sqrt((spectrum[:3, :3] ** 2).sum() - level**2))
    moments = float(spectrum[1, 0]), float(spectrum[0, 1])
    wanted = []
    for code in range(8):
        down, right = _turned_moments(*moments, code)
        if min(down, right, down - right) >= -slack:
            wanted.append((np.uint64(_hashed(_turned(spectrum, code))), code))
    if not wanted or not any(len(window.hashes) for window in windows):
        return None
    least = min(least_different(window.hashes, each) for window in windows for each, _ in wanted)
    furthest = min(_NEAR_BITS, least + _BEHIND_BITS)
    found = []
    for each, code in wanted:
        first = 0
        for window, (_, alive) in zip(windows, parts, strict=True):
            places, bits = nearly_alike(window.hashes, each, furthest)
            image, crop = np.divmod(window.owners[places].astype(np.int64), len(CROPS))
            found.append((bits, _CODES[code][window.turn_codes[places]], image + first, crop))
            first += len(alive)
    distance, codes, image, crop = map(np.concatenate, zip(*found, strict=True))
    order = np.argsort(distance, kind="stable")
    _, first_of_each = np.unique((image * 8 + codes)[order], return_index=True)
    chosen = order[np.sort(first_of_each)[:limit]]
    if not len(chosen):
        return None
    return Candidates(image[chosen].astype(np.intp), codes[chosen].tolist(), CROPS[crop[chosen]])
