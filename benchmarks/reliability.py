"""What survives: fits killed and stopped, a folder that vanishes, clocks that jump, damaged files."""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks._damage import flip_bank, flip_entries, fuzz
from benchmarks._forks import WAIT_SEC, ended, fit, forked, photos, state
from benchmarks._fuzz import fuzz_by_coverage, is_installed
from benchmarks._kills import kills
from benchmarks._result import RESULTS, Row, commit, say, spread, write
from singan_aug.dataset import Event, Outcome

PARTS = ("kills", "processes", "sigterm", "oom", "vanish", "clock", "flips", "fuzz")


def processes(count: int, scratch: Path, shift_sec: Callable[[int], float] | None = None) -> Row:
    """So many processes fit the same images into one store at once; each image must be fitted once.

    `shift_sec`: by how much the clock of each of them is wrong, for each time that it is asked.
    """
    paths = photos(scratch / "photos", 2 * count)

    def act(number: int) -> int:
        if shift_sec is not None:
            _shift_clock(lambda: shift_sec(number))
        with (scratch / f"{number}.log").open("w") as log:

            def note(event: Event) -> None:
                if isinstance(event, Outcome):
                    print(event.status, file=log)

            return fit(paths, scratch / "shared", note)

    children = [forked(lambda number=number: act(number)) for number in range(count)]  # type: ignore[misc]
    codes = [ended(child) for child in children]
    told = Counter(line for log in scratch.glob("*.log") for line in log.read_text().splitlines())
    found, broken = state(scratch / "shared")
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
    photos(scratch / "photos", 6)
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
        broken += state(place)[1]
    return {
        "what": "commands that were sent SIGTERM",
        "tried": times,
        "exit_codes": _listed(codes),
        "sec_to_end": spread(seconds),
        "broken": broken,
    }


def vanish(times: int, first_seed: int, scratch: Path) -> list[Row]:
    """The store's folder, or that of the images, deleted while they are fitted: no process hangs or says that all is
    well where an image has no pyramid, and a later run completes.
    """
    rng = random.Random(first_seed)
    fit(photos(scratch / "warm-up", 1), scratch / "warm-up-store")  # what is compiled here need not be in each process
    paths = photos(scratch / "photos", 4)
    started = time.monotonic()
    ended(forked(lambda: fit(paths, scratch / "unbroken")))
    usual_sec = time.monotonic() - started
    rows = []
    for what in ("store", "images"):
        codes, stored, unnoticed, completed = Counter[int](), 0, 0, 0
        for number in range(times):
            place, folder = scratch / what / f"store-{number}", scratch / what / f"photos-{number}"
            copies = [Path(shutil.copytree(paths[0].parent, folder, dirs_exist_ok=True), path.name) for path in paths]
            child = forked(lambda place=place, copies=copies: fit(copies, place))  # type: ignore[misc]
            time.sleep(rng.uniform(0, usual_sec))
            stored += bool(state(place)[0])
            shutil.rmtree(place if what == "store" else folder, ignore_errors=True)
            code = ended(child)
            codes[code] += 1
            unnoticed += code == 0 and len(state(place)[0]) < len(paths)
            ended(forked(lambda place=place: fit(paths, place)))  # type: ignore[misc]
            found, broken = state(place)
            completed += len(found) == len(paths) and not broken
        facts = {"tried": times, "after_some_were_stored": stored, "exit_codes": _listed(codes)}
        facts |= {"exit_code_0_and_not_all_fitted": unnoticed, "completed": completed}
        rows.append({"what": f"folder of the {what} deleted during a fit", **facts})
    return rows


def _listed(codes: Counter[int]) -> list[str]:
    return [f"{code}: {count} times" for code, count in sorted(codes.items())]


def oom(times: int, first_seed: int, scratch: Path) -> Row:
    """Fits in less and less memory: what there is no room for is named, or the process dies; a later run completes."""
    rng = random.Random(first_seed)
    paths = photos(scratch / "photos", 3)
    codes, broken, completed = Counter[int](), 0, 0
    for number in range(times):
        place, room = scratch / f"store-{number}", rng.randrange(2**18, 2**26)

        def act(place: Path = place, room: int = room) -> int:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room,) * 2)
            return fit(paths, place)

        codes[ended(forked(act))] += 1
        broken += state(place)[1]
        ended(forked(lambda place=place: fit(paths, place, retry_failed=True)))  # type: ignore[misc]
        found, _ = state(place)
        completed += len(found) == len(paths)
    what = "fits with 0.25 to 64 MB more than their process had"
    return {"what": what, "tried": times, "exit_codes": _listed(codes), "broken": broken, "completed": completed}


def _measured(part: str, options: argparse.Namespace, scratch: Path) -> list[Row]:
    match part:
        case "kills":
            return [kills(options.kills, options.seed, scratch)]
        case "processes":
            return [processes(8, scratch)]
        case "sigterm":
            return [sigterm(options.times, options.seed, scratch)]
        case "oom":
            return [oom(options.times, options.seed, scratch)]
        case "vanish":
            return vanish(options.times, options.seed, scratch)
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
    parser.add_argument("--kills", type=int, default=300, help="that find a fit under way")
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
