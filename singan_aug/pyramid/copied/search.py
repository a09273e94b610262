"""Exact search: for what a canvas shows, the places in the source that look most like it.

The source is made use of as a whole: a place that something else resembles closely counts as less good (completeness:
Granot et al. 2022, GPNN, eq. 2).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["nearest_places", "prepared"]

PAIRS_AT_ONCE = 4_000_000  # distances held at once: 16 MB


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
        return _argmin(distance.mul_(_scarcity(distance.amin(0), completeness, used)))
    least = torch.stack([part.amin(0) for part in _in_parts(wanted, known, step)]).amin(0)
    scarcity = _scarcity(least, completeness, used)
    return torch.cat([_argmin(part.mul_(scarcity)) for part in _in_parts(wanted, known, step)])


def _in_parts(wanted: Tensor, known: Tensor, step: int) -> Iterator[Tensor]:
    for part in wanted.split(step):
        yield _distances(part, known)


def _distances(wanted: Tensor, known: Tensor) -> Tensor:
    """[A, B]: |a - b|^2 as one product."""
    seen = torch.cat([-2 * wanted, torch.ones_like(wanted[:, :1]), wanted.square().sum(1, keepdim=True)], dim=1)
    return (seen @ known.T).clamp_(min=0)


def _scarcity(least: Tensor, completeness: float, used: Tensor | None) -> Tensor:
    """[B]: the factor of each place's distances, given its least one."""
    if used is not None:
        least = least.index_fill(0, used, 0.0)
    return 1 / (completeness + least)


def _argmin(distance: Tensor) -> Tensor:
    """[A]: the column of the least of each row of [A, B], none negative; about, to some 12 bits.

    Floats that are not negative are ordered as integers are. With its column in the lowest bits of each, one minimum
    finds both, several times as fast as argmin.
    """
    columns = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)
    low = (1 << (distance.shape[1] - 1).bit_length()) - 1
    return distance.view(torch.int32).bitwise_and_(~low).bitwise_or_(columns).amin(1).bitwise_and_(low).long()
