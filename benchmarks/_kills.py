"""Fits by `learned` killed at random moments, again and again, and what then is in their store."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks._forks import ended, fit, forked, photos, start_workers_by_fork, state
from benchmarks._result import Row, say
from singan_aug.fitting import checkpoint
from singan_aug.store._files import listed

__all__ = ["kills"]

IMAGES = 10
LEFTOVERS = ("partial", "unfinished", "failures")
COUNTED = ["killed", "of_these_under_way", "left_a_state", "went_on_from_a_state", "ended_before", "stores_completed"]
WRONG = ["broken", "lost", "different", "left_over", "ended_with_failures"]  # of which there must be none


def kills(count: int, first_seed: int, scratch: Path) -> Row:
    """SIGKILL, of the process or of all it started, until so many fits were under way when it came.

    What was stored must stay, and be the same as without kills. Each process fits what the ones before it left, and is
    killed after a random time, so that about one image is done between two kills, however busy the machine is. The
    state of training is kept at each report, as that of longer fits is: many a fit goes on from one.
    """
    rng = random.Random(first_seed)
    checkpoint.LEAST_SEC = checkpoint.SPENT_SHARE = 0.0
    start_workers_by_fork()
    paths = photos(scratch / "photos", IMAGES)
    fit(paths[:1], scratch / "warm-up")  # what is compiled here need not be in each process
    started = time.monotonic()
    ended(forked(lambda: fit(paths, scratch / "unbroken")))
    image_sec = (time.monotonic() - started) / IMAGES
    expected, _ = state(scratch / "unbroken")
    told = scratch / "told"
    _tell_of_states(told)
    counts: Counter[str] = Counter()
    place, most_sec = scratch / "killed", 2 * image_sec
    while counts["of_these_under_way"] < count:
        most_sec = _complete(paths, place, expected, rng, most_sec, counts, count)
        shutil.rmtree(place)
        say(f"{dict(counts)}")
    counts["went_on_from_a_state"] = told.stat().st_size if told.exists() else 0
    return {
        "what": "learned fits killed at random moments",
        "images": IMAGES,
        "sec_an_image": round(image_sec, 3),
        **{name: counts[name] for name in (*COUNTED, *WRONG)},
    }


def _tell_of_states(path: Path) -> None:
    """From now on each fit that goes on from a state makes this file longer by one byte."""
    read = checkpoint.Checkpoint._read

    def read_and_tell(self: checkpoint.Checkpoint) -> Any:
        found = read(self)
        if found is not None:
            with path.open("ab", buffering=0) as file:
                file.write(b".")
        return found

    checkpoint.Checkpoint._read = read_and_tell  # type: ignore[method-assign]


def _complete(
    paths: list[Path],
    place: Path,
    expected: dict[str, bytes],
    rng: random.Random,
    most_sec: float,
    counts: Counter[str],
    count: int,
) -> float:
    """Kill until all is fitted, or it was often enough; then one process to the end, which clears what is left.

    Gives the longest time after which to kill the next.
    """
    before: dict[str, bytes] = {}
    while len(before) < len(paths) and counts["of_these_under_way"] < count:
        notes = _notes(place)
        killed = _killed(paths, place, rng.uniform(0, most_sec), all_of_it=rng.random() < 0.5)
        counts["killed" if killed else "ended_before"] += 1
        counts["of_these_under_way"] += killed and bool(_notes(place) - notes)
        counts["left_a_state"] += bool(listed(place / "unfinished"))
        now = _compared(place, before, expected, counts)
        most_sec *= 1.1 if len(now) == len(before) else 0.9
        before = now
    one_more = photos(place.with_name("one more"), len(paths) + 1)  # else there may be nothing to do
    counts["ended_with_failures"] += ended(forked(lambda: fit(one_more, place))) != 0
    shutil.rmtree(one_more[0].parent)
    now = _compared(place, before, expected, counts)
    counts["lost"] += len(expected.keys() - now.keys())
    counts["left_over"] += len(_notes(place)) + sum(len(listed(place / name)) for name in LEFTOVERS)
    counts["stores_completed"] += 1
    return most_sec


def _killed(paths: list[Path], place: Path, after_sec: float, *, all_of_it: bool) -> bool:
    """Whether a process that fits them was still there after so long, and was killed."""
    begun, begin = os.pipe()

    def act() -> int:
        os.write(begin, b".")
        return fit(paths, place)

    child = forked(act)
    os.read(begun, 1)
    time.sleep(after_sec)
    (os.killpg if all_of_it else os.kill)(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(begun)
    os.close(begin)
    return os.WIFSIGNALED(status)


def _notes(place: Path) -> set[bytes]:
    """What processes note of the images that they are at, and leave when they are killed."""
    return {path.read_bytes() for path in (place / "claims").glob("*.json")}


def _compared(
    place: Path, before: dict[str, bytes], expected: dict[str, bytes], counts: Counter[str]
) -> dict[str, bytes]:
    """What the store has now."""
    now, broken = state(place)
    counts["broken"] += broken
    counts["lost"] += len(before.keys() - now.keys())
    counts["different"] += sum(now[key] != expected[key] for key in now.keys() & expected.keys())
    return now
