"""A store of very many pyramids: what a list, a look-up and a check of it cost."""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._result import RESULTS, Row, say, spread, write
from singan_aug import fast, fit
from singan_aug.images.descriptor import DESCRIPTOR_BYTES, make_descriptor
from singan_aug.lookup import PerceptualIndex
from singan_aug.store import DirectoryStore, Manifest, make_key

SIDE_PX = 48  # of the image that all entries hold: 10 KB of weights each
REPEATS = 3
ADDED = 100  # entries, afterwards

LOOK_UP = """
import sys, time
import numpy as np
from numba.core.registry import cpu_target
import singan_aug.transforms._source
from singan_aug.lookup import PerceptualIndex, _compiled
from singan_aug.store import open_store
cpu_target.target_context.refresh()
def own_mb():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024
image = np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
index = PerceptualIndex(open_store(sys.argv[1]))
before, started, process = own_mb(), time.perf_counter(), time.process_time()
len(index)
opened, opened_mb = time.perf_counter() - started, own_mb() - before
index.find(image)
print(opened, opened_mb, time.perf_counter() - started, time.process_time() - process, own_mb() - before)
"""


TOLD = """
import atexit, resource, runpy, sys
def tell():
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    print("\\n", sum(each.ru_utime + each.ru_stime for each in spent), lines["VmHWM"].split()[0], file=sys.stderr)
atexit.register(tell)
runpy.run_module("singan_aug", run_name="__main__", alter_sys=True)
"""


def make_store(place: Path, entries: int) -> DirectoryStore:
    """One pyramid under many keys, each with a descriptor of its own."""
    store = DirectoryStore(place)
    pixels = np.asarray(Image.effect_noise((SIDE_PX, SIDE_PX), 60).convert("RGB"))
    config = fast(coarsest_px=24)
    store.save(make_key(pixels, config), fit(pixels, config), name="0.png")
    make_entries(place, range(1, entries), seed=0)
    return store


def make_entries(place: Path, numbers: range, seed: int) -> None:
    """Copies of one that is there, under other keys and with other descriptors."""
    rng, store = np.random.default_rng(seed), DirectoryStore(place)
    manifest = store.manifest(next(store.keys()))
    weights = (place / "pyramids" / manifest.key[:2] / manifest.key / "pyramid.safetensors").read_bytes()
    for number in numbers:
        fingerprint = rng.bytes(16).hex()
        small = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        seen = make_descriptor(np.asarray(Image.fromarray(small).resize((60, 60), Image.Resampling.BICUBIC)))
        assert len(seen) == DESCRIPTOR_BYTES
        changes = {"fingerprint": fingerprint, "key": f"{fingerprint}{manifest.key[32:]}", "name": f"{number}.png"}
        other = Manifest(**{**dict(manifest), **changes, "descriptor": base64.b64encode(seen.tobytes()).decode()})
        entry = place / "pyramids" / fingerprint[:2] / other.key
        entry.mkdir(parents=True)  # not by `save`, which syncs each file to the disk
        (entry / "pyramid.safetensors").write_bytes(weights)
        (entry / "manifest.json").write_text(other.to_json())
        if number % 10_000 == 0:
            say(f"{number} of {numbers.stop} entries")


def run(*arguments: str) -> tuple[float, float, float, float, float]:
    """Of a command: seconds and processor seconds to the second line, and in all; MB at most."""
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen([sys.executable, "-c", TOLD, *arguments], stdout=subprocess.PIPE, stderr=told) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        first_sec = time.perf_counter() - started
        used = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        first_process_sec = sum(map(int, used)) / os.sysconf("SC_CLK_TCK")
        for _ in process.stdout:
            pass
        process.wait()
        all_sec = time.perf_counter() - started
        told.seek(0)
        process_sec, peak_kb = told.read().splitlines()[-1].split()
    return first_sec, first_process_sec, all_sec, float(process_sec), int(peak_kb) / 1024


def _command(name: str, store: DirectoryStore, *arguments: str, repeats: int = REPEATS, state: str) -> Row:
    runs = [run(*arguments, "--store", store.location) for _ in range(repeats)]
    names = ("first_row_sec", "first_row_process_sec", "all_sec", "process_sec", "peak_mb")
    return {"what": name, "state": state, **{n: spread(v) for n, v in zip(names, zip(*runs, strict=True), strict=True)}}


def _look_up(store: DirectoryStore, state: str, repeats: int) -> Row:
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", LOOK_UP, store.location], capture_output=True, text=True, check=True
        )
        runs.append([float(word) for word in done.stdout.split()])
    names = ("open_sec", "open_own_mb", "all_sec", "process_sec", "own_mb")
    figures = {name: spread(values) for name, values in zip(names, zip(*runs, strict=True), strict=True)}
    return {"what": "index opened, first look-up of a changed image", "state": state, **figures}


def _added(place: Path, count: int) -> Row:
    """What the index writes when so many images are added."""
    files = {path: path.stat().st_ino for path in (place / "derived" / "perceptual-index-2").rglob("*")}
    make_entries(place, range(count), seed=1)
    started = time.process_time()
    PerceptualIndex(DirectoryStore(place)).refresh()
    spent = time.process_time() - started
    after = [path for path in (place / "derived" / "perceptual-index-2").rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in after if files.get(path) != path.stat().st_ino)
    return {
        "what": f"{count} images added to the index",
        "state": "index",
        "process_sec": spread([spent]),
        "bytes_written": written,
    }


def _ls_first(store: DirectoryStore) -> Row:
    for file in (Path(store.location) / "derived").glob("catalogue*"):
        file.unlink()
    return _command("ls", store, "ls", repeats=1, state="no catalogue yet")


def _read(place: Path) -> Row:
    """What reading all files, and nothing else, takes: the least that a check of them can take."""
    started, before = time.perf_counter(), time.process_time()
    total = sum(len(path.read_bytes()) for path in (place / "pyramids").rglob("*") if path.is_file())
    sec = {"all_sec": spread([time.perf_counter() - started]), "process_sec": spread([time.process_time() - before])}
    return {"what": "all files read", "state": "by Python", "bytes": total, **sec}


def _measured(place: Path) -> dict[str, Callable[[], Row]]:
    """What each part gives, in the order in which they are measured."""
    store, jobs = DirectoryStore(place), str(os.cpu_count())
    return {
        "index made": lambda: _look_up(store, "no index yet", 1),
        "index": lambda: _look_up(store, "index", REPEATS),
        "added": lambda: _added(place, ADDED),
        "ls first": lambda: _ls_first(store),
        "ls": lambda: _command("ls", store, "ls", state="catalogue"),
        "ls --json": lambda: _command("ls --json", store, "ls", "--json", state="catalogue"),
        "read": lambda: _read(place),
        "verify": lambda: _command("verify", store, "verify", "--jobs", "1", repeats=1, state="one process"),
        "verify side by side": lambda: _command(
            "verify", store, "verify", "--jobs", jobs, repeats=1, state=f"{jobs} processes"
        ),
    }


def main() -> None:
    """Make a store, measure, write results/store.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to make it, and leave it; a temporary folder by default")
    parser.add_argument("--parts", nargs="+", choices=_measured(Path()), help="rows of others stay as they are")
    options = parser.parse_args()
    path = RESULTS / "store.json"
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary) / "store"
        if not place.exists():
            make_store(place, options.entries)
        if not options.parts:
            shutil.rmtree(place / "derived", ignore_errors=True)
        parts = options.parts or list(_measured(place))
        for name in parts:
            load = round(os.getloadavg()[0], 1)  # processes that wanted a core: seconds grow with it
            row = {"part": name, "entries": options.entries, "load": load, **_measured(place)[name]()}
            kept = json.loads(path.read_text())["rows"] if path.exists() else []
            say(json.dumps(row))
            write("store", [*(each for each in kept if each["part"] != name), row], seeds=[0])


if __name__ == "__main__":
    main()
