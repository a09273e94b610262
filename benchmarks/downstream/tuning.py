"""Chooses the strength of elastic deformation, and of variants preset and start scale, on training images alone.

Of the pool one half, in the order of names, gives the images that are trained on and the other half those that are
looked at, then the other way round. Both get the same number of candidates and of runs, each on top of turns. The test
images are not looked at. What comes out is declared in protocol.py, before the suite runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks._result import RESULTS, Row, say, write
from benchmarks.downstream.protocol import SUITES
from singan_aug.trial.cells import train_cell
from singan_aug.trial.data import Labelled, read
from singan_aug.trial.protocol import Protocol
from singan_aug.trial.workshop import Workshop

__all__ = ["ELASTIC", "VARIANTS", "halves"]

ELASTIC = ((60.0, 5.0), (120.0, 5.0), (250.0, 10.0), (500.0, 10.0), (1000.0, 20.0), (2000.0, 20.0))
# alpha and sigma: displacements of 1, 2, 2, 4, 4 and 8 px (standard deviation)
VARIANTS = ("coarse", "medium", "fine", "smooth_coarse", "smooth_medium", "smooth_fine")
IMAGES, SEEDS = 5, 2


def main() -> None:
    """Parse, train every candidate on both halves, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.downstream.tuning", description=__doc__)
    parser.add_argument("--suite", choices=[name for name, suite in SUITES.items() if suite.crop_px], required=True)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the sets")
    parser.add_argument("--work", type=Path, default=Path("build/tuning"), metavar="DIR", help="what is kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    protocol = replace(SUITES[options.suite], seeds=SEEDS, splits=1, images_per_class=(IMAGES,), elastic=(0.0, 1.0))
    folds = list(halves(read(protocol, options.data / protocol.data)))
    candidates: list[tuple[str, Protocol]] = [
        *((f"turns+{source}", protocol) for source in VARIANTS),
        *(("turns_elastic", replace(protocol, elastic=strength)) for strength in ELASTIC),
    ]
    rows: list[Row] = []
    for arm, candidate in candidates:
        cells = []
        for i, fold in enumerate(folds):
            workshop = Workshop(candidate, fold, None, options.work / options.suite / str(i))
            cells.append(train_cell(arm, IMAGES, 0, workshop))
        row: Row = {"what": "candidate", "arm": arm, "images": IMAGES}
        if arm == "turns_elastic":
            row |= {"alpha": candidate.elastic[0], "sigma_px": candidate.elastic[1]}
        rows.append(row | {"dice": [value for cell in cells for value in cell["dice"]]})
        say(f"{arm} {candidate.elastic}: Dice {100 * np.mean(rows[-1]['dice']):.2f}")
    path = RESULTS / "downstream" / "tuning" / f"{options.suite}.json"
    write("downstream.tuning", rows, seeds=list(range(SEEDS)), path=path)


def halves(labelled: Labelled) -> Iterator[Labelled]:
    """The pool as a set of its own, twice: one half to train on, the other to test on."""
    middle = len(labelled.pool) // 2
    parts = [slice(0, middle), slice(middle, None)]
    for trained, tested in (parts, parts[::-1]):
        yield Labelled(
            labelled.classes,
            labelled.pool[trained],
            labelled.pool_labels[trained],
            labelled.pool[tested],
            labelled.pool_labels[tested],
        )


if __name__ == "__main__":
    main()
