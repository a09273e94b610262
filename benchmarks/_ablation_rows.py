"""Rows of the result of `benchmarks.ablation`, out of its cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._arms import ARMS, BASES, QUESTIONS
from benchmarks._result import Row, spread
from singan_aug.trial.statistics import paired

__all__ = ["Arms", "rows_of", "with_kept"]

EXTRAS = {"schedule": ("gradient norm",), "noise": ("learned factor of the noise",)}  # rows that go with a question's
COLLAPSED = 0.1  # of the base's median diversity for the same photo
NOTHING = 1e-4  # added before logarithms: SIFID of a copy is 0


def _place(cell: Row) -> tuple[str, int]:
    return cell["photo"], cell["seed"]


@dataclass(frozen=True)
class Arms:
    """Cells by arm."""

    cells: dict[str, list[Row]]

    @classmethod
    def of(cls, cells: Sequence[Row], names: Iterable[str]) -> Arms:
        """These arms, with the photos and seeds that all of them have: a run that was stopped has more of some."""
        arms: dict[str, list[Row]] = {name: [cell for cell in cells if cell["arm"] == name] for name in names}
        common = set.intersection(*({_place(cell) for cell in own} for own in arms.values()))
        return cls({arm: sorted((c for c in own if _place(c) in common), key=_place) for arm, own in arms.items()})

    @property
    def places(self) -> list[tuple[str, int]]:
        """The photos and seeds of each arm."""
        return [_place(cell) for cell in next(iter(self.cells.values()))]

    def values(self, arm: str, where: str, measure: str, start: int = 0) -> dict[str, list[float]]:
        """Of each photo, over its seeds; fits that diverged have none."""
        values: dict[str, list[float]] = {}
        for cell in self.cells[arm]:
            if where in cell and start < len(cell[where][measure]):
                values.setdefault(cell["photo"], []).append(cell[where][measure][start])
        return values

    def mean(self, arm: str, where: str, measure: str, start: int = 0) -> float:
        """Over photos, of their means over seeds."""
        return round(float(np.mean([np.mean(own) for own in self.values(arm, where, measure, start).values()])), 4)

    def ratio(self, arm: str, where: str, measure: str) -> dict[str, float]:
        """To the base: the geometric mean over photos, and its 95 % interval (Student's t, paired by photo)."""
        base = ARMS[arm].base
        of_photos = [
            {photo: float(np.mean(np.log(np.add(own, NOTHING)))) for photo, own in values.items()}
            for values in (self.values(each, where, measure) for each in (arm, base))
        ]
        photos = [photo for photo in of_photos[1] if photo in of_photos[0]]
        if arm == base or len(photos) < 2:
            return {"ratio": 1.0, "low": 1.0, "high": 1.0}
        found = paired(*([logs[photo] for photo in photos] for logs in of_photos))
        bounds = {"ratio": found.mean, "low": found.low, "high": found.high}
        return {name: round(float(np.exp(value)), 3) for name, value in bounds.items()}

    def deviation(self, arm: str) -> float | None:
        """Of the logarithm of SIFID over the seeds of a photo, mean over photos: how much is chance; None of one."""
        values = self.values(arm, "finest", "sifid").values()
        spreads = [np.std(np.log(np.add(own, NOTHING)), ddof=1) for own in values if len(own) > 1]
        return round(float(np.mean(spreads)), 3) if spreads else None

    def failed(self, arm: str) -> tuple[float, float]:
        """The shares of fits that diverged and of those that collapsed."""
        usual = {photo: np.median(own) for photo, own in self.values(ARMS[arm].base, "generated", "diversity").items()}
        cells = self.cells[arm]
        diverged = sum(bool(cell["diverged"]) for cell in cells)
        collapsed = sum(
            cell["generated"]["diversity"][0] < COLLAPSED * usual[cell["photo"]]
            for cell in cells
            if "generated" in cell
        )
        return round(diverged / len(cells), 3), round(collapsed / len(cells), 3)


def rows_of(cells: Sequence[Row]) -> list[Row]:
    """A row for each question and arm, for each start scale of the bases, and for each scale's gradients.

    A question has rows once each of its arms was fitted to two photos or more.
    """
    rows: list[Row] = []
    for question, own in QUESTIONS.items():
        arms = Arms.of(cells, own.values())
        if len({photo for photo, _ in arms.places}) > 1:
            rows += [_row(arms, question, label, arm) for label, arm in own.items()]
            if question == "schedule":
                rows += [row for label, arm in own.items() for row in _gradients(arms, label, arm)]
            if question == "noise":
                rows += _gains(arms)
    for base in BASES:
        arms = Arms.of(cells, [base])
        if len({photo for photo, _ in arms.places}) > 1:
            rows += _unfrozen(arms, base)
    return rows


def with_kept(rows: Sequence[Row], last: Row) -> list[Row]:
    """The rows, those of questions with more fits in the last result replaced by that one's, which say its commit."""
    kept = list(rows)
    for question in QUESTIONS:
        own, other = (_asking(question, each) for each in (rows, last["rows"]))
        if other and (not own or other[0]["runs"] > own[0]["runs"]):
            whats = (question, *EXTRAS.get(question, ()))
            kept = [row for row in kept if row["what"] not in whats]
            kept += [{"commit": last["commit"]} | row for row in last["rows"] if row["what"] in whats]
    bases = {row["arm"] for row in rows if row["what"] == "unfrozen"}
    kept += [
        {"commit": last["commit"]} | row
        for row in last["rows"]
        if row["what"] == "unfrozen" and row["arm"] not in bases
    ]
    return kept


def _asking(question: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["what"] == question]


def _row(arms: Arms, question: str, label: str, arm: str) -> Row:
    cells = arms.cells[arm]
    diverged, collapsed = arms.failed(arm)
    row: Row = {
        "what": question,
        "arm": label,
        "photos": len({cell["photo"] for cell in cells}),
        "runs": len(cells),
        "steps": cells[0]["steps"],
    }
    row["fit_sec"] = spread([cell["fit_sec"] for cell in cells])
    row["sifid"] = spread([value for own in arms.values(arm, "finest", "sifid").values() for value in own])
    row |= {f"sifid_mean_{start}": arms.mean(arm, "finest", "sifid", start) for start in range(ARMS[arm].scales)}
    row |= _flat("sifid", arms.ratio(arm, "finest", "sifid"))
    for where in ("finest", "generated"):
        row |= {f"{measure}_{where}": arms.mean(arm, where, measure) for measure in ("incoherence", "diversity")}
    row |= _flat("diversity", arms.ratio(arm, "finest", "diversity"))
    row["sifid_generated"] = arms.mean(arm, "generated", "sifid")
    row |= _flat("sifid_generated", arms.ratio(arm, "generated", "sifid"))
    return row | {"seed_deviation": arms.deviation(arm), "diverged": diverged, "collapsed": collapsed}


def _flat(measure: str, ratio: dict[str, float]) -> Row:
    return {f"{measure}_{name}": value for name, value in ratio.items()}


def _unfrozen(arms: Arms, base: str) -> list[Row]:
    """What a base draws from each start scale."""
    count = max((len(cell["finest"]["sifid"]) for cell in arms.cells[base] if "finest" in cell), default=0)
    return [
        {"what": "unfrozen", "arm": base, "start_scale": start}
        | {name: arms.mean(base, "finest", name, start) for name in ("sifid", "diversity")}
        for start in range(count)
    ]


def _gradients(arms: Arms, label: str, arm: str) -> list[Row]:
    """Norms of each scale's gradient in the course of each stage: median and quartiles over fits."""
    seen: dict[tuple[int, int], list[list[float]]] = {}
    for cell in arms.cells[arm]:
        for stage, scale, norms in cell.get("norms", ()):
            seen.setdefault((stage, scale), []).append(norms)
    rows: list[Row] = []
    for (stage, scale), norms in seen.items():
        low, middle, high = (_digits(values) for values in np.percentile(norms, [25, 50, 75], axis=0))
        row = {"what": "gradient norm", "arm": label, "stage": stage, "scale": scale}
        rows.append(row | {"median": middle, "q25": low, "q75": high})
    return rows


def _digits(values: Any) -> list[float]:
    return [float(f"{value:.3g}") for value in values]


def _gains(arms: Arms) -> list[Row]:
    """By what each finer generated scale learned to multiply its noise."""
    learned = [cell["gains"] for cell in arms.cells.get("noise learned", ()) if cell.get("gains")]
    return [
        {"what": "learned factor of the noise", "scale": scale, "factor": spread(own)}
        for scale, own in enumerate(zip(*learned, strict=True), start=1)
    ]
