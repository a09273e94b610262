"""Panoramas by `tasks.sample`: seconds, memory a pixel, and how even they are where copies of the source meet."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from multiprocessing import get_context

import torch

from benchmarks._memory import peak_bytes
from benchmarks._photos import opened
from benchmarks._redrawn import PHOTOS
from benchmarks._result import Row, spread, write
from singan_aug import fit, tasks
from singan_aug.presets import PRESETS
from singan_aug.pyramid.sizes import Size
from singan_aug.tasks.sampling import OVERLAP, copies

WIDE = (250, 3000)
WIDER = (250, 9000)  # beside it: what memory grows by


def main() -> None:
    """Measure, write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panorama", description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["fast", "learned"], choices=sorted(PRESETS))
    write("panorama", _rows(parser.parse_args().presets), seeds=[0])


def _rows(names: Sequence[str]) -> list[Row]:
    """For each measurement a process whose memory is its own."""
    sizes = (WIDE, WIDER)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        rows = pool.map(_panorama, names, chunksize=1)
        peaks = pool.map(_panorama_peak, [(name, size) for name in names for size in sizes], chunksize=1)
    for row, peak, wider in zip(rows, peaks[::2], peaks[1::2], strict=True):
        row["peak_mb"] = round(peak / 1e6)
        row["bytes_a_pixel"] = round((wider - peak) / (math.prod(WIDER) - math.prod(WIDE)), 1)
    return rows


def _panorama(name: str) -> Row:
    """What a wide canvas takes, and how even it is from column to column: where the copies of the source that it is
    laid out with fade into each other, and elsewhere."""
    torch.set_num_threads(1)
    pyramid = fit(opened(PHOTOS / "landscape.jpg"), PRESETS[name]())
    tasks.sample(pyramid, 1, (64, 96), start_scale=1)  # what is compiled
    started_sec = time.process_time()
    made = tasks.sample(pyramid, 1, WIDE, start_scale=1)
    row: Row = {"what": "panorama", "of": name, "size": f"{WIDE[1]}x{WIDE[0]}"}
    row["process_sec"] = round(time.process_time() - started_sec, 2)
    steps = (made[..., 1:] - made[..., :-1]).abs().mean((0, 1, 2)) * 255  # from each column to the next
    near = torch.zeros(len(steps), dtype=torch.bool)
    for first, last in joins(WIDE, pyramid.size):
        near[first:last] = True
    row |= {"column_step": spread(steps.tolist()), "column_step_max": round(float(steps.max()), 2)}
    return row | {"column_step_at_joins": spread(steps[near].tolist())}


def joins(size: Size, own: Size) -> list[tuple[int, int]]:
    """Where copies of a source fade into each other, on a canvas so large: first column, and the one after the last."""
    _, times = copies(size, own)
    px = size[1] / (times - (times - 1) * OVERLAP)  # of a copy
    starts = [px * (1 - OVERLAP) * k for k in range(1, times)]
    return [(round(start), round(start + px * OVERLAP)) for start in starts]


def _panorama_peak(what: tuple[str, Size]) -> int:
    """The most bytes that a process holds which fits a pyramid and samples a canvas of that size."""
    torch.set_num_threads(1)
    name, size = what
    tasks.sample(fit(opened(PHOTOS / "landscape.jpg"), PRESETS[name]()), 1, size, start_scale=1)
    return peak_bytes()


if __name__ == "__main__":
    main()
