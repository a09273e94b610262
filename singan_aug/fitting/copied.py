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


def copied_work(sizes: Sequence[Size], channels: int, copied: Copied) -> tuple[ScaleWork, ...]:
    """One step a scale: gathering its patches, which takes about as long as four passes that describe them."""
    filters = 4 * copied.descriptor_dims * channels * copied.patch_px**2
    return tuple(ScaleWork(1, float(height * width * filters)) for height, width in sizes)


def fit_copied(
    real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size
    sizes: Sequence[Size],
    copied: Copied,
    resample: str,
    seeds: tuple[int, ...],
    report: Report,
) -> tuple[CopiedScale, ...]:
    """Principal components of the patches of each scale, as seen from the scale below; nothing here can diverge.

    The seeds decide which patches are sampled.
    """
    bases = []
    for k, size in enumerate(sizes):
        seen = resize(resize(real, sizes[max(0, k - 1)], resample), size, resample)
        rng = generator_for(*seeds, k, "patches")
        bases.append(descriptor_basis(seen, copied.patch_px, copied.descriptor_dims, rng))
        report(k, 1, {})
    return copied_scales(real, bases, sizes, copied, resample)
