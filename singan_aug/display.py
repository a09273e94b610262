"""What the command line shows: lines, JSON, and progress on stderr."""

from __future__ import annotations

import json
import math
import time
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from singan_aug import dataset

__all__ = [
    "Display",
    "ProgressBar",
    "be_quiet",
    "complain",
    "duration",
    "file_size",
    "printable",
    "say",
    "show_json",
    "show_json_rows",
    "show_table",
]

LINE_SEC = 60.0  # without a terminal, progress is told at every percent, or after so long ...
SOONEST_SEC = 5.0  # ... but no sooner than this, so that short runs do not fill the screen

MOST_HELD = 5  # images of other processes that are named
MEASURED = 100  # rows of a table

_err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
_quiet = False


def be_quiet(quiet: bool) -> None:
    """Whether `say` and progress are silent from now on."""
    global _quiet
    _quiet = quiet


def printable(text: str) -> str:
    """Text of unknown origin for a terminal: whatever could command it, or hide in it, is spelled out."""
    return "".join(_spelled(char) if unicodedata.category(char) in _HIDDEN else char for char in text)


_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, formatting (as right-to-left overrides), lone surrogates, breaks


def _spelled(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads a byte of a file name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def complain(message: str) -> None:
    """One line on stderr, under the command's name."""
    _err.print(f"singan-aug: {printable(message)}")


def say(message: str) -> None:
    """Lines on stdout; nothing where the command is to be quiet."""
    if not _quiet:
        typer.echo("\n".join(map(printable, message.split("\n"))))


def show_json(value: Any) -> None:
    """JSON on stdout, for scripts."""
    typer.echo(json.dumps(value, indent=2))


def show_json_rows(rows: Iterable[Any]) -> None:
    """A JSON array on stdout, each item as soon as it is known."""
    typer.echo("[", nl=False)
    for number, row in enumerate(rows):
        typer.echo((",\n" if number else "\n") + json.dumps(row, indent=1), nl=False)
    typer.echo("\n]")


class Display:
    """Progress on stderr: bars in a terminal, a line for each percent or minute elsewhere.

    With a budget of seconds the total is how many images the time will do for, as it turns out while they are fitted.
    """

    def __init__(self, budget_sec: float | None = None) -> None:
        self._until_sec = None if budget_sec is None else time.monotonic() + budget_sec
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=_err,
            transient=True,
            disable=_quiet or not _err.is_terminal,
        )
        self._lines = _Lines("images" if budget_sec is None else "images within the budget")
        self._overall: TaskID | None = None
        self._running: dict[Path, TaskID] = {}
        self._shares: dict[Path, float] = {}
        self._waiting: set[Path] = set()
        self._done = self._failed = 0
        self._started_sec = time.monotonic()

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def show(self, event: dataset.Event) -> None:
        """Render one event of `fit_dataset`."""
        match event:
            case dataset.Plan():
                self._waiting = {item.path for item in event.todo}
                self._started_sec = time.monotonic()
                if event.todo:
                    self._overall = self._bars.add_task("all images", total=len(event.todo), state="")
            case dataset.Progress(path, step):
                if path not in self._running:
                    self._running[path] = self._bars.add_task(printable(path.name), total=1.0, state="")
                state = f"scale {step.scale + 1}/{step.scales} step {step.step}/{step.steps}"
                state += " (second attempt)" if step.attempt else ""
                self._bars.update(self._running[path], completed=step.share, state=state)
                self._shares[path] = step.share
                self._advance()
            case dataset.Waiting(held, limit_sec):
                for path, holder in held[:MOST_HELD]:
                    complain(f"{path}: claimed by {holder}; waiting up to {duration(limit_sec)} (--wait-sec)")
                if len(held) > MOST_HELD:
                    complain(f"and {len(held) - MOST_HELD} more images that others have claimed")
            case dataset.Outcome(path, status):
                if path in self._running:
                    self._bars.remove_task(self._running.pop(path))
                self._shares.pop(path, None)
                self._done += path in self._waiting
                self._failed += status == "failed"
                if status == "failed":
                    complain(f"{path}: {event.message}")
                elif event.notes:
                    complain(f"{path}: {', '.join(event.notes)}")
                self._advance()

    def _advance(self) -> None:
        if self._overall is not None:
            exactly, total = self._done + sum(self._shares.values()), self._total()
            self._lines.show(self._done, total, exactly, self._state())
            state = f"{self._done}/{total} images, {self._state()}"
            self._bars.update(self._overall, completed=exactly, total=total, state=state)

    def _total(self) -> int:
        """How many images will be fitted: all, or at the pace so far as many as there is time for."""
        exactly = self._done + sum(self._shares.values())
        if self._until_sec is None or not exactly:
            return len(self._waiting)
        spent_sec = max(time.monotonic() - self._started_sec, 1e-9)
        expected = exactly * (self._until_sec - self._started_sec) / spent_sec
        return min(len(self._waiting), max(math.ceil(exactly), round(expected)))

    def _state(self) -> str:
        """How fast it goes, and what failed."""
        minutes = (time.monotonic() - self._started_sec) / 60
        exactly = self._done + sum(self._shares.values())
        words = [f"{exactly / minutes:.{0 if exactly >= 10 * minutes else 1}f} images a minute"] if exactly else []
        return ", ".join([*words, *([f"{self._failed} failed"] if self._failed else [])])


class _Lines:
    """Progress for a log: a line for each percent, at most one in five seconds, at least one a minute, one at the end.

    None in a terminal, or if quiet.
    """

    def __init__(self, what: str) -> None:
        self._what, self._percent = what, 0
        self._started_sec = self._told_sec = time.monotonic()

    def show(self, done: int, total: int, exactly: float, state: str = "") -> None:
        if _quiet or _err.is_terminal or not total:
            return
        share, now_sec = exactly / total, time.monotonic()
        percent = 100 if done >= total else min(99, int(100 * share))
        since_sec = now_sec - self._told_sec
        soon = percent < 100 and since_sec < SOONEST_SEC
        if soon or (percent <= self._percent and since_sec < LINE_SEC):
            return
        self._percent, self._told_sec = percent, now_sec
        left_sec = (now_sec - self._started_sec) * (1 - share) / share if share else None
        left = "" if left_sec is None else f", about {duration(left_sec)} left (until {_clock(left_sec)})"
        complain(f"{done} of {total} {self._what} ({percent} %){', ' * bool(state)}{state}{left}")


def _clock(seconds: float) -> str:
    """What the clock will show then."""
    then = datetime.now().astimezone() + timedelta(seconds=seconds)
    return then.strftime("%H:%M" if seconds < 86400 / 2 else "%a %d %b %H:%M")


class ProgressBar:
    """One bar on stderr in a terminal, a line for each percent or minute elsewhere."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=_err, transient=True, disable=_quiet or not _err.is_terminal)
        self._task = self._bar.add_task(title, total=None)
        self._lines = _Lines(title)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """How far it has come."""
        self._bar.update(self._task, completed=done, total=total)
        self._lines.show(done, total, done)


def duration(seconds: float) -> str:
    """As people say it: 0.3 s, 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def file_size(count: int) -> str:
    """Bytes as people say them: 52.2 KB."""
    size, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB"):  # noqa: B007
        if size < 1000:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def show_table(columns: list[str], rows: Iterable[list[str]]) -> None:
    """A table on stdout, one line for each row however wide. The first rows decide how wide columns are."""
    rows = ([printable(cell) for cell in row] for row in rows)
    first = [columns, *islice(rows, MEASURED)]
    widths = [max(map(cell_len, cells)) for cells in zip(*first, strict=True)]
    for row in chain(first, rows):
        cells = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())
