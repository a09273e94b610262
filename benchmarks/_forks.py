"""Fits in forked processes, which have this one's modules already: a kill costs no import of torch.

This process runs no threads of torch's, so a fork of it is whole.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks._damage import picture
from benchmarks._result import say
from singan_aug import learned, workers
from singan_aug.dataset import Event, fit_dataset
from singan_aug.errors import StoreError
from singan_aug.store import DirectoryStore
from singan_aug.store._manifest import WEIGHTS_NAME

__all__ = ["WAIT_SEC", "ended", "fit", "forked", "photos", "start_workers_by_fork", "state"]

SIZE = (40, 56)
BRIEF = {"coarsest_px": 16, "steps_coarsest": 20, "width": 8}  # of `learned`: a fit takes about a second
WAIT_SEC = 300.0  # that a process may take to end
WEIGHTS_BYTES = 2**24


def photos(folder: Path, count: int) -> list[Path]:
    """So many images, each another."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(picture(number, SIZE)).save(path)
    return paths


def forked(act: Callable[[], int]) -> int:
    """A process, and a group, of its own; its id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        code = act()
    finally:
        os._exit(code)


def ended(child: int) -> int:
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


def start_workers_by_fork() -> None:
    """Fits apart, as those of what was killed before, are in forked workers from now on."""
    resource_tracker.ensure_running()  # once here, not in each of them
    workers._in_one_worker = _in_one_worker


def _in_one_worker(function: Callable[..., Any], arguments: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """As in `workers`, but for how the process is started."""
    context, parent = get_context("fork"), (os.getpid(),)
    with ProcessPoolExecutor(1, context, initializer=workers._begin_worker, initargs=parent) as executor:
        for each in arguments:
            yield executor.submit(function, *each).result()


def fit(
    paths: list[Path], place: Path, on_event: Callable[[Event], None] | None = None, *, retry_failed: bool = False
) -> int:
    """What one process does, by itself; its exit code."""
    report = fit_dataset(
        paths, str(place), learned(**BRIEF), batch_images=1, jobs=1, retry_failed=retry_failed, on_event=on_event
    )
    return 1 if report.failed else 0


def state(place: Path) -> tuple[dict[str, bytes], int]:
    """The weights of each whole pyramid, and how many are broken."""
    store, found, broken = DirectoryStore(place), {}, 0
    for key in store.keys():
        try:
            store.load(key)
            found[key] = store.read(key, WEIGHTS_NAME, WEIGHTS_BYTES)
        except StoreError as error:
            say(str(error))
            broken += 1
    return found, broken
