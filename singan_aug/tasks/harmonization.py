"""harmonize(): a pasted object redrawn in the texture of the image that it was pasted into."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.region import Imitation, grown
from singan_aug.pyramid.resample import blur
from singan_aug.pyramid.sizes import StartScale
from singan_aug.tasks._entering import entering_scale, redrawn
from singan_aug.tasks._inputs import altered, laid_over, like_source, pictures, region_of, source_of

__all__ = ["harmonize"]

START = 1.0  # of the way to the finest scale: shapes stay, texture does not
HOW = Imitation(passes=(2, 1), nearness=(0.02, 0.02), completeness=0.02, copied=True, settled=False)
SOFT_PX = 2.0  # over which the object's own colours end
SAME = 0.02  # mean difference in [-1, 1] up to which the fitted image holds the object already


def harmonize(
    pyramid: Pyramid,  # of the image that was pasted into
    paste: Any,
    mask: Any = None,
    *,
    start_scale: StartScale | None = None,
    own_colours: float = 0.6,
    edge_px: int = 7,
    seed: int = 0,
) -> Tensor:
    """Pasted objects that look as if they belonged there: float [n, C, H, W] in [0, 1], of the pyramid's size.

    As in Shaham et al. 2019, section 4: the composite enters at a middle scale, finer scales redraw it, and the mask,
    dilated and softened, lays it over the composite.

    Args:
        pyramid: of the image that was pasted into, of any preset.
        paste: that image with the object in it, as `fit` takes images; or a list, one picture for each.
        mask: where the object is, of the same size: what is over half of the largest value; a list beside a list. By
            default what differs from the fitted image.
        start_scale: the first scale that redraws, as `draw` takes it; coarser ones keep less of the object. By default
            the finest.
        own_colours: what share of its own colours the object keeps, 0 to 1: a pyramid knows only those of its image.
        edge_px: how far from the mask pixels may change. Beyond, the result is `paste` to the byte.
        seed: of the noise, where scales generate; scales that copy take none.

    Raises:
        ImageError: images or masks of other sizes, an empty mask, or no difference to find one by.
        StartScaleError: there is no such scale, or nothing can enter there.
        ConfigError: `own_colours` or `edge_px` is out of range.
    """
    if not 0 <= own_colours <= 1 or not 0 <= edge_px <= 64:
        raise ConfigError(f"expected own_colours in 0..1 and edge_px in 0..64, got {own_colours!r}, {edge_px!r}")
    start = entering_scale(pyramid, start_scale, START)
    coarser = pyramid.scales[max(0, start - 1)].size
    sigma_px = 0.8 * pyramid.size[0] / coarser[0]

    def made(image: Any, where: Any) -> Tensor:
        composite = like_source(pyramid, image, "a pasted image")
        region = altered(pyramid, composite) if where is None else region_of(pyramid, where, image)
        inside = (composite - source_of(pyramid)).abs().mean(1)[0][region].mean()
        known = ~grown(region, 2) if float(inside) < SAME else None  # else the object would be found and copied
        new = redrawn(pyramid, composite, start, HOW, seed, grown(region, edge_px), known)
        weight = own_colours * blur(region[None, None].to(composite), SOFT_PX)
        new = new + weight * (blur(composite, sigma_px) - blur(new, sigma_px))
        return laid_over(composite, new, region, edge_px)

    with torch.no_grad():
        return pictures(made, paste, mask)
