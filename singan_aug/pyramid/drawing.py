"""draw() and reconstruct(): pure functions of a pyramid, a start scale, a size and a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from singan_aug.images import to_unit
from singan_aug.pyramid.noise import generator_for, noise_maps
from singan_aug.pyramid.pyramid import Pyramid, Scale
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scales import Size, resolve_start_scale, sizes_for

__all__ = ["draw", "draw_signed", "reconstruct", "run_scale"]

BATCH = 16  # draws made at once; more take more memory and no less time


def draw(
    pyramid: Pyramid,
    n: int = 1,
    start_scale: int = 0,
    size: Size | None = None,
    seed: int = 0,
) -> Tensor:
    """`n` variants, float [n, C, H, W] in [0, 1] on the pyramid's device.

    Args:
        pyramid: what to draw from.
        n: how many, at least 1. The i-th depends on (seed, i) alone, not on n.
        start_scale: 0 (coarsest: new global structure) to `len(pyramid) - 1` (finest: texture alone); negative ones
            count from the finest. The scales below it give the reconstruction, as if z* had been fed to them.
        size: (height, width) of the variants from any start scale; the source's by default.
        seed: same seed, same pixels on one device.

    Raises:
        StartScaleError: the pyramid has no such scale.
        ValueError: `n` or `size` is not positive.
    """
    start = resolve_start_scale(start_scale, len(pyramid))
    if n < 1:
        raise ValueError(f"expected n of at least 1, got {n}")
    if size is not None and min(size) < 1:
        raise ValueError(f"expected a size of at least 1x1, got {size}")
    batches = [range(first, min(first + BATCH, n)) for first in range(0, n, BATCH)]
    with torch.inference_mode():
        drawn = [_draw_batch(pyramid, [generator_for(seed, i) for i in batch], start, size) for batch in batches]
    return torch.cat(drawn).clone()


def reconstruct(pyramid: Pyramid) -> Tensor:
    """The source as the pyramid remembers it, from {z*, 0, ..., 0}: float [1, C, H, W] in [0, 1]."""
    finest = pyramid.scales[-1]
    with torch.inference_mode():
        entering = resize(finest.entering, finest.size, pyramid.config.resample)
        noise = pyramid.z_star * finest.amplitude if len(pyramid) == 1 else torch.zeros_like(entering)
        image = to_unit(finest.generator(entering, noise))
    return image.clone()


def _draw_batch(pyramid: Pyramid, generators: Sequence[torch.Generator], start: int, size: Size | None) -> Tensor:
    sizes = [scale.size for scale in pyramid.scales]
    sizes = list(sizes_for(tuple(sizes), size)) if size is not None else sizes
    image = pyramid.scales[start].entering.expand(len(generators), -1, -1, -1)
    return to_unit(draw_signed(pyramid.scales[start:], sizes[start:], image, generators, pyramid, first=start))


def draw_signed(
    scales: Sequence[Scale],
    sizes: Sequence[Size],
    image: Tensor,  # [N, C, h, w] in [-1, 1]: what enters the first of these scales, at any size
    generators: Sequence[torch.Generator],  # one for each sample
    pyramid: Pyramid,
    *,
    first: int,  # which scale of the pyramid scales[0] is
) -> Tensor:
    """Run consecutive scales with fresh noise: [N, C, *sizes[-1]] in about [-1, 1]."""
    for k, (scale, target) in enumerate(zip(scales, sizes, strict=True), start=first):
        noise = noise_maps(generators, pyramid.channels, target, shared=k == 0 and pyramid.config.noise_coarsest_shared)
        image = run_scale(scale, image, noise.to(image.device), target, pyramid.config.resample)
    return image


def run_scale(
    scale: Scale,
    below: Tensor,  # [N, C, h, w] in [-1, 1]: the output of the scale below (or the anchor), at its own size
    noise: Tensor,  # [N, C, *size] standard normal, or zeros
    size: Size,
    resample: str,
) -> Tensor:
    """One step up the pyramid: resize, add noise of the scale's amplitude, refine. -> [N, C, *size]"""
    entering = resize(below, size, resample)
    amplitude = scale.amplitude if scale.amplitude.shape[-1] == 1 else resize(scale.amplitude, size, "bilinear")
    out: Tensor = scale.generator(entering, noise * amplitude)
    return out
