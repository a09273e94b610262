"""Does it help? Trains with and without variants by a declared protocol, on pools of few images, and compares.

`--data` names a folder of labelled sets, of which a suite takes its own; `--own` any folder of folders of images, one
for each class (train/ and test/ inside it are used where they are; else near-twins are kept on one side), or of
images/ and masks/ of the same names. What was made is kept in `--work`, and an interrupted run goes on from there.
Needs scipy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from benchmarks import _gpnn
from benchmarks._result import RESULTS, Row, say, spread, write
from benchmarks.downstream import _paste
from benchmarks.downstream.lite0 import Lite0
from benchmarks.downstream.protocol import OWN_ARMS, OWN_MASKS, SUITES
from benchmarks.downstream.tables import section
from singan_aug.errors import SinGANAugError
from singan_aug.trial.cells import train_cell
from singan_aug.trial.data import Labelled, read, read_for_crops
from singan_aug.trial.protocol import OTHER_PRESETS, Arm, Protocol, parse_arm
from singan_aug.trial.statistics import Cells
from singan_aug.trial.views import PASTERS, SAMPLERS
from singan_aug.trial.workshop import Workshop


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train every cell that is not there yet, compare, write."""
    options = _options(arguments)
    torch.set_num_threads(1)
    SAMPLERS["gpnn"] = _gpnn.sample
    PASTERS.update(paste=_paste.plain, singan_paste=_paste.redrawn, variant_paste=_paste.of_variants)
    PASTERS.update(bent_paste=_paste.bent, kin=_paste.kin)
    protocol = _protocol(options)
    say(protocol.to_json())
    try:
        if options.own and protocol.model == "masks":
            protocol, labelled = read_for_crops(protocol, options.own)
        else:
            labelled = read(protocol, options.own or options.data / protocol.data)
    except SinGANAugError as error:
        raise SystemExit(str(error)) from None
    try:
        network = Lite0.load(options.weights) if protocol.model == "frozen" else None
    except (OSError, SafetensorError, KeyError) as error:
        raise SystemExit(f"{options.weights}: expected a safetensors file of EfficientNet-Lite0, got {error}") from None
    protocol = _affordable(protocol, labelled)
    workshop = Workshop(protocol, labelled, network, options.work / protocol.name, say)
    cells: Cells = {}
    for name in protocol.arms:
        for count in protocol.counts:
            cells[name, count] = [train_cell(name, count, split, workshop) for split in range(protocol.splits)]
            accuracies = [cell["accuracy"] for cell in cells[name, count]]
            say(f"{name}, {count} images: {100 * np.mean(accuracies):.1f} % ({_rare_text(cells[name, count])})")
        workshop.release()
    rows = [{"what": "protocol", "protocol": protocol.to_json(), "classes": list(labelled.classes)}]
    rows += _runs(cells) + _costs(workshop)
    out = options.out or RESULTS / "downstream" / f"{protocol.name}.json"
    write("downstream", rows, seeds=list(range(protocol.seeds)), path=out)
    print(section(protocol.name, json.loads(out.read_text()), {}))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.downstream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", choices=sorted(SUITES), help="a declared protocol")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the sets that the suites are named for")
    parser.add_argument("--own", type=Path, metavar="FOLDER", help="your images, and some of the arms")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="EfficientNet-Lite0; without it --own is `scratch`"
    )
    parser.add_argument(
        "--arms", nargs="+", type=_arm, metavar="ARM", help="such as trivial, trivial+medium@0.25, none+fine#8"
    )
    parser.add_argument("--images", nargs="+", type=int, metavar="N", help="images per class")
    parser.add_argument("--size", type=int, metavar="PX", help="side that images are shrunk to")
    parser.add_argument("--splits", type=int, help="choices of training images, at least 2")
    parser.add_argument("--seeds", type=int, help="runs of each split")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the fast preset")
    parser.add_argument("--limit", type=int, help="steps of training at most: to try a suite out")
    parser.add_argument("--work", type=Path, default=Path("build/downstream"), metavar="DIR", help="what is kept")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the result; default results/downstream/SUITE.json")
    options = parser.parse_args(arguments)
    if (options.suite is None or options.data is None) == (options.own is None):
        parser.error("expected --suite NAME and --data DIR, or --own FOLDER")
    if options.suite and SUITES[options.suite].model == "frozen" and options.weights is None:
        parser.error(f"the suite {options.suite} needs --weights FILE of EfficientNet-Lite0 (a safetensors file)")
    if options.splits is not None and options.splits < 2:
        parser.error("expected 2 splits or more: differences are over splits")
    return options


def _arm(text: str) -> Arm:
    try:
        return parse_arm(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _protocol(options: argparse.Namespace) -> Protocol:
    if options.own is not None:
        name = options.own.resolve().name
        if all((options.own / part).is_dir() for part in ("images", "masks")):
            base = OWN_MASKS
        elif options.weights:
            base = replace(SUITES["scenes"], arms=OWN_ARMS, size_px=128)
        else:
            base = replace(SUITES["scenes-scratch"], arms=OWN_ARMS)
        protocol = replace(base, name=f"own-{name}", data=name)
    else:
        protocol = SUITES[options.suite]
    changes: dict[str, Any] = {"splits": options.splits, "seeds": options.seeds, "steps": options.limit}
    changes["size_px"] = options.size
    changes["arms"] = tuple(arm.name for arm in options.arms) if options.arms else None
    changes["rare" if protocol.rare else "images_per_class"] = tuple(options.images) if options.images else None
    changes["fit"] = {**protocol.fit, **{name: json.loads(value) for name, value in map(_setting, options.set)}}
    return replace(protocol, **{name: value for name, value in changes.items() if value is not None})


def _affordable(protocol: Protocol, labelled: Labelled) -> Protocol:
    """Without the counts for which a class has too few images to train on."""
    most = int(np.bincount(labelled.pool_labels).min())
    kept = tuple(count for count in protocol.counts if count <= most)
    if len(kept) < len(protocol.counts):
        say(f"a class has {most} images to train on: without {sorted(set(protocol.counts) - set(kept))} a class")
    if not kept:
        raise SystemExit(
            f"expected {min(protocol.counts)} images a class to train on, got {most}: name fewer by --images"
        )
    return replace(protocol, rare=kept) if protocol.rare else replace(protocol, images_per_class=kept)


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _runs(cells: Cells) -> list[Row]:
    return [
        {"what": "cell", "arm": arm, "images": count}
        | {name: cell[name] for name in ("split", "accuracies", "dice", "per_class", "rare", "train_sec")}
        for (arm, count), of_splits in cells.items()
        for cell in of_splits
    ]


def _costs(workshop: Workshop) -> list[Row]:
    """Of what these arms draw from: the folder may hold what others took."""
    sources = {arm.source for arm in map(parse_arm, workshop.protocol.arms) if arm.source}
    presets = {source.partition("_")[0] for source in sources} & set(OTHER_PRESETS)
    if any(source.partition("_")[0] not in OTHER_PRESETS for source in sources):
        presets.add("fast")
    names = {f"draw_ms_{source}" for source in sources} | {f"{source}_ms" for source in sources}
    for preset in presets:
        suffix = "" if preset == "fast" else f"_{preset}"
        names |= {f"fit_sec{suffix}", f"pyramid_bytes{suffix}"}
    costs = {name: values for name, values in workshop.costs.items() if name in names}
    return [{"what": "cost", "of": name, "spread": spread(values)} for name, values in costs.items()]


def _rare_text(of_splits: list[dict[str, Any]]) -> str:
    seconds = f"{np.mean([cell['train_sec'] for cell in of_splits]):.1f} process-seconds a run"
    rare = of_splits[0]["rare"]
    return seconds if rare is None else f"rare {100 * np.mean([c['rare'] for c in of_splits]):.1f} %, {seconds}"


if __name__ == "__main__":
    main()
