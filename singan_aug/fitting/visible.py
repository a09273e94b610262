"""Where an image's structure is visible: how large the coarsest scale has to be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import MOST_COARSE_PX

__all__ = ["visible_px"]

GROWTH = 2**0.5  # from one size that is tried to the next


def visible_px(
    real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size
    mask: Tensor | None,  # uint8 [H, W]: which value of the mask
    config: FitConfig,
) -> int | None:
    """Short side of the coarsest scale, in pixels; None where the config's own size stands.

    The smallest size, from the config's up to MOST_COARSE_PX, that shows `visible_share` of the image's variance, and
    at which as large a share of the mask's smaller regions is still in its place: membranes, vessels and writing vanish
    at 25 px, and a generator cannot learn what it is not shown.
    """
    if config.generated is None or not config.generated.visible_share:
        return None
    side, short = config.sizes.coarsest_px, min(real.shape[-2:])
    while side < min(short, MOST_COARSE_PX) and _share_shown(real, mask, side) < config.generated.visible_share:
        side = min(round(side * GROWTH), MOST_COARSE_PX)
    return min(side, short)


def _share_shown(real: Tensor, mask: Tensor | None, side: int) -> float:
    """The lesser of the shares of the image and of the mask that is left after a detour over a short side of `side`."""
    height, width = real.shape[-2:]
    ratio = side / min(height, width)
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))

    def detour(image: Tensor) -> Tensor:
        return resize(resize(image, size), (height, width))

    lost = (real - detour(real)).square().mean() / (real - real.mean((2, 3), keepdim=True)).square().mean()
    share = 1 - float(lost)
    if mask is None:
        return share
    values = F.one_hot(mask.long()).movedim(-1, 0)[None].to(real)  # [1, values, H, W]
    shown = detour(values).argmax(1)[0]
    small = mask != torch.bincount(mask.flatten()).argmax()  # all but the most frequent value
    kept = (shown == mask)[small].float().mean() if bool(small.any()) else 1.0
    return min(share, float(kept))
