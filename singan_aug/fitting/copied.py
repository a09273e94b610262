"""Fitting copied scales: a basis for each, and nothing to train."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from singan_aug.config import Copied
from singan_aug.fitting.events import Report, ScaleWork
from singan_aug.pyramid.copied.scale import CopiedScale, copied_scales, descriptor_basis
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size

__all__ = ["copied_work", "fit_copied"]


def copied_work(sizes: Sequence[Size], channels: int, copied: Copied, *, searched: bool) -> tuple[ScaleWork, ...]:
    """One step a scale: gathering its patches, which takes about as long as four passes that describe them."""
    values = 4 * copied.descriptor_dims * channels
    sides = copied.patch_sides(len(sizes), searched=searched)
    return tuple(
        ScaleWork(1, float(height * width * values * side**2))
        for (height, width), side in zip(sizes, sides, strict=True)
    )


def fit_copied(
    real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size
    sizes: Sequence[Size],
    copied: Copied,
    resample: str,
    seeds: tuple[int, ...],
    report: Report,
    *,
    searched: bool,  # whether the first lies above a generated scale
) -> tuple[CopiedScale, ...]:
    """Principal components of the patches of each scale, as seen from the scale below; nothing here can diverge.

    The seeds decide which patches are sampled.
    """
    bases = []
    for k, (size, side) in enumerate(zip(sizes, copied.patch_sides(len(sizes), searched=searched), strict=True)):
        seen = resize(resize(real, sizes[max(0, k - 1)], resample), size, resample)
        rng = generator_for(*seeds, k, "patches")
        bases.append(descriptor_basis(seen, side, copied.descriptor_dims, rng))
        report(k, 1, {})
    return copied_scales(real, bases, sizes, copied, resample)
