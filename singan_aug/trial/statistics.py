"""What cells say: accuracies, paired differences with t intervals over splits, Holm's correction over sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from singan_aug.errors import ConfigError
from singan_aug.trial.protocol import PLAIN_PASTE, parse_arm

__all__ = [
    "Cells",
    "Difference",
    "accuracies",
    "cells_of",
    "deciding",
    "difference",
    "differences",
    "from_best",
    "holm",
    "measures_of",
    "paired",
]

Row = dict[str, Any]
Cells = dict[tuple[str, int], list[dict[str, Any]]]  # of an arm and a count, one for each split


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
    try:
        from scipy import stats
    except ModuleNotFoundError:
        raise ConfigError('intervals need scipy: pip install "singan-aug[choose]"') from None
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


def cells_of(result: Mapping[str, Any]) -> Cells:
    """The cells of a result that was written."""
    cells: Cells = {}
    for row in result["rows"]:
        if row["what"] == "cell":
            cell = {**row, "accuracy": float(np.mean(row["accuracies"]))}
            if row.get("dice"):  # of each seed
                cell["dice"] = float(np.mean(row["dice"]))
            cells.setdefault((row["arm"], row["images"]), []).append(cell)
    return cells


def measures_of(of_splits: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What was measured, by the name of what cells hold it in."""
    found = {"accuracy": "accuracy", "rare_class": "rare", "dice": "dice"}
    return {measure: key for measure, key in found.items() if of_splits[0].get(key) is not None}


def accuracies(cells: Cells) -> list[Row]:
    """In per cent; the deviation is that of the splits' means."""
    rows = []
    for (arm, count), of_splits in cells.items():
        values = 100 * np.array([cell["accuracy"] for cell in of_splits])
        per_class = 100 * np.mean([cell["per_class"] for cell in of_splits], axis=0)
        row: Row = {"what": "accuracy", "arm": arm, "images": count, "accuracy": round(float(values.mean()), 2)}
        row |= {"deviation": round(float(values.std(ddof=1)), 2), "worst_class": round(float(per_class.min()), 2)}
        for measure, key in measures_of(of_splits).items():
            if measure != "accuracy":
                row[measure] = round(100 * float(np.mean([cell[key] for cell in of_splits])), 2)
        rows.append(row)
    return rows


def differences(cells: Cells) -> list[Row]:
    """Of each arm with variants from the same without, in points; and of arms without from no augmentation."""
    rows = []
    for (name, count), of_splits in cells.items():
        base = next((base for base in parse_arm(name).bases if (base, count) in cells), None)
        if base is None:
            continue
        against = cells[base, count]
        for measure in measures_of(of_splits):
            harm = 100 * np.subtract(
                np.mean([cell["per_class"] for cell in of_splits], 0),
                np.mean([cell["per_class"] for cell in against], 0),
            )
            row = difference(cells, measure, name, base, count)
            rows.append(row | {"worst_class": round(float(harm.min()), 2)})
    return rows


def from_best(cells: Cells, measure: str) -> list[Row]:
    """Of each arm with variants from the best classic one at the same number of images, of those that were measured.

    Plain pastes of other images' objects are classic too. The best is chosen by the very means that are compared, which
    flatters it.
    """
    rows = []
    for count in sorted({count for _, count in cells}):
        classic = [arm for arm, at in cells if at == count and parse_arm(arm).source in (None, PLAIN_PASTE)]
        if not classic:
            continue
        best = max(classic, key=lambda arm: np.mean(_values(cells[arm, count], measure)))
        ours = [arm for arm, at in cells if at == count and parse_arm(arm).source not in (None, PLAIN_PASTE)]
        rows += [difference(cells, measure, arm, best, count) for arm in ours]
    return rows


def difference(cells: Cells, measure: str, arm: str, base: str, count: int) -> Row:
    """Of one arm from another at the same number of images, in points, paired over splits."""
    found = paired(_values(cells[arm, count], measure), _values(cells[base, count], measure))
    values = {"difference": found.mean, "low": found.low, "high": found.high}
    return (
        {"what": "difference", "measure": measure, "arm": arm, "base": base, "images": count}
        | {key: round(value, 2) for key, value in values.items()}
        | {"p_value": float(f"{found.p_value:.3g}")}
    )


def _values(of_splits: Sequence[Mapping[str, Any]], measure: str) -> list[float]:
    """Of each split, in points."""
    return [100 * cell[measures_of(of_splits)[measure]] for cell in of_splits]


def deciding(rows: Sequence[Row]) -> list[Row]:
    """Differences of the rare class where there is one, of Dice for masks where it was measured, else of accuracy."""
    measures = {row["measure"] for row in rows}
    deciding = next((measure for measure in ("rare_class", "dice") if measure in measures), "accuracy")
    return [row for row in rows if row["measure"] == deciding]
