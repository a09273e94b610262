"""Fits side by side, one in each process, that report to the process that started them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.managers import SyncManager

import joblib

from singan_aug.config import FitConfig
from singan_aug.dataset._events import OnEvent, Outcome, Progress, Todo
from singan_aug.errors import FitDivergedError, ImageError, LabelError, StoreWriteError, is_out_of_memory
from singan_aug.images import load_image, quiet_decoding
from singan_aug.store import Store, make_key, open_store
from singan_aug.workers import interrupts_ignored, side_by_side

__all__ = ["choose_jobs", "fit_one", "fit_side_by_side"]

WORKER_LOAD = 4e10  # multiply-adds that take longer than starting a worker process and importing torch in it


def choose_jobs(todo: Sequence[Todo], config: FitConfig, jobs: int | None) -> int:
    """How many fits to run side by side: what is asked for, or one for each core that has enough to do."""
    from singan_aug.fitting import fit_load

    if jobs is None:
        load = sum(fit_load(item.size, item.channels, config) for item in todo)
        jobs = min(joblib.cpu_count(), max(1, round(load / WORKER_LOAD)))
    return max(1, min(jobs, len(todo)))


def fit_side_by_side(
    todo: tuple[Todo, ...], location: str, config: FitConfig, device: str, jobs: int | None, notify: OnEvent
) -> list[Outcome]:
    """Each image in a process of its own, `jobs` at a time; first those that no other call is at."""
    jobs = choose_jobs(todo, config, jobs)
    outcomes: list[Outcome] = []
    with _channel(jobs, notify) as send:
        for wait in (False, True):  # first whatever no other process is at, then wait for the rest
            arguments = [(item, location, config, device, wait, send) for item in todo]
            busy = []
            for item, outcome in side_by_side(fit_one, arguments, jobs):
                if outcome is None:
                    busy.append(item)
                else:
                    outcomes.append(outcome)
                    send(outcome)
            todo = tuple(busy)
            if not todo:
                break
    return outcomes


def fit_one(
    item: Todo, location: str, config: FitConfig, device: str, wait: bool, send: OnEvent
) -> tuple[Todo, Outcome | None]:
    """Claim, fit and store one image. No outcome where another process is at it and `wait` is False."""
    store = open_store(location)
    try:
        store.prepare()  # a full disk is noticed before the fit, not after it
        with store.claim(item.key, wait=wait) as mine:
            if not mine:
                return item, None
            if item.key in store:  # another process finished it since the plan was made
                return item, Outcome(item.path, "present", item.key, notes=item.notes)
            process_sec = _fit_and_save(item, store, config, device, send)
            return item, Outcome(item.path, "fitted", item.key, notes=item.notes, process_sec=process_sec)
    except (ImageError, LabelError, FitDivergedError, StoreWriteError) as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = "out of memory: use a smaller --max-size, or fewer fits side by side (--jobs)"
    return item, Outcome(item.path, "failed", item.key, message, item.notes)


def _fit_and_save(item: Todo, store: Store, config: FitConfig, device: str, send: OnEvent) -> float:
    """The process seconds that it took."""
    from singan_aug.fitting import fit
    from singan_aug.pyramid.threads import one_thread

    started_sec = time.process_time()
    with one_thread(), quiet_decoding():
        pixels = load_image(item.path).pixels
        size = (pixels.shape[0], pixels.shape[1])
        mask = item.mask and item.mask.read(size)
        pyramid = fit(pixels, config, mask=mask, device=device, on_event=lambda e: send(Progress(item.path, e)))
        store.save(make_key(pixels, config, mask), pyramid, name=item.path.name, source_size=size)
    return time.process_time() - started_sec


@contextmanager
def _channel(jobs: int, notify: OnEvent) -> Iterator[OnEvent]:
    """A function by which workers report, in this process or another; `notify` gets one event after the other."""
    if jobs == 1:
        yield notify
        return
    manager = SyncManager()
    with interrupts_ignored():
        manager.start(initializer=_end_with_parent)
    with manager:
        queue = manager.Queue()

        def listen() -> None:
            with suppress(OSError, EOFError):  # the queue's process may be gone first after an interruption
                for event in iter(queue.get, None):
                    notify(event)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield queue.put
        finally:
            with suppress(OSError, EOFError):
                queue.put(None)
            listener.join()


def _end_with_parent() -> None:
    """In the queue's process: end when the parent is killed, and let the workers see that it is gone."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
