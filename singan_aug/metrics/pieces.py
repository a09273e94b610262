"""Of how large pieces a draw is made: what only origins tell, and what no comparison of pixels can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.compiled import exact
from singan_aug.errors import ImageError

__all__ = ["Pieces", "pieces"]


@dataclass(frozen=True)
class Pieces:
    """The connected pieces of one draw."""

    largest_ratio: float  # of the picture, that the largest piece takes
    in_half: int  # how many, the largest first, make half of the picture
    unmoved_ratio: float  # of the picture, that stands where it was in the source
    count: int


def pieces(
    origins: Tensor,  # integers [N, 2, H, W]: the row and column of the source that each pixel comes from
) -> tuple[Pieces, ...]:
    """The pieces of each draw, as `singan_aug.pyramid.trace` gives origins.

    A piece is a set of pixels that were moved by one shift (origin minus place) and hang together by their sides. One
    piece of 1 is the source, moved as a whole or not at all; pieces of a few pixels are texture put together anew.

    Raises `ImageError` for another shape or dtype.
    """
    if origins.ndim != 4 or origins.shape[1] != 2 or origins.numel() == 0 or origins.is_floating_point():
        raise ImageError(f"expected origins as integers [N, 2, H, W], got {origins.dtype} {list(origins.shape)}")
    return tuple(_pieces_of(each) for each in origins.detach().to("cpu", torch.int64).numpy())


def _pieces_of(origin: NDArray[np.int64]) -> Pieces:
    rows, columns = origin[0], origin[1]
    shift_rows = rows - np.arange(rows.shape[0])[:, None]
    shift_columns = columns - np.arange(rows.shape[1])
    areas = np.sort(_areas(shift_rows, shift_columns))[::-1]
    within = np.cumsum(areas)
    return Pieces(
        largest_ratio=float(areas[0] / rows.size),
        in_half=int(np.searchsorted(within, rows.size / 2)) + 1,
        unmoved_ratio=float(np.mean((shift_rows == 0) & (shift_columns == 0))),
        count=len(areas),
    )


@exact
def _areas(shift_rows: NDArray[np.int64], shift_columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of each connected set of equal shifts: union-find over one pass (Rosenfeld, Pfaltz 1966)."""
    height, width = shift_rows.shape
    parent = np.arange(height * width)
    for row in range(height):
        for column in range(width):
            for up, left in ((1, 0), (0, 1)):
                other_row, other_column = row - up, column - left
                if other_row < 0 or other_column < 0:
                    continue
                if (
                    shift_rows[row, column] != shift_rows[other_row, other_column]
                    or shift_columns[row, column] != shift_columns[other_row, other_column]
                ):
                    continue
                one, other = row * width + column, other_row * width + other_column
                while parent[one] != one:
                    parent[one] = parent[parent[one]]  # halved, so that the next walk is shorter
                    one = parent[one]
                while parent[other] != other:
                    parent[other] = parent[parent[other]]
                    other = parent[other]
                parent[max(one, other)] = min(one, other)
    area = np.zeros(height * width, np.int64)
    for place in range(height * width):
        root = place
        while parent[root] != root:
            root = parent[root]
        parent[place] = root
        area[root] += 1
    return area[area > 0]
