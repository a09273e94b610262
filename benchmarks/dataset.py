"""A whole dataset fitted: what each worker adds, what it holds, and what a million images would take."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image

from benchmarks._result import RESULTS, Row, say, spread, write
from singan_aug.dataset import find_images
from singan_aug.store import Listed, open_store

MANY = 1_000_000
REPEATS = 3
PRESETS = ("fast", "learned")
PUBLISHED_GPU_SEC = (
    1800  # "about 30 minutes" for 256 px on a 1080Ti: Shaham et al. 2019, supplementary material, sec. 7
)

FIT = """
import json, resource, sys
from singan_aug.dataset import fit_dataset
from singan_aug.presets import preset
if __name__ == "__main__":
    report = fit_dataset([sys.argv[1]], sys.argv[2], preset(sys.argv[3]), jobs=int(sys.argv[4]), apart=True)
    assert not report.failed, report.failed[0].message
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(sum(outcome.process_sec for outcome in report.outcomes), sum(each.ru_utime + each.ru_stime for each in spent))
"""


def copies(sources: list[Path], folder: Path, count: int, size_px: int) -> None:
    """So many images of one size, each of them another: a crop of one of the photos, a little further each time."""
    folder.mkdir(parents=True)
    photos = [Image.open(path).convert("RGB") for path in sources]
    for number in range(count):
        photo = photos[number % len(photos)]
        side = min(photo.size) - 1 - number // len(photos) % 64
        photo.crop((0, 0, side, side)).resize((size_px, size_px)).save(folder / f"{number}.png")


class Watched:
    """The largest memory of the processes that a process has started, looked at ten times a second."""

    def __init__(self, process: int) -> None:
        self.peak_mb = 0.0
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                except OSError:  # it has ended
                    continue
                if int(lines["PPid"]) == self._process and "VmHWM" in lines:
                    self.peak_mb = max(self.peak_mb, int(lines["VmHWM"].split()[0]) / 1024)

    def end(self) -> float:
        """MB."""
        self._ended.set()
        self._thread.join()
        return self.peak_mb


def fitted(images: Path, preset: str, workers: int) -> dict[str, float]:
    """One run in processes of its own: seconds, processor seconds in all and of the fits, MB a worker, bytes."""
    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        arguments = [sys.executable, "-c", FIT, str(images), store, preset, str(workers)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            watched = Watched(process.pid)
            out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"fitting by {preset} failed")
        fits_sec, process_sec = map(float, out.split())
        entries = [entry for entry in open_store(store).entries() if isinstance(entry, Listed)]
        stored = sum(file.stat().st_size for file in (Path(store) / "pyramids").rglob("*") if file.is_file())
    return {
        "wall_sec": time.perf_counter() - started,
        "process_sec": process_sec,
        "fits_process_sec": fits_sec,
        "worker_peak_mb": watched.end(),
        "bytes": stored / max(1, len(entries)),
    }


def measured(images: Path, preset: str, counts: list[int]) -> list[Row]:
    """A row for each number of workers; the speed-up is beside one worker in the same run."""
    runs: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    for _ in range(REPEATS):
        for count in counts:  # in turn, so that a busy moment does not hit one alone
            runs[count].append(fitted(images, preset, count))
    number = len(find_images([images]).images)
    alone_sec = [run["wall_sec"] for run in runs[counts[0]]]
    rows: list[Row] = []
    for count in counts:
        faster = [alone / run["wall_sec"] for alone, run in zip(alone_sec, runs[count], strict=True)]
        figures = {name: spread([run[name] for run in runs[count]]) for name in runs[count][0]}
        rows.append(
            {
                "what": f"{number} images fitted by {preset}",
                "workers": count,
                "load": round(os.getloadavg()[0], 1),
                "speed_up": spread(faster),
                "speed_up_per_worker": spread([each / count for each in faster]),
                **figures,
            }
        )
    rows.append(_of_many(preset, number, runs[counts[0]]))
    return rows


def _of_many(preset: str, number: int, runs: list[dict[str, float]]) -> Row:
    image_sec = [run["fits_process_sec"] / number for run in runs]
    return {
        "what": f"{MANY:,} images, extrapolated: {preset}",
        "core_hours": spread([sec * MANY / 3600 for sec in image_sec]),
        "gpu_hours": 0,
        "gigabytes": spread([run["bytes"] * MANY / 1e9 for run in runs]),
    }


def published() -> list[Row]:
    """The paper's recipe: as its authors tell it on a GPU, and as the suite `fit` counts it on a core, where it ran."""
    rows: list[Row] = [
        {
            "what": f"{MANY:,} images, extrapolated: the paper, as published",
            "core_hours": None,
            "gpu_hours": PUBLISHED_GPU_SEC * MANY / 3600,
            "gigabytes": None,
        }
    ]
    path = RESULTS / "fit.json"
    counted = [row for row in json.loads(path.read_text())["rows"] if row["what"] == "paper"] if path.exists() else []
    for row in counted:
        hours = row["process_sec_extrapolated"] * MANY / 3600
        what = f"{MANY:,} images of {row['size_px']} px, extrapolated: preset paper on a CPU"
        rows.append({"what": what, "core_hours": round(hours), "gpu_hours": 0, "gigabytes": None})
    return rows


def main() -> None:
    """Measure and write results/dataset.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[1] / "singan_aug" / "photos")
    parser.add_argument("--images", type=int, default=128, help="how many are fitted in each run")
    parser.add_argument("--size", type=int, default=250, help="pixels a side")
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--workers", nargs="+", type=int, default=sorted({1, os.cpu_count() or 1}), help="1 first")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        copies(list(find_images([options.photos]).images), images, options.images, options.size)
        for preset in options.presets:
            rows += measured(images, preset, options.workers)
            say(json.dumps(rows, indent=1))
    write("dataset", rows + published(), seeds=[0], path=RESULTS / "dataset.json")


if __name__ == "__main__":
    main()
