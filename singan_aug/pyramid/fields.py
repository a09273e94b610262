"""Smooth random fields of displacement, and images deformed by them."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.pyramid.sizes import Size

__all__ = ["deformed", "field_of", "random_field", "random_stream"]


def random_field(
    size: Size,
    generator: torch.Generator,
    deviation_px: float,
    cells: int,  # of the random stream function along the short side
    step_px: int = 0,
) -> Tensor:
    """How far each pixel moves, [1, 2, *size] in pixels (down, right): standard deviation about `deviation_px`.

    Smooth, then rounded to multiples of `step_px` unless that is 0. The field is the curl of a random stream function
    (Bridson et al. 2007, "Curl-noise for procedural fluid flow"): without divergence it neither thins out nor crowds
    what it moves, so that a draw holds everything in about the source's proportions.
    """
    return field_of(random_stream(size, generator, cells), size, deviation_px, cells, step_px)


def random_stream(size: Size, generator: torch.Generator, cells: int) -> Tensor:
    """Standard normal values, [a, b], of a stream function at the corners of its cells."""
    along = [max(1, round(cells * side / min(size))) for side in size]
    return torch.randn(along[0] + 1, along[1] + 1, generator=generator, dtype=torch.float32, device="cpu")


def field_of(coarse: Tensor, size: Size, deviation_px: float, cells: int, step_px: int = 0) -> Tensor:
    """The field of `random_field`, [1, 2, *size], of such values."""
    height, width = size
    stream = _bicubic(coarse.shape[0], height + 1) @ coarse @ _bicubic(coarse.shape[1], width + 1).T
    from singan_aug.pyramid.fields_numba import curl  # numba is not imported before the first draw

    # From one cell to the next the stream function differs by sqrt(2) on average.
    return curl(stream, min(size) / cells * deviation_px / 2**0.5, step_px)


def deformed(
    image: Tensor,  # [N or 1, C, h, w]
    field: Tensor,  # [N, 2, h, w]: how far away, in pixels (down, right), each pixel finds its colour
    mode: str = "bilinear",  # or bicubic
) -> Tensor:
    """[N, C, h, w]: the image, interpolated at the displaced places; what lies beyond an edge is mirrored at it."""
    count, _, height, width = field.shape
    rows = torch.arange(height, device=field.device, dtype=field.dtype)[:, None] + field[:, 0]
    columns = torch.arange(width, device=field.device, dtype=field.dtype) + field[:, 1]
    grid = torch.stack([columns * (2 / max(1, width - 1)) - 1, rows * (2 / max(1, height - 1)) - 1], dim=-1)
    image = image.expand(count, -1, -1, -1)
    return F.grid_sample(image, grid, mode=mode, padding_mode="reflection", align_corners=True)


@lru_cache(maxsize=256)
def _bicubic(coarse: int, side: int) -> Tensor:
    """[side, coarse]: what bicubic interpolation along one axis multiplies with, corners on corners."""
    each = torch.eye(coarse, dtype=torch.float32, device="cpu")[None, None]
    return F.interpolate(each, (side, coarse), mode="bicubic", align_corners=True)[0, 0].clone()
