"""Pictures between draws: of given noise where all scales generate, of a given deformation where some copy.

A search for patches that look alike jumps as its question changes a little. So where scales copy, a frame is the source
itself, bent by the smooth random field with which draws from the start scale begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.fields import deformed, field_of, random_stream
from singan_aug.pyramid.generated.scale import GeneratedScale, MilderStart, run_scale
from singan_aug.pyramid.noise import noise_maps
from singan_aug.tasks._inputs import source_of

__all__ = ["Latent", "Render", "frames_of", "rendered"]

Latent = Sequence[Tensor]  # standard normal: of each scale from the start scale on, or of one field
Render = Callable[[Latent], Tensor]  # -> [1, C, H, W] in [-1, 1]

CELLS = 2  # of the random field along the short side, where the coarsest scale starts
AMPLITUDE = 0.4  # of how far draws move: a bent image shows stretches that an arrangement of pieces does not


def frames_of(pyramid: Pyramid, start: int) -> tuple[Callable[[torch.Generator], Latent], Latent, Render]:
    """How to draw what decides a picture, what gives the source itself back, and how to make the picture of it."""
    if all(isinstance(scale, GeneratedScale) for scale in pyramid.scales):
        return _generated(pyramid, start)
    return _bent(pyramid, start)


def _generated(pyramid: Pyramid, start: int) -> tuple[Callable[[torch.Generator], Latent], Latent, Render]:
    scales = [scale for scale in pyramid.scales[start:] if isinstance(scale, GeneratedScale)]

    def drawn(generator: torch.Generator) -> Latent:
        return [noise_maps([generator], pyramid.channels, each.size, shared=each.shared_noise) for each in scales]

    def render(latent: Latent) -> Tensor:
        image = scales[0].entering
        for scale, noise in zip(scales, latent, strict=True):
            image = run_scale(scale, image, noise.to(image.device), scale.size)
        return image

    still = [
        each.entering.new_zeros(1, pyramid.channels, *each.size).cpu() if each.z_star is None else each.z_star.cpu()
        for each in scales
    ]
    return drawn, still, render


def _bent(pyramid: Pyramid, start: int) -> tuple[Callable[[torch.Generator], Latent], Latent, Render]:
    source, size = source_of(pyramid), pyramid.size
    coarse = min(pyramid.scales[start].size)
    finer = coarse / min(pyramid.scales[0].size)
    cells = max(1, round(CELLS * finer))
    deviation_px = AMPLITUDE * _shift_px(pyramid, start) * min(size) / coarse

    def drawn(generator: torch.Generator) -> Latent:
        return [random_stream(size, generator, cells)]

    def render(latent: Latent) -> Tensor:
        field = field_of(latent[0], size, deviation_px, cells).to(source.device)
        return deformed(source, field, mode="bicubic")  # which keeps detail

    return drawn, [torch.zeros_like(random_stream(size, torch.Generator(), cells))], render


def _shift_px(pyramid: Pyramid, start: int) -> float:
    """How far draws from there deform or shift what they start with, in pixels of that scale."""
    begins = pyramid.scales[start]
    if isinstance(begins, CopiedScale):
        return begins.how.shift_px * begins.how.shift_decay**begins.index
    deforms = begins.begins if isinstance(begins, MilderStart) else pyramid.scales[0]
    assert isinstance(deforms, GeneratedScale)
    return deforms.shift_px


def rendered(latents: Iterator[Latent], render: Render) -> Tensor:
    """[n, C, H, W] in [-1, 1]: one picture after the other."""
    return torch.cat([render(latent) for latent in latents])
