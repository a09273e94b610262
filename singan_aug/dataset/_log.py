"""What happens in a run, as lines of JSON for programs; docs/fit-log.md describes them."""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from singan_aug._version import __version__
from singan_aug.dataset._events import Event, FitReport, Outcome, Plan, Progress, Waiting, counts

__all__ = ["JsonLog"]


class JsonLog:
    """Appends to a file, each line at once. Call it with every event of `fit_dataset`."""

    def __init__(self, path: Path | str, store: str) -> None:
        """Raises OSError where the file cannot be written."""
        self._file: TextIO = Path(path).open("a", buffering=1)  # noqa: SIM115 (it is itself a context manager)
        self._store = store

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def __call__(self, event: Event) -> None:
        match event:
            case Plan():
                known = counts(event.known)
                self._write("plan", to_fit=len(event.todo), **known, ignored=event.ignored, store=self._store)
            case Progress(path, step):
                self._write("progress", path=str(path), **asdict(step))
            case Waiting(held, limit_sec):
                images = [{"path": str(path), **asdict(holder)} for path, holder in held]
                self._write("waiting", images=images, limit_sec=limit_sec)
            case Outcome(path):
                self._write("outcome", **{**asdict(event), "path": str(path)})

    def end(self, report: FitReport | None, wall_sec: float) -> None:
        """The last line of a run; without a report of one that was interrupted, or failed as a whole."""
        of_all: dict[str, Any] = {}
        if report:
            of_all.update(counts(report.outcomes).items(), not_begun=report.not_begun)
        self._write("end", complete=report is not None, **of_all, wall_sec=round(wall_sec, 3))

    def _write(self, event: str, **values: Any) -> None:
        where = {"version": __version__, "host": socket.gethostname(), "pid": os.getpid()}
        line = {"event": event, "time": datetime.now(UTC).isoformat(), **(where if event == "plan" else {}), **values}
        self._file.write(json.dumps(_finite(line)) + "\n")


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
