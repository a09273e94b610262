"""Smooth random fields, and images deformed by them."""

from __future__ import annotations

import pytest
import torch

from singan_aug.pyramid.fields import deformed, random_field
from singan_aug.pyramid.noise import generator_for

SIZE = (40, 60)


def _fields(deviation_px: float, count: int = 100) -> torch.Tensor:
    return torch.cat([random_field(SIZE, generator_for(i), deviation_px, 2) for i in range(count)])


def test_a_field_has_its_deviation() -> None:
    assert float(_fields(3.0).std()) == pytest.approx(3.0, rel=0.15)  # 100 fields of some four cells each


def test_a_field_is_smooth() -> None:
    fields = _fields(3.0)
    assert float((fields[..., 1:] - fields[..., :-1]).abs().max()) < 3.0


def test_a_field_thins_nothing_out() -> None:
    """Without divergence: the down part grows downwards as the right part shrinks to the right."""
    field = _fields(3.0, 5).double()
    down = field[:, 0, 2:, 1:-1] - field[:, 0, :-2, 1:-1]
    right = field[:, 1, 1:-1, 2:] - field[:, 1, 1:-1, :-2]
    assert float((down + right).abs().mean()) < 0.05 * float(down.abs().mean() + right.abs().mean())


def test_no_field_leaves_the_image() -> None:
    image = torch.rand(1, 3, *SIZE, generator=generator_for(0))
    torch.testing.assert_close(deformed(image, torch.zeros(2, 2, *SIZE)), image.expand(2, -1, -1, -1))


def test_a_constant_field_shifts_the_image() -> None:
    image = torch.rand(1, 1, *SIZE, generator=generator_for(0))
    field = torch.zeros(1, 2, *SIZE)
    field[:, 0], field[:, 1] = 3, -5  # colours from 3 px further down and 5 px further left
    torch.testing.assert_close(deformed(image, field)[..., :-3, 5:], image[..., 3:, :-5], atol=1e-5, rtol=0)


def test_each_sample_has_its_own_field() -> None:
    image = torch.rand(1, 1, *SIZE, generator=generator_for(0))
    both = deformed(image, _fields(2.0, 2))
    torch.testing.assert_close(both[1:], deformed(image, _fields(2.0, 2)[1:]))
    assert not torch.equal(both[0], both[1])
