"""Who is at work on a key: locks that the operating system releases when a process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from singan_aug.errors import StoreWriteError
from singan_aug.store._base import writing
from singan_aug.store._files import make_folder

__all__ = ["CLAIM_SEC", "Claims"]

CLAIM_SEC = 10.0  # that a save or a removal waits for another of the same key


class Claims:
    """The claims of one store, in a folder of lock files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}  # and the process that has them: a fork has none

    @contextmanager
    def claim(self, key: str, timeout_sec: float) -> Iterator[bool]:
        """False where another process has it for longer than that; a negative time is for ever.

        Raises `StoreWriteError`.
        """
        lock = FileLock(self._folder / f"{key}.lock", timeout=timeout_sec)
        try:
            with writing(str(self._folder.parent)):
                make_folder(self._folder)
                lock.acquire()
        except Timeout:
            yield False
            return
        self._held[key] = os.getpid()
        try:
            yield True
        finally:
            del self._held[key]
            lock.release()

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """While no other process saves or removes this key: under the claim that this one has, or a short one."""
        if self._held.get(key) == os.getpid():
            yield
            return
        with self.claim(key, CLAIM_SEC) as mine:
            if not mine:
                raise StoreWriteError(
                    f"another process is at work on {key} in {self._folder.parent}: try again when it is done"
                )
            yield
