"""Training the generator of one scale on one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from singan_aug.config import Generated
from singan_aug.errors import FitDivergedError
from singan_aug.fitting.checkpoint import State, alike, as_tensor, restoring, under
from singan_aug.fitting.generated.adam import Adam
from singan_aug.fitting.generated.losses import reconstruction_loss
from singan_aug.fitting.generated.objectives import Objective
from singan_aug.fitting.generated.schedule import crop_window, learning_rate, scale_steps
from singan_aug.pyramid.generated.networks import Generator
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, noise_maps
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import draw_upwards
from singan_aug.pyramid.sizes import Size

__all__ = ["Keep", "StepReport", "TrainingScale", "train", "training_scale_for"]

REPORT_EVERY = 10  # steps between reports, which are also the moments at which losses are checked
COLLAPSED = 0.02  # a draw whose deviation is under this share of the source's has collapsed

StepReport = Callable[[int, Mapping[str, float]], None]  # (steps done, losses)
Keep = Callable[[Callable[[], State]], None]  # what gives the state of a scale whose training is under way


@dataclass(frozen=True, eq=False)
class TrainingScale:
    """One image at the scale that is being trained."""

    real: Tensor  # [1, C, h, w] in [-1, 1]: the source at this scale
    below: tuple[GeneratedScale, ...]  # the scales that its pyramid has so far
    scale: GeneratedScale  # the next one, its generator with gradients

    @property
    def remembered(self) -> Tensor:
        """What enters for the reconstruction, at this size: the reconstruction by the scale below, or the anchor."""
        return resize(self.scale.entering, self.scale.size, self.scale.resample)

    def drawn_below(self, batch: int, rng: torch.Generator) -> Tensor:
        """A fresh random draw of the scales below, resized to this one: [batch, C, h, w]. At scale 0 the anchor,
        deformed as draws deform it."""
        if not self.below:
            return self.scale.begun(self.scale.size, [rng] * batch)
        drawn = draw_upwards(self.below, [each.size for each in self.below], [rng] * batch)
        return resize(drawn.image, self.scale.size, self.scale.resample)

    def noise(self, count: int, rng: torch.Generator) -> Tensor:
        """[count, C, h, w], standard normal."""
        maps = noise_maps([rng] * count, self.real.shape[1], self.scale.size, shared=self.scale.shared_noise)
        return maps.to(self.real.device)


def training_scale_for(
    real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size
    sizes: Sequence[Size],  # of all generated scales of its pyramid
    below: tuple[GeneratedScale, ...],
    generator: Generator,
    config: Generated,
    resample: str,
) -> TrainingScale:
    """The next scale of an image's pyramid, before its training: what enters it and how strong its noise is."""
    k, noise = len(below), config.noise
    target = resize(real, sizes[k], resample)
    if k == 0:
        amplitude = target.new_full((1, 1, 1, 1), noise.noise_coarsest)
        anchor, shared = ANCHORS[noise.anchor](target, noise), noise.noise_coarsest_shared
        z_star = torch.zeros_like(target) if noise.anchor == "none" else None  # drawn in training
        scale = GeneratedScale(sizes[0], generator, amplitude, anchor, resample, shared, noise.anchor_shift_px, z_star)
        return TrainingScale(target, (), scale)
    with torch.no_grad():
        entering = below[-1].reconstruct()
    amplitude = AMPLITUDES[noise.amplitude](target, resize(entering, sizes[k], resample), noise)
    return TrainingScale(target, below, GeneratedScale(sizes[k], generator, amplitude, entering, resample))


def train(
    training_scale: TrainingScale,
    objective: Objective,
    config: Generated,
    rng: torch.Generator,
    report: StepReport,
    keep: Keep = lambda _: None,  # called at the same moments
    kept: State | None = None,  # that training goes on from: all but the configuration is part of it
) -> GeneratedScale:
    """Train the generator, in place, and return its scale; it ends in eval mode, without gradients.

    Where nothing enters scale 0, z* is drawn anew in each iteration, as in every release of the authors' code, and the
    last one is kept. Else the reconstruction takes no noise.

    Raises `FitDivergedError` where losses or draws become non-finite or draws constant, `UnfitStateError` for a
    state of another fit.
    """
    k, scale, real, schedule = len(training_scale.below), training_scale.scale, training_scale.real, config.schedule
    generator, steps, weights = scale.generator, scale_steps(k, schedule), config.objective
    generator.train().requires_grad_(True).to(memory_format=torch.channels_last)
    betas = (schedule.beta1, schedule.beta2)
    optimiser = Adam(generator.parameters(), schedule.learning_rate, betas, fused=True)
    remembered = training_scale.remembered
    z_star, entering, first = torch.zeros_like(real), real, 0
    if kept is not None:
        first, entering, z_star = _restore(kept, generator, optimiser, objective, rng, real, steps)
    for step in range(first, steps):
        optimiser.rate = learning_rate(step, steps, schedule)
        objective.set_rate(optimiser.rate)
        if step % schedule.refresh_steps == 0:
            with torch.no_grad():
                entering = training_scale.drawn_below(schedule.batch, rng)
        if scale.z_star is not None:
            z_star = training_scale.noise(1, rng)
        noise = training_scale.noise(schedule.batch, rng) * scale.amplitude
        window = crop_window(scale.size, schedule.crop_px, rng)
        seen = real[window]
        fed = (entering[window], noise[window])
        known = (remembered[window], (z_star * scale.amplitude)[window])
        drawn = generator(*fed)
        losses = objective.update(seen, drawn.detach(), rng) if objective.adversarial else {}
        for update in range(schedule.generator_updates):
            realism = objective.loss(seen, generator(*fed) if update else drawn, rng)
            error = reconstruction_loss(generator(*known), seen)
            optimiser.zero_grad()
            (weights.objective_weight * realism + weights.reconstruction_weight * error).backward()
            optimiser.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            losses = {**losses, weights.loss: realism.detach(), "reconstruction": error.detach()}
            values = {name: float(loss) for name, loss in losses.items()}
            if not all(math.isfinite(value) for value in values.values()):
                raise FitDivergedError("training went non-finite", scale=k, step=step + 1)
            report(step + 1, values)
            if step + 1 < steps:
                here = (step + 1, generator, optimiser, objective, rng, entering, z_star)
                keep(partial(_state, *here))
    generator.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    _check_alive(generator(entering, noise), real, k, steps)
    return scale if scale.z_star is None else replace(scale, z_star=z_star)


def _state(
    step: int,  # done
    generator: Generator,
    optimiser: Adam,
    objective: Objective,
    rng: torch.Generator,
    entering: Tensor,
    z_star: Tensor,
) -> dict[str, Tensor]:
    """All that the next step depends on."""
    state = {"step": as_tensor(step), "rng": rng.get_state(), "entering": entering, "z_star": z_star}
    state |= {f"generator.{name}": tensor for name, tensor in generator.state_dict().items()}
    state |= {f"objective.{name}": tensor for name, tensor in objective.state().items()}
    return state | optimiser.state("adam")


def _restore(
    kept: State,
    generator: Generator,
    optimiser: Adam,
    objective: Objective,
    rng: torch.Generator,
    real: Tensor,  # on the device to train on
    steps: int,  # in all
) -> tuple[int, Tensor, Tensor]:
    """The inverse of `_state`: steps done, what enters, and z*."""
    with restoring():
        generator.load_state_dict(under("generator", kept))
        objective.restore(under("objective", kept))
        optimiser.restore("adam", kept)
        rng.set_state(kept["rng"])
        step, entering = int(kept["step"]), kept["entering"].to(real.device)
        if not 0 < step < steps or entering.shape[1:] != real.shape[1:]:
            raise ValueError(f"expected a step of {steps}, and what enters {tuple(real.shape)}")
        return step, entering, alike(real, kept["z_star"])


def _check_alive(drawn: Tensor, real: Tensor, k: int, step: int) -> None:
    """Raise `FitDivergedError` where the weights are broken or draws have become (nearly) constant."""
    if not bool(torch.isfinite(drawn).all()):
        raise FitDivergedError("draws went non-finite", scale=k, step=step)
    if float(drawn.std()) < COLLAPSED * float(real.std()):
        raise FitDivergedError("draws collapsed to a constant", scale=k, step=step)
