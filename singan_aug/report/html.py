"""A report of a store: every pyramid with its variants and measures, in one HTML file that needs nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from markupsafe import Markup

from singan_aug._checks import check_count, check_seed
from singan_aug.errors import ImageError, MissingPyramidError, StoreError
from singan_aug.images import load_image, quiet_decoding
from singan_aug.metrics.scoring import Networks
from singan_aug.report.measured import MEASURES, Entry, Look, measure
from singan_aug.report.plots import plotted
from singan_aug.store import Store, fingerprint, open_store
from singan_aug.web import rendered
from singan_aug.workers import side_by_side

__all__ = ["Report", "make_report"]

PAGE_BYTES = 54_000_000  # of all pictures together; what is left under 60 MB is text
ENTRY_BYTES = 1_500_000  # of the pictures of one pyramid, however few there are
ENTRIES_A_JOB = 4  # fewer are measured sooner than another process starts


@dataclass(frozen=True)
class Report:
    """What was looked at."""

    html: str
    entries: tuple[Entry, ...]
    failed: tuple[tuple[str, str], ...]  # what could not be looked at, and why
    has_plots: bool  # False where matplotlib is not installed

    def write_table(self, path: Path) -> None:
        """The measures as CSV, a line for each pyramid and start scale. Raises OSError."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["key", "name", "classes", "start_scale", *MEASURES])
            for entry in self.entries:
                for start, row in enumerate(entry.measures):
                    values = [row.get(name, "") for name in MEASURES]
                    writer.writerow([entry.key, entry.name, "; ".join(entry.classes), start, *values])


def make_report(
    store: Store | Path | str | None = None,
    *,
    images: Mapping[Path, str] | None = None,  # source images and the class of each, "" for none
    variants: int | None = None,  # drawn from each start scale; by default 4, of more than 200 pyramids 2
    weights: Path | None = None,  # folder of the weights of SIFID
    limit: int | None = None,  # pyramids at most
    seed: int = 0,
    jobs: int | None = None,  # processes side by side
    on_entry: Callable[[int, int], None] = lambda *_: None,  # told how many of how many are done
) -> Report:
    """Draw from every pyramid of a store, measure, and fill the page. Pictures get smaller as pyramids get more.

    With `images` the pyramids are those of these images, each beside its source, and images without one are failures;
    without, all pyramids of the store, and each reconstruction stands for its source.

    Raises:
        ConfigError: a number out of range, or weights that are none.
        MissingPyramidError: there is no pyramid to report.
        WorkerLostError: a worker process was killed from outside.
    """
    store = open_store(store)
    for name, value, most in (("variants", variants, 64), ("limit", limit, None), ("jobs", jobs, None)):
        if value is not None:
            check_count(name, value, 1, most)
    check_seed(seed)
    if weights is not None:
        Networks.load(weights)  # here, so that what is wrong is told once
    sources, failed = _sources(store, images)
    if not sources and not failed:
        raise MissingPyramidError(f"no pyramids in {store.location}: fit some with `{store.command('fit', 'FOLDER')}`")
    sources = sources[:limit]
    count = max(1, len(sources))
    look = Look(variants or (4 if count <= 200 else 2), seed, weights, min(ENTRY_BYTES, PAGE_BYTES // count))
    tasks = [(store.location, *source, look) for source in sources]
    side = max(1, min(jobs or min(joblib.cpu_count(), 1 + len(tasks) // ENTRIES_A_JOB), len(tasks)))
    entries = []
    for done, found in enumerate(side_by_side(measure, tasks, side), start=1):
        if isinstance(found, Entry):
            entries.append(found)
        else:
            failed.append(found)
        on_entry(done, len(tasks))
    entries.sort(key=lambda entry: (entry.name, entry.key))
    return _filled(store, entries, sorted(failed), look)


def _sources(
    store: Store, images: Mapping[Path, str] | None
) -> tuple[list[tuple[str, Path | None, str]], list[tuple[str, str]]]:
    """Key, source image and class of what is to be shown; and what cannot be, with the reason."""
    if images is None:
        return [(key, None, "") for key in store.keys()], []
    sources: dict[str, tuple[str, Path | None, str]] = {}
    failed = []
    for path, class_name in images.items():
        try:
            with quiet_decoding():
                digest = fingerprint(load_image(path).pixels).digest
            key = store.latest(digest)
            if key is None:
                failed.append((str(path), f"no pyramid in the store: fit it with `{store.command('fit', path)}`"))
            else:
                sources.setdefault(key, (key, path, class_name))
        except (ImageError, StoreError) as error:
            failed.append((str(path), str(error)))
    return list(sources.values()), failed


def _filled(store: Store, entries: Sequence[Entry], failed: list[tuple[str, str]], look: Look) -> Report:
    columns = _columns(entries)
    plots = plotted({MEASURES[name][0]: values for name, values in columns.items()}) if entries else []
    scales = max((len(entry.measures) for entry in entries), default=0)
    medians = [
        {name: float(np.median(values[start])) for name, values in columns.items() if values[start]}
        for start in range(scales)
    ]
    html = rendered(
        "singan_aug.report",
        "report.html",
        store=Path(store.location).name or store.location,
        entries=entries,
        failed=failed,
        faulty=[entry for entry in entries if entry.faults],
        classes=sorted({name for entry in entries for name in entry.classes}),
        measures={name: title for name, (title, _) in MEASURES.items() if name in columns},
        worse={name: worse for name, (_, worse) in MEASURES.items() if name in columns and worse},
        medians=medians,
        plots=[Markup(plot) for plot in plots or ()],
        summary=[_summary(entry) for entry in entries],
        pictures=[Markup(_json(entry.pictures)) for entry in entries],
        total_bytes=sum(entry.stored_bytes for entry in entries),
        total_sec=sum(entry.process_sec for entry in entries),
        look=look,
        scales=scales,
        has_masks=any(entry.pictures["mask"] for entry in entries),
    )
    return Report(html, tuple(entries), tuple(failed), plots is not None)


def _columns(entries: Sequence[Entry]) -> dict[str, list[list[float]]]:
    """Of each measure that was taken, for each start scale the values of all pyramids that have it."""
    scales = max((len(entry.measures) for entry in entries), default=0)
    columns = {
        name: [
            [entry.measures[start][name] for entry in entries if name in _at(entry.measures, start)]
            for start in range(scales)
        ]
        for name in MEASURES
    }
    return {name: values for name, values in columns.items() if any(values)}


def _at(rows: Sequence[dict[str, float]], start: int) -> dict[str, float]:
    return rows[start] if start < len(rows) else {}


def _summary(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "name": entry.name,
        "classes": entry.classes,
        "about": entry.about,
        "faults": entry.faults,
        "measures": entry.measures,
    }


def _json(value: Any) -> str:
    """For a script element: nothing in it can end the element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
