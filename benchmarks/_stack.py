"""Pyramids whose generated scales are trained with parts that the package does not have, for `benchmarks.ablation`.

With the parts as they are by default, `trained_stack` gives what `fit_generated` gives, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singan_aug import FitConfig, Pyramid
from singan_aug.config import Generated
from singan_aug.errors import FitDivergedError
from singan_aug.fitting.copied import fit_copied
from singan_aug.fitting.generated.fitter import initial_generator
from singan_aug.fitting.generated.losses import reconstruction_loss
from singan_aug.fitting.generated.objectives import OBJECTIVES, Objective
from singan_aug.fitting.generated.schedule import learning_rate, scale_steps
from singan_aug.fitting.generated.training import TrainingScale, training_scale_for
from singan_aug.fitting.visible import visible_px
from singan_aug.images import image_and_mask, resize_pixels, to_signed
from singan_aug.pyramid.generated.blocks import BLOCKS
from singan_aug.pyramid.generated.networks import Generator
from singan_aug.pyramid.generated.scale import GeneratedScale, trained_sizes
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.resample import RESAMPLERS, resize
from singan_aug.pyramid.sizes import Size, scale_widths, stack_sizes, working_size

__all__ = ["Parts", "Trained", "fit_stack", "own_parts", "trained_stack"]

LOWER_RATE = 0.1  # factor of the learning rate for each scale below the newest (Hinz et al. 2021, ConSinGAN)
NORMS = 12  # gradient norms that are kept of each stage
SQUEEZED = 8  # channels for each one that a squeeze keeps


@dataclass(frozen=True)
class Parts:
    """What is swapped. By default the package's own way."""

    upsampling: str = "bicubic"  # between generated scales: a registered resampling, "transposed" or "subpixel"
    noise: float | str = "config"  # of scales above the coarsest: as the config says, a constant, or "learned"
    together: int = 1  # scales that are trained at once, the newest and those right below it; 0: all, from the start
    losses: str = "newest"  # whose draws are compared with the source: those of the "newest" scale, or of "all"


@dataclass
class Trained:
    """Scales, and what was seen while they were trained."""

    scales: tuple[GeneratedScale, ...]
    norms: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # gradient, by stage and scale
    gains: list[float] = field(default_factory=list)  # factors of the noise that were learned


class SqueezeExcitationBlock(nn.Module):
    """A plain layer whose channels are weighted by what the whole image holds (Hu et al. 2018).

    It is no part of the package: there a block sees 3 px, so that draws of any size have the same texture.
    """

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        super().__init__()
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        conv = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3)
        squeezed = max(1, outputs // SQUEEZED)
        self.layer = nn.Sequential(conv, *norm, nn.LeakyReLU(0.2))
        self.weigh = nn.Sequential(
            nn.utils.skip_init(nn.Conv2d, outputs, squeezed, 1),
            nn.ReLU(),
            nn.utils.skip_init(nn.Conv2d, squeezed, outputs, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H - 2, W - 2]."""
        seen = self.layer(x)
        out: Tensor = seen * self.weigh(seen.mean((2, 3), keepdim=True))
        return out


def _unchanged(image: Tensor, size: Size) -> Tensor:
    del size  # what enters a learned upsampling comes as it is
    return image


class Upsampled(nn.Module):
    """A generator behind an upsampling that is learned: twice the size, then bilinear to the size of the scale.

    It begins as bilinear (transposed convolution; Dumoulin and Visin 2016) or nearest (sub-pixel convolution; Shi et
    al. 2016, with the initial weights of Aitken et al. 2017).
    """

    def __init__(self, generator: nn.Module, channels: int, size: Size, how: str) -> None:
        super().__init__()
        self.generator, self.size, self.how = generator, size, how
        same = torch.eye(channels)
        if how == "transposed":
            taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
            weight = same[..., None, None] * taps[:, None] * taps
        else:
            weight = torch.zeros(4 * channels, channels, 3, 3)
            weight[..., 1, 1] = same.repeat_interleave(4, 0)
        self.weight = nn.Parameter(weight)

    def forward(self, entering: Tensor, noise: Tensor) -> Tensor:
        """[N, C, h, w] of the scale below to [N, C, *size]."""
        padded = F.pad(entering, (1,) * 4, mode="replicate")
        if self.how == "transposed":
            doubled = F.conv_transpose2d(padded, self.weight, stride=2, padding=1)[..., 2:-2, 2:-2]
        else:
            doubled = F.pixel_shuffle(F.conv2d(padded, self.weight), 2)
        out: Tensor = self.generator(resize(doubled, self.size, "bilinear"), noise)
        return out


class LearnedNoise(nn.Module):
    """A generator that learns a factor of its noise."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.log_gain = nn.Parameter(torch.zeros(()))

    def forward(self, entering: Tensor, noise: Tensor) -> Tensor:
        """[N, C, h, w]."""
        out: Tensor = self.generator(entering, noise * self.log_gain.exp())
        return out


@contextmanager
def own_parts() -> Iterator[None]:
    """The names of the parts that are not the package's mean something meanwhile, to fits and to draws."""
    with BLOCKS.with_part("squeeze_excitation", SqueezeExcitationBlock), RESAMPLERS.with_part("none", _unchanged):
        yield


def fit_stack(image: Any, config: FitConfig, parts: Parts) -> tuple[Pyramid, Trained]:
    """As `fit` of an image, but for the parts. Raises `FitDivergedError` as it does, at the first attempt."""
    assert config.generated is not None
    assert config.copied is not None
    pixels, _ = image_and_mask(image, None)
    size = working_size((pixels.shape[0], pixels.shape[1]), config)
    real = to_signed(resize_pixels(pixels, size))
    generated, copied = stack_sizes(size, config, visible_px(real, None, config))
    resample, seeds = config.sizes.resample, (config.seed, 0)
    trained = trained_stack(real, trained_sizes(generated, config.generated), config.generated, resample, seeds, parts)
    above = fit_copied(real, copied, config.copied, resample, seeds, lambda *_: None, searched=True)
    return Pyramid(config, real.shape[1], (*trained.scales, *above)), trained


def trained_stack(
    real: Tensor,  # [1, C, H, W] in [-1, 1]
    sizes: Sequence[Size],
    config: Generated,
    resample: str,
    seeds: tuple[int, ...],
    parts: Parts,
) -> Trained:
    """All scales, in stages: one for each, in which it is trained with those right below; or one stage for all."""
    trained = Trained(())
    plain: list[Generator] = []
    stages: list[TrainingScale] = []
    objectives: list[Objective] = []
    widths = scale_widths(len(sizes), config.networks)
    for k, width in enumerate(widths):
        rng = generator_for(*seeds, k, "weights")
        below = plain[-1] if k and widths[k - 1] == width else None
        plain.append(initial_generator(config.networks, real.shape[1], width, below, rng).eval())
        last = objectives[-1] if objectives else None
        objectives.append(OBJECTIVES[config.objective.loss](config, real.shape[1], width, rng, real.device, last))
        stage = training_scale_for(real, sizes, trained.scales, plain[-1], config, resample)
        stages.append(_swapped(stage, parts) if k else stage)
        trained.scales = (*trained.scales, stages[-1].scale)
        if parts.together or k + 1 == len(sizes):
            first = max(0, k + 1 - parts.together) if parts.together else 0
            stages[first] = replace(stages[first], below=trained.scales[:first])
            _train(stages[first:], objectives[first:], config, generator_for(*seeds, k, "training"), trained, parts)
            trained.scales = _remembering(trained.scales)
            stages = [replace(stage, scale=scale) for stage, scale in zip(stages, trained.scales, strict=True)]
    gains = [scale.generator for scale in trained.scales if isinstance(scale.generator, LearnedNoise)]
    trained.gains = [float(generator.log_gain.exp()) for generator in gains]
    return trained


def _swapped(stage: TrainingScale, parts: Parts) -> TrainingScale:
    """The scale with its parts swapped; the coarsest, which nothing is upsampled for, has none."""
    scale = stage.scale
    network: nn.Module = scale.generator
    if isinstance(parts.noise, float):
        scale = replace(scale, amplitude=torch.full_like(scale.amplitude, parts.noise))
    elif parts.noise == "learned":
        network = LearnedNoise(network)
    if parts.upsampling in RESAMPLERS:
        scale = replace(scale, resample=parts.upsampling)
    else:
        network = Upsampled(network, stage.real.shape[1], scale.size, parts.upsampling)
        scale = replace(scale, resample="none")
    return replace(stage, scale=replace(scale, generator=network))  # type: ignore[arg-type]


def _train(
    stages: Sequence[TrainingScale],  # neighbours, coarsest first
    objectives: Sequence[Objective],  # of each
    config: Generated,
    rng: torch.Generator,
    trained: Trained,  # what is seen is added
    parts: Parts,
) -> None:
    """Train the generators of these scales at once, in place, on images that pass through all of them."""
    schedule, weights, newest = config.schedule, config.objective, len(stages[0].below) + len(stages) - 1
    generators = [stage.scale.generator for stage in stages]
    steps = scale_steps(newest, schedule)
    for generator in generators:
        generator.train().requires_grad_(True).to(memory_format=torch.channels_last)
    groups = [{"params": generator.parameters()} for generator in generators]
    betas = (schedule.beta1, schedule.beta2)
    optimiser = torch.optim.Adam(groups, lr=schedule.learning_rate, betas=betas, fused=True)
    compared = range(len(stages)) if parts.losses == "all" else [len(stages) - 1]
    for step in range(steps):
        rate = learning_rate(step, steps, schedule)
        for below, group in enumerate(reversed(optimiser.param_groups)):
            group["lr"] = rate * (LOWER_RATE**below if parts.together else 1.0)
        with torch.no_grad():
            entering = stages[0].drawn_below(schedule.batch, rng)
        noises = [stage.noise(schedule.batch, rng) * stage.scale.amplitude for stage in stages]
        drawn = _passed(stages, entering, noises)
        for i in compared:
            objectives[i].set_rate(rate)
            if objectives[i].adversarial:
                objectives[i].update(stages[i].real, drawn[i].detach(), rng)
        realism = torch.stack([objectives[i].loss(stages[i].real, drawn[i], rng) for i in compared]).sum()
        known = _passed(stages, stages[0].remembered, [torch.zeros_like(stage.real) for stage in stages])
        error = torch.stack([reconstruction_loss(known[i], stages[i].real) for i in compared]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss = weights.objective_weight * realism + weights.reconstruction_weight * error
        loss.backward()
        if step % max(1, steps // NORMS) == 0:
            for i, generator in enumerate(generators):
                trained.norms.setdefault((newest, newest - len(stages) + 1 + i), []).append(_gradient_norm(generator))
        optimiser.step()
    for generator in generators:
        generator.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    if not math.isfinite(float(loss.detach())):
        raise FitDivergedError("training went non-finite", scale=newest, step=steps)


def _passed(stages: Sequence[TrainingScale], image: Tensor, noises: Sequence[Tensor]) -> list[Tensor]:
    """The output of each scale, for an image that enters the first."""
    outputs: list[Tensor] = []
    for stage, noise in zip(stages, noises, strict=True):
        image = resize(image, stage.scale.size, stage.scale.resample)
        outputs.append(stage.scale.generator(image, noise))
        image = outputs[-1]
    return outputs


def _gradient_norm(network: nn.Module) -> float:
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def _remembering(scales: Sequence[GeneratedScale]) -> tuple[GeneratedScale, ...]:
    """What enters each scale for the reconstruction, after those below it were trained on."""
    kept = list(scales[:1])
    with torch.no_grad():
        for scale in scales[1:]:
            kept.append(replace(scale, entering=kept[-1].reconstruct()))
    return tuple(kept)
