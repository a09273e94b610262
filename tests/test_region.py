"""Holes that are filled before patches are searched for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from singan_aug.pyramid.copied.region import continued, filled_smoothly
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")


def _hole(height: int, width: int, *places: tuple[slice, slice]) -> Tensor:
    hole = torch.zeros(height, width, dtype=torch.bool)
    for rows, columns in places:
        hole[rows, columns] = True
    return hole


def _slope(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.linspace(-1, 0.5, height), torch.linspace(0, 0.5, width), indexing="ij")
    return (rows + columns)[None, None].repeat(1, 2, 1, 1)


@pytest.mark.parametrize("side", [10, 60, 120])  # at its own size, at half of it, at a quarter
def test_a_slope_goes_on_through_a_hole(side: int) -> None:
    image = _slope(200, 180)
    hole = _hole(200, 180, (slice(30, 30 + side), slice(20, 20 + side)))
    apart, smooth = (
        float((fill(torch.where(hole, 7.0, image), hole) - image).abs().max()) for fill in (continued, filled_smoothly)
    )
    assert apart < 0.03
    assert apart < smooth / 2


def test_what_is_known_stays_as_it_is() -> None:
    image = torch.from_numpy(make_photo(40, 50).copy()).movedim(-1, 0)[None] / 127.5 - 1
    hole = _hole(40, 50, (slice(0, 9), slice(0, 12)), (slice(30, 40), slice(44, 50)))
    made = continued(image, hole)
    assert torch.equal(made[..., ~hole], image[..., ~hole])
    assert not torch.equal(made[..., hole], image[..., hole])
    assert made.abs().max() <= 1
    assert torch.equal(made, continued(torch.where(hole, -0.3, image), hole))  # what was there plays no part


def test_a_filling_is_the_biharmonic_one() -> None:
    restoration = pytest.importorskip("skimage.restoration")
    image = torch.from_numpy(make_photo(36, 48).copy()).movedim(-1, 0)[None] / 255
    hole = _hole(36, 48, (slice(12, 20), slice(18, 30)))
    expected = restoration.inpaint_biharmonic(image[0].movedim(0, -1).numpy(), hole.numpy(), channel_axis=-1)
    made = continued(image, hole)[0].movedim(0, -1).numpy()
    apart = np.abs(made - expected)[hole.numpy()]
    smooth = np.abs(filled_smoothly(image, hole)[0].movedim(0, -1).numpy() - expected)[hole.numpy()]
    assert apart.max() < 0.02  # that one keeps no colours within bounds
    assert smooth.max() > 5 * apart.max()
