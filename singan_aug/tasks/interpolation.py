"""interpolate(): a way from one draw to another."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.images import to_unit
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.sizes import StartScale, resolve_start_scale
from singan_aug.pyramid.threads import one_thread
from singan_aug.tasks._frames import Latent, frames_of, rendered

__all__ = ["MOST_FRAMES", "interpolate"]

MOST_FRAMES = 2000


def interpolate(
    pyramid: Pyramid,
    seed_from: int = 0,
    seed_to: int = 1,
    *,
    frames: int = 30,
    start_scale: StartScale = 0,
) -> Tensor:
    """Pictures on the way from the draw of one seed to that of another: float [frames, C, H, W] in [0, 1].

    The noise of both is mixed along the sphere on which it lies (White 2016, "Sampling generative networks"), so that
    pictures in the middle are as vivid as those at the ends. Where all scales generate, the first and last picture are
    `draw(pyramid, 1, start_scale, seed=...)`. Where scales copy, the source is bent by the smooth random field that
    draws begin with; pieces are not cut, for cuts would jump.

    Args:
        pyramid: of any preset.
        seed_from: of the first picture.
        seed_to: of the last one.
        frames: how many pictures, 2 to 2000, those at the ends included.
        start_scale: as `draw` takes it.

    Raises `StartScaleError`: no such scale; `ConfigError`: `frames` is out of range.
    """
    start = resolve_start_scale(start_scale, len(pyramid))
    if not 2 <= frames <= MOST_FRAMES:
        raise ConfigError(f"expected frames in 2..{MOST_FRAMES}, got {frames!r}")
    drawn, _, render = frames_of(pyramid, start)
    one, other = (drawn(generator_for(seed, 0)) for seed in (seed_from, seed_to))

    def way() -> Iterator[Latent]:
        for i in range(frames):
            angle = math.pi / 2 * i / (frames - 1)
            weights = (1.0, 0.0) if i == 0 else (0.0, 1.0) if i == frames - 1 else (math.cos(angle), math.sin(angle))
            yield [weights[0] * a + weights[1] * b for a, b in zip(one, other, strict=True)]

    with torch.no_grad(), one_thread():
        return to_unit(rendered(way(), render))
