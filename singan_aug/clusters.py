"""Engines that run tasks on many machines, as joblib's backends: dask, ray, or another that joblib knows by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from singan_aug.errors import ConfigError

__all__ = ["BACKENDS", "connected", "is_lost"]

BACKENDS = ("dask", "ray")


@contextmanager
def connected(name: str, address: str | None) -> Iterator[Any]:
    """What `joblib.parallel_config` takes as its backend, while the engine is connected.

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
        yield engine.backend
    finally:
        engine.close()


def is_lost(error: Exception) -> bool:
    """Whether it says that an engine gave a task up, since worker after worker died of it."""
    return type(error).__name__ in {"KilledWorker", "WorkerCrashedError", "RayActorError", "ActorDiedError"}


class _Engine:
    def __init__(self, backend: Any, close: Any) -> None:
        self.backend, self.close = backend, close


def _dask(address: str | None) -> _Engine:
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
    return _Engine(Backend(client=client), client.close)


def _ray(address: str | None) -> _Engine:
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(address, ignore_reinit_error=True, log_to_driver=False)
    return _Engine("ray", ray.shutdown)
