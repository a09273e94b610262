"""SIFID of the package beside an independent implementation, on the samples of other programs.

`--photos` names a folder with `real` and folders of samples beside it, named as their photos are; `--metrics` one that
holds inception_stem.safetensors. Every photo is also compared with the next one: pairs that are far apart.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks._fid import fid_stem, sifid_by_scipy
from benchmarks._photos import images_in, opened, unit
from benchmarks._result import Row, say, spread, write
from singan_aug.metrics import InceptionStem, sifid

LAYERS = (64, 192)
OTHERS = 12  # photos that are compared with the next one


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--result", type=Path, metavar="FILE", help="instead of results/sifid.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = pairs_in(options.photos)
    if not sets:
        parser.error(f"expected a folder real and folders of samples beside it in {options.photos}")
    weights = options.metrics / "inception_stem.safetensors"
    rows = [_row(name, pairs, weights, channels) for channels in LAYERS for name, pairs in sets.items()]
    write("sifid", rows, seeds=[], path=options.result)


def pairs_in(folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """(photo, sample) of each program, and of photos and the next photo."""
    if not (folder / "real").is_dir():
        return {}
    real = {path.stem: path for path in images_in(folder / "real")}
    sets = {
        each.name: [(real[path.stem], path) for path in images_in(each) if path.stem in real]
        for each in sorted(folder.iterdir())
        if each.is_dir() and each.name != "real"
    }
    photos = list(real.values())[: OTHERS + 1]
    sets["another photo"] = list(pairwise(photos))
    return {name: pairs for name, pairs in sets.items() if pairs}


def _row(name: str, pairs: list[tuple[Path, Path]], weights: Path, channels: int) -> Row:
    own, other = InceptionStem.load(weights, channels), fid_stem(weights, channels)
    ours = [float(sifid(unit(opened(real)), unit(opened(fake)), own)) for real, fake in pairs]
    theirs = [sifid_by_scipy(real, fake, other) for real, fake in pairs]
    apart = np.abs(np.subtract(ours, theirs)) / np.array(theirs)
    say(f"{name}, {channels} channels: {np.mean(ours):.4f} and {np.mean(theirs):.4f}, apart {apart.max():.1e}")
    row: Row = {"what": name, "channels": channels, "pairs": len(pairs), "sifid": spread(ours)}
    row |= {"sifid_independent": spread(theirs)}
    row |= {"mean": round(float(np.mean(ours)), 4), "mean_independent": round(float(np.mean(theirs)), 4)}
    return row | {"largest_relative_difference": float(f"{apart.max():.2g}")}


if __name__ == "__main__":
    main()
