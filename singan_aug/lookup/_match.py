"""Deciding whether a query shows one of many images, and how: candidates by their hashes, registered, then compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from singan_aug.images import Pixels, inverse_turn
from singan_aug.images.descriptor import CELLS, Floats, brightness, cell_means, tints
from singan_aug.lookup._crop_hashes import Candidates, candidates
from singan_aug.lookup._registration import (
    QUERY_CELLS,
    WHOLE,
    Box,
    halved,
    luma_of,
    mean_weights,
    register,
    sample,
    unpacked,
)
from singan_aug.lookup._segment import Segment

__all__ = ["Contents", "Match", "find_match"]

Colours = Literal["rgb", "bgr", "grey"]
_CANDIDATES = 8  # registered, coarsely
_FINALISTS = 3  # of them, registered at full resolution
_FINALISTS_LEAD = 2.5  # how much worse than the best one's a finalist's coarse error may be
_SHORTEST_PX = 20  # of a query: less does not tell twins apart
_SMALLEST_AREA = 0.69  # of a crop: 70 % but for the error of registration
_NEAR_BORDER = 0.003  # an edge this close to the source's is taken to be on it
# What a resize, JPEG compression and registration may leave of a query's brightness, as shares of its contrast
# (standard deviation) but for the levels. docs/lookup.md has what they find and refuse.
_CONTRAST_LEVELS = 4.0  # less is flat: any place fits
_ERROR_RATIO = 0.10  # root mean square over 20 x 20 cells
_PATCH_ERROR_RATIO = 0.12  # of the worst of 10 x 10 blocks
_BLOCK_ERROR_RATIO = 0.04  # of the worst of 5 x 5 blocks
_WHOLE_RATIO = 0.65  # of these for a whole image, whose cells are the descriptor's
_GAIN_RATIO = 0.05
_OFFSET_LEVELS = 1.5
_ROUNDING_LEVELS = 1.0  # conversions to grey round down, some of them every product
_TINT_LEVELS = 5.0  # of the worst of 4 x 4 blocks, and beside it
_TINT_RATIO = 0.1  # of the tints' own contrast
_EDGE_DEVIATION = 0.01  # of the registration, in shares of a side
_LEAD = 2.0  # how much worse every other candidate's error must be


@dataclass(frozen=True)
class Match:
    """Which fitted image a query shows, and how."""

    fingerprint: str  # of the fitted image
    turn_code: int  # images.turn(query, turn_code) is in the source's standard orientation
    # Top, left, bottom, right of the query in the source, in shares of the source's height and width, in the
    # orientation the query is held; (0, 0, 1, 1) for the whole image.
    box: tuple[float, float, float, float]
    colours: Colours  # what the query's channels are of the source's; "rgb" also where both are grey


@dataclass(frozen=True)
class Contents:
    """Of an index at one time."""

    segments: tuple[Segment, ...]

    @property
    def images(self) -> int:
        """How many of them the store has."""
        return sum(int(segment.alive.sum()) for segment in self.segments)

    @property
    def mapped_bytes(self) -> int:
        """Of everything that can be looked at: processes share it, where the store has a folder for it."""
        arrays = (vars(segment) | vars(segment.crop_hashes) for segment in self.segments)
        return sum(int(each.nbytes) for some in arrays for each in some.values() if isinstance(each, np.ndarray))

    def image(self, number: int) -> tuple[str, NDArray[np.uint8]]:
        """(fingerprint, descriptor) of one. Raises `DamagedSegmentError`."""
        for segment in self.segments:
            if number < len(segment):
                return bytes(segment.fingerprints[number]).decode(), segment.descriptor(number)
            number -= len(segment)
        raise IndexError(number)


def find_match(contents: Contents, pixels: Pixels) -> Match | None:
    """The image that `pixels` show. Raises `DamagedSegmentError`."""
    if min(pixels.shape[:2]) < _SHORTEST_PX:
        return None
    means = cell_means(pixels[..., :3], QUERY_CELLS)
    query, tint = brightness(means), tints(means)
    if query.std() < _CONTRAST_LEVELS:
        return None
    is_grey = bool((np.abs(tint) < 0.5).all())
    parts = [(segment.crop_hashes, segment.alive) for segment in contents.segments]
    found = candidates(parts, query, is_grey=is_grey, limit=_CANDIDATES)
    if found is None:
        return None
    fingerprints, descriptors = zip(*map(contents.image, found.images.tolist()), strict=True)
    sources, source_tints = unpacked(np.stack(descriptors))
    if is_grey and source_tints.any():
        sources = luma_of(sources, sample(source_tints, WHOLE, CELLS))
    placed = _placed(found, sources, query)
    best = _best(placed, _ROUNDING_LEVELS if is_grey else 0.0)
    if best is None:
        return None
    number, box = placed.numbers[best], placed.boxes[best]
    turn_code = found.turn_codes[number]
    colours = _colours(source_tints[number], _turned(tint, turn_code), box, is_grey)
    if colours is None or not _alone(sources[number], placed, best):
        return None
    return Match(fingerprints[number], turn_code, _turned_box(box, inverse_turn(turn_code)), colours)


@dataclass(frozen=True)
class _Placed:
    """The likeliest candidates, each with the query where it fits best."""

    numbers: NDArray[np.intp]  # [K]: of the candidates
    boxes: Box  # [K, 4]
    deviations: Floats  # [K]: the largest of the box's edges, in shares of a side, for an error of one level
    queries: Floats  # [K, 20, 20]: brightness in each candidate's orientation
    errors: Floats  # [K, 20, 20]: the source's brightness less the query's

    @property
    def spreads(self) -> Floats:
        """Root mean square of the errors, [K]."""
        return _spreads(self.errors)


def _placed(found: Candidates, sources: Floats, query: Floats) -> _Placed:
    """The candidates where they fit best: all of them coarsely, then the likeliest at full resolution."""
    queries = np.stack([_turned(query, code) for code in found.turn_codes])
    coarse, coarse_sources = halved(queries), halved(sources)
    boxes, _ = register(coarse_sources, coarse, found.boxes, steps=2)
    misfits = ((sample(coarse_sources, boxes, coarse.shape[-1]) - coarse) ** 2).mean(axis=(1, 2))
    chosen = np.argsort(misfits, kind="stable")[:_FINALISTS]
    chosen = chosen[misfits[chosen] <= _FINALISTS_LEAD**2 * misfits[chosen[0]]]
    queries, sources = queries[chosen], sources[chosen]
    boxes, covariance = register(sources, queries, boxes[chosen], steps=3)
    boxes = np.where(boxes < _NEAR_BORDER, 0, np.where(boxes > 1 - _NEAR_BORDER, 1, boxes)).astype(np.float32)
    deviations = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).max(axis=1))
    return _Placed(chosen, boxes, deviations, queries, sample(sources, boxes, queries.shape[-1]) - queries)


def _best(placed: _Placed, rounding_levels: float) -> int | None:
    """The candidate that fits, if one does and all others fit clearly worse; up to so much darker or brighter."""
    spreads = placed.spreads
    best = int(spreads.argmin())
    query, error, box = placed.queries[best], placed.errors[best], placed.boxes[best]
    error = error - np.clip(error.mean(), -rounding_levels, rounding_levels)
    patches = halved(error)
    contrast = float(query.std())
    tolerance = contrast * (_WHOLE_RATIO if (box == WHOLE).all() else 1)
    gain = float(((query - query.mean()) * error).mean()) / contrast**2
    area = (box[2] - box[0]) * (box[3] - box[1])
    fits = (
        _spreads(error) <= _ERROR_RATIO * tolerance
        and np.abs(patches).max() <= _PATCH_ERROR_RATIO * tolerance
        and np.abs(halved(patches)).max() <= _BLOCK_ERROR_RATIO * tolerance
        and abs(gain) <= _GAIN_RATIO
        and abs(placed.errors[best].mean()) <= _OFFSET_LEVELS
        and area >= _SMALLEST_AREA
        and placed.deviations[best] * max(spreads[best], 1) <= _EDGE_DEVIATION
    )
    rivals = np.delete(spreads, best)
    return best if fits and (rivals >= _LEAD * spreads[best]).all() else None


def _alone(source: Floats, placed: _Placed, best: int) -> bool:
    """Whether the query fits clearly worse anywhere else in the source, as it does not where that repeats itself.

    Elsewhere is held another way round, or shifted by more than one step of a coarse grid.
    """
    box, query, enough = placed.boxes[best], placed.queries[best], _LEAD * placed.spreads[best]
    coarse = halved(source)
    if _spreads(np.stack([_turned(coarse, code) for code in range(1, 8)]) - coarse).min() < enough:
        return False
    if (box == WHOLE).all():
        return True
    source, query = coarse, halved(query)
    side, cells = len(source), len(query)
    places = []
    for start, stop in zip(box[:2], box[2:], strict=True):
        steps = np.arange(-side, side + 1)
        starts = start + steps.astype(np.float32) / side
        inside = (starts > -0.5 / side) & (starts + (stop - start) < 1 + 0.5 / side)
        places.append((mean_weights(starts[inside], starts[inside] + (stop - start), cells, side), steps[inside]))
    (rows, down), (columns, right) = places
    there = rows[:, None] @ source @ columns.swapaxes(-1, -2)  # [rows, columns, cells, cells]
    spreads = _spreads(there - query)
    distance = np.maximum(np.abs(down)[:, None], np.abs(right))
    # What repeats between two steps is off by up to half a step: by about half of what a whole step makes.
    enough = max(enough, 0.6 * spreads[distance == 1].max(initial=0))
    return bool((spreads[distance > 1] >= enough).all())


def _spreads(errors: NDArray[Any]) -> Floats:
    """Root mean square over the last two axes."""
    return np.asarray(np.sqrt((errors**2).mean(axis=(-2, -1))))


def _colours(source: Floats, query: Floats, box: Box, is_grey: bool) -> Colours | None:
    """How the query's tints [2, 20, 20] relate to the source's; None where they do not."""
    here = halved(halved(query))
    there = sample(source, box, here.shape[-1])
    if is_grey:
        return "grey" if np.abs(there).max() > 1 else "rgb"
    negated = there * np.array([-1, 1], dtype=np.float32)[:, None, None]
    as_rgb, as_bgr = (float(np.abs(here - other).max()) for other in (there, negated))
    better, worse = sorted((as_rgb, as_bgr))
    if better > _TINT_LEVELS + _TINT_RATIO * float(there.std()) or 1 < worse < _LEAD * better:
        return None
    return "bgr" if as_bgr < as_rgb and worse > 1 else "rgb"  # within a level of grey it makes no difference


def _turned(image: Floats, turn_code: int) -> Floats:
    """`images.turn` for arrays [..., H, W]."""
    if turn_code & 4:
        image = image.swapaxes(-1, -2)
    return image[..., :: -1 if turn_code & 2 else 1, :: -1 if turn_code & 1 else 1]


def _turned_box(box: Box, turn_code: int) -> tuple[float, float, float, float]:
    top, left, bottom, right = map(float, box)
    if turn_code & 4:
        top, left, bottom, right = left, top, right, bottom
    if turn_code & 2:
        top, bottom = 1 - bottom, 1 - top
    if turn_code & 1:
        left, right = 1 - right, 1 - left
    return top, left, bottom, right
