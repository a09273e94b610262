"""edit(): an image whose parts were moved about, redrawn where the cuts show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.region import Imitation, grown
from singan_aug.pyramid.sizes import StartScale
from singan_aug.tasks._entering import entering_scale, redrawn
from singan_aug.tasks._inputs import altered, laid_over, like_source, pictures, region_of

__all__ = ["edit"]

START = 0.3  # of the way to the finest scale
HOW = Imitation(passes=(4, 2, 1), nearness=(0.3, 0.3))


def edit(
    pyramid: Pyramid,
    edited: Any,
    mask: Any = None,
    *,
    start_scale: StartScale | None = None,
    edge_px: int = 10,
    seed: int = 0,
) -> Tensor:
    """An edited image without its cuts: float [n, C, H, W] in [0, 1], of the pyramid's size.

    Args:
        pyramid: of the image before it was edited, of any preset.
        edited: that image with parts copied, moved or painted, as `fit` takes images; or a list, one picture for each.
        mask: where it was edited, of the same size: what is over half of the largest value; a list beside a list. By
            default what differs from the fitted image.
        start_scale: the first scale that redraws, as `draw` takes it; coarser ones change more. By default a third
            of the way to the finest, about.
        edge_px: how far from the mask pixels may change. Beyond, the result is `edited` to the byte.
        seed: of the noise, where scales generate; scales that copy take none.

    Raises as `harmonize` does.
    """
    if not 0 <= edge_px <= 64:
        raise ConfigError(f"expected edge_px in 0..64, got {edge_px!r}")
    start = entering_scale(pyramid, start_scale, START)

    def made(image: Any, where: Any) -> Tensor:
        wanted = like_source(pyramid, image, "an edited image")
        region = altered(pyramid, wanted) if where is None else region_of(pyramid, where, image)
        new = redrawn(pyramid, wanted, start, HOW, seed, grown(region, edge_px))
        return laid_over(wanted, new, region, edge_px)

    with torch.no_grad():
        return pictures(made, edited, mask)
