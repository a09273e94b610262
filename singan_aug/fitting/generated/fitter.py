"""Fitting generated scales, one after the other, coarsest first (Shaham et al. 2019, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from singan_aug.config import Generated, Networks
from singan_aug.errors import ConfigError
from singan_aug.fitting.checkpoint import Checkpoint, State, as_tensor, restoring, under
from singan_aug.fitting.events import Report, ScaleWork
from singan_aug.fitting.generated.objectives import OBJECTIVES, Objective
from singan_aug.fitting.generated.schedule import RATES, scale_steps
from singan_aug.fitting.generated.training import train, training_scale_for
from singan_aug.pyramid.generated.blocks import initialise
from singan_aug.pyramid.generated.networks import Generator, generator_from
from singan_aug.pyramid.generated.scale import GeneratedScale, trained_sizes
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, generator_for
from singan_aug.pyramid.resample import RESAMPLERS
from singan_aug.pyramid.sizes import Size, scale_widths

__all__ = ["fit_generated", "generated_work", "initial_generator"]

TAIL_SPREAD = 0.02  # of the weights that make an image, without BatchNorm: training starts from what enters, unchanged


def generated_work(sizes: Sequence[Size], channels: int, generated: Generated) -> tuple[ScaleWork, ...]:
    """Every update passes the pixels through the networks twice: draw and reconstruction, real and fake."""
    work = []
    networks, schedule, objective = generated.networks, generated.schedule, generated.objective
    updates = schedule.generator_updates
    if "critic_updates" in objective.leaves():
        updates += objective.critic_updates
    trained = trained_sizes(sizes, generated)
    for scale, ((height, breadth), width) in enumerate(zip(trained, scale_widths(len(trained), networks), strict=True)):
        weights = 9 * (2 * channels * width + (networks.layers - 2) * width**2)
        crop_px = schedule.crop_px or max(height, breadth)
        pixels = min(height, crop_px) * min(breadth, crop_px)
        macs = float(pixels * schedule.batch) * weights * 2 * updates
        work.append(ScaleWork(scale_steps(scale, schedule), macs))
    return (*work, *(ScaleWork(1, 0.0) for _ in sizes[len(trained) :]))


def fit_generated(
    real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size, on the device to fit on
    sizes: Sequence[Size],
    generated: Generated,
    resample: str,
    seeds: tuple[int, ...],  # that everything random derives from
    report: Report,
    checkpoint: Checkpoint | None = None,  # that it goes on from, and keeps its state in
) -> tuple[GeneratedScale, ...]:
    """Train one generator after the other, each on the draws of those below it.

    Raises `ConfigError` where a part is not registered or the networks are too deep, `FitDivergedError` where losses or
    draws become non-finite or draws constant, `UnfitStateError` for a checkpoint of another fit.
    """
    channels, device, trained = real.shape[1], real.device, trained_sizes(sizes, generated)
    widths = scale_widths(len(trained), generated.networks)
    _check(generated, resample, trained)
    scales: tuple[GeneratedScale, ...] = ()
    objective: Objective | None = None
    kept = checkpoint.state if checkpoint else None
    done = int(kept["scale"]) if kept else 0  # scales
    for k, width in enumerate(widths):
        rng = generator_for(*seeds, k, "weights")
        below = scales[-1].generator if scales and widths[k - 1] == width else None
        generator = initial_generator(generated.networks, channels, width, below, rng).to(device)
        if kept is not None and k < done:
            scale = training_scale_for(real, trained, scales, generator, generated, resample).scale
            scales = (*scales, _finished(scale, under(f"{k}", kept)))
            continue
        objective = OBJECTIVES[generated.objective.loss](generated, channels, width, rng, device, objective)
        training_scale = training_scale_for(real, trained, scales, generator, generated, resample)

        def note(step: int, losses: Mapping[str, float], scale: int = k) -> None:
            report(scale, step, losses)

        def keep(here: Callable[[], State], below: tuple[GeneratedScale, ...] = scales) -> None:
            if checkpoint is not None and checkpoint.is_due:
                checkpoint.write({**_state(below), **here()}, attempt=seeds[-1])

        rng = generator_for(*seeds, k, "training")
        scales = (*scales, train(training_scale, objective, generated, rng, note, keep, kept if k == done else None))
    for k in range(len(trained), len(sizes)):
        report(k, 1, {})
    return scales


def _state(scales: tuple[GeneratedScale, ...]) -> dict[str, Tensor]:
    """Of scales whose training has ended: all else of them follows from it."""
    state = {"scale": as_tensor(len(scales))}
    for k, scale in enumerate(scales):
        state |= {f"{k}.generator.{name}": tensor for name, tensor in scale.generator.state_dict().items()}
        state |= {} if scale.z_star is None else {f"{k}.z_star": scale.z_star}
    return state


def _finished(scale: GeneratedScale, state: State) -> GeneratedScale:
    """A scale as it was when its training had ended. Its generator is changed in place."""
    with restoring():
        scale.generator.load_state_dict(under("generator", state))
        z_star = None if scale.z_star is None else state["z_star"].to(scale.entering.device)
    scale.generator.eval().requires_grad_(False)
    return replace(scale, z_star=z_star)


def _check(generated: Generated, resample: str, sizes: Sequence[Size]) -> None:
    """Raise `ConfigError` before any training where a part is not registered or the networks are too deep."""
    parts = (
        (RESAMPLERS, resample),
        (ANCHORS, generated.noise.anchor),
        (AMPLITUDES, generated.noise.amplitude),
        (RATES, generated.schedule.decay),
    )
    for register, name in parts:
        register[name]  # raises for an unknown name
    layers = generated.networks.layers
    field_px, side_px = 2 * layers + 1, min(sizes[0])
    if field_px > side_px:
        raise ConfigError(
            f"expected a coarsest scale of at least {field_px} px, the receptive field of {layers} layers, got "
            f"{side_px} px: use fewer layers or a larger coarsest_px"
        )


def initial_generator(
    networks: Networks, channels: int, width: int, below: Generator | None, rng: torch.Generator
) -> Generator:
    """The weights of the scale below where the width is the same (Shaham et al. 2019, supplementary), else random."""
    generator = generator_from(networks, channels, width)
    if below is not None:
        generator.load_state_dict(below.state_dict())
        return generator
    initialise(generator, rng)
    if not networks.batch_norm:
        tail = generator.body[-1]
        assert isinstance(tail, nn.Conv2d)
        with torch.no_grad():
            tail.weight.normal_(0.0, TAIL_SPREAD, generator=rng)
    return generator
