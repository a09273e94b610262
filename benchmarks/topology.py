"""Whether thin structures stay whole: topology of masks that variants carry, beside the source's, by start scale.

clDice (Shit et al. 2021) against the source in place falls where a structure breaks and where it moves; the other
figures are of the carried mask alone, as shares of the source's, so that moving costs nothing. Needs scikit-image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._result import Row, say, spread, write
from benchmarks.downstream.protocol import SUITES
from singan_aug import fit
from singan_aug.images import Pixels
from singan_aug.presets import PRESETS, preset
from singan_aug.pyramid import trace
from singan_aug.trial.data import read
from singan_aug.trial.protocol import Protocol
from singan_aug.trial.views import strengthened

__all__ = ["Topology", "cl_dice", "topology"]

DRAWS = 2  # from each start scale of each image
SMALLEST_PX = 9  # area from which a part or a hole counts
Bits = NDArray[np.bool_]
Topology = dict[str, float]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topology", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the sets")
    parser.add_argument("--suites", nargs="+", choices=sorted(SUITES), default=["membranes", "vessels"])
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=["fast", "smooth", "best"])
    parser.add_argument("--images", type=int, default=6, help="so many of each set, evenly spread")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in options.suites:
        protocol = SUITES[name]
        pool = read(protocol, options.data / protocol.data).pool
        images = [pool[i] for i in np.linspace(0, len(pool) - 1, options.images).round().astype(int)]
        measured: dict[tuple[str, int], list[Topology]] = {}
        for i, image in enumerate(images):
            source = image[..., 3] > 0
            for key, mask in _carried(image, options.presets, protocol, i):
                measured.setdefault(key, []).append(_beside(mask, source))
            say(f"{name}: image {i + 1} of {len(images)}")
        for (made_by, start), found in sorted(measured.items()):
            row: Row = {"what": "topology", "set": protocol.data, "made_by": made_by, "start_scale": start}
            rows.append(row | {key: spread([each[key] for each in found]) for key in found[0]})
    write("topology", rows, seeds=[0])


def _carried(
    image: Pixels, presets: list[str], protocol: Protocol, seed: int
) -> Iterator[tuple[tuple[str, int], Bits]]:
    """Masks by what they were made with: presets from every start scale, and elastic deformation."""
    for name in presets:
        pyramid = fit(image, preset(name, **protocol.fit))
        for start in range(len(pyramid)):
            masks = trace(pyramid, DRAWS, start, seed=seed).masks
            assert masks is not None
            yield from (((name, start), mask.numpy() > 0) for mask in masks)
    still = replace(protocol, flips=False, quarter_turns=False)
    for view in strengthened(np.repeat(image[None], DRAWS, 0), "turns_elastic", still, (seed,)):
        yield (f"elastic, alpha {protocol.elastic[0]:g}, sigma {protocol.elastic[1]:g}", 0), view[..., 3] > 0


def _beside(mask: Bits, source: Bits) -> Topology:
    ours, theirs = topology(mask), topology(source)
    return {"cl_dice": cl_dice(mask, source)} | {f"{key}_ratio": ours[key] / max(theirs[key], 1) for key in ours}


def topology(mask: Bits) -> Topology:
    """Parts of a mask (joined at corners too), holes that it encloses, and loose ends of its skeleton."""
    from scipy.ndimage import convolve
    from skimage.measure import label, regionprops
    from skimage.morphology import skeletonize

    skeleton = skeletonize(mask)
    neighbours = convolve(skeleton.astype(np.int32), np.ones((3, 3), np.int32), mode="constant") - 1
    parts, holes = (
        sum(region.area >= SMALLEST_PX for region in regionprops(label(bits, connectivity=reach)))
        for bits, reach in ((mask, 2), (~mask, 1))
    )
    return {"parts": float(parts), "holes": float(holes), "ends": float((skeleton & (neighbours == 1)).sum())}


def cl_dice(mask: Bits, source: Bits) -> float:
    """Harmonic mean of the share of each skeleton that lies in the other mask."""
    from skimage.morphology import skeletonize

    shares = [
        (skeletonize(one) & other).sum() / max(1, skeletonize(one).sum())
        for one, other in ((mask, source), (source, mask))
    ]
    return float(2 * shares[0] * shares[1] / max(sum(shares), 1e-9))


if __name__ == "__main__":
    main()
