"""What keeps large regions of the source from moving as one: coordinates that drift by whole pixels, smoothly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.pyramid.copied.steps import steps_for
from singan_aug.pyramid.fields import random_field
from singan_aug.pyramid.sizes import Size

__all__ = ["drifted"]

GRID = 42  # places along the short side at which it is looked for regions that move as one
ALIKE = 3  # so many places in a row, and so many rows of them, moved alike: a region
CELLS = 6  # of the random field of the drift along the short side


def drifted(
    origin: Tensor,  # int64 [N, 2, h, w]
    size: Size,  # of the source that they point into
    deviation_px: float,  # standard deviation of the drift, in pixels of the canvas
    generators: Sequence[torch.Generator],  # of each draw
) -> Tensor:
    """Coordinates, int64 [N, 2, h, w], moved where a region of the canvas is one piece of the source.

    The field is smooth, so that most neighbours stay neighbours, and of whole pixels, so that all colours stay true.
    """
    height, width = origin.shape[2:]
    step = max(1, round(min(height, width) / GRID))
    rigid = _moved_as_one(origin, step)
    fields = [random_field((rigid.shape[2], rigid.shape[3]), each, deviation_px, CELLS) for each in generators]
    moves = torch.cat(fields).to(origin.device) * rigid
    found: Tensor = steps_for(origin.device).moved(origin, moves, size)
    return found


def _moved_as_one(origin: Tensor, step: int) -> Tensor:
    """float32 [N, 1, h / step, w / step], 1 in regions that have one shift, 0 elsewhere."""
    height, width = origin.shape[2:]
    rows = torch.arange(0, height, step, device=origin.device)[:, None]
    columns = torch.arange(0, width, step, device=origin.device)
    places = origin[:, :, ::step, ::step]
    shift = torch.stack([places[:, 0] - rows, places[:, 1] - columns], dim=1).float()
    alike = _largest(shift) == -_largest(-shift)
    return _largest(alike.all(dim=1, keepdim=True).float())


def _largest(values: Tensor) -> Tensor:
    """Of the places around each."""
    return F.max_pool2d(values, ALIKE, stride=1, padding=ALIKE // 2)
