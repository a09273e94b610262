"""Counts: what became of the images, and the epoch, shared by all the processes of a loader."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import RawArray, context
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

__all__ = ["Counts"]

ROWS = 257  # the main process and as many workers; those beyond share the last row


class Counts:
    """Counts in shared memory, a row for each worker, so that none waits for another and none is lost.

    A copy that a starting process is given shares the memory, and a forked process does. Any other copy begins at zero:
    what was counted is no part of what a transform is, so pickles and hashes of it do not change as it counts.
    """

    def __init__(self, names: Sequence[str], epoch: int = 0) -> None:
        self._names = tuple(names)
        self._share(_shared_memory(1 + ROWS * len(self._names)))
        self.epoch = epoch

    def _share(self, memory: Any) -> None:
        self._memory = memory
        numbers = np.frombuffer(memory, np.int64)
        self._epoch, self._rows = numbers[:1], numbers[1:].reshape(ROWS, len(self._names))

    def __getstate__(self) -> dict[str, Any]:
        # multiprocessing's own way to tell a pickle for a process that it starts from any other
        starting = context.get_spawning_popen() is not None
        shared = self._memory if starting and not isinstance(self._memory, mmap.mmap) else None
        return {"names": self._names, "epoch": self.epoch, "memory": shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["memory"] is None:
            self.__init__(state["names"], state["epoch"])  # type: ignore[misc]
        else:
            self._names = state["names"]
            self._share(state["memory"])

    @property
    def epoch(self) -> int:
        """Which epoch it is, in all processes."""
        return int(self._epoch[0])

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch

    def add(self, name: str) -> None:
        """One more."""
        worker = get_worker_info()
        row = 0 if worker is None else min(worker.id + 1, ROWS - 1)
        self._rows[row, self._names.index(name)] += 1

    def total(self) -> dict[str, int]:
        """The counts of all processes, by name."""
        return dict(zip(self._names, self._rows.sum(0).tolist(), strict=True))


def _shared_memory(count: int) -> Any:
    """`count` int64 zeros that processes share: a piece of multiprocessing's own heap, one file for all of a process.

    Where no file can be made (a read-only /dev/shm), memory that forked processes share.
    """
    with suppress(OSError):
        return RawArray("q", count)
    return mmap.mmap(-1, 8 * count)
