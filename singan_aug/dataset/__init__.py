"""A pyramid for every image of a dataset: walk folders, fit what is missing side by side, resume after interruption."""

from singan_aug.dataset._choose import Choice
from singan_aug.dataset._events import Event, FitReport, OnEvent, Outcome, Plan, Progress, Todo, Waiting, counts
from singan_aug.dataset._find import Found, find_images
from singan_aug.dataset._fit import WAIT_SEC, fit_dataset
from singan_aug.dataset._log import JsonLog
from singan_aug.dataset._plan import plan_dataset
from singan_aug.dataset._processes import choose_jobs
from singan_aug.dataset._shard import read_shard

__all__ = [
    "WAIT_SEC",
    "Choice",
    "Event",
    "FitReport",
    "Found",
    "JsonLog",
    "OnEvent",
    "Outcome",
    "Plan",
    "Progress",
    "Todo",
    "Waiting",
    "choose_jobs",
    "counts",
    "find_images",
    "fit_dataset",
    "plan_dataset",
    "read_shard",
]
