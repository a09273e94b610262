"""The report of a store of many images: seconds to make it, bytes, and how smoothly Chromium shows it.

Images are crops of photos at several sizes, in ten classes. Needs Chromium and playwright (the `browser` extra).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks._photos import images_in, opened
from benchmarks._result import RESULTS, Row, say, spread, write
from singan_aug import fit_dataset
from singan_aug.report import make_report

PACKAGED = Path(__file__).parent.parent / "singan_aug" / "photos"
SIZES_PX = (64, 96, 128, 192, 250)  # long sides, in turn
CLASSES = 10
WINDOWS = {"desktop": (1280, 800), "phone": (390, 844)}
STEPS = 60  # of scrolling, from top to end
NAMES = ("chromium", "chromium-browser", "google-chrome")

# One step of scrolling, or one input, and the two frames in which what it changed is painted.
SCROLL = """async (share) => {
  const frame = () => new Promise(requestAnimationFrame);
  scrollTo(0, share * (document.body.scrollHeight - innerHeight));
  await frame();
  await frame();
}"""
ACT = """async ([id, value, kind]) => {
  const frame = () => new Promise(requestAnimationFrame), input = document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new Event(kind, { bubbles: true }));
  await frame();
  await frame();
}"""


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=PACKAGED, help="folder of photos to crop from")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5, help="how often each action is timed")
    parser.add_argument("--keep", type=Path, help="also write the page here")
    parser.add_argument("--page", type=Path, help="show this page, kept before, and keep the row about its making")
    options = parser.parse_args()
    if options.page:
        before = json.loads((RESULTS / "report_page.json").read_text())
        rows: list[Row] = [{**before["rows"][0], "made_by": before["rows"][0].get("made_by", before["commit"])}]
        rows += [_shown(options.page, window, options.repeats) for window in WINDOWS]
    else:
        with tempfile.TemporaryDirectory() as folder:
            page = options.keep or Path(folder) / "report.html"
            rows = [_made(options.photos, options.images, Path(folder), page)]
            rows += [_shown(page, window, options.repeats) for window in WINDOWS]
    for row in rows:
        say(str(row))
    write("report_page", rows, seeds=[0])


def _made(photos: Path, count: int, place: Path, page: Path) -> Row:
    images = _crops(images_in(photos), count, place / "images")
    started_sec = time.perf_counter()
    fitted = fit_dataset([place / "images"], place / "store", jobs=1)
    fit_sec = time.perf_counter() - started_sec
    say(f"{len(fitted.outcomes)} images, {len(fitted.failed)} failed, {fit_sec:.0f} s")
    started_sec, started_process_sec = time.perf_counter(), time.process_time()
    report = make_report(place / "store", images=images, jobs=1)
    page.write_text(report.html, encoding="utf-8")
    return {
        "what": "making the page",
        "images": len(report.entries),
        "failed": len(report.failed),
        "fit_sec": round(fit_sec, 1),
        "wall_sec": round(time.perf_counter() - started_sec, 1),
        "process_sec": round(time.process_time() - started_process_sec, 1),
        "megabytes": round(page.stat().st_size / 1e6, 2),
    }


def _crops(photos: list[Path], count: int, folder: Path) -> dict[Path, str]:
    """So many crops, each of another place or size: file, and the class whose folder it lies in."""
    chance, made = random.Random(0), {}
    images = [opened(path) for path in photos]
    for i in range(count):
        photo, long_px = images[i % len(images)], SIZES_PX[i % len(SIZES_PX)]
        share = chance.uniform(0.5, 0.9)
        width, height = (max(32, round(side * share)) for side in photo.size)
        left, top = chance.randint(0, photo.width - width), chance.randint(0, photo.height - height)
        crop = photo.crop((left, top, left + width, top + height))
        crop.thumbnail((long_px, long_px), Image.Resampling.BICUBIC)
        path = folder / f"class {i % CLASSES}" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.save(path)
        made[path] = path.parent.name
    return made


def _shown(page: Path, window: str, repeats: int) -> Row:
    from playwright.sync_api import sync_playwright

    width, height = WINDOWS[window]
    browser_path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": height})
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy_ms(what: Callable[[], Any]) -> float:
            """Process milliseconds of the page's own thread."""
            before = _metrics(session)["TaskDuration"]
            what()
            return 1000 * (_metrics(session)["TaskDuration"] - before)

        started_sec = time.perf_counter()
        load_ms = busy_ms(lambda: tab.goto(page.as_uri()))
        load_sec = time.perf_counter() - started_sec
        shares = [step / STEPS for step in range(1, STEPS + 1)]
        scrolled = [busy_ms(partial(tab.evaluate, SCROLL, share)) for share in shares]
        counts = _metrics(session)
        acts = {
            "start_scale_ms": [("start", str(i % 3), "input") for i in range(repeats)],
            "sort_ms": [("sort", ("displacement", "name")[i % 2], "change") for i in range(repeats)],
            "class_ms": [("class", ("class 3", "")[i % 2], "change") for i in range(repeats)],
        }
        timed: dict[str, Any] = {
            name: spread([busy_ms(partial(tab.evaluate, ACT, list(each))) for each in actions])
            for name, actions in acts.items()
        }
        browser.close()
    return {
        "what": f"the page in Chromium, {window}",
        "window": f"{width}x{height}",
        "load_wall_sec": round(load_sec, 2),
        "load_ms": round(load_ms),
        "scroll_step_ms": spread(scrolled),
        "longest_scroll_step_ms": round(max(scrolled), 1),
        "heap_megabytes": round(counts["JSHeapUsedSize"] / 1e6, 1),
        **timed,
    }


def _metrics(session: Any) -> dict[str, float]:
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
