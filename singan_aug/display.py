"""What the command line shows: lines, JSON, and progress on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
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
from rich.table import Table

from singan_aug import dataset

__all__ = ["Display", "ProgressBar", "complain", "duration", "file_size", "say", "show_json", "show_table"]

WIDEST = 10_000  # columns of a table: it is as wide as its cells are, never folded

_err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def complain(message: str) -> None:
    """One line on stderr, under the command's name."""
    _err.print(f"singan-aug: {message}")


def say(message: str) -> None:
    """One line on stdout."""
    typer.echo(message)


def show_json(value: Any) -> None:
    """JSON on stdout, for scripts."""
    typer.echo(json.dumps(value, indent=2))


class Display:
    """Progress on stderr: bars in a terminal, one line for each image elsewhere."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=_err,
            transient=True,
            disable=not _err.is_terminal,
        )
        self._overall: TaskID | None = None
        self._running: dict[Path, TaskID] = {}
        self._shares: dict[Path, float] = {}
        self._waiting: set[Path] = set()
        self._done = 0

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
                if event.todo:
                    self._overall = self._bars.add_task("all images", total=len(event.todo), state=self._state())
            case dataset.Progress(path, step):
                if path not in self._running:
                    self._running[path] = self._bars.add_task(path.name, total=1.0, state="")
                state = f"scale {step.scale + 1}/{step.scales} step {step.step}/{step.steps}"
                state += " (second attempt)" if step.attempt else ""
                self._bars.update(self._running[path], completed=step.share, state=state)
                self._shares[path] = step.share
                self._advance()
            case dataset.Outcome(path, status):
                if path in self._running:
                    self._bars.remove_task(self._running.pop(path))
                self._shares.pop(path, None)
                self._done += path in self._waiting
                if status == "failed":
                    complain(f"{path}: {event.message}")
                elif event.notes:
                    complain(f"{path}: {', '.join(event.notes)}")
                if status == "fitted" and not _err.is_terminal:
                    complain(f"fitted {path} in {duration(event.process_sec)}")
                self._advance()

    def _advance(self) -> None:
        if self._overall is not None:
            self._bars.update(self._overall, completed=self._done + sum(self._shares.values()), state=self._state())

    def _state(self) -> str:
        return f"{self._done}/{len(self._waiting)} images"


class ProgressBar:
    """One bar on stderr in a terminal, nothing elsewhere."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal)
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """How far it has come."""
        self._bar.update(self._task, completed=done, total=total)


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


def show_table(columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout, one line for each row however wide."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=WIDEST).print(table)
