"""Steps, rates and windows as functions of config, scale and progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import EllipsisType

import torch

from singan_aug._registry import Registry
from singan_aug.config import Schedule
from singan_aug.pyramid.sizes import Size

__all__ = ["RATES", "Window", "crop_window", "learning_rate", "scale_steps"]

Window = tuple[EllipsisType, slice, slice]  # the last two are rows and columns

RATES: Registry[Callable[[float, Schedule], float]] = Registry("decay")


@RATES.register("step")
def _step(progress: float, schedule: Schedule) -> float:
    return schedule.learning_rate_drop if progress >= schedule.learning_rate_drop_at else 1.0


@RATES.register("cosine")
def _cosine(progress: float, schedule: Schedule) -> float:
    # Loshchilov & Hutter 2017, eq. 5, without restarts, down to the factor `learning_rate_drop`.
    low = schedule.learning_rate_drop
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def learning_rate(step: int, steps: int, schedule: Schedule) -> float:
    """The rate of step 0..steps-1."""
    return schedule.learning_rate * RATES[schedule.decay](step / steps, schedule)


def scale_steps(scale: int, schedule: Schedule) -> int:
    """Iterations at a scale."""
    return schedule.steps_coarsest if scale == 0 else schedule.steps_finer


def crop_window(size: Size, crop_px: int, generator: torch.Generator) -> Window:
    """A random window of at most crop_px x crop_px; all of it where `crop_px` is 0 or not smaller."""
    windows = []
    for side in size:
        kept = min(side, crop_px or side)
        start = int(torch.randint(side - kept + 1, (1,), generator=generator, device="cpu")) if kept < side else 0
        windows.append(slice(start, start + kept))
    return ..., windows[0], windows[1]
