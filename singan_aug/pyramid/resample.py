"""Resizing between scales, on float tensors on their device: never through 8 bits, never over the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from singan_aug._registry import Registry
from singan_aug.pyramid.sizes import Size

__all__ = ["RESAMPLERS", "Resampler", "blur", "resize"]

Resampler = Callable[[Tensor, Size], Tensor]  # ([N, C, H, W], (h, w)) -> [N, C, h, w]

RESAMPLERS: Registry[Resampler] = Registry("resampling")


@RESAMPLERS.register("bicubic")
def _bicubic(image: Tensor, size: Size) -> Tensor:
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)


@RESAMPLERS.register("bilinear")
def _bilinear(image: Tensor, size: Size) -> Tensor:
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


@RESAMPLERS.register("nearest")
def _nearest(image: Tensor, size: Size) -> Tensor:
    return F.interpolate(image, size, mode="nearest-exact")


def resize(image: Tensor, size: Size, how: str = "bicubic") -> Tensor:
    """[N, C, H, W] to [N, C, *size]; the same tensor where the size is the same already."""
    return image if tuple(image.shape[-2:]) == tuple(size) else RESAMPLERS[how](image, size)


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of [N, C, H, W] with edges repeated; `sigma_px` 0 leaves it as it is."""
    if sigma_px <= 0:
        return image
    radius = max(1, round(3 * sigma_px))
    channels = image.shape[1]
    offsets = image.new_tensor(range(-radius, radius + 1))
    kernel = (-(offsets**2) / (2 * sigma_px**2)).exp()
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=channels), kernel.transpose(2, 3), groups=channels)
