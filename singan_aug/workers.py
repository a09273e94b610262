"""One function over many arguments, side by side in processes of their own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib

from singan_aug.errors import WorkerLostError

__all__ = ["interrupts_ignored", "side_by_side"]

T = TypeVar("T")


def side_by_side(function: Callable[..., T], arguments: Sequence[Sequence[Any]], jobs: int) -> Iterator[T]:
    """What the function gives for each, in the order in which they are done; in this process where `jobs` is 1.

    Raises `WorkerLostError`, and whatever the function raises.
    """
    if jobs == 1:
        yield from (function(*each) for each in arguments)
        return
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    try:
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            with interrupts_ignored():  # the first tasks start the workers
                results = parallel(joblib.delayed(function)(*each) for each in arguments)
            yield from results
    except BrokenProcessPool:
        raise WorkerLostError(
            "a worker process was killed, most likely for want of memory: what was stored stays; "
            "run again with fewer side by side (--jobs), or with smaller images (--max-size of `fit`)"
        ) from None


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """For the moment in which processes are started, which inherit it: Ctrl-C is the parent's alone to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
