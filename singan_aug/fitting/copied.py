"""Fitting a pyramid of patches: a basis for each scale, and nothing to train."""

from __future__ import annotations

from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError
from singan_aug.fitting.fitter import FITTERS, Report, ScaleWork
from singan_aug.pyramid.copied.scale import CopiedScale, copied_scales, descriptor_basis
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size, scale_sizes

__all__ = ["CopiedFitter"]


class CopiedFitter:
    """Principal components of the patches of each scale, as seen from the scale below."""

    def work(self, size: Size, channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
        """One step a scale: gathering its patches, which takes about as long as four passes that describe them."""
        filters = 4 * config.descriptor_dims * channels * config.patch_px**2
        return tuple(ScaleWork(1, float(h * w * filters)) for h, w in scale_sizes(size, config))

    def fit(self, real: Tensor, config: FitConfig, attempt: int, report: Report) -> tuple[CopiedScale, ...]:
        """The same for every attempt but for which patches are sampled; nothing here can diverge."""
        if config.patch_px % 2 == 0:
            raise ConfigError(f"expected an odd patch_px, so that a patch has a middle, got {config.patch_px}")
        sizes = scale_sizes((real.shape[2], real.shape[3]), config)
        bases = []
        for k, size in enumerate(sizes):
            below = resize(real, sizes[max(0, k - 1)], config.resample)
            rng = generator_for(config.seed, attempt, k, "patches")
            seen = resize(below, size, config.resample)
            bases.append(descriptor_basis(seen, config.patch_px, config.descriptor_dims, rng))
            report(k, 1, {})
        return copied_scales(real, bases, config)


FITTERS.register("patches")(CopiedFitter())
