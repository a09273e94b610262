"""What a fit takes, and what is told of it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["FitEvent", "Report", "ScaleWork"]

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
