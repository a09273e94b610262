"""animate(): a still image brought to life by a walk in noise, which comes back to where it began."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.images import to_unit
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.sizes import StartScale, resolve_start_scale
from singan_aug.pyramid.threads import one_thread
from singan_aug.tasks._frames import Latent, frames_of, rendered
from singan_aug.tasks.interpolation import MOST_FRAMES

__all__ = ["animate"]

FORGOTTEN = 1e-5  # of where a walk began, once it is taken for periodic


def animate(
    pyramid: Pyramid,
    *,
    frames: int = 60,
    alpha: float = 0.05,
    beta: float = 0.9,
    start_scale: StartScale | None = None,
    seed: int = 0,
) -> Tensor:
    """A loop of pictures: float [frames, C, H, W] in [0, 1]; the first one follows the last without a jump.

    Shaham et al. 2019, supplementary "Animation": z_t = alpha z* + (1 - alpha) (z_{t-1} + beta (z_{t-1} - z_{t-2}) +
    (1 - beta) u_t), u_t standard normal. Here u_t repeats after `frames` steps and the walk goes on until it repeats
    too, which makes it a loop. Where all scales generate, z is their noise. Where scales copy, z is the smooth random
    field that bends the source, by two fifths of how far draws from the start scale move it.

    Args:
        pyramid: of any preset.
        frames: how many pictures, 2 to 2000. All are held: 12 bytes a pixel of each.
        alpha: how strongly the walk is drawn to the source, 0.01 to 1; smaller is slower. The paper has 0.1.
        beta: how smooth it is, 0 to 0.99: the paper has 0.80 to 0.95.
        start_scale: as `draw` takes it; the finer, the smaller what moves. The paper has 0 to 2. By default 1, where
            there is more than one scale.
        seed: another seed, another motion.

    Raises `StartScaleError`: no such scale; `ConfigError`: a number is out of range.
    """
    start = min(1, len(pyramid) - 1) if start_scale is None else resolve_start_scale(start_scale, len(pyramid))
    if not 2 <= frames <= MOST_FRAMES or not 0.01 <= alpha <= 1 or not 0 <= beta <= 0.99:
        raise ConfigError(
            f"expected frames in 2..{MOST_FRAMES}, alpha in 0.01..1 and beta in 0..0.99, "
            f"got {frames!r}, {alpha!r}, {beta!r}"
        )
    drawn, still, render = frames_of(pyramid, start)
    bent = any(isinstance(scale, CopiedScale) for scale in pyramid.scales)
    gain = 1 / _deviation(alpha, beta) if bent else 1.0  # the paper's walk is calmer than what drives it

    def walk() -> Iterator[Latent]:
        last = before = [torch.zeros_like(each) for each in still]  # what is added to z*
        for t in range(-_steps_to_forget(alpha, beta), frames):
            driven = drawn(generator_for(seed, "frame", t % frames))
            now = [
                (1 - alpha) * (a + beta * (a - b) + (1 - beta) * gain * (u - z))
                for a, b, u, z in zip(last, before, driven, still, strict=True)
            ]
            last, before = now, last
            if t >= 0:
                yield [z + each for z, each in zip(still, now, strict=True)]

    with torch.no_grad(), one_thread():
        return to_unit(rendered(walk(), render))


def _response(alpha: float, beta: float) -> Iterator[float]:
    """What is left, step after step, of one push of the walk."""
    last = before = 0.0
    push = (1 - alpha) * (1 - beta)
    while True:
        now = (1 - alpha) * (last + beta * (last - before)) + push
        yield now
        last, before, push = now, last, 0.0


def _steps_to_forget(alpha: float, beta: float) -> int:
    """Steps after which nothing is left of where the walk began."""
    largest = math.sqrt((1 - alpha) * beta)  # both roots of the recursion, where they are complex; else it is the sum's
    trace = (1 - alpha) * (1 + beta)
    if trace**2 > 4 * largest**2:
        largest = (trace + math.sqrt(trace**2 - 4 * largest**2)) / 2
    return max(2, math.ceil(math.log(FORGOTTEN) / math.log(largest))) if largest > 0 else 2


def _deviation(alpha: float, beta: float) -> float:
    """The standard deviation of a walk that standard normal noise drives."""
    responses = _response(alpha, beta)
    return max(1e-6, math.sqrt(sum(next(responses) ** 2 for _ in range(_steps_to_forget(alpha, beta)))))
