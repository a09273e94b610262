"""What a variant costs from each start scale, beside networks of SinGAN's size and beside exact GPNN; one thread.

GPNN's samples at the largest size would take most of an hour: they are extrapolated by the number of patch pairs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import _gpnn
from benchmarks._result import Row, say, spread, write
from singan_aug import Pyramid, draw, fit, paper
from singan_aug.presets import PRESETS, preset

PHOTO = Path(__file__).parent.parent / "singan_aug" / "photos" / "landscape.jpg"
SIZES = [(64, 64), (188, 250)]  # (height, width) at which draws are timed
PEER_SIZES = [(48, 64), (96, 128), (188, 250)]  # at which whole costs are compared
GPNN_TIMED = 2  # of these, the others are extrapolated from the last one timed
BATCH = 16


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    others = sorted(set(PRESETS) - {"paper"})
    parser.add_argument("--presets", nargs="+", choices=others, default=others)
    parser.add_argument("--repeats", type=int, default=15, help="draws of each kind that are timed")
    parser.add_argument("--no-gpnn", action="store_true", help="leave GPNN out (it takes minutes)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for size in SIZES:
        for name in options.presets:
            pyramid = fit(_photo(size), preset(name))
            rows += _rows_of_draws(name, pyramid, options.repeats)
        rows += _rows_of_draws("SinGAN-size networks", _singan_size(size), 1, last_start=0)
    if not options.no_gpnn:
        rows += _rows_beside_gpnn(options.presets, options.repeats)
    write("draw", rows, seeds=list(range(options.repeats)))


def _photo(size: tuple[int, int]) -> Image.Image:
    return Image.open(PHOTO).convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS)


def _singan_size(size: tuple[int, int]) -> Pyramid:
    """The paper's networks, after one cheap step each: what their weights are plays no part in what a draw costs."""
    brief = {"steps_coarsest": 1, "steps_finer": 1, "generator_updates": 1}
    # Over the source, so that nobody takes the draws of untrained networks for collapsed ones.
    return fit(_photo(size), paper(loss="sliced_wasserstein", anchor="blurred", learning_rate=1e-6, **brief))


def _rows_of_draws(what: str, pyramid: Pyramid, repeats: int, last_start: int = -1) -> list[Row]:
    """One row for each start scale up to `last_start`, all by default."""
    rows = []
    for start in range(len(pyramid))[: last_start + 1 or None]:
        one = _spent_ms(partial(_drawn, pyramid, 1, start), repeats)
        many = _spent_ms(partial(_drawn, pyramid, BATCH, start), min(3, repeats))
        rows.append(
            {
                "what": what,
                "size": "{}x{}".format(*pyramid.size),
                "start_scale": start,
                "draw_ms": spread(one),
                "draw_ms_each_of_16": spread([value / BATCH for value in many]),
            }
        )
        say(f"{what} {rows[-1]['size']} from scale {start}: {np.median(one):.1f} ms")
    return rows


def _drawn(pyramid: Pyramid, n: int, start: int, seed: int) -> Tensor:
    return draw(pyramid, n, start_scale=start, seed=seed)


def _rows_beside_gpnn(presets: list[str], repeats: int) -> list[Row]:
    rows, pair_sec = [], 0.0
    for i, size in enumerate(PEER_SIZES):
        label = "GPNN, exact"
        if i < GPNN_TIMED:
            signed = torch.from_numpy(np.array(_photo(size))).movedim(-1, 0)[None] / 127.5 - 1
            times = [spent / 1000 for spent in _spent_ms(_gpnn_sampler(signed), 3 if i == 0 else 1)]
            pair_sec = float(np.median(times)) / _gpnn.pairs(size)
        else:
            label += f", extrapolated from {'{}x{}'.format(*PEER_SIZES[GPNN_TIMED - 1])} by its patch pairs"
            times = [pair_sec * _gpnn.pairs(size)]
        peer_sec = float(np.median(times))
        rows.append({"what": label, "size": "{}x{}".format(*size), "sample_sec": spread(times)})
        say(f"{label} {size}: {peer_sec:.1f} s a sample")
        rows += [_row_of_whole_cost(name, size, peer_sec, repeats) for name in presets]
    return rows


def _gpnn_sampler(signed: Tensor) -> Callable[[int], object]:
    return lambda seed: _gpnn.sample(signed, torch.Generator().manual_seed(seed))


def _row_of_whole_cost(name: str, size: tuple[int, int], peer_sec: float, repeats: int) -> Row:
    """From how many variants on a fit and its draws are cheaper than as many samples of GPNN."""
    image, config = _photo(size), preset(name)
    fit_sec = [spent / 1000 for spent in _spent_ms(lambda _: fit(image, config), 5 if config.generated is None else 1)]
    brief = {name: 1 for name in config.leaves() if name.startswith("steps_")}
    pyramid = fit(image, config.replace(**brief))  # as expensive to draw from
    draw_ms = _spent_ms(lambda seed: draw(pyramid, 1, seed=seed), repeats)
    saved_sec = peer_sec - float(np.median(draw_ms)) / 1000
    return {
        "what": f"{name} beside GPNN",
        "size": "{}x{}".format(*size),
        "fit_sec": spread(fit_sec),
        "draw_ms": spread(draw_ms),
        "gpnn_sample_sec": round(peer_sec, 2),
        "cheaper_from_variants": max(1, math.ceil(float(np.median(fit_sec)) / saved_sec)) if saved_sec > 0 else None,
    }


def _spent_ms(work: Callable[[int], object], repeats: int) -> list[float]:
    """Process milliseconds of `work(seed)` for each seed, after a warm-up where it is repeated."""
    if repeats > 1:
        work(repeats)
    times = []
    for seed in range(repeats):
        started_sec = time.process_time()
        work(seed)
        times.append((time.process_time() - started_sec) * 1000)
    return times


if __name__ == "__main__":
    main()
