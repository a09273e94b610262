"""Fitting a pyramid of convolutional generators, scale by scale (Shaham et al. 2019, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError
from singan_aug.fitting.fitter import FITTERS, Report, ScaleWork
from singan_aug.fitting.generated.objectives import OBJECTIVES, Objective
from singan_aug.fitting.generated.schedule import RATES, scale_steps
from singan_aug.fitting.generated.training import train, training_scale_for
from singan_aug.pyramid.generated.blocks import initialise
from singan_aug.pyramid.generated.networks import Generator, generator_from
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, generator_for
from singan_aug.pyramid.resample import RESAMPLERS
from singan_aug.pyramid.sizes import Size, scale_sizes, scale_widths

__all__ = ["GeneratedFitter"]


class GeneratedFitter:
    """Trains one generator after the other, coarsest first, each on the draws of those below it."""

    def work(self, size: Size, channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
        """Every update passes the pixels through the networks twice: draw and reconstruction, real and fake."""
        sizes = scale_sizes(size, config)
        work = []
        for scale, ((height, breadth), width) in enumerate(zip(sizes, scale_widths(len(sizes), config), strict=True)):
            pixels = height * breadth * config.batch
            weights = 9 * (2 * channels * width + (config.layers - 2) * width**2)
            passes = 2 * (config.generator_updates + config.critic_updates)
            work.append(ScaleWork(scale_steps(scale, config), float(pixels) * weights * passes))
        return tuple(work)

    def fit(self, real: Tensor, config: FitConfig, attempt: int, report: Report) -> tuple[GeneratedScale, ...]:
        """Raises `FitDivergedError` where losses or draws become non-finite or draws constant."""
        channels, device = real.shape[1], real.device
        sizes = scale_sizes((real.shape[2], real.shape[3]), config)
        widths = scale_widths(len(sizes), config)
        _check(config, sizes)
        scales: tuple[GeneratedScale, ...] = ()
        objective: Objective | None = None
        for k, width in enumerate(widths):
            rng = generator_for(config.seed, attempt, k, "weights")
            below = scales[-1].generator if scales and widths[k - 1] == width else None
            generator = _initial_generator(config, channels, width, below, rng)
            generator.to(device)
            objective = OBJECTIVES[config.objective](config, channels, width, rng, device, objective)
            training_scale = training_scale_for(real, sizes, scales, generator, config, attempt)

            def note(step: int, losses: Mapping[str, float], scale: int = k) -> None:
                report(scale, step, losses)

            train(training_scale, objective, config, generator_for(config.seed, attempt, k, "training"), note)
            scales = (*scales, training_scale.scale)
        return scales


FITTERS.register("convolutional")(GeneratedFitter())


def _check(config: FitConfig, sizes: Sequence[Size]) -> None:
    """Raise `ConfigError` before any training where a part is not registered or the networks are too deep."""
    parts = (
        (RESAMPLERS, config.resample),
        (ANCHORS, config.anchor),
        (AMPLITUDES, config.noise),
        (RATES, config.schedule),
    )
    for register, name in parts:
        register[name]  # raises for an unknown name
    field_px, side_px = 2 * config.layers + 1, min(sizes[0])
    if field_px > side_px:
        raise ConfigError(
            f"expected a coarsest scale of at least {field_px} px, the receptive field of {config.layers} "
            f"layers, got {side_px} px: use fewer layers or a larger coarsest_px"
        )


def _initial_generator(
    config: FitConfig, channels: int, width: int, below: Generator | None, rng: torch.Generator
) -> Generator:
    """The weights of the scale below where the width is the same (Shaham et al. 2019, supplementary), else random."""
    generator = generator_from(config, channels, width)
    if below is not None:
        generator.load_state_dict(below.state_dict())
    else:
        initialise(generator, rng)
    return generator
