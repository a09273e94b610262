"""Where an image's structure is visible decides how large the coarsest scale is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from singan_aug.fitting import fit
from singan_aug.fitting.visible import visible_px
from singan_aug.images import Mask, Pixels
from singan_aug.presets import fast, learned, paper
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.sizes import MOST_COARSE_PX, given_coarsest_px

SIDE = 120
QUICK = {"steps_coarsest": 4, "width": 4}


def _stripes(period_px: float) -> Tensor:
    """[1, 1, SIDE, SIDE] in [-1, 1]: a wave from left to right."""
    wave = torch.sin(torch.arange(SIDE, dtype=torch.float32) * (2 * torch.pi / period_px))
    return wave.expand(1, 1, SIDE, SIDE).contiguous()


def _pixels(period_px: float) -> Pixels:
    return ((_stripes(period_px)[0].movedim(0, -1).numpy() + 1) * 127.5).astype(np.uint8)


def test_what_is_coarse_stays_at_the_configs_size() -> None:
    assert visible_px(_stripes(60), None, learned()) == 25


def test_what_is_fine_has_a_larger_coarsest_scale() -> None:
    """A wave of 6 px has 20 periods along the side: 25 px are too few to show them, twice as many are enough."""
    chosen = visible_px(_stripes(6), None, learned())
    assert chosen is not None
    assert 40 < chosen <= MOST_COARSE_PX


def test_no_coarsest_scale_is_larger_than_the_most() -> None:
    assert visible_px(_stripes(2.2), None, learned()) == MOST_COARSE_PX


def test_a_thin_mask_counts_as_the_image_does() -> None:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    mask[:, ::12] = 1  # lines of one pixel vanish at any coarse scale
    assert (visible_px(_stripes(60), mask, learned()) or 0) > 40
    mask[: SIDE // 2] = 1  # the lines are now few beside half of the image
    assert visible_px(_stripes(60), mask, learned()) == 25


@pytest.mark.parametrize("config", [fast(), paper(), learned(visible_share=0.0)], ids=["fast", "paper", "share 0"])
def test_only_a_share_makes_the_image_decide(config: object) -> None:
    assert visible_px(_stripes(6), None, config) is None  # type: ignore[arg-type]


def test_a_fit_has_the_scale_and_keeps_it_when_it_is_moved() -> None:
    config = learned(**QUICK)
    pyramid = fit(_pixels(6), config)
    assert min(pyramid.scales[0].size) == visible_px(_stripes(6), None, config)
    again = Pyramid.from_tensors(pyramid.tensors(), config=config, channels=1, size=pyramid.size, provenance={})
    assert [scale.size for scale in again.scales] == [scale.size for scale in pyramid.scales]


def test_a_size_that_no_fit_gives_is_refused() -> None:
    assert given_coarsest_px((50, 60), (120, 144), learned()) == 50
    assert given_coarsest_px((50, 60), (120, 144), paper()) is None
    for side in (24, MOST_COARSE_PX + 1):
        with pytest.raises(ValueError, match="expected a coarsest scale of 25 to 71 px"):
            given_coarsest_px((side, 2 * side), (120, 144), learned())


def test_a_mask_may_decide_where_the_generated_scale_lies() -> None:
    mask: Mask = np.zeros((SIDE, SIDE), np.int32)
    mask[:, ::12] = 1
    plain, masked = fit(_pixels(60), learned(**QUICK)), fit(_pixels(60), learned(**QUICK), mask=mask)
    assert min(plain.scales[0].size) == 25
    assert min(masked.scales[0].size) > 40
