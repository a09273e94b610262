"""Fitting a pyramid of convolutional generators, scale by scale (Shaham et al. 2019, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, FitDivergedError
from singan_aug.fitting.fitter import FITTERS, Report, ScaleWork
from singan_aug.fitting.losses import reconstruction_loss
from singan_aug.fitting.objectives import OBJECTIVES, Objective
from singan_aug.fitting.schedule import RATES, crop_window, learning_rate, scale_steps
from singan_aug.pyramid.blocks import initialise
from singan_aug.pyramid.convolutional import ConvolutionalScale
from singan_aug.pyramid.drawing import climb
from singan_aug.pyramid.networks import Generator, generator_from
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, generator_for, noise_maps
from singan_aug.pyramid.resample import RESAMPLERS, resize
from singan_aug.pyramid.scales import Size, scale_sizes, scale_widths

__all__ = ["ConvolutionalFitter"]

REPORT_EVERY = 10  # steps between reports, which are also the moments at which losses are checked
COLLAPSED = 0.02  # a draw whose deviation is under this share of the source's has collapsed


class ConvolutionalFitter:
    """Trains one generator after the other, coarsest first, each on the draws of those below it."""

    def work(self, size: Size, channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
        """Every update passes the trained pixels through the networks twice: draw and reconstruction, real and fake."""
        sizes = scale_sizes(size, config)
        work = []
        for scale, ((height, breadth), width) in enumerate(zip(sizes, scale_widths(len(sizes), config), strict=True)):
            side = config.crop_px or max(size)
            pixels = min(height, side) * min(breadth, side) * config.batch
            weights = 9 * (2 * channels * width + (config.layers - 2) * width**2)
            passes = 2 * (config.generator_updates + config.critic_updates)
            work.append(ScaleWork(scale_steps(scale, config), float(pixels) * weights * passes))
        return tuple(work)

    def fit(self, real: Tensor, config: FitConfig, attempt: int, report: Report) -> tuple[ConvolutionalScale, ...]:
        """Raises `FitDivergedError` where losses or draws become non-finite or draws constant."""
        channels, device = real.shape[1], real.device
        sizes = scale_sizes((real.shape[2], real.shape[3]), config)
        widths = scale_widths(len(sizes), config)
        _check(config, sizes)
        scales: tuple[ConvolutionalScale, ...] = ()
        objective: Objective | None = None
        for k, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            target = resize(real, size, config.resample)
            weights_rng = generator_for(config.seed, attempt, k, "weights")
            below = scales[-1].generator if scales and widths[k - 1] == width else None
            generator = _initial_generator(config, channels, width, below, weights_rng).to(device)
            objective = OBJECTIVES[config.objective](config, channels, width, weights_rng, device, objective)
            scale = _prepared(generator, target, scales, config, attempt)
            _train(scales, scale, target, objective, config, generator_for(config.seed, attempt, k, "training"), report)
            generator.eval().requires_grad_(False)
            scales = (*scales, scale)
        return scales


FITTERS.register("convolutional")(ConvolutionalFitter())


def _check(config: FitConfig, sizes: Sequence[Size]) -> None:
    """Raise `ConfigError` before any training where a part is not registered or the networks are too deep."""
    for register, name in ((RESAMPLERS, config.resample), (AMPLITUDES, config.noise), (RATES, config.schedule)):
        register[name]  # raises for an unknown name
    field_px, side_px = 2 * config.layers + 1, min(*sizes[0], config.crop_px or sizes[0][0])
    if field_px > side_px:
        raise ConfigError(
            f"expected crops and a coarsest scale of at least {field_px} px, the receptive field of {config.layers} "
            f"layers, got {side_px} px: use fewer layers, larger crops or a larger coarsest_px"
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
    return generator.train().requires_grad_(True)


def _prepared(
    generator: Generator, target: Tensor, below: Sequence[ConvolutionalScale], config: FitConfig, attempt: int
) -> ConvolutionalScale:
    """The next scale, before its training: what enters it and how strong its noise is."""
    size = (target.shape[2], target.shape[3])
    if not below:
        amplitude = target.new_full((1, 1, 1, 1), config.noise_coarsest)
        rng = generator_for(config.seed, attempt, "z*")
        z_star = noise_maps([rng], target.shape[1], size, shared=config.noise_coarsest_shared).to(target.device)
        return ConvolutionalScale(size, generator, amplitude, ANCHORS[config.anchor](target, config), z_star)
    with torch.no_grad():
        remembered = below[-1].reconstruct(config)
    amplitude = AMPLITUDES[config.noise](target, resize(remembered, size, config.resample), config)
    return ConvolutionalScale(size, generator, amplitude, remembered)


def _train(
    below: Sequence[ConvolutionalScale],  # the scales fitted so far
    scale: ConvolutionalScale,  # the next one, its generator with gradients
    real: Tensor,  # [1, C, h, w] in [-1, 1]: the source at this scale
    objective: Objective,
    config: FitConfig,
    rng: torch.Generator,
    report: Report,
) -> None:
    generator, size, k = scale.generator, scale.size, len(below)
    optimiser = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))
    shared = k == 0 and config.noise_coarsest_shared
    z_k = torch.zeros_like(real) if scale.z_star is None else scale.z_star * scale.amplitude
    remembered = resize(scale.entering, size, config.resample)  # what enters for the reconstruction
    steps = scale_steps(k, config)
    entering = remembered
    for step in range(steps):
        rate = learning_rate(step, steps, config)
        objective.set_rate(rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if step % config.refresh_steps == 0:
            entering = _draw_below(below, scale, config, rng)
        window = crop_window(size, config.crop_px, rng)
        noise = noise_maps([rng] * config.batch, real.shape[1], size, shared=shared).to(real.device) * scale.amplitude
        seen = real[..., window[0], window[1]]
        losses = {}
        if config.critic_updates:
            with torch.no_grad():
                fake = generator(entering, noise, window)
            losses = objective.update(seen, fake, rng)
        for _ in range(config.generator_updates):
            realism = objective.loss(seen, generator(entering, noise, window), rng)
            error = reconstruction_loss(generator(remembered, z_k, window), seen)
            optimiser.zero_grad(set_to_none=True)
            (config.objective_weight * realism + config.reconstruction_weight * error).backward()
            optimiser.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            losses = {**losses, config.objective: realism.detach(), "reconstruction": error.detach()}
            values = {name: float(loss) for name, loss in losses.items()}
            if not all(math.isfinite(value) for value in values.values()):
                raise FitDivergedError("training went non-finite", scale=k, step=step + 1)
            report(k, step + 1, values)
    _check_alive(generator, entering, noise, real, k, steps)


@torch.no_grad()
def _draw_below(
    below: Sequence[ConvolutionalScale], scale: ConvolutionalScale, config: FitConfig, rng: torch.Generator
) -> Tensor:
    """A fresh random draw of the scales below, resized to this one: [batch, C, h, w]. The anchor at scale 0."""
    if not below:
        return scale.entering.expand(config.batch, -1, -1, -1)
    drawn = climb(below, [each.size for each in below], [rng] * config.batch, config)
    return resize(drawn.image, scale.size, config.resample)


@torch.no_grad()
def _check_alive(generator: Generator, entering: Tensor, noise: Tensor, real: Tensor, k: int, step: int) -> None:
    """Raise `FitDivergedError` where the weights are broken or draws have become (nearly) constant."""
    drawn = generator.eval()(entering, noise)
    if not bool(torch.isfinite(drawn).all()):
        raise FitDivergedError("draws went non-finite", scale=k, step=step)
    if float(drawn.std()) < COLLAPSED * float(real.std()):
        raise FitDivergedError("draws collapsed to a constant", scale=k, step=step)
