"""Steps and rates as pure functions of config, scale and progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from singan_aug._registry import Registry
from singan_aug.config import FitConfig

__all__ = ["RATES", "learning_rate", "scale_steps"]

RATES: Registry[Callable[[float, FitConfig], float]] = Registry("schedule")


@RATES.register("step")
def _step(progress: float, config: FitConfig) -> float:
    return config.learning_rate_drop if progress >= config.learning_rate_drop_at else 1.0


@RATES.register("cosine")
def _cosine(progress: float, config: FitConfig) -> float:
    # Loshchilov & Hutter 2017, eq. 5, without restarts, down to the factor `learning_rate_drop`.
    low = config.learning_rate_drop
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def learning_rate(step: int, steps: int, config: FitConfig) -> float:
    """The rate of step 0..steps-1."""
    return config.learning_rate * RATES[config.schedule](step / steps, config)


def scale_steps(scale: int, config: FitConfig) -> int:
    """Iterations at a scale."""
    return config.steps_coarsest if scale == 0 else config.steps_finer
