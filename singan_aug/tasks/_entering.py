"""What most tasks have in common: an image enters the pyramid, and everything from there on redraws it."""

from __future__ import annotations

import torch
from torch import Tensor

from singan_aug.config import Generated
from singan_aug.errors import StartScaleError
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.region import Imitation, imitated
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import ANCHORS, generator_for
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import Canvas, draw_upwards
from singan_aug.pyramid.sizes import StartScale, resolve_start_scale, sizes_for, start_scale_at
from singan_aug.pyramid.threads import one_thread

__all__ = ["entering_scale", "redrawn"]


def entering_scale(pyramid: Pyramid, start_scale: StartScale | None, share: float) -> int:
    """The scale at which an image enters: the one that was asked for, or the one so far of the way to the finest.

    Raises `StartScaleError` where the pyramid has none, or nothing can enter there: a coarsest scale that is generated
    out of noise alone.
    """
    lowest = 1 if _starts_from_noise(pyramid) else 0
    if start_scale is None:
        start = max(lowest, start_scale_at(share, len(pyramid)))
    else:
        start = resolve_start_scale(start_scale, len(pyramid))
    if not lowest <= start < len(pyramid):
        raise StartScaleError(
            f"expected a start scale of 1..{len(pyramid) - 1} for an image to enter, got {start}: "
            "the coarsest scale of this pyramid is generated out of noise alone"
        )
    return start


def _starts_from_noise(pyramid: Pyramid) -> bool:
    return isinstance(pyramid.scales[0], GeneratedScale) and _generated(pyramid).noise.anchor == "none"


def _generated(pyramid: Pyramid) -> Generated:
    assert pyramid.config.generated is not None
    return pyramid.config.generated


def redrawn(
    pyramid: Pyramid,
    image: Tensor,  # [1, C, H, W] in [-1, 1]
    start: int,  # from `entering_scale`
    how: Imitation,  # of scales that copy
    seed: int,  # of the noise of scales that generate, and of the unrest of those that copy
    region: Tensor | None = None,  # bool [H, W]: what is redrawn, the image being as large as the source; None: all
    known: Tensor | None = None,  # bool [*pyramid.size]: what of the source may be copied; None: all
    shown: Tensor | None = None,  # as `imitated` takes it
) -> Tensor:
    """The image as the scales from `start` on redraw it, [1, C, H, W]; outside of the region it does not change."""
    size = (image.shape[2], image.shape[3])
    sizes = sizes_for(tuple(scale.size for scale in pyramid.scales), size)
    here = torch.ones(size, dtype=torch.bool, device=image.device) if region is None else region
    generator = generator_for(seed, 0)
    generated = [scale for scale in pyramid.scales[start:] if isinstance(scale, GeneratedScale)]
    copied = [scale for scale in pyramid.scales[start:] if isinstance(scale, CopiedScale)]
    with torch.inference_mode(), one_thread():
        if generated:
            if start:
                entering = resize(image, sizes[start - 1], pyramid.config.sizes.resample)
            else:
                noise = _generated(pyramid).noise
                entering = ANCHORS[noise.anchor](resize(image, sizes[0], pyramid.config.sizes.resample), noise)
            drawn = draw_upwards(generated, sizes[start : start + len(generated)], [generator], Canvas(entering))
            image = torch.where(here, resize(drawn.image, size, pyramid.config.sizes.resample), image)
        if copied:
            image = imitated(copied, image, here, how, generator, known, shown)
    return image.clone()
