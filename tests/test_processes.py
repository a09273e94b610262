"""Processes that are killed, stopped or hang, and what the others make of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from singan_aug.dataset import Event, Outcome, Progress, Todo, Waiting, fit_dataset, plan_dataset
from singan_aug.dataset._channel import channel
from singan_aug.dataset._processes import Fits
from singan_aug.fitting import FitEvent
from singan_aug.store import DirectoryStore, Holder, MemoryStore, _claims, make_key
from singan_aug.workers import signals_held_back
from tests.conftest import copies, make_photo

ROOT = Path(__file__).parents[1]
TINY = copies(coarsest_px=16, scale_factor=0.5, patch_px=5)
PHOTOS = [make_photo(26, 34, seed=seed) for seed in range(4)]
KEYS = [str(make_key(photo, TINY)) for photo in PHOTOS]

PROGRESS = Progress(Path("a.png"), FitEvent(0, 1, 1, 2, 0, 0.5, {}))
DONE = Outcome(Path("a.png"), "fitted")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(PHOTOS):
        Image.fromarray(photo).save(folder / f"{number}.png")
    return folder


def _child(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return True  # no /proc: it takes signals
    except ProcessLookupError:
        return False


# A fit that ends its process


@dataclass(frozen=True)
class Deadly:
    """In place of an image's mask: whoever reads it is killed, so many times."""

    counter: Path
    times: int

    def read(self, size: object) -> None:
        before = len(self.counter.read_bytes()) if self.counter.exists() else 0
        if before < self.times:
            self.counter.write_bytes(b"." * (before + 1))
            os.kill(os.getpid(), signal.SIGKILL)


def _todo(photos: Path, store: DirectoryStore, deadly: dict[str, int]) -> list[Todo]:
    items = plan_dataset([photos], store, TINY, masks="none").todo
    masks = {name: Deadly(photos / f"{name}.count", times) for name, times in deadly.items()}
    return [replace(item, mask=masks.get(item.path.name)) for item in items]  # type: ignore[arg-type]


def _statuses(fits: Fits) -> dict[str, str]:
    return {outcome.path.name: outcome.status for outcome in sorted(fits.outcomes, key=lambda each: each.path)}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_image_that_kills_its_process_fails_by_name_and_the_others_are_fitted(
    photos: Path, store: DirectoryStore, jobs: int
) -> None:
    events: list[Event] = []
    todo = _todo(photos, store, {"1.png": 99})
    fits = Fits(store, TINY, "cpu", events.append, jobs=jobs, apart=True)
    fits.run(todo, 0)
    expected = {"0.png": "fitted", "1.png": "failed", "2.png": "fitted", "3.png": "fitted"}
    assert _statuses(fits) == expected
    assert {event.path.name: event.status for event in events if isinstance(event, Outcome)} == expected
    (failed,) = (each for each in fits.outcomes if each.status == "failed")
    assert "ended its process" in failed.message
    assert sorted(store.keys()) == sorted(KEYS[:1] + KEYS[2:])
    assert store.abandoned(KEYS) == {KEYS[1]}


def test_an_image_whose_process_was_killed_once_is_fitted_all_the_same(photos: Path, store: DirectoryStore) -> None:
    fits = Fits(store, TINY, "cpu", lambda event: None, jobs=2)
    fits.run(_todo(photos, store, {"0.png": 1}), 0)
    assert set(_statuses(fits).values()) == {"fitted"}
    assert sorted(store.keys()) == sorted(KEYS)
    assert store.abandoned(KEYS) == set()


def test_what_killed_an_earlier_run_is_fitted_apart_by_the_next(photos: Path, store: DirectoryStore) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            Fits(store, TINY, "cpu", lambda event: None).run(_todo(photos, store, {"1.png": 99}), 0)
        finally:
            os._exit(1)  # not reached: the fit was in this process
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert store.abandoned(KEYS) == {KEYS[1]}
    fits = Fits(store, TINY, "cpu", lambda event: None)
    fits.run(_todo(photos, store, {"1.png": 99}), 0)
    assert _statuses(fits) == {"1.png": "failed", "2.png": "fitted", "3.png": "fitted"}


def test_a_worker_that_cannot_tell_of_its_progress_works_on() -> None:
    with channel(lambda event: None, apart=True) as (send, _):
        pass
    for _ in range(2):
        send(PROGRESS)


def test_what_workers_tell_arrives_in_order_and_before_they_go_on() -> None:
    told: list[Event] = []
    with channel(told.append, apart=True) as (send, report):
        for _ in range(3):
            send(PROGRESS)
            report(DONE)
    assert told == [PROGRESS, DONE] * 3


# Workers end with their parent

WORK = """
import os, sys, time
from pathlib import Path
from singan_aug.workers import side_by_side

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

list(side_by_side(work, [(sys.argv[1],)] * 2, int(sys.argv[2]), apart=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
@pytest.mark.parametrize("jobs", [1, 2])
def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path, jobs: int, number: int) -> None:
    with _child(WORK, tmp_path, jobs) as parent:
        assert _within(60, lambda: len(list(tmp_path.iterdir())) == jobs)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert all(map(_lives, workers))
        parent.send_signal(number)
        parent.wait()
        assert _within(5, lambda: not any(map(_lives, workers)))


BANK = """
import sys, time
from singan_aug.bank import BackgroundBank
with BackgroundBank(sys.argv[1], variants=10_000) as bank:
    print(bank._process.pid, flush=True)
    time.sleep(60)
"""


def test_a_background_bank_ends_with_its_training(photos: Path, store: DirectoryStore) -> None:
    fit_dataset([photos], store, TINY, masks="none", jobs=1)
    with _child(BANK, store.root) as training:
        assert training.stdout is not None
        bank = int(training.stdout.readline())
        assert _within(60, store.bank_path.exists)
        assert _lives(bank)
        training.kill()
        training.wait()
        assert _within(5, lambda: not _lives(bank))


def test_a_signal_that_comes_while_processes_start_is_not_lost() -> None:
    done: list[str] = []

    def interrupted() -> None:
        with signals_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("started")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["started"]


# Claims that another process holds

HOLD = """
import sys
from singan_aug.store import DirectoryStore, _claims
_claims.BEAT_SEC = float(sys.argv[3])
with DirectoryStore(sys.argv[1]).claim(sys.argv[2], wait=True):
    print("mine", flush=True)
    sys.stdin.readline()
"""


class _Holding:
    """Another process that has a claim."""

    def __init__(self, store: DirectoryStore, key: str, beat_sec: float = 5.0) -> None:
        self.process = _child(HOLD, store.root, key, beat_sec)

    def __enter__(self) -> subprocess.Popen[str]:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "mine\n"
        return self.process

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_claim_tells_who_holds_it(store: DirectoryStore) -> None:
    assert store.holder(KEYS[0]) is None
    with _Holding(store, KEYS[0]) as process:
        holder = store.holder(KEYS[0])
        assert holder is not None
        assert (holder.host, holder.pid) == (os.uname().nodename, process.pid)
        assert str(process.pid) in str(holder)
        assert MemoryStore(store).holder(KEYS[0]) == holder
        assert store.abandoned(KEYS) == set()
        process.communicate("\n")  # lets it go
        assert store.holder(KEYS[0]) is None
        assert store.abandoned(KEYS) == set()


@pytest.mark.parametrize("text", [b"", b"{}", b"[" * 5000, b'{"host": 1, "pid": "x", "since": []}', b"\xff"])
def test_a_damaged_note_of_a_claim_harms_nobody(store: DirectoryStore, text: bytes) -> None:
    with _Holding(store, KEYS[0]):
        (store.root / "claims" / f"{KEYS[0]}.json").write_bytes(text)
        assert isinstance(store.holder(KEYS[0]), Holder)


def test_a_note_is_never_written_through_a_link(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (store.root / "claims" / f"{KEYS[0]}.json").symlink_to(tmp_path / "precious")
    with store.claim(KEYS[0], wait=False) as mine:
        assert mine
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_claimed_image_is_told_waited_for_and_named_at_last(photos: Path, store: DirectoryStore) -> None:
    events: list[Event] = []
    with _Holding(store, KEYS[1]) as process:
        report = fit_dataset([photos], store, TINY, masks="none", jobs=1, wait_sec=0.3, on_event=events.append)
    assert [outcome.status for outcome in report.outcomes] == ["fitted", "failed", "fitted", "fitted"]
    assert str(process.pid) in report.failed[0].message
    assert os.uname().nodename in report.failed[0].message
    ((place, waiting),) = [(i, event) for i, event in enumerate(events) if isinstance(event, Waiting)]
    assert [(path.name, holder.pid) for path, holder in waiting.held] == [("1.png", process.pid)]
    assert sum(isinstance(event, Outcome) and event.status == "fitted" for event in events[:place]) == 3


@pytest.mark.parametrize("batch_images", [1, 2])
def test_a_claimed_image_is_fitted_when_it_is_let_go(photos: Path, store: DirectoryStore, batch_images: int) -> None:
    with _Holding(store, KEYS[1]) as process:

        def notify(event: Event) -> None:
            if isinstance(event, Waiting):
                process.communicate("\n")

        report = fit_dataset(
            [photos], store, TINY, masks="none", jobs=1, batch_images=batch_images, wait_sec=60, on_event=notify
        )
    assert [outcome.status for outcome in report.outcomes] == ["fitted"] * 4


def test_a_stopped_holder_loses_its_claim_and_a_living_one_keeps_it_whatever_the_clock_says(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_claims, "EXPIRE_SEC", 1.0)
    note = store.root / "claims" / f"{KEYS[0]}.json"
    with _Holding(store, KEYS[0], beat_sec=0.05) as process:
        for jump in (0.0, 1e6, -1e6):  # this machine's clock, and the holder's
            monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
            os.utime(note, (1.7e9 - jump, 1.7e9 - jump))
            for _ in range(4):
                assert store.holder(KEYS[0]) is not None
                time.sleep(0.4)
        process.send_signal(signal.SIGSTOP)
        assert _within(10, lambda: store.holder(KEYS[0]) is None)
        with store.claim(KEYS[0], wait=False) as mine:
            assert mine
            process.send_signal(signal.SIGCONT)  # and what it notices does no harm to the new one
            time.sleep(0.2)
            process.communicate("\n")
            with DirectoryStore(store.root).claim(KEYS[0], wait=False) as other:
                assert not other
            assert note.exists()


# What is left behind


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_left(store: DirectoryStore) -> None:
    left = {"derived.abc": "derived", "variants.bank": "bank", "store.json": "store", f"{KEYS[0]}.abc": KEYS[0]}
    partial = store.root / "partial"

    def leave() -> None:
        for name in left:
            if "." + "abc" in name:
                (partial / name).mkdir(exist_ok=True)
                (partial / name / "half").write_bytes(b"half")
            else:
                (partial / name).write_bytes(b"half")

    for held in left:
        leave()
        with _Holding(store, left[held]):
            store.sweep()
            assert [path.name for path in partial.iterdir()] == [held]
    store.sweep()
    assert list(partial.iterdir()) == []


def test_what_killed_processes_noted_of_stored_images_is_swept(photos: Path, store: DirectoryStore) -> None:
    fit_dataset([photos], store, TINY, masks="none", jobs=1)
    for key in (KEYS[0], "0" * 49):
        with _Holding(store, key) as process:
            process.kill()
            process.wait()
    store.sweep()
    assert [path.stem for path in (store.root / "claims").glob("*.json")] == ["0" * 49]
