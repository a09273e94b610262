"""Paired differences between arms: t intervals over splits, and Holm's correction over datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Difference", "holm", "paired"]


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its 95 % interval by Student's t, and the p-value of no difference."""

    mean: float
    low: float
    high: float
    p_value: float


def paired(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Of two measures of the same splits, each the mean over seeds: seeds of one split are no independent pairs.

    Two splits at least; where all differences are equal the interval is a point.
    """
    differences = np.subtract(one, other)
    mean = float(differences.mean())
    if np.ptp(differences) < 1e-12:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    result = stats.ttest_1samp(differences, 0.0)
    interval = result.confidence_interval(0.95)
    return Difference(mean, float(interval.low), float(interval.high), float(result.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): each at most 0.05 where its hypothesis is rejected at 5 % over all."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    worst = 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return [float(value) for value in adjusted]
