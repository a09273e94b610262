"""A forecast of what a run will take, before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import joblib
import numpy as np

from singan_aug.config import FitConfig
from singan_aug.dataset import Plan, Todo
from singan_aug.fitting import fit, fit_work
from singan_aug.pyramid.scale import KINDS

__all__ = ["Estimate", "estimate"]

MANIFEST_BYTES = 4096  # with the weights file's header


@dataclass(frozen=True)
class Estimate:
    """A rough forecast: fits on this machine within about a factor of two."""

    process_sec: float  # of all fits together
    wall_sec: float  # with `jobs` side by side
    stored_bytes: int
    jobs: int


def estimate(plan: Plan, config: FitConfig, *, jobs: int | None = None) -> Estimate:
    """Time a few steps on two small images, and scale up by the work that each fit of the plan takes."""
    jobs = min(jobs or joblib.cpu_count(), max(1, len(plan.todo)))
    if not plan.todo:
        return Estimate(0.0, 0.0, 0, jobs)
    load = sum(work.load for item in plan.todo for work in fit_work(item.size, item.channels, config))
    process_sec = load * _seconds_per_load(config)
    longest = max(sum(work.load for work in fit_work(i.size, i.channels, config)) for i in plan.todo) / load
    wall_sec = process_sec * max(1 / jobs, longest)
    return Estimate(process_sec, wall_sec, sum(_stored_bytes(item, config) for item in plan.todo), jobs)


def _seconds_per_load(config: FitConfig) -> float:
    side = max(2 * config.coarsest_px, 48)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    brief = config.replace(steps_coarsest=4, steps_finer=4, finest_px=max(side, config.coarsest_px))
    fit(noise, brief.replace(steps_coarsest=1, steps_finer=1))  # the first steps of a process are slower
    started_sec = time.process_time()
    fit(noise, brief)
    return (time.process_time() - started_sec) / sum(work.load for work in fit_work((side, side), 3, brief))


def _stored_bytes(item: Todo, config: FitConfig) -> int:
    return KINDS[config.kind].stored_bytes(config, item.channels, item.size) + MANIFEST_BYTES
