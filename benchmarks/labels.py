"""How far labels would be off if they stayed in place: on photos with masks, the carried mask beside the source's."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks._result import Row, say, spread, write
from singan_aug import fast, fit
from singan_aug.pyramid import trace

SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 1.0)  # of the short side: limits between the rows by displacement
DRAWS = 2  # at each start scale of each photo


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and masks/ of the same names")
    parser.add_argument("--every", type=int, default=4, help="take every so many photos")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured: list[tuple[int, float, float, float]] = []  # start scale, displacement share, IoU of masks, of boxes
    for path in sorted((options.data / "images").iterdir())[:: options.every]:
        mask = np.asarray(Image.open(options.data / "masks" / f"{path.stem}.png")) > 0
        measured += _measured(Image.open(path).convert("RGB"), mask)
        say(path.name)
    starts = sorted({start for start, *_ in measured})
    rows: list[Row] = [
        {"what": "by start scale", "start_scale": start, **_row([each for each in measured if each[0] == start])}
        for start in starts
    ]
    for low, high in pairwise(SHARES):
        inside = [each for each in measured if low <= each[1] < high]
        if inside:
            rows.append({"what": "by displacement", "displacement_of_short_side": f"{low} to {high}", **_row(inside)})
    write("labels", rows, seeds=[0])


def _measured(image: Image.Image, figure: NDArray[np.bool_]) -> list[tuple[int, float, float, float]]:
    pyramid = fit(image, fast(), mask=figure)
    rows, columns = (torch.arange(side) for side in pyramid.size)
    still = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    whole = pyramid.carried_mask(still)
    assert whole is not None
    source = whole > 0
    found = []
    for start in range(len(pyramid)):
        share = pyramid.displacement_px[start] / min(pyramid.size)
        carried = trace(pyramid, DRAWS, start).masks
        assert carried is not None
        for mask in carried > 0:
            found.append((start, share, _overlap(mask, source), _overlap(_box(mask), _box(source))))
    return found


def _overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum().clamp_min(1))


def _box(mask: Tensor) -> Tensor:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    box = torch.zeros_like(mask)
    if len(rows):
        box[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1] = True
    return box


def _row(measured: list[tuple[int, float, float, float]]) -> Row:
    _, shares, masks, boxes = zip(*measured, strict=True)
    return {"displacement_ratio": spread(shares), "mask_iou": spread(masks), "box_iou": spread(boxes)}


if __name__ == "__main__":
    main()
