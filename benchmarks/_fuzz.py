"""One reader under atheris, a coverage-guided fuzzer: `python -m benchmarks._fuzz READER SECONDS FOLDER`.

Whatever a reader raises that is not this package's own error ends the process; the input that did it is left in FOLDER.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks._result import Row, say

__all__ = ["READERS", "fuzz_by_coverage", "is_installed"]

READERS = ("manifest", "weights", "bank", "COCO", "YOLO")
MEMORY_BYTES = 6 * 2**30  # of addresses that a reader may take, with torch and all it maps
RESIDENT_MB = 2048  # of memory
INPUT_SEC = 60  # for one input, on a busy machine
LONGEST_BYTES = 65536
ODD: tuple[Any, ...] = (None, True, -1, 0, 1, 2**31, 2**53, 2**64, 10**400, 0.5, -1e-9, 1e308, float("nan"), "", "x")
ODD = (*ODD, "é", "\ud800", "../x", "0", "1" * 5000, [], {}, [[]], [0.5], {"a": []}, [10**9, 10**9])
WORDS = ("-1", "1e999", "NaN", "null", "[]", "{}", "18446744073709551616", "true", '\\"', "\\\\ud800", "[[[[[[[[")


def is_installed() -> bool:
    """Whether atheris is there; it is no part of the dev extra."""
    return find_spec("atheris") is not None


def fuzz_by_coverage(minutes: float, seed: int) -> list[Row]:
    """Each reader for so long, in a process of its own."""
    rows = []
    for reader in READERS:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [sys.executable, "-m", "benchmarks._fuzz", reader, str(60 * minutes), folder, str(seed)]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            rows.append(
                {
                    "what": f"fuzzed, guided by coverage: {reader}",
                    "tried": _told(r"stat::number_of_executed_units:\s+(\d+)", done.stderr),
                    "inputs_with_new_coverage": _told(r"stat::new_units_added:\s+(\d+)", done.stderr),
                    "branches_covered": _told(r"cov: (\d+)", done.stderr),
                    "crashed": int(done.returncode != 0),
                    "minutes": minutes,
                    "process_sec": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime),
                    "peak_mb": _told(r"stat::peak_rss_mb:\s+(\d+)", done.stderr),
                    "memory_limit_bytes": MEMORY_BYTES,
                }
            )
        if done.returncode:
            say(done.stderr[-4000:])
        say(str(rows[-1]))
    return rows


def _told(pattern: str, text: str) -> int | None:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else None


def _with_another_value(text: bytes, rng: random.Random) -> bytes:
    """JSON with one value, at any depth, exchanged for an odd one or for one from elsewhere, left out, or doubled.

    Raises ValueError or RecursionError where it is none.
    """
    top = [json.loads(text)]
    places: list[tuple[Any, Any]] = [(top, 0)]
    for holder, name in places:  # grows meanwhile
        value = holder[name]
        inside = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(value, key) for key in inside]
    holder, name = rng.choice(places)
    other, other_name = rng.choice(places)
    match rng.randrange(4):
        case 0 if holder is not top:
            del holder[name]
        case 1 if isinstance(holder, list):
            holder[name] = [holder[name]] * rng.choice([1, 2, 3, 1000])
        case 2:
            holder[name] = json.loads(json.dumps(other[other_name]))
        case _:
            holder[name] = rng.choice(ODD)
    return json.dumps(top[0]).encode()


def main(reader: str, seconds: float, folder: Path, seed: int) -> None:
    """Fuzz until the time is over; never returns."""
    import atheris

    with atheris.instrument_imports(include=["singan_aug"]):
        from benchmarks import _damage
        from singan_aug.errors import SinGANAugError

    (folder / "work").mkdir()
    (folder / "corpus").mkdir()
    valid, read = _damage.readers(folder / "work")[reader]
    (folder / "corpus" / "valid").write_bytes(valid)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in WORDS))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))

    def one_input(data: bytes) -> None:
        with suppress(SinGANAugError):
            read(data)

    def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
        rng = random.Random(seed)
        with suppress(ValueError, RecursionError):
            if rng.random() < 0.7:
                return _with_another_value(data, rng)[:most_bytes]
        return bytes(atheris.Mutate(data, most_bytes))

    options = {
        "max_total_time": round(seconds),
        "rss_limit_mb": RESIDENT_MB,
        "timeout": INPUT_SEC,
        "max_len": max(LONGEST_BYTES, 2 * len(valid)),
        "dict": folder / "words",
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "seed": seed + 1,  # 0 is any
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    mutator = {"custom_mutator": mutate} if valid.startswith(b"{") else {}
    atheris.Setup([sys.argv[0], *flags, str(folder / "corpus")], one_input, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
