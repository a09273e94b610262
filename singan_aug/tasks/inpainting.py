"""inpaint(): a region of an image filled by what is around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.region import Imitation, continued, grown
from singan_aug.pyramid.sizes import StartScale
from singan_aug.tasks._entering import entering_scale, redrawn
from singan_aug.tasks._inputs import laid_over, like_source, pictures, region_of

__all__ = ["inpaint"]

START = 0.45  # of the way to the finest scale: fine enough for the way that edges take into the hole to show
HOW = Imitation(passes=(20, 5, 2, 1), nearness=(0.2, 0.2), unrest=0.3)
EDGE_PX = 2  # beyond the mask that are redrawn too: edges of what is to go seldom end with its mask


def inpaint(
    pyramid: Pyramid,
    image: Any,
    mask: Any,
    *,
    start_scale: StartScale | None = None,
    seed: int = 0,
) -> Tensor:
    """An image with a region filled: float [n, C, H, W] in [0, 1], of the pyramid's size.

    What is around the region goes on into it, with its slopes (the biharmonic filling), and enters the pyramid, whose
    scales redraw it. Scales that copy take nothing from under the mask; scales that generate have seen it when they
    were fitted.

    Args:
        pyramid: of the image, of any preset.
        image: as `fit` takes it, of the size of the fitted one; or a list, one picture for each.
        mask: the region, of the same size: what is over half of the largest value; a list beside a list. It may not
            be all of the image.
        start_scale: the first scale that redraws, as `draw` takes it; a coarser one follows what surrounds the region
            less. By default a little under half of the way to the finest.
        seed: another seed, another filling.

    Pixels more than 2 px from the mask are those of `image` to the byte.

    Raises `ImageError` and `StartScaleError` as `harmonize` does.
    """
    start = entering_scale(pyramid, start_scale, START)

    def made(one: Any, where: Any) -> Tensor:
        whole = like_source(pyramid, one, "an image")
        region = region_of(pyramid, where, one)
        hole = grown(region, EDGE_PX)
        if hole.all():
            raise ImageError("expected a mask that leaves some of the image to copy from, got one that marks all of it")
        new = redrawn(pyramid, continued(whole, hole), start, HOW, seed, hole, ~hole)
        return laid_over(whole, new, region, EDGE_PX)

    with torch.no_grad():
        return pictures(made, image, mask)
