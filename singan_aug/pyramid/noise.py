"""Noise: explicit generators derived from one integer, and the rules for its amplitude and for what lies under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import xxhash
from torch import Tensor

from singan_aug._registry import Registry
from singan_aug.config import Noise
from singan_aug.pyramid.resample import blur
from singan_aug.pyramid.sizes import Size

__all__ = ["AMPLITUDES", "ANCHORS", "derive_seed", "generator_for", "noise_maps"]

LOCAL_BLUR_PX = 2.0  # the local amplitude follows the error this closely


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed out of integers and words (xxh3-64): the same on every machine, different for every tuple."""
    words = "/".join(str(part) for part in parts)
    return xxhash.xxh3_64_intdigest(words.encode(errors="surrogateescape")) >> 1  # names of files may be no UTF-8


def generator_for(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded with `derive_seed`: noise is made on the CPU, so a seed means the same on any device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def noise_maps(generators: Sequence[torch.Generator], channels: int, size: Size, *, shared: bool) -> Tensor:
    """Standard normal noise [N, channels, *size] on the CPU, one generator for each sample.

    `shared`: one channel repeated to all, as the paper's coarsest scale has it.
    """
    shape = (1 if shared else channels, *size)
    drawn = [torch.randn(shape, generator=g, dtype=torch.float32, device="cpu") for g in generators]
    return torch.stack(drawn).expand(-1, channels, -1, -1)


# How strong the noise of a scale is: from the error of the reconstruction that enters it. -> [1, 1, h or 1, w or 1]
Amplitude = Callable[[Tensor, Tensor, Noise], Tensor]
AMPLITUDES: Registry[Amplitude] = Registry("noise amplitude")


@AMPLITUDES.register("global")
def _global_amplitude(
    real: Tensor,  # [1, C, H, W] in [-1, 1]
    entering: Tensor,  # the same, the upsampled reconstruction
    noise: Noise,
) -> Tensor:
    # Shaham et al. 2019, section 3 "Training": sigma_n proportional to the RMSE of the upsampled reconstruction.
    return (noise.noise_gain * (real - entering).square().mean().sqrt()).reshape(1, 1, 1, 1)


@AMPLITUDES.register("local")
def _local_amplitude(real: Tensor, entering: Tensor, noise: Noise) -> Tensor:
    # The same, but around each pixel: skies stay clean while foliage varies.
    error = (real - entering).square().mean(1, keepdim=True)
    return noise.noise_gain * blur(error, LOCAL_BLUR_PX).clamp_min(0).sqrt()


# What lies under the noise of the coarsest scale. -> [1, C, h, w] in [-1, 1]
Anchor = Callable[[Tensor, Noise], Tensor]
ANCHORS: Registry[Anchor] = Registry("anchor")


@ANCHORS.register("none")
def _no_anchor(real: Tensor, noise: Noise) -> Tensor:
    del noise
    return torch.zeros_like(real)


@ANCHORS.register("blurred")
def _blurred_anchor(real: Tensor, noise: Noise) -> Tensor:
    return blur(real, noise.anchor_blur_px)
