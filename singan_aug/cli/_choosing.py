"""The options of `fit` that choose among the images: representatives, balance, and a budget of time."""

from __future__ import annotations

import re
from pathlib import Path

from singan_aug import dataset
from singan_aug.config import FitConfig
from singan_aug.display import duration, say
from singan_aug.errors import ConfigError

__all__ = ["budget_sec", "choice_of", "tell_budget"]

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TIME = re.compile("".join(rf"(?:(\d{{1,6}}(?:\.\d+)?){unit})?" for unit in _SECONDS))


def budget_sec(text: str | None) -> float | None:
    """Seconds of 2h, 90m or 1h30m. Raises `ConfigError`."""
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    seconds = sum(float(n) * s for n, s in zip(match.groups(), _SECONDS.values(), strict=True) if n) if match else 0.0
    if not seconds:
        raise ConfigError(f"expected --budget such as 2h, 90m or 1h30m, got {text!r}")
    return seconds


def choice_of(
    representatives: int | None, class_balance: bool, embeddings: Path | None, limit_sec: float | None
) -> dataset.Choice | None:
    """None where nothing is to be chosen. Raises `ConfigError`."""
    if representatives is None and not class_balance and limit_sec is None:
        if embeddings is not None:
            raise ConfigError("expected --representatives, --class-balance or --budget beside --embeddings")
        return None
    return dataset.Choice(representatives, class_balance, embeddings)


def tell_budget(plan: dataset.Plan, limit_sec: float, config: FitConfig, jobs: int | None) -> None:
    """Say for how many of the images the time will do."""
    from singan_aug.estimate import estimate  # imports torch

    forecast = estimate(plan, config, jobs=jobs)
    count = len(plan.todo)
    if forecast.wall_sec > limit_sec:
        count = max(1, int(count * limit_sec / forecast.wall_sec))
    say(f"about {count} of {len(plan.todo)} images to fit within {duration(limit_sec)}, by an estimate")
