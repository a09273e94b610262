"""Fitter: how one kind of pyramid comes to be, and what is told of it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from singan_aug._registry import Registry
from singan_aug.config import FitConfig
from singan_aug.pyramid.scale import Scale
from singan_aug.pyramid.sizes import Size

__all__ = ["FITTERS", "FitEvent", "Fitter", "Report", "ScaleWork", "fit_load", "fit_work"]

STEP_MACS = 5e7  # multiply-adds that take as long as the fixed cost of a step, on one core


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


@dataclass(frozen=True)
class ScaleWork:
    """What one scale of a fit takes."""

    steps: int
    step_macs: float  # multiply-adds of everything that one step passes through a network

    @property
    def load(self) -> float:
        """Steps weighted by what one costs, for progress and estimates: dispatching a step costs about STEP_MACS."""
        return self.steps * (STEP_MACS + self.step_macs)


Report = Callable[[int, int, Mapping[str, float]], None]  # (scale, steps done there, losses)


class Fitter(Protocol):
    """Makes the scales of one kind of pyramid."""

    def work(self, size: Size, channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
        """What a fit to an image of this working size takes, for each scale, coarsest first."""

    def fit(
        self,
        real: Tensor,  # [1, C, H, W] in [-1, 1] at the working size, on the device to fit on
        config: FitConfig,
        attempt: int,  # decides the random generators, beside the config's seed
        report: Report,
    ) -> tuple[Scale, ...]:
        """The fitted scales, coarsest first. Raises `FitDivergedError`, `ConfigError`."""


FITTERS: Registry[Fitter] = Registry("kind of pyramid")


def fit_work(size: Size, channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
    """What a fit to an image of this working size takes, for each scale, coarsest first."""
    return FITTERS[config.kind].work(size, channels, config)


def fit_load(size: Size, channels: int, config: FitConfig) -> float:
    """The same as one number, for forecasts: all its steps, weighted by what each costs."""
    return sum(scale.load for scale in fit_work(size, channels, config))
