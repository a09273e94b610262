"""How workers tell of their progress: each by a connection of its own to the process that started them."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Client, Connection, Listener

from singan_aug.dataset._events import Event, OnEvent
from singan_aug.workers import signals_held_back

__all__ = ["channel"]

LOST = (OSError, EOFError, AuthenticationError)


@contextmanager
def channel(notify: OnEvent, *, apart: bool) -> Iterator[tuple[OnEvent, OnEvent]]:
    """Two functions by which events reach `notify`, one after the other: for workers, and for this process.

    Without `apart` the workers are this process. Events are told, not counted on: a worker whose connection is lost
    works on.
    """
    if not apart:
        yield notify, notify
        return
    lock = threading.Lock()

    def report(event: Event) -> None:
        with lock:
            notify(event)

    key = bytes(current_process().authkey)
    # on Linux a name that is no file: none is too long, and none is left behind
    name = f"\0singan-aug-{os.getpid()}-{secrets.token_hex(8)}" if sys.platform == "linux" else None
    with Listener(name, authkey=key) as listener:
        closing = threading.Event()
        thread = threading.Thread(target=_accept, args=(listener, report, closing), daemon=True)
        with signals_held_back():
            thread.start()
        try:
            yield _Send(listener.address), report
        finally:
            closing.set()
            with suppress(*LOST):  # so that it stops to accept
                Client(listener.address, authkey=key).close()
            thread.join()


def _accept(listener: Listener, report: OnEvent, closing: threading.Event) -> None:
    while not closing.is_set():
        with suppress(*LOST):
            connection = listener.accept()
            threading.Thread(target=_hear, args=(connection, report), daemon=True).start()


def _hear(connection: Connection, report: OnEvent) -> None:
    with suppress(*LOST), connection:
        while True:
            report(connection.recv())
            connection.send(None)  # the worker waits: nothing is told of an image after its end


class _Send:
    """What a worker calls."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self._address = address

    def __call__(self, event: Event) -> None:
        with suppress(*LOST):
            connection = _connected(self._address)
            connection.send(event)
            connection.recv()


@lru_cache(1)
def _connected(address: str | tuple[str, int]) -> Connection:
    return Client(address, authkey=bytes(current_process().authkey))
