"""Training the generator of one scale on one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import FitDivergedError
from singan_aug.fitting.generated.losses import reconstruction_loss
from singan_aug.fitting.generated.objectives import Objective
from singan_aug.fitting.generated.schedule import learning_rate, scale_steps
from singan_aug.pyramid.drawing import draw_upwards
from singan_aug.pyramid.generated.networks import Generator
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, generator_for, noise_maps
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size

__all__ = ["StepReport", "TrainingScale", "train", "training_scale_for"]

REPORT_EVERY = 10  # steps between reports, which are also the moments at which losses are checked
COLLAPSED = 0.02  # a draw whose deviation is under this share of the source's has collapsed

StepReport = Callable[[int, Mapping[str, float]], None]  # (steps done, losses)


@dataclass(frozen=True, eq=False)
class TrainingScale:
    """One image at the scale that is being trained."""

    real: Tensor  # [1, C, h, w] in [-1, 1]: the source at this scale
    below: tuple[GeneratedScale, ...]  # the scales that its pyramid has so far
    scale: GeneratedScale  # the next one, its generator with gradients

    def drawn_below(self, config: FitConfig, rng: torch.Generator) -> Tensor:
        """A fresh random draw of the scales below, resized to this one: [batch, C, h, w]. The anchor at scale 0."""
        if not self.below:
            return resize(self.scale.entering, self.scale.size, config.resample).expand(config.batch, -1, -1, -1)
        drawn = draw_upwards(self.below, [each.size for each in self.below], [rng] * config.batch, config)
        return resize(drawn.image, self.scale.size, config.resample)


def training_scale_for(
    real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size
    sizes: Sequence[Size],  # of all scales of its pyramid
    below: tuple[GeneratedScale, ...],
    generator: Generator,
    config: FitConfig,
    attempt: int,
) -> TrainingScale:
    """The next scale of an image's pyramid, before its training: what enters it and how strong its noise is."""
    k = len(below)
    target = resize(real, sizes[k], config.resample)
    if k == 0:
        amplitude = target.new_full((1, 1, 1, 1), config.noise_coarsest)
        rng = generator_for(config.seed, attempt, "z*")
        z_star = noise_maps([rng], target.shape[1], sizes[k], shared=config.noise_coarsest_shared).to(target.device)
        return TrainingScale(
            target,
            (),
            GeneratedScale(sizes[k], generator, amplitude, ANCHORS[config.anchor](target, config), z_star),
        )
    with torch.no_grad():
        entering = below[-1].reconstruct(config)
    amplitude = AMPLITUDES[config.noise](target, resize(entering, sizes[k], config.resample), config)
    return TrainingScale(target, below, GeneratedScale(sizes[k], generator, amplitude, entering))


def train(
    training_scale: TrainingScale,
    objective: Objective,
    config: FitConfig,
    rng: torch.Generator,
    report: StepReport,
) -> None:
    """Train the generator, in place; it ends in eval mode, without gradients.

    Raises `FitDivergedError` where losses or draws become non-finite or draws constant.
    """
    k, scale, real = len(training_scale.below), training_scale.scale, training_scale.real
    generator, steps = scale.generator, scale_steps(k, config)
    generator.train().requires_grad_(True)
    optimiser = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))
    z_k = torch.zeros_like(real) if scale.z_star is None else scale.z_star * scale.amplitude
    remembered = resize(scale.entering, scale.size, config.resample)  # what enters for the reconstruction
    for step in range(steps):
        rate = learning_rate(step, steps, config)
        objective.set_rate(rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if step % config.refresh_steps == 0:
            with torch.no_grad():
                entering = training_scale.drawn_below(config, rng)
        noise = _noise(scale, real, config, rng)
        losses = {}
        if config.critic_updates:
            with torch.no_grad():
                fake = generator(entering, noise)
            losses = objective.update(real, fake, rng)
        for _ in range(config.generator_updates):
            realism = objective.loss(real, generator(entering, noise), rng)
            error = reconstruction_loss(generator(remembered, z_k), real)
            optimiser.zero_grad(set_to_none=True)
            (config.objective_weight * realism + config.reconstruction_weight * error).backward()
            optimiser.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            losses = {**losses, config.objective: realism.detach(), "reconstruction": error.detach()}
            values = {name: float(loss) for name, loss in losses.items()}
            if not all(math.isfinite(value) for value in values.values()):
                raise FitDivergedError("training went non-finite", scale=k, step=step + 1)
            report(step + 1, values)
    generator.eval().requires_grad_(False)
    _check_alive(generator(entering, noise), real, k, steps)


def _noise(scale: GeneratedScale, real: Tensor, config: FitConfig, rng: torch.Generator) -> Tensor:
    """[batch, C, h, w], its amplitude applied."""
    shared = scale.z_star is not None and config.noise_coarsest_shared
    maps = noise_maps([rng] * config.batch, real.shape[1], scale.size, shared=shared)
    return maps.to(real.device) * scale.amplitude


def _check_alive(drawn: Tensor, real: Tensor, k: int, step: int) -> None:
    """Raise `FitDivergedError` where the weights are broken or draws have become (nearly) constant."""
    if not bool(torch.isfinite(drawn).all()):
        raise FitDivergedError("draws went non-finite", scale=k, step=step)
    if float(drawn.std()) < COLLAPSED * float(real.std()):
        raise FitDivergedError("draws collapsed to a constant", scale=k, step=step)
