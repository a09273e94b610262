"""Search: for what a canvas shows, the places in the source that look most like it; all of them, or all that are near.

The source is made use of as a whole: a place that something else resembles closely counts as less good (completeness:
Granot et al. 2022, GPNN, eq. 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from singan_aug.pyramid.copied.steps import steps_for
from singan_aug.pyramid.copied.steps_torch import least_columns
from singan_aug.pyramid.sizes import Size

__all__ = ["nearest_nearby", "nearest_places", "prepared"]

PAIRS_AT_ONCE = 4_000_000  # distances held at once: 16 MB
TILE_PX = 8  # pixels of a canvas that are compared with the same places, along each side


def prepared(described: Tensor) -> Tensor:
    """[B, D + 2] of descriptors [B, D], such that distances to them are one product."""
    known = described.float()
    return torch.cat([known, known.square().sum(1, keepdim=True), torch.ones_like(known[:, :1])], dim=1)


def nearest_places(
    wanted: Tensor,  # [A, D]: descriptors of what the canvas shows
    known: Tensor,  # [B, D + 2], of all places of the source, from `prepared`
    completeness: float,  # alpha; smaller makes more use of the source
    used: Tensor | None = None,  # int64 [U]: places that other parts of the canvas show as they are
) -> Tensor:
    """int64 [A]: for each the place of least distance / (alpha + the place's distance to what it fits best)."""
    step = max(1, PAIRS_AT_ONCE // len(known))
    if len(wanted) <= step:
        distance = _distances(wanted, known)
        return _best(distance, _scarcity(distance.amin(0), completeness, used))
    least = torch.stack([part.amin(0) for part in _in_parts(wanted, known, step)]).amin(0)
    scarcity = _scarcity(least, completeness, used)
    return torch.cat([_best(part, scarcity) for part in _in_parts(wanted, known, step)])


def nearest_nearby(
    wanted: Tensor,  # [h * w, D]: descriptors of what the canvas shows
    size: Size,  # (h, w) of the canvas
    known: Tensor,  # [H * W, D + 2], of all places of the source, from `prepared`
    own: Size,  # (H, W) of the source
    completeness: float,
    reach_px: int,  # how far away a place may lie, at least
) -> Tensor:
    """int64 [h * w]: as `nearest_places`, out of the places that lie about where the pixel does.

    The cost grows with the pixels, not with their square: tiles of the canvas are compared with windows of the source.
    """
    tiles = list(_tiles(size, own, reach_px, wanted.device))

    def distances() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for pixels, places in tiles:
            yield pixels, places, _distances(wanted[pixels], known[places])

    held = list(distances()) if len(tiles) == 1 else None  # else they are made twice
    least = known.new_full((len(known),), math.inf)
    for _, places, distance in held or distances():
        least.scatter_reduce_(0, places.flatten(), distance.amin(1).flatten(), "amin")
    scarcity, found = _scarcity(least, completeness, None), known.new_empty(len(wanted), dtype=torch.int64)
    for pixels, places, distance in held or distances():
        best = least_columns(distance.mul_(scarcity[places][:, None]).flatten(0, 1)).view(pixels.shape)
        found[pixels] = places.gather(1, best)
    return found


def _tiles(size: Size, own: Size, reach_px: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Of some tiles at a time: pixels of the canvas, [T, TILE_PX^2], and the places they are compared with, [T, L]."""
    (rows, near_rows), (columns, near_columns) = (
        _along(side, own_side, reach_px, device) for side, own_side in zip(size, own, strict=True)
    )
    across = len(columns) * TILE_PX**2 * near_rows.shape[1] * near_columns.shape[1]
    step = max(1, PAIRS_AT_ONCE // across)
    for some_rows, some_near in zip(rows.split(step), near_rows.split(step), strict=True):
        pixels = some_rows[:, None, :, None] * size[1] + columns[None, :, None, :]
        places = some_near[:, None, :, None] * own[1] + near_columns[None, :, None, :]
        yield pixels.flatten(2).flatten(0, 1), places.flatten(2).flatten(0, 1)


def _along(side: int, own: int, reach_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis: the pixels of each tile, [T, TILE_PX], the last repeated, and the places about them, [T, L]."""
    first = torch.arange(0, side, TILE_PX, device=device)
    pixels = (first[:, None] + torch.arange(TILE_PX, device=device)).clamp_(max=side - 1)
    kept = min(own, math.ceil(TILE_PX * own / side) + 2 * reach_px)
    middle = (first + TILE_PX // 2) * own // side
    begins = (middle - kept // 2).clamp_(0, own - kept)
    return pixels, begins[:, None] + torch.arange(kept, device=device)


def _in_parts(wanted: Tensor, known: Tensor, step: int) -> Iterator[Tensor]:
    for part in wanted.split(step):
        yield _distances(part, known)


def _distances(wanted: Tensor, known: Tensor) -> Tensor:
    """[..., A, B]: |a - b|^2 of wanted, [..., A, D], and known, [..., B, D + 2], as one product."""
    seen = torch.cat([-2 * wanted, torch.ones_like(wanted[..., :1]), wanted.square().sum(-1, keepdim=True)], dim=-1)
    return (seen @ known.mT).clamp_(min=0)


def _scarcity(least: Tensor, completeness: float, used: Tensor | None) -> Tensor:
    """[B]: the factor of each place's distances, given its least one."""
    if used is not None:
        least = least.index_fill(0, used, 0.0)
    return 1 / (completeness + least)


def _best(distance: Tensor, factors: Tensor) -> Tensor:
    """[A]: the column of the least product of each row of [A, B] with the factors, [B]."""
    found: Tensor = steps_for(distance.device).best_columns(distance, factors)
    return found
