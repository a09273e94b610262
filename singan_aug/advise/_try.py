"""A small trial on the user's own data: the protocol of the benchmark, as many choices of images as the time allows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from singan_aug.advise._look import look
from singan_aug.advise._network import Build, Network, built, check_network
from singan_aug.errors import ConfigError
from singan_aug.trial.cells import train_cell
from singan_aug.trial.data import Labelled, read, read_for_crops
from singan_aug.trial.protocol import Protocol
from singan_aug.trial.statistics import Cells, accuracies, differences, from_best, measures_of
from singan_aug.trial.workshop import Workshop

__all__ = ["Outcome", "try_out"]

LEAST_SPLITS, MOST_SPLITS = 3, 10  # choices of images
COUNTS = (2, 5, 10, 20)
CROP_PX, CLASS_PX = 128, 64
CLASSES = Protocol(
    "own", "", "scratch", (), seeds=1, views=32, width=16, steps=200, batch=32, learning_rate=3e-3
)  # of the benchmark's suites from scratch, in fewer steps
MASKS = Protocol(  # that of the benchmark's membranes
    "own",
    "",
    "masks",
    (),
    crop_px=CROP_PX,
    ordered=0.4,
    pool_per_class=40,
    seeds=1,
    views=32,
    width=16,
    steps=200,
    batch=4,
    learning_rate=1e-2,
    fit={"finest_px": 1024},
)


@dataclass(frozen=True)
class Outcome:
    """What a trial found."""

    measure: str  # accuracy or dice, in per cent
    images: int  # of a class, that were trained on
    splits: int  # choices of them
    tested: int  # images that were tested on
    reached: dict[str, float]  # by each arm
    changes: tuple[dict[str, Any], ...]  # difference, low, high in points, of each arm with variants: `arm`, `base`
    from_best: tuple[dict[str, Any], ...]  # the same, from the best arm without
    process_sec: float


def try_out(
    folder: Path | str,
    *,
    minutes: float = 10.0,
    per_class: int | None = None,
    network: Network | None = None,
    work: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Train with and without variants on a folder's own images, and compare.

    A part of the images is kept apart to test on: of classes those under test/ or val/, else 40 %, near-twins on one
    side; of images with masks the last 40 % in the order of their names, and one left out before them.

    Args:
        folder: a folder for each class, or images/ and masks/ of the same names.
        minutes: wall time, about; three choices of training images are made at least, ten at most.
        per_class: images of each class to train on; by default the most of 2, 5, 10, 20 of which three choices differ.
        network: what is trained: the name of a model of timm; a torch module, of which each run trains a copy with the
            weights it has; or a function of (channels, classes) that builds one. Of images [N, C, H, W] in [-1, 1] it
            gives logits [N, classes], for masks [N, 1, H, W]. By default the small ones of the benchmark.
        work: a folder in which an interrupted trial is taken up again; by default nothing is kept.
        say: told of progress.

    Raises `ImageError` for a folder that holds no such set, `ConfigError` where it is too small, scipy is absent, or
    the network does not fit the images.
    """
    started_sec, started_cpu_sec = time.monotonic(), time.process_time()
    protocol, labelled = _protocol(Path(folder))
    most = int(np.bincount(labelled.pool_labels).min())
    count = per_class or max((each for each in COUNTS if each < most), default=0)
    if not 0 < count < most:
        raise ConfigError(
            f"expected more images to train on than the {count or COUNTS[0]} of each choice, got {most} of the "
            "smallest class: name fewer, or add images"
        )
    build = None
    if network is not None:
        protocol, build = _with_network(protocol, labelled, network)
    cells: Cells = {(arm, count): [] for arm in protocol.arms}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() if work is None else nullcontext(str(work)) as kept:
            workshop = Workshop(protocol, labelled, None, Path(kept), build=build)
            for split in range(MOST_SPLITS):
                for arm in protocol.arms:
                    cells[arm, count].append(train_cell(arm, count, split, workshop))
                spent = time.monotonic() - started_sec
                say(f"choice {split + 1} of the images: {spent:.0f} s")
                if split + 1 >= LEAST_SPLITS and spent * (split + 2) / (split + 1) > 60 * minutes:
                    break
    finally:
        torch.set_num_threads(threads)
    return _outcome(cells, count, len(labelled.test), time.process_time() - started_cpu_sec)


def _protocol(folder: Path) -> tuple[Protocol, Labelled]:
    sight = look(folder)
    if not sight.masks:
        chosen = "smooth_fine" if sight.composition == "fixed" else "fine"
        arms = ("none", "flip_crop", "trivial", f"none+{chosen}", f"trivial+{chosen}")
        side = max(16, min(CLASS_PX, *sight.size) // 8 * 8)
        protocol = replace(CLASSES, data=folder.name, arms=arms, size_px=side)
        return protocol, read(protocol, folder)
    if not all((folder / name).is_dir() for name in ("images", "masks")):
        raise ConfigError(
            f"expected images/ and masks/ of the same names in {folder}, to train on: `singan-aug export "
            "--layout masks --variants 0` writes such a folder of any annotations"
        )
    chosen = "smooth_fine" if sight.composition == "thin structures" else "fine"
    arms = ("none", "turns", "turns_affine", f"none+{chosen}", f"turns+{chosen}")
    protocol = replace(MASKS, data=folder.name, arms=arms)
    return read_for_crops(protocol, folder)


def _with_network(protocol: Protocol, labelled: Labelled, network: Network) -> tuple[Protocol, Build]:
    masks = protocol.model == "masks"
    name, build = built(network, masks=masks)
    height, width, channels = labelled.test[0].shape
    sizes = {(height, width)}
    if protocol.crop_px is not None:
        sizes.add((protocol.crop_px, protocol.crop_px))
    channels, outputs = (3, 1) if masks else (channels, len(labelled.classes))
    check_network(build, channels, outputs, tuple(sorted(sizes)), masks=masks)
    return replace(protocol, network=name), build


def _outcome(cells: Cells, count: int, tested: int, process_sec: float) -> Outcome:
    some = next(iter(cells.values()))
    measure = "dice" if "dice" in measures_of(some) else "accuracy"
    cells = {key: [{**each, **_mean_dice(each)} for each in of_splits] for key, of_splits in cells.items()}
    return Outcome(
        measure,
        count,
        len(some),
        tested,
        {row["arm"]: row[measure] for row in accuracies(cells)},
        tuple(row for row in differences(cells) if row["measure"] == measure and "+" in row["arm"]),
        tuple(from_best(cells, measure)),
        round(process_sec, 1),
    )


def _mean_dice(cell: dict[str, Any]) -> dict[str, Any]:
    return {} if cell["dice"] is None else {"dice": float(np.mean(cell["dice"]))}
