"""What survives: fits killed and stopped, a folder that vanishes, clocks that jump, damaged files."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from benchmarks._damage import flip_bank, flip_entries, fuzz, picture
from benchmarks._fuzz import fuzz_by_coverage, is_installed
from benchmarks._result import RESULTS, Row, commit, say, spread, write
from singan_aug import draw, learned
from singan_aug.dataset import Outcome, fit_dataset
from singan_aug.errors import StoreError
from singan_aug.fitting import checkpoint
from singan_aug.store import DirectoryStore

SIZE = (40, 56)
BRIEF = {"coarsest_px": 16, "steps_coarsest": 20, "width": 8}  # of `learned`: a fit takes about a second
PARTS = ("kills", "processes", "sigterm", "oom", "vanish", "clock", "flips", "fuzz")
WAIT_SEC = 300.0  # that a process may take to end


def _photos(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(picture(number, SIZE)).save(path)
    return paths


def _forked(act: Callable[[], int]) -> int:
    """A process of its own, which has this one's modules already; its id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        torch.set_num_threads(1)
        code = act()
    finally:
        os._exit(code)


def _fit(
    paths: list[Path],
    place: Path,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    *,
    retry_failed: bool = False,
    apart: bool = False,
) -> int:
    """One process that fits them, by itself; its exit code."""

    def notify(event: object) -> None:
        if isinstance(event, Outcome):
            on_outcome(event)

    report = fit_dataset(
        paths,
        str(place),
        learned(**BRIEF),
        batch_images=1,
        jobs=1,
        apart=apart,
        retry_failed=retry_failed,
        on_event=notify,
    )
    return 1 if report.failed else 0


def _state(place: Path) -> tuple[dict[str, torch.Tensor], int]:
    """A draw of each whole pyramid, and how many are broken."""
    store, found, broken = DirectoryStore(place), {}, 0
    for key in store.keys():
        try:
            found[key] = draw(store.load(key), start_scale=0, seed=3)
        except StoreError as error:
            say(str(error))
            broken += 1
    return found, broken


def kills(minutes: float, first_seed: int, scratch: Path) -> Row:
    """SIGKILL at random moments of a fit by `learned`, again and again; what was stored must stay, and be the same.

    The state of training is kept at each report, as that of longer fits is: many a fit goes on from one.
    """
    rng = random.Random(first_seed)
    checkpoint.LEAST_SEC = checkpoint.SPENT_SHARE = 0.0
    paths = _photos(scratch / "photos", 4)
    _fit(paths[:1], scratch / "warm-up")  # what is compiled and loaded here need not be so in each process
    usual_sec = []
    for name, apart in (("unbroken", False), ("apart", True)):  # the latter as what was killed before is fitted
        started = time.monotonic()
        _ended(_forked(lambda name=name, apart=apart: _fit(paths, scratch / name, apart=apart)))  # type: ignore[misc]
        usual_sec.append(time.monotonic() - started)
    expected, _ = _state(scratch / "unbroken")
    counts: Counter[str] = Counter()
    before: dict[str, torch.Tensor] = {}
    ends, place = time.monotonic() + 60 * minutes, scratch / "killed"
    while time.monotonic() < ends:
        child = _forked(lambda: _fit(paths, place))
        time.sleep(rng.uniform(0, rng.choice(usual_sec)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        counts["killed" if os.WIFSIGNALED(status) else "ended before"] += 1
        counts["left a state"] += len(list((place / "unfinished").glob("*")))
        now, broken = _state(place)
        counts["broken"] += broken
        counts["lost"] += len(before.keys() - now.keys())
        counts["different"] += sum(not torch.equal(now[key], expected[key]) for key in now.keys() - before.keys())
        before = now
        if len(now) == len(paths):
            counts["stores completed"] += 1
            shutil.rmtree(place)
            before = {}
    return {
        "what": "learned fits killed at random moments",
        "minutes": minutes,
        "unbroken_run_sec": [round(sec, 3) for sec in usual_sec],
        **{
            n: counts[n]
            for n in ("killed", "ended before", "left a state", "stores completed", "broken", "lost", "different")
        },
    }


def _ended(child: int) -> int:
    """The exit code of a process that is given some time to end; -1 where it had to be killed."""
    ends = time.monotonic() + WAIT_SEC
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def processes(count: int, scratch: Path, shift_sec: Callable[[int], float] | None = None) -> Row:
    """So many processes fit the same images into one store at once; each image must be fitted once.

    `shift_sec`: by how much the clock of each of them is wrong, for each time that it is asked.
    """
    paths = _photos(scratch / "photos", 2 * count)

    def act(number: int) -> int:
        if shift_sec is not None:
            _shift_clock(lambda: shift_sec(number))
        with (scratch / f"{number}.log").open("w") as log:
            return _fit(paths, scratch / "shared", lambda outcome: print(outcome.status, file=log))

    children = [_forked(lambda number=number: act(number)) for number in range(count)]  # type: ignore[misc]
    codes = [_ended(child) for child in children]
    told = Counter(line for log in scratch.glob("*.log") for line in log.read_text().splitlines())
    found, broken = _state(scratch / "shared")
    what = f"{count} processes on one store" + (", their clocks jumping" if shift_sec else "")
    facts = {"images": len(paths), "fits": told["fitted"], "whole": len(found), "broken": broken}
    return {"what": what, **facts, "failed": told["failed"], "exit_codes": sorted(set(codes))}


def _shift_clock(shift_sec: Callable[[], float]) -> None:
    """Wall clocks of this process are wrong by so much from now on; the monotonic one is not."""
    true_sec, true_ns = time.time, time.time_ns
    time.time = lambda: true_sec() + shift_sec()
    time.time_ns = lambda: true_ns() + int(shift_sec() * 1e9)


def clock(scratch: Path, first_seed: int) -> list[Row]:
    """Clocks that are a day ahead, a day behind, or another at each look."""
    rng = random.Random(first_seed)
    day = 86400.0
    return [
        {**processes(4, scratch / "apart", lambda number: (number - 1.5) * day), "clock": "up to 1.5 days apart"},
        {**processes(4, scratch / "jumping", lambda _: rng.choice([-day, day, 0.0])), "clock": "a day off or not"},
    ]


def sigterm(times: int, first_seed: int, scratch: Path) -> Row:
    """The command stopped at random moments, as schedulers do: it ends by itself, and leaves only whole pyramids."""
    rng = random.Random(first_seed)
    _photos(scratch / "photos", 6)
    command = [sys.executable, "-m", "singan_aug", "fit", str(scratch / "photos"), "--preset", "learned", "--jobs", "2"]
    seconds, codes, broken = [], Counter[int](), 0
    for number in range(times):
        place = scratch / f"store-{number}"
        process = subprocess.Popen([*command, "--store", place], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(2, 40))
        process.terminate()
        stopped = time.monotonic()
        codes[process.wait(WAIT_SEC)] += 1
        seconds.append(time.monotonic() - stopped)
        broken += _state(place)[1]
    return {
        "what": "commands that were sent SIGTERM",
        "tried": times,
        "exit_codes": [[code, count] for code, count in sorted(codes.items())],
        "sec_to_end": spread(seconds),
        "broken": broken,
    }


def vanish(times: int, first_seed: int, scratch: Path) -> Row:
    """The store's folder deleted while images are fitted into it: no process hangs, and a later run completes."""
    rng = random.Random(first_seed)
    paths = _photos(scratch / "photos", 4)
    codes, completed = Counter[int](), 0
    for number in range(times):
        place = scratch / f"store-{number}"
        child = _forked(lambda place=place: _fit(paths, place))  # type: ignore[misc]
        time.sleep(rng.uniform(0, 4))
        shutil.rmtree(place, ignore_errors=True)
        codes[_ended(child)] += 1
        _ended(_forked(lambda place=place: _fit(paths, place)))  # type: ignore[misc]
        found, broken = _state(place)
        completed += len(found) == len(paths) and not broken
    exit_codes = [[code, count] for code, count in sorted(codes.items())]
    return {"what": "folder deleted during a fit", "tried": times, "exit_codes": exit_codes, "completed": completed}


def oom(times: int, first_seed: int, scratch: Path) -> Row:
    """Fits in less and less memory: what there is no room for is named, or the process dies; a later run completes."""
    rng = random.Random(first_seed)
    paths = _photos(scratch / "photos", 3)
    codes, broken, completed = Counter[int](), 0, 0
    for number in range(times):
        place, room = scratch / f"store-{number}", rng.randrange(2**18, 2**26)

        def act(place: Path = place, room: int = room) -> int:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
            return _fit(paths, place)

        codes[_ended(_forked(act))] += 1
        broken += _state(place)[1]
        _ended(_forked(lambda place=place: _fit(paths, place, retry_failed=True)))  # type: ignore[misc]
        found, _ = _state(place)
        completed += len(found) == len(paths)
    exit_codes = [[code, count] for code, count in sorted(codes.items())]
    what = "fits with 0.25 to 64 MB more than their process had"
    return {"what": what, "tried": times, "exit_codes": exit_codes, "broken": broken, "completed": completed}


def _measured(part: str, options: argparse.Namespace, scratch: Path) -> list[Row]:
    match part:
        case "kills":
            return [kills(options.minutes, options.seed, scratch)]
        case "processes":
            return [processes(8, scratch)]
        case "sigterm":
            return [sigterm(options.times, options.seed, scratch)]
        case "oom":
            return [oom(options.times, options.seed, scratch)]
        case "vanish":
            return [vanish(options.times, options.seed, scratch)]
        case "clock":
            return clock(scratch, options.seed)
        case "flips":
            return [*flip_entries(options.every), flip_bank(options.every)]
        case _:
            guided = is_installed()
            return (fuzz_by_coverage if guided else fuzz)(options.fuzz_minutes, options.seed)


def main() -> None:
    """Try all of it, and write results/reliability.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="rows of others stay as they are")
    parser.add_argument("--minutes", type=float, default=10.0, help="of kills")
    parser.add_argument("--fuzz-minutes", type=float, default=12.0, help="of fuzzing, for each reader")
    parser.add_argument("--times", type=int, default=8, help="SIGTERM, too little memory, vanishing folders")
    parser.add_argument("--every", type=int, default=1, help="flip one bit of so many")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "reliability.json"
    for part in options.parts:
        with tempfile.TemporaryDirectory() as scratch:
            found = _measured(part, options, Path(scratch) / part)
        say(json.dumps(found))
        how = {"part": part, "run": " ".join(sys.argv[1:]), "commit": commit()}
        kept = json.loads(path.read_text())["rows"] if path.exists() else []  # now: other parts may run beside this
        rows = [row for row in kept if row["part"] != part] + [{**how, **row} for row in found]
        write("reliability", rows, seeds=[options.seed])


if __name__ == "__main__":
    main()
