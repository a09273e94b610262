"""One cell of a trial: an arm, a number of images, a choice of them; all seeds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.trial.data import choose
from singan_aug.trial.protocol import Arm, Protocol, parse_arm
from singan_aug.trial.training import Batches, Sets, train_head, train_masks, train_scratch
from singan_aug.trial.workshop import Workshop

__all__ = ["train_cell"]


def _counts(protocol: Protocol, count: int, split: int, classes: int) -> list[int]:
    """Training images of each class."""
    if not protocol.rare:
        return [count] * classes
    return [count if c == split % classes else protocol.majority for c in range(classes)]


def train_cell(name: str, count: int, split: int, workshop: Workshop) -> dict[str, Any]:
    """All seeds of an arm on one choice of training images, or what they gave before."""
    protocol = workshop.protocol
    return workshop.cell(f"{name}__{count}__{split}__{protocol.seeds}", lambda: _train(name, count, split, workshop))


def _train(name: str, count: int, split: int, workshop: Workshop) -> dict[str, Any]:
    """All seeds of an arm on one choice of training images."""
    protocol, labelled = workshop.protocol, workshop.labelled
    arm, classes = parse_arm(name), len(labelled.classes)
    chosen = choose(labelled.pool_labels, _counts(protocol, count, split, classes), split)
    replaceable = np.ones(len(labelled.pool), dtype=bool)
    if protocol.rare:
        replaceable = labelled.pool_labels == split % classes
    sets = {
        (strong, source): workshop.views(strong, source, chosen if source is None else chosen[replaceable[chosen]])
        for strong, source in arm.sets
    }
    test = workshop.test()
    started_sec = time.process_time()
    starts = [1000 * split + i for i in range(protocol.seeds)]
    batches = [Batches(arm, chosen, labelled.pool_labels, replaceable, protocol, seed) for seed in starts]
    dice = None
    if protocol.model == "frozen":
        scores = train_head(sets, batches, test, classes, protocol) == labelled.test_labels
    else:
        runs = [_run(sets, each, test, workshop, arm, seed) for each, seed in zip(batches, starts, strict=True)]
        scores = np.stack([run[0] for run in runs])
        dice = np.stack([run[1] for run in runs]) if protocol.model == "masks" else None
    per_class = [scores[:, labelled.test_labels == c].mean(1) for c in range(classes)]
    return {
        "split": split,
        "accuracies": [round(float(value), 5) for value in scores.mean(1)],
        "accuracy": float(scores.mean()),
        "per_class": [round(float(values.mean()), 5) for values in per_class],
        "dice": None if dice is None else [round(float(value), 5) for value in dice.mean(1)],
        "rare": float(per_class[split % classes].mean()) if protocol.rare else None,
        "train_sec": round((time.process_time() - started_sec) / protocol.seeds, 3),
    }


def _run(sets: Sets, batches: Batches, test: Tensor, workshop: Workshop, arm: Arm, seed: int) -> NDArray[np.float64]:
    """What a network trained from scratch scores on each test image, [1, T]: 0 or 1; or, [2, T]: IoU and Dice."""
    protocol, labelled = workshop.protocol, workshop.labelled
    if protocol.model == "masks":
        return train_masks(sets, batches, test, protocol, seed, arm.strong, workshop.build)
    classes, cutmix = len(labelled.classes), arm.strong == "cutmix"
    right = (
        train_scratch(sets, batches, test, classes, protocol, seed, cutmix=cutmix, build=workshop.build)
        == labelled.test_labels
    )
    return np.asarray(right.astype(float))[None]
