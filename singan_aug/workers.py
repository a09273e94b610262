"""One function over many arguments, side by side in processes of their own, which end with this one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import ProcessPoolExecutor

from singan_aug.clusters import Cluster, is_lost
from singan_aug.errors import WorkerLostError

__all__ = ["end_with_parent", "side_by_side", "signals_held_back"]

T = TypeVar("T")
WATCH_SEC = 0.5  # how often a process looks whether its parent is still there
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def side_by_side(
    function: Callable[..., T],
    arguments: Iterable[Sequence[Any]],
    jobs: int,
    *,
    apart: bool = False,
    cluster: Cluster | None = None,
) -> Iterator[T]:
    """What the function gives for each, in the order in which they are done.

    Where `jobs` is 1, in this process; with `apart` in one process beside it, so that this one lives on whatever
    happens there. Or, whatever `jobs` is, on all workers of a cluster, which `clusters.connected` gives.
    No more arguments are taken than are under way.

    Raises `WorkerLostError`, and whatever the function raises.
    """
    if cluster is not None:
        yield from _in_cluster(function, arguments, cluster)
        return
    if jobs == 1 and not apart:
        yield from (function(*each) for each in arguments)
        return
    try:
        yield from _in_one_worker(function, arguments) if jobs == 1 else _in_workers(function, arguments, jobs)
    except BrokenProcessPool:
        raise WorkerLostError(
            "a worker process was killed, most likely for want of memory: what was stored stays; "
            "run again with fewer side by side (--jobs), or with smaller images (--max-size of `fit`)"
        ) from None


def _in_workers(function: Callable[..., T], arguments: Iterable[Sequence[Any]], jobs: int) -> Iterator[T]:
    beginning = {"initializer": _begin_worker, "initargs": (os.getpid(),)}
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1, **beginning):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    with signals_held_back():  # the first tasks start the workers
        results = parallel(joblib.delayed(function)(*each) for each in arguments)
    yield from results


def _in_cluster(function: Callable[..., T], arguments: Iterable[Sequence[Any]], cluster: Cluster) -> Iterator[T]:
    try:
        yield from cluster(function, arguments)
    except Exception as error:
        if not is_lost(error):
            raise
        raise WorkerLostError(f"the cluster gave up a task, since its workers died of it: {error}") from None


def _in_one_worker(function: Callable[..., T], arguments: Iterable[Sequence[Any]]) -> Iterator[T]:
    executor = ProcessPoolExecutor(1, initializer=_begin_worker, initargs=(os.getpid(),), env=ONE_THREAD)
    try:
        for each in arguments:
            with signals_held_back():
                future = executor.submit(function, *each)
            yield future.result()
    finally:
        executor.shutdown(kill_workers=True)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """For the moment in which processes and threads are started, which inherit it.

    Ctrl-C and SIGTERM are the parent's alone to handle, and one that comes in this moment is delivered after it.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # else loky starts it in this moment, and that lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(parent: int) -> None:
    """In a worker, before its first task."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """From now on this process ends within a second of the one that started it, however that one ends.

    On Windows a process cannot tell, and nothing is done.
    """
    if sys.platform != "win32":
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SEC)
    os._exit(1)
