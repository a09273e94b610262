"""Who is at work on a key: locks that the operating system releases when a process ends, however it ends.

Beside the lock lies a note of who has it. The holder touches the note every BEAT_SEC and removes it at the end. So a
note without a lock was left by a process that was killed; and a lock whose note is not touched any more is that of a
process that was stopped, or of a machine that is gone. Others find that out by their own steady clock: they look
whether the note has changed, and never compare one machine's time with another's.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from singan_aug.errors import StoreWriteError
from singan_aug.store._base import Holder, writing
from singan_aug.store._files import listed, make_folder, read_file, write_new

__all__ = ["CLAIM_SEC", "Claims"]

CLAIM_SEC = 10.0  # that a save or a removal waits for another of the same key
BEAT_SEC = 5.0  # how often the holder of a claim touches its note
EXPIRE_SEC = 60.0  # a claim whose note has not been touched for so long is no longer one
NOTE_BYTES = 4096  # the longest note that is read
UNKNOWN = Holder("an unknown machine", 0, "an unknown time")


class Claims:
    """The claims of one store, in a folder of lock files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}  # and the process that has them: a fork has none
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}  # of others' notes: which touch, and seen when

    @contextmanager
    def claim(self, key: str, timeout_sec: float, *, noted: bool = True) -> Iterator[bool]:
        """False where another process has it for longer than that; a negative time is for ever.

        Raises `StoreWriteError`.
        """
        lock = FileLock(self._lock(key), timeout=timeout_sec)
        try:
            with writing(str(self._folder.parent)):
                make_folder(self._folder)
                lock.acquire()
        except Timeout:
            yield False
            return
        self._held[key] = os.getpid()
        try:
            with self._noted(key) if noted else nullcontext():
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
        with self.claim(key, CLAIM_SEC, noted=False) as mine:
            if not mine:
                raise StoreWriteError(
                    f"another process is at work on {key} in {self._folder.parent}: try again when it is done"
                )
            yield

    def holder(self, key: str) -> Holder | None:
        """Who has it; None where nobody has.

        A claim whose note nobody has touched for EXPIRE_SEC, while this object was asked again and again, is broken.
        """
        if self._is_free(key):
            return None
        touch = self._touch(key)
        before, since_sec = self._seen.get(key, (None, 0.0))
        if touch is None or touch != before:
            self._seen.pop(key, None)
            if touch is not None:
                self._seen[key] = (touch, time.monotonic())
        elif time.monotonic() - since_sec > EXPIRE_SEC:
            return self._break(key, touch)
        return self._read(key)

    def abandoned(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that a process was at when it was killed, and nobody is at now."""
        return {key for key in self._noted_keys().intersection(keys) if self._is_free(key) and self._touch(key)}

    def forget(self, is_done: Callable[[str], bool]) -> None:
        """Remove what killed processes noted of keys that were done all the same."""
        for key in self.abandoned(filter(is_done, self._noted_keys())):
            with self.claim(key, 0):
                pass  # whoever has had it removes the note

    def _noted_keys(self) -> set[str]:
        return {name.removesuffix(".json") for name in listed(self._folder) if name.endswith(".json")}

    def _lock(self, key: str) -> Path:
        return self._folder / f"{key}.lock"

    def _note(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _is_free(self, key: str) -> bool:
        if not self._lock(key).exists():
            return True
        try:
            with FileLock(self._lock(key), timeout=0):
                return True
        except Timeout:
            return False
        except OSError:  # whoever claims it says what is wrong
            return True

    def _touch(self, key: str) -> tuple[int, int] | None:
        """Which note it is, and its last touch; None where there is none."""
        try:
            found = self._note(key).lstat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _read(self, key: str) -> Holder:
        try:
            found = json.loads(read_file(self._note(key), NOTE_BYTES))
            return Holder(str(found["host"]), int(found["pid"]), str(found["since"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return UNKNOWN

    def _break(self, key: str, touch: tuple[int, int]) -> Holder | None:
        """Take the lock away from a holder that shows no sign of life; whoever claims the key next has a new one."""
        with suppress(OSError), FileLock(self._folder / "expired.lock", timeout=CLAIM_SEC):
            if self._touch(key) == touch:  # else another process broke it before, and it may be claimed anew
                self._note(key).unlink()
                self._lock(key).unlink(missing_ok=True)
        self._seen.pop(key, None)
        return None if self._is_free(key) else self._read(key)

    @contextmanager
    def _noted(self, key: str) -> Iterator[None]:
        """A note of this process, touched as long as it is at work."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        try:
            number = write_new(self._note(key), json.dumps(asdict(Holder(socket.gethostname(), os.getpid(), now))))
        except OSError:
            yield  # a full disk: nobody will know who it is
            return
        done = threading.Event()
        threading.Thread(target=_beat, args=(self._note(key), number, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()
            with suppress(OSError):
                if self._note(key).lstat().st_ino == number:
                    self._note(key).unlink()


def _beat(path: Path, number: int, done: threading.Event) -> None:
    """Touch a note until it is done, or the note is another's."""
    while not done.wait(BEAT_SEC):
        with suppress(OSError):
            if path.lstat().st_ino != number:
                return
            os.utime(path)
