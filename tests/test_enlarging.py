"""A draw carried over to a larger image: what is copied is what the labels follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from singan_aug.pyramid.copied.enlarging_numba import enlarged, redrawn
from singan_aug.pyramid.sizes import Size

SOURCE: Size = (20, 26)


def _origins(draw: Size) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(-3, 4, (2, -(-draw[0] // 6), -(-draw[1] // 6)), generator=generator)
    moved = blocks.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, : draw[0], : draw[1]]
    rows, columns = torch.meshgrid(torch.arange(draw[0]), torch.arange(draw[1]), indexing="ij")
    origins = torch.stack([rows, columns]) + moved
    return torch.stack([origins[axis].clamp(0, SOURCE[axis] - 1) for axis in (0, 1)])


@pytest.mark.parametrize("draw", [SOURCE, (17, 30)])
@pytest.mark.parametrize("size", [(40, 52), (45, 61), (30, 90)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_come_from_where_labels_do(draw: Size, size: Size, channels: int) -> None:
    origins = _origins(draw)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    rows, columns = enlarged(origins, SOURCE, size)
    wanted = torch.from_numpy(pixels)[rows, columns].movedim(-1, 0)
    found = redrawn(origins, SOURCE, pixels, torch.zeros(min(channels, 3), *draw))
    assert torch.equal(found, wanted[:3])


def test_a_change_is_added_smoothly_and_stays_in_range() -> None:
    flat = np.full((80, 104, 3), 200, np.uint8)
    ramp = torch.linspace(-0.1, 0.4, SOURCE[1]).expand(3, *SOURCE)
    found = redrawn(_origins(SOURCE), SOURCE, flat, ramp).int()
    assert int(found.max()) == 255
    assert int(found[:, :, :4].max()) == 200 - 25 or int(found[:, :, 0].max()) == 200 - 26
    assert 0 <= int(found.diff(dim=2).min()) <= int(found.diff(dim=2).max()) <= 2


def test_a_draw_of_the_same_size_is_itself() -> None:
    origins = _origins(SOURCE)
    assert torch.equal(enlarged(origins, SOURCE, SOURCE), origins)
