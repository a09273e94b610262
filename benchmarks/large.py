"""What a variant of a large image costs at its own resolution: time a pixel and memory, beside elastic deformations.

The image is a packaged photo, enlarged, with noise of single pixels. Each arm and size is a process of its own; its
memory is the most that it held beyond what it held before the first call, the image itself included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import singan_aug
from benchmarks._memory import peak_bytes
from benchmarks._result import Row, say, spread, write
from singan_aug import SinGANAugment, fit, make_key, open_store
from singan_aug.images import Pixels
from singan_aug.presets import preset

PHOTO = Path(singan_aug.__file__).parent / "photos" / "landscape.jpg"
OURS = {"SinGANAugment, fast": "fast", "SinGANAugment, smooth": "smooth"}
ARMS = [*OURS, "A.ElasticTransform", "v2.ElasticTransform"]
SIDES = (250, 1024, 2048, 4096)  # long side
NOISE = 6.0  # levels


def main() -> None:
    """Fit, measure each in its own process, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as store:
        for side in options.sides:
            pixels = _photo(side)
            np.save(Path(store, f"{side}.npy"), pixels)
            for arm in ARMS:
                folder = Path(store, f"{OURS.get(arm)}-{side}")
                if arm in OURS:
                    config = preset(OURS[arm])
                    open_store(str(folder)).save(make_key(pixels, config), fit(pixels, config))
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    seconds, memory_bytes = pool.apply(
                        _measured, (arm, Path(store, f"{side}.npy"), str(folder), options.repeats)
                    )
                count = pixels.shape[0] * pixels.shape[1]
                row: Row = {"what": arm, "long_side_px": side, "megapixels": round(count / 1e6, 3)}
                row["process_ns_a_px"] = spread([each / count * 1e9 for each in seconds])
                rows.append(row | {"memory_bytes_a_px": round(memory_bytes / count, 1)})
                say(
                    f"{side} px, {arm}: {row['process_ns_a_px']['median']:.0f} ns, {memory_bytes / count:.0f} B a pixel"
                )
    write("large", rows, seeds=list(range(options.repeats)))


def _photo(side: int) -> Pixels:
    photo = Image.open(PHOTO).convert("RGB")
    large = np.asarray(photo.resize((side, round(side * photo.height / photo.width)), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).normal(0, NOISE, (*large.shape[:2], 1))
    return np.clip(np.rint(large + noise), 0, 255).astype(np.uint8)


def _measured(arm: str, photo: Path, store: str, repeats: int) -> tuple[list[float], float]:
    """Process seconds of each call, and bytes beyond those that a small image takes."""
    torch.set_num_threads(1)
    augment, seconds = _made(arm, store), []
    if arm not in OURS:
        augment(_photo(64))  # what libraries load and compile
    before = peak_bytes(anew=True)
    pixels = np.load(photo)
    for i in range(-1, repeats):  # the first is not counted
        torch.manual_seed(i + 1)
        started_sec = time.process_time()
        augment(pixels)
        if i >= 0:
            seconds.append(time.process_time() - started_sec)
    return seconds, peak_bytes() - before


def _made(arm: str, store: str) -> Callable[[Pixels], Any]:
    if arm == "A.ElasticTransform":
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations
        import cv2

        cv2.setNumThreads(1)
        elastic = albumentations.ElasticTransform(alpha=120, sigma=6, p=1.0)
        return lambda pixels: elastic(image=pixels)["image"]
    from torchvision.transforms import v2

    transform = v2.ElasticTransform(120.0, 6.0) if arm not in OURS else SinGANAugment(store=store, p=1.0)
    if arm in OURS:
        _warm()
    return lambda pixels: transform(Image.fromarray(pixels))


def _warm() -> None:
    """Compile and load what a draw needs, on a small image of another store."""
    with tempfile.TemporaryDirectory() as other:
        pixels, config = _photo(96), preset("fast", finest_px=64)
        open_store(other).save(make_key(pixels, config), fit(pixels, config))
        SinGANAugment(store=other, p=1.0)(Image.fromarray(pixels))


if __name__ == "__main__":
    main()
