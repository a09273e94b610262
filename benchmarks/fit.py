"""What a fit costs: presets at several sizes, and the paper's recipe timed per scale in the same run.

How cost and memory grow is measured in a fresh process for each size, on one photo that is enlarged where it has to be.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._memory import peak_bytes
from benchmarks._result import Row, say, spread, write
from singan_aug import FitConfig, Pyramid, draw, fast, fit, make_key, open_store, paper, reconstruct
from singan_aug.presets import PRESETS, preset

PACKAGED = Path(__file__).parent.parent / "singan_aug" / "photos"
PAPER_ITERATIONS = 2  # timed at each scale, then multiplied by the recipe's steps


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=PACKAGED)
    parser.add_argument("--limit", type=int, default=6, help="photos to fit at each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 250], help="long sides in pixels")
    cheap = sorted(set(PRESETS) - {"paper"})
    parser.add_argument("--presets", nargs="+", choices=cheap, default=cheap)
    parser.add_argument(
        "--growth", type=int, nargs="+", default=[64, 96, 128, 192, 256, 384, 512], help="long sides in pixels"
    )
    parser.add_argument("--growth-presets", nargs="+", choices=sorted(PRESETS), default=["fast"])
    parser.add_argument("--repeats", type=int, default=5, help="fits of each size in a fresh process")
    parser.add_argument("--no-paper", action="store_true", help="leave the paper's recipe out (it takes minutes)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in options.photos.iterdir() if p.suffix.lower() in {".jpg", ".png"})[: options.limit]
    fit(_opened(paths[0]), fast(finest_px=48))  # warm-up
    rows = [_row_of_preset(name, paths, size) for name in options.presets for size in options.sizes]
    if not options.no_paper:
        rows += [_row_of_paper(paths[0], max(options.sizes), rows)]
    for name in options.growth_presets:
        rows += _rows_of_growth(name, paths[0], options.growth, options.repeats)
    write("fit", rows, seeds=[0])


def _opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _row_of_preset(name: str, paths: list[Path], size: int) -> Row:
    config = preset(name, finest_px=size)
    measured: dict[str, list[float]] = {"process_sec": [], "stored_bytes": [], "draw_ms": [], "reconstruction_rmse": []}
    for path in paths:
        image = _opened(path)
        started_sec = time.process_time()
        pyramid = fit(image, config)
        measured["process_sec"].append(time.process_time() - started_sec)
        measured["stored_bytes"].append(_stored_bytes(image, config, pyramid))
        measured["draw_ms"].append(_draw_ms(pyramid))
        measured["reconstruction_rmse"].append(_reconstruction_rmse(image, pyramid))
        say(f"{name} {size} px {path.name}: {measured['process_sec'][-1]:.1f} process-seconds")
    return {"what": name, "size_px": size, "photos": len(paths)} | {k: spread(v) for k, v in measured.items()}


def _rows_of_growth(name: str, path: Path, sizes: list[int], repeats: int) -> list[Row]:
    """One row a size, and how the logarithm of the cost rises with that of the pixels: 1 is in proportion."""
    rows: list[Row] = []
    for size in sizes:
        with get_context("spawn").Pool(1) as fresh:
            pixels, process_sec, peak_bytes = fresh.apply(_measured, (name, path, size, repeats))
        what = f"{name}, in a fresh process"
        row = {"what": what, "size_px": size, "pixels": pixels, "process_sec": spread(process_sec)}
        rows.append(row | {"peak_memory_bytes": peak_bytes})
        say(f"{name} {size} px: {rows[-1]['process_sec']['median']:.3f} process-seconds, {peak_bytes / 1e6:.0f} MB")
    costs = [row["process_sec"]["median"] for row in rows]
    slope = np.polyfit(np.log([row["pixels"] for row in rows]), np.log(costs), 1)[0] if len(rows) > 1 else float("nan")
    peak_bytes = max(row["peak_memory_bytes"] for row in rows)
    say(f"{name}: log-log slope {slope:.2f}, at most {peak_bytes / 1e6:.0f} MB")
    what = f"{name}, {sizes[0]} to {sizes[-1]} px"
    return [*rows, {"what": what, "log_log_slope": round(float(slope), 3), "peak_memory_bytes": peak_bytes}]


def _measured(name: str, path: Path, size: int, repeats: int) -> tuple[int, list[float], int]:
    """Pixels, process seconds of each fit, and the most memory that this process ever held, imports included."""
    torch.set_num_threads(1)
    image = _opened(path)
    ratio = size / max(image.size)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.LANCZOS)
    config = preset(name, finest_px=size)
    times = []
    for _ in range(repeats + 1):  # the first warms up
        started_sec = time.process_time()
        fit(image, config)
        times.append(time.process_time() - started_sec)
    return image.width * image.height, times[1:], peak_bytes()


def _stored_bytes(image: Image.Image, config: FitConfig, pyramid: Pyramid) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return float(open_store(folder).save(make_key(image, config), pyramid).weights_bytes)


def _draw_ms(pyramid: Pyramid, repeats: int = 5) -> float:
    draw(pyramid, 1, seed=0)
    started_sec = time.process_time()
    for seed in range(repeats):
        draw(pyramid, 1, seed=seed)
    return (time.process_time() - started_sec) / repeats * 1000


def _reconstruction_rmse(image: Image.Image, pyramid: Pyramid) -> float:
    """Of the range: root mean squared error in [0, 1]."""
    height, width = pyramid.size
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    real = (
        torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(height, width, 3).movedim(-1, 0) / 255
    )
    return float((reconstruct(pyramid)[0] - real).square().mean().sqrt())


def _row_of_paper(path: Path, size: int, others: list[Row]) -> Row:
    config = paper(finest_px=size)
    ends: list[float] = []

    def note(event: Any) -> None:
        if event.step == event.steps:
            ends.append(time.process_time())
            say(f"paper {size} px: scale {event.scale + 1} of {event.scales} timed")

    started_sec = time.process_time()
    fit(_opened(path), config.replace(steps_coarsest=PAPER_ITERATIONS, steps_finer=PAPER_ITERATIONS), on_event=note)
    per_iteration = [(b - a) / PAPER_ITERATIONS for a, b in zip([started_sec, *ends[:-1]], ends, strict=True)]
    total = sum(per_iteration) * config.leaves()["steps_finer"]
    return {
        "what": "paper",
        "size_px": size,
        "photos": 1,
        "iteration_sec_per_scale": [round(value, 4) for value in per_iteration],
        "process_sec_extrapolated": round(total, 1),
    } | {
        f"times_the_cost_of_{row['what']}": round(total / row["process_sec"]["median"], 1)
        for row in others
        if row["size_px"] == size
    }


if __name__ == "__main__":
    main()
