"""Fits side by side, one in each process, that report to the process that started them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import joblib

from singan_aug.clusters import Cluster
from singan_aug.config import FitConfig
from singan_aug.dataset._channel import channel
from singan_aug.dataset._events import Event, OnEvent, Outcome, Progress, Todo, Waiting
from singan_aug.errors import (
    FitDivergedError,
    ImageError,
    LabelError,
    StoreWriteError,
    WorkerLostError,
    is_out_of_memory,
)
from singan_aug.images import Mask, Pixels, load_image, quiet_decoding
from singan_aug.store import Key, Store, make_key, open_store
from singan_aug.workers import side_by_side

if TYPE_CHECKING:
    from singan_aug.fitting import FitEvent
    from singan_aug.pyramid import Pyramid

__all__ = ["Fits", "choose_jobs", "fitted_outcome", "key_of"]

WORKER_LOAD = 4e10  # multiply-adds that take longer than starting a worker process and importing torch in it
POLL_SEC = 0.5  # how often to look whether another process is done with an image
KILLED = (
    "its fit ended its process, also when it was tried alone, most likely for want of memory: "
    "use a smaller --max-size, or leave this image out"
)


def choose_jobs(todo: Sequence[Todo], config: FitConfig, jobs: int | None) -> int:
    """How many fits to run side by side: what is asked for, or one for each core that has enough to do."""
    if jobs is None and len(todo) > 1:
        from singan_aug.fitting import fit_load  # imports torch

        load = sum(fit_load(item.size, item.channels, config) for item in todo)
        jobs = min(joblib.cpu_count(), max(1, round(load / WORKER_LOAD)))
    return max(1, min(jobs or 1, len(todo)))


class Fits:
    """The fits of one call: each image once, whatever becomes of processes.

    With `apart` even one fit at a time is in a worker process, so that this one outlives it. With a
    `cluster` they are on its workers, which tell nothing before they are done; only what killed some is tried again
    here. Once the first has begun, no other begins after `until_sec`, by the monotonic clock.
    """

    def __init__(
        self,
        store: Store,
        config: FitConfig,
        device: str,
        notify: OnEvent,
        *,
        jobs: int = 1,
        apart: bool = False,
        cluster: Cluster | None = None,
        until_sec: float = math.inf,
        begun: bool = False,
    ) -> None:
        self._store, self._config, self._device = store, config, device
        self._notify, self._jobs, self._apart, self._cluster = notify, jobs, apart, cluster
        self._until_sec, self._begun = until_sec, begun
        self.outcomes: list[Outcome] = []

    def run(self, todo: Sequence[Todo], wait_sec: float, *, busy: Sequence[Todo] = ()) -> None:
        """Fit them all; first those that no other process is at, then what a killed process was at before.

        `busy` are further images, at which another process was.
        """
        suspected = self._store.abandoned(item.key for item in todo)
        busy = [*busy, *self._side_by_side([item for item in todo if item.key not in suspected])]
        busy += self._alone([item for item in todo if item.key in suspected], begun=False)
        self._wait(busy, wait_sec)

    def _wait(self, busy: list[Todo], wait_sec: float) -> None:
        """Fit what other processes are at when they give it up, or take what they made of it; so long at most."""
        until_sec = time.monotonic() + wait_sec
        told = False
        while busy and time.monotonic() < self._until_sec:
            held = {item.key: holder for item in busy if (holder := self._store.holder(item.key))}
            free = [item for item in busy if item.key not in held]
            done = [item for item in free if item.key in self._store]
            for item in done:
                self._settle(Outcome(item.path, "present", item.key, notes=item.notes))
            again = self._side_by_side([item for item in free if item not in done])
            busy = [item for item in busy if item.key in held]
            left_sec = until_sec - time.monotonic()
            if left_sec <= 0:
                for item in busy:
                    message = (
                        f"{held[item.key]} has claimed it, for more than {wait_sec:g} s (--wait-sec): end that process"
                    )
                    self._settle(Outcome(item.path, "failed", item.key, message, item.notes))
                busy = []
            elif busy and not told:
                self._notify(Waiting(tuple((item.path, held[item.key]) for item in busy), wait_sec))
                told = True
            busy += again
            if busy:
                time.sleep(max(0.0, min(POLL_SEC, left_sec)))

    def _side_by_side(self, items: Sequence[Todo]) -> list[Todo]:
        """Fit these; the ones under way when a worker was killed alone. Gives those that other processes are at."""
        left, busy = deque(items), list[Todo]()
        while left and not self._time_is_up():
            busy += self._alone(self._until_lost(left, busy, self._jobs, self._cluster, apart=self._apart), begun=True)
        return busy

    def _alone(self, items: Sequence[Todo], *, begun: bool) -> list[Todo]:
        """Fit one after the other in a worker of their own: one that ends that too is to blame itself.

        What was `begun` here, and is stored, was fitted here.
        """
        left, busy = deque(items), list[Todo]()
        while left and not self._time_is_up():
            for item in self._until_lost(left, busy, 1, None, apart=True, begun=begun):
                self._store.failures.note(item.key, KILLED)
                self._settle(Outcome(item.path, "failed", item.key, KILLED, item.notes))
        return busy

    def _until_lost(
        self,
        left: deque[Todo],
        busy: list[Todo],
        jobs: int,
        cluster: Cluster | None,
        *,
        apart: bool,
        begun: bool = False,
    ) -> list[Todo]:
        """Fit what is left until it is empty, or a worker was killed; gives those that were under way then."""
        under_way: dict[str, Todo] = {}
        jobs = min(jobs, len(left))
        local = channel(self._notify, apart=apart or jobs > 1)
        with local if cluster is None else nullcontext((_silent, self._notify)) as (send, report):

            def tasks() -> Iterator[tuple[Any, ...]]:
                while left and not self._time_is_up():
                    item = left.popleft()
                    self._begun = True
                    under_way[item.key] = item
                    yield item, self._store.location, self._config, self._device, send

            with suppress(WorkerLostError):
                for item, outcome in side_by_side(fit_one, tasks(), jobs, apart=apart, cluster=cluster):
                    del under_way[item.key]
                    if outcome is None:
                        busy.append(item)
                        continue
                    if begun and outcome.status == "present":
                        outcome = replace(outcome, status="fitted")
                    self.outcomes.append(outcome)
                    report(outcome)
        return list(under_way.values())

    def _time_is_up(self) -> bool:
        return self._begun and time.monotonic() >= self._until_sec

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._notify(outcome)


def _silent(event: Event) -> None:
    """What workers on other machines call."""


def fit_one(item: Todo, location: str, config: FitConfig, device: str, send: OnEvent) -> tuple[Todo, Outcome | None]:
    """Claim, fit and store one image. No outcome where another process is at it."""
    store = open_store(location)
    try:
        store.prepare()  # a full disk is noticed before the fit, not after it
        with store.claim(item.key, wait=False) as mine:
            if not mine:
                return item, None
            if item.key in store:  # another process finished it since the plan was made
                return item, Outcome(item.path, "present", item.key, notes=item.notes)
            return item, _fit_and_save(item, store, config, device, send)
    except (ImageError, LabelError, StoreWriteError) as error:
        return item, Outcome(item.path, "failed", item.key, str(error), item.notes)
    except FitDivergedError as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = "out of memory: use a smaller --max-size, or fewer fits side by side (--jobs)"
    store.failures.note(item.key, message)
    return item, Outcome(item.path, "failed", item.key, message, item.notes)


def _fit_and_save(item: Todo, store: Store, config: FitConfig, device: str, send: OnEvent) -> Outcome:
    from singan_aug.fitting import fit
    from singan_aug.pyramid.threads import one_thread

    started_sec, unfinished = time.process_time(), store.unfinished(item.key)

    def tell(event: FitEvent) -> None:
        send(Progress(item.path, event))

    with one_thread(), quiet_decoding():
        pixels = load_image(item.path).pixels
        size = (pixels.shape[0], pixels.shape[1])
        mask = None if item.mask is None else item.mask.read(size)
        key = key_of(item, pixels, config, mask)
        pyramid = fit(pixels, config, mask=mask, device=device, on_event=tell, checkpoint=unfinished)
        store.save(key, pyramid, name=item.path.name, source_size=size)
    store.failures.forget(item.key)
    if unfinished:
        with suppress(OSError):
            unfinished.unlink()
    return fitted_outcome(item, pyramid, time.process_time() - started_sec)


def key_of(item: Todo, pixels: Pixels, config: FitConfig, mask: Mask | None) -> Key:
    """The one it was planned with. Raises `ImageError` where the file holds another image or mask by now."""
    key = make_key(pixels, config, mask)
    if str(key) != item.key:
        raise ImageError("the image or its mask was changed while others were fitted: run the same command again")
    return key


def fitted_outcome(item: Todo, pyramid: Pyramid, process_sec: float) -> Outcome:
    """Of an image that was fitted now."""
    errors = pyramid.provenance.get("reconstruction_rmse") or [None]
    return Outcome(item.path, "fitted", item.key, "", item.notes, process_sec, errors[-1])
