"""A store of very many pyramids: what a list, a look-up and a check of it cost."""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._result import Row, say, spread, write
from singan_aug import fast, fit
from singan_aug.images.descriptor import DESCRIPTOR_BYTES, make_descriptor
from singan_aug.store import DirectoryStore, Manifest, make_key

SIDE_PX = 48  # of the image that all entries hold: 10 KB of weights each
REPEATS = 3

LOOK_UP = """
import sys, time, resource
import numpy as np
import singan_aug.transforms._source, numba
from singan_aug.lookup import PerceptualIndex
from singan_aug.store import open_store
def private():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
before, started = private(), time.perf_counter()
index = PerceptualIndex(open_store(sys.argv[1]))
index.find(np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8))
print(time.perf_counter() - started, (private() - before) / 1024)
"""


def make_store(place: Path, entries: int) -> DirectoryStore:
    """One pyramid under many keys, each with a descriptor of its own."""
    store, rng = DirectoryStore(place), np.random.default_rng(0)
    pixels = np.asarray(Image.effect_noise((SIDE_PX, SIDE_PX), 60).convert("RGB"))
    config = fast(coarsest_px=24)
    key = make_key(pixels, config)
    manifest = store.save(key, fit(pixels, config), name="0.png")
    weights = (place / "pyramids" / str(key)[:2] / str(key) / "pyramid.safetensors").read_bytes()
    for number in range(1, entries):
        fingerprint = rng.bytes(16).hex()
        small = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        seen = make_descriptor(np.asarray(Image.fromarray(small).resize((60, 60), Image.Resampling.BICUBIC)))
        assert len(seen) == DESCRIPTOR_BYTES
        changes = {"fingerprint": fingerprint, "key": f"{fingerprint}-{key.digest}", "name": f"{number}.png"}
        other = Manifest(**{**dict(manifest), **changes, "descriptor": base64.b64encode(seen.tobytes()).decode()})
        entry = place / "pyramids" / fingerprint[:2] / other.key
        entry.mkdir(parents=True)  # not by `save`, which syncs each file to the disk
        (entry / "pyramid.safetensors").write_bytes(weights)
        (entry / "manifest.json").write_text(other.to_json())
        if number % 10_000 == 0:
            say(f"{number} of {entries} entries")
    return store


def run(*arguments: str) -> tuple[float, float, float, float]:
    """Seconds to the second line, seconds in all, processor seconds, and MB at most, of a command."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        first_sec = time.perf_counter() - started
        for _ in process.stdout:
            pass
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    spent = usage.ru_utime + usage.ru_stime
    del before
    return first_sec, time.perf_counter() - started, spent, usage.ru_maxrss / 1024


def _command(name: str, store: DirectoryStore, *arguments: str, repeats: int = REPEATS, state: str) -> Row:
    runs = [run("-m", "singan_aug", *arguments, "--cache", store.location) for _ in range(repeats)]
    names = ("first_row_sec", "all_sec", "process_sec", "peak_mb")
    return {"what": name, "state": state, **{n: spread(v) for n, v in zip(names, zip(*runs, strict=True), strict=True)}}


def _look_up(store: DirectoryStore, state: str, repeats: int) -> Row:
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", LOOK_UP, store.location], capture_output=True, text=True, check=True
        )
        runs.append([float(word) for word in done.stdout.split()])
    seconds, private_mb = zip(*runs, strict=True)
    return {
        "what": "first look-up of a changed image",
        "state": state,
        "all_sec": spread(seconds),
        "private_mb": spread(private_mb),
    }


def main() -> None:
    """Make a store, measure, write results/store.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to make it, and leave it; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary) / "store"
        store = make_store(place, options.entries)
        rows = [
            _command("ls", store, "ls", repeats=1, state="no catalogue yet"),
            _command("ls", store, "ls", state="catalogue"),
            _command("ls --json", store, "ls", "--json", state="catalogue"),
            _look_up(store, "no index yet", 1),
            _look_up(store, "index", REPEATS),
            _command("verify", store, "verify", repeats=1, state=""),
        ]
        rows = [{"entries": options.entries, **row} for row in rows]
        say(json.dumps(rows, indent=1))
        write("store", rows, seeds=[0])


if __name__ == "__main__":
    main()
