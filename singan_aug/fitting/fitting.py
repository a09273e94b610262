"""fit(): from one image and a config to a pyramid, scale by scale (Shaham et al. 2019, section 3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from singan_aug._version import __version__
from singan_aug.config import FitConfig, fast
from singan_aug.errors import FitDivergedError
from singan_aug.fitting.losses import reconstruction_loss
from singan_aug.fitting.objectives import OBJECTIVES, Objective
from singan_aug.fitting.schedule import ScaleWork, crop_window, fit_work, learning_rate
from singan_aug.images import refuse_constant, resize_pixels, to_pixels, to_signed
from singan_aug.pyramid.blocks import initialise
from singan_aug.pyramid.drawing import draw_signed, run_scale
from singan_aug.pyramid.networks import Generator, generator_from
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, generator_for, noise_maps
from singan_aug.pyramid.pyramid import Pyramid, Scale
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scales import scale_sizes, scale_widths, working_size

__all__ = ["FitEvent", "fit"]

ATTEMPTS = 2  # a fit that diverges is tried once more, from another seed
REPORT_EVERY = 10  # steps between events, which are also the moments at which losses are checked
COLLAPSED = 0.02  # a draw whose deviation is under this share of the source's has collapsed


@dataclass(frozen=True)
class FitEvent:
    """Progress of a fit: `step` of `steps` done at `scale` of `scales`."""

    scale: int
    scales: int
    step: int
    steps: int
    attempt: int  # 0, or 1 after a fit that diverged
    share: float  # of the whole fit's work, in 0..1
    losses: Mapping[str, float]


def fit(
    image: Any,
    config: FitConfig | None = None,
    *,
    on_event: Callable[[FitEvent], None] | None = None,
    device: torch.device | str = "cpu",
) -> Pyramid:
    """Fit a pyramid to one image.

    The result depends on (image, config) alone, the seed being part of the config: not on the global generators, not
    on how many fits run beside this one. A fit on the CPU uses one thread.

    Args:
        image: PIL image, uint8 array [H, W] or [H, W, C], or tensor [C, H, W] (uint8, or float in [0, 1]);
            C is 1 (grey), 3 (RGB) or 4 (RGB and a mask). Shrunk to `config.finest_px` on its long side.
        config: how; the `fast` preset by default.
        on_event: called every few steps with a `FitEvent`.
        device: where to train; the pyramid is returned on the CPU.

    Raises:
        ImageError: not an image, too small, too elongated, or constant.
        ConfigError: the config names a part that is not registered.
        FitDivergedError: training went non-finite or collapsed, and again from another seed.
    """
    config = config or fast()
    pixels = to_pixels(image)
    size = working_size((pixels.shape[0], pixels.shape[1]), config)
    refuse_constant(pixels)
    real = to_signed(resize_pixels(pixels, size))
    with _one_thread():
        for attempt in range(ATTEMPTS):
            try:
                return _fit_once(real.to(device), config, attempt, on_event or (lambda _: None))
            except FitDivergedError:
                if attempt + 1 == ATTEMPTS:
                    raise
    raise AssertionError("unreachable")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small convolutions gain nothing from more threads, and another count could change the last digit of a sum."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit_once(real: Tensor, config: FitConfig, attempt: int, on_event: Callable[[FitEvent], None]) -> Pyramid:
    started_sec = time.process_time()
    channels, device = real.shape[1], real.device
    sizes = scale_sizes((real.shape[2], real.shape[3]), config)
    widths = scale_widths(len(sizes), config)
    work = fit_work(sizes[-1], channels, config)
    shared = config.noise_coarsest_shared
    z_star = noise_maps([generator_for(config.seed, attempt, "z*")], channels, sizes[0], shared=shared).to(device)
    pyramid = Pyramid(config, channels, (), z_star)
    objective: Objective | None = None
    errors = []
    for k, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        target = resize(real, size, config.resample)
        weights_rng = generator_for(config.seed, attempt, k, "weights")
        generator = _initial_generator(config, channels, widths, k, pyramid, weights_rng).to(device)
        objective = OBJECTIVES[config.objective](config, channels, width, weights_rng, device, objective)
        scale = _prepare_scale(generator, target, pyramid, config)
        _train_scale(pyramid, scale, target, objective, work=work, attempt=attempt, on_event=on_event)
        generator.eval().requires_grad_(False)
        pyramid = Pyramid(config, channels, (*pyramid.scales, scale), z_star)
        errors.append(float((_reconstruct_scale(pyramid, k) - target).square().mean().sqrt()) / 2)
    return pyramid.to("cpu").with_provenance(
        {
            "package": __version__,
            "torch": torch.__version__,
            "device": device.type,
            "attempt": attempt,
            "process_sec": round(time.process_time() - started_sec, 3),
            "reconstruction_rmse": [round(error, 5) for error in errors],  # of the range, coarsest scale first
        }
    )


def _initial_generator(
    config: FitConfig, channels: int, widths: tuple[int, ...], k: int, pyramid: Pyramid, rng: torch.Generator
) -> Generator:
    """Random weights, or those of the scale below where the width is the same (Shaham et al. 2019, supplementary)."""
    generator = generator_from(config, channels, widths[k])
    initialise(generator, rng)
    if k > 0 and widths[k - 1] == widths[k]:
        generator.load_state_dict(pyramid.scales[-1].generator.state_dict())
    return generator.train().requires_grad_(True)


def _prepare_scale(generator: Generator, target: Tensor, pyramid: Pyramid, config: FitConfig) -> Scale:
    """The next scale, before its training: what enters it and how strong its noise is."""
    size = (target.shape[2], target.shape[3])
    if not pyramid.scales:
        amplitude = target.new_full((1, 1, 1, 1), config.noise_coarsest)
        return Scale(size, generator, amplitude, ANCHORS[config.anchor](target, config))
    below = _reconstruct_scale(pyramid, len(pyramid) - 1)
    amplitude = AMPLITUDES[config.noise](target, resize(below, size, config.resample), config)
    return Scale(size, generator, amplitude, below)


@torch.no_grad()
def _reconstruct_scale(pyramid: Pyramid, k: int) -> Tensor:
    """Output of scale k for {z*, 0, ..., 0}, [1, C, h, w] in about [-1, 1]."""
    scale = pyramid.scales[k]
    noise = pyramid.z_star if k == 0 else scale.entering.new_zeros(1, pyramid.channels, *scale.size)
    return run_scale(scale, scale.entering, noise, scale.size, pyramid.config.resample)


def _train_scale(
    below: Pyramid,  # the scales fitted so far
    scale: Scale,  # the next one, its generator with gradients
    real: Tensor,  # [1, C, h, w] in [-1, 1]: the source at this scale
    objective: Objective,
    *,
    work: Sequence[ScaleWork],  # of every scale of this fit
    attempt: int,
    on_event: Callable[[FitEvent], None],
) -> None:
    config, k = below.config, len(below)
    generator, size = scale.generator, scale.size
    rng = generator_for(config.seed, attempt, k, "training")
    optimiser = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))
    shared = k == 0 and config.noise_coarsest_shared
    z_k = below.z_star * scale.amplitude if k == 0 else torch.zeros_like(real)
    remembered = resize(scale.entering, size, config.resample)  # what enters for the reconstruction
    steps = work[k].steps
    entering = remembered
    for step in range(steps):
        rate = learning_rate(step, steps, config)
        objective.set_rate(rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if step % config.refresh_steps == 0:
            entering = _draw_below(below, scale, config.batch, rng)
        window = crop_window(size, config.crop_px, rng)
        noise = noise_maps([rng] * config.batch, below.channels, size, shared=shared).to(real.device) * scale.amplitude
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
                raise FitDivergedError("training went non-finite", scale=k, step=step)
            on_event(FitEvent(k, len(work), step + 1, steps, attempt, _share(work, k, step + 1), values))
    _check_alive(generator, entering, noise, real, k, steps)


def _share(work: Sequence[ScaleWork], k: int, step: int) -> float:
    """Share of a fit's work that is done after `step` steps at scale k."""
    done = sum(scale.load for scale in work[:k]) + work[k].load * step / work[k].steps
    return done / sum(scale.load for scale in work)


def _draw_below(below: Pyramid, scale: Scale, batch: int, rng: torch.Generator) -> Tensor:
    """A fresh random draw of the scales below, resized to this one: [batch, C, h, w]. The anchor at scale 0."""
    if not below.scales:
        return scale.entering.expand(batch, -1, -1, -1)
    start = below.scales[0].entering.expand(batch, -1, -1, -1)
    with torch.no_grad():
        drawn = draw_signed(below.scales, [s.size for s in below.scales], start, [rng] * batch, below, first=0)
        return resize(drawn, scale.size, below.config.resample)


def _check_alive(generator: Generator, entering: Tensor, noise: Tensor, real: Tensor, k: int, step: int) -> None:
    """Raise `FitDivergedError` where the weights are broken or draws have become (nearly) constant."""
    generator.eval()
    with torch.no_grad():
        drawn = generator(entering, noise)
    if not bool(torch.isfinite(drawn).all()):
        raise FitDivergedError("draws went non-finite", scale=k, step=step)
    if float(drawn.std()) < COLLAPSED * float(real.std()):
        raise FitDivergedError("draws collapsed to a constant", scale=k, step=step)
