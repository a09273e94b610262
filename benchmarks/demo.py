"""What a user waits for: the demo, skipping what is fitted, starting the command line. Wall seconds, idle machine."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks._result import Row, say, spread, write
from singan_aug import fast, fit, make_key, open_store

COMMAND = [sys.executable, "-m", "singan_aug"]
PRESENT = 1000


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows: list[Row] = [{"what": "demo", "wall_sec": _wall(["demo", "--out", str(place / "demo")])}]
        say(f"demo: {rows[0]['wall_sec']:.1f} s")
        repeats = range(options.repeats)
        rows += [{"what": "start: singan-aug --help", "wall_sec": spread([_wall(["--help"]) for _ in repeats])}]
        rows += [_row_of_present(place, size_px, options.repeats) for size_px in (64, 250)]
    write("demo", rows, seeds=[0], threads=os.cpu_count() or 1)


def _wall(arguments: list[str]) -> float:
    started_sec = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started_sec


def _row_of_present(place: Path, size_px: int, repeats: int) -> Row:
    """1,000 images with a pyramid each: what `fit` takes to find that nothing is to be done."""
    photos, cache = place / f"photos{size_px}", place / f"store{size_px}"
    photos.mkdir()
    store = open_store(cache)
    config = fast()
    noise = Image.effect_noise((size_px, size_px), 60).convert("RGB")
    pyramid = fit(noise.resize((32, 32)), config)
    numbers = random.Random(0)
    for i in range(PRESENT):
        path = photos / f"{i}.png"
        noise.putpixel((numbers.randrange(size_px), numbers.randrange(size_px)), (i % 256, i // 256, 0))
        noise.save(path)
        store.save(make_key(noise, config), pyramid, name=path.name)
    say(f"{PRESENT} images of {size_px} px stored")
    times = [_wall(["fit", str(photos), "--store", str(cache)]) for _ in range(repeats)]
    return {"what": f"fit: {PRESENT} images already there", "size_px": size_px, "wall_sec": spread(times)}


if __name__ == "__main__":
    main()
