"""What every suite shares: spread, metadata, and the one file it writes."""

from __future__ import annotations

import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision

import singan_aug

__all__ = ["RESULTS", "Row", "commit", "say", "spread", "write"]

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def say(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median and quartiles of repeated measurements."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {
        "median": round(float(median), 5),
        "q25": round(float(low), 5),
        "q75": round(float(high), 5),
        "n": len(values),
    }


def write(suite: str, rows: list[Row], *, seeds: list[int], threads: int = 1, path: Path | None = None) -> Path:
    """Write results/SUITE.json, or another file, and return its path."""
    result = {
        "suite": suite,
        "command": shlex.join(["python", "-m", f"benchmarks.{suite}", *map(_without_folders, sys.argv[1:])]),
        "commit": commit(),
        "clean_checkout": not _git(
            "status", "--porcelain", "--", "singan_aug", "benchmarks/*.py", ":!benchmarks/results"
        ),
        "date": datetime.now(UTC).date().isoformat(),
        "device": _processor(),
        "threads": threads,
        "seeds": seeds,
        "versions": {
            "singan_aug": singan_aug.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "rows": rows,
    }
    path = path or RESULTS / f"{suite}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    say(f"wrote {path}")
    return path


def commit() -> str:
    """Of the code that runs, in short."""
    return _git("rev-parse", "--short", "HEAD")


def _without_folders(argument: str) -> str:
    """An argument with paths cut to their last part: results say what was run, not where."""
    return re.sub(r"[^=]*/(?=[^/])", "", argument).rstrip("/")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=RESULTS.parent.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
