"""A forecast of what a run will take, before it starts."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

import numpy as np

from singan_aug.config import FitConfig
from singan_aug.dataset import Plan, Todo, choose_jobs
from singan_aug.fitting import fit, fit_load
from singan_aug.pyramid.pyramid import stored_bytes
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import make_key, open_store

__all__ = ["Estimate", "estimate"]

MANIFEST_BYTES = 4096  # with the weights file's header
TRIAL_LOAD = 3e10  # multiply-adds that take a few seconds
WORKER_START_SEC = 3.0  # starting processes and importing torch in them


@dataclass(frozen=True)
class Estimate:
    """A rough forecast: fits on this machine within about a factor of two."""

    process_sec: float  # of all fits together
    wall_sec: float  # with `jobs` side by side
    stored_bytes: int
    jobs: int


def estimate(plan: Plan, config: FitConfig, *, jobs: int | None = None) -> Estimate:
    """Time a few steps on one image of noise, and scale up by the work that each fit of the plan takes."""
    jobs = choose_jobs(plan.todo, config, jobs)
    if not plan.todo:
        return Estimate(0.0, 0.0, 0, jobs)
    loads = [fit_load(item.size, item.channels, config) for item in plan.todo]
    per_load = _seconds_per_load(plan.todo[loads.index(max(loads))], config)
    process_sec = sum(loads) * per_load
    wall_sec = max(process_sec / jobs, max(loads) * per_load) + (WORKER_START_SEC if jobs > 1 else 0.0)
    return Estimate(process_sec, wall_sec, sum(_stored_bytes(item, config) for item in plan.todo), jobs)


def _seconds_per_load(largest: Todo, config: FitConfig) -> float:
    """Process seconds that fitting and storing take for each unit of load, on noise of the largest image's size.

    Where a few steps at that size would take long, at half of it, or a quarter, ...
    """
    steps = {name: min(4, value) for name, value in config.leaves().items() if name.startswith("steps_")}
    brief = config.replace(**steps)
    height, width = largest.size
    while (
        fit_load((height, width), largest.channels, brief) > TRIAL_LOAD
        and min(height, width) >= 2 * config.sizes.coarsest_px
    ):
        height, width = height // 2, width // 2
    noise = np.random.default_rng(0).integers(0, 256, (height, width, largest.channels), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, one_thread():
        for _ in range(2):  # the first steps of a process are slower
            started_sec = time.process_time()
            open_store(folder).save(make_key(noise, brief), fit(noise, brief))
            spent_sec = time.process_time() - started_sec
    return spent_sec / fit_load((height, width), largest.channels, brief)


def _stored_bytes(item: Todo, config: FitConfig) -> int:
    mask_bytes = 0 if item.mask is None else item.size[0] * item.size[1]
    return stored_bytes(item.size, item.channels, config) + mask_bytes + MANIFEST_BYTES
