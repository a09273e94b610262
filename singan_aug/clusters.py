"""Engines that run tasks on many machines: dask, through joblib, and ray, whose backend for joblib gives no results
before all are there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from singan_aug.errors import ConfigError

__all__ = ["BACKENDS", "Cluster", "connected", "is_lost"]

BACKENDS = ("dask", "ray")

# What a function gives for each of many arguments, in the order in which they are done. Only so many arguments are
# taken that all workers are busy.
Cluster = Callable[[Callable[..., Any], Iterable[Sequence[Any]]], Iterator[Any]]
LOST = {"KilledWorker", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "RayActorError", "ActorDiedError"}
RETRIES = 3  # of a task whose worker was killed


@contextmanager
def connected(name: str, address: str | None) -> Iterator[Cluster]:
    """A function that runs tasks there, while the engine is connected.

    Without an address: what the engine itself is set to, or one on this machine. Raises `ConfigError` where it is not
    installed or not there.
    """
    try:
        match name:
            case "dask":
                engine = _dask(address)
            case "ray":
                engine = _ray(address)
            case _:
                raise ConfigError(f"expected backend to be {' or '.join(BACKENDS)}, got {name!r}")
    except ImportError:
        raise ConfigError(f'{name} is not installed: pip install "singan-aug[{name}]"') from None
    except (OSError, ConnectionError) as error:
        raise ConfigError(f"cannot reach {name} at {address or 'its default address'}: {error}") from None
    try:
        yield engine.run
    finally:
        engine.close()


def is_lost(error: Exception) -> bool:
    """Whether it says that an engine gave a task up, since worker after worker died of it."""
    return type(error).__name__ in LOST


class _Engine:
    def __init__(self, run: Cluster, close: Callable[[], None]) -> None:
        self.run, self.close = run, close


def _dask(address: str | None) -> _Engine:
    import joblib
    from dask.distributed import Client
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        """joblib's waits for ever for a task that dask has given up: it is never told."""

        def submit(self, func: Any, callback: Any = None) -> Any:
            def tell(done: Any) -> None:
                if done.exception():
                    callback(done.exception())

            future = super().submit(func, callback)
            future.add_done_callback(tell)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return super().retrieve_result_callback(out)

    client = Client(address, set_as_default=False)

    def run(function: Callable[..., Any], arguments: Iterable[Sequence[Any]]) -> Iterator[Any]:
        with joblib.parallel_config(backend=Backend(client=client)):
            options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "2*n_jobs"}
            parallel = joblib.Parallel(n_jobs=-1, **options)
        yield from parallel(joblib.delayed(function)(*each) for each in arguments)

    return _Engine(run, client.close)


def _ray(address: str | None) -> _Engine:
    import ray

    was_there = ray.is_initialized()
    ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_called)

    def run(function: Callable[..., Any], arguments: Iterable[Sequence[Any]]) -> Iterator[Any]:
        left = iter(arguments)
        begun: list[Any] = []
        try:
            while True:
                room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1))) - len(begun)
                begun += [remote.remote(function, *each) for each in islice(left, room)]
                if not begun:
                    return
                done, begun = ray.wait(begun, num_returns=1)
                yield from ray.get(done)
        finally:
            for task in begun:
                ray.cancel(task, force=True)

    return _Engine(run, (lambda: None) if was_there else ray.shutdown)


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
