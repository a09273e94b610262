"""Counts: what became of the images, counted across all the processes of a loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import get_worker_info

__all__ = ["Counts"]

ROWS = 257  # the main process and as many workers; those beyond share the last row


class Counts:
    """Counts in shared memory, a row for each worker, so that none waits for another and none is lost.

    A copy that reaches a loader's worker counts into the same memory; any other copy counts for itself.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._counts = torch.zeros(ROWS, len(self._names), dtype=torch.int64).share_memory_()
        self._seen = self._counts.numpy()  # the same memory, counted in sooner

    def __getstate__(self) -> dict[str, Any]:
        return {"_names": self._names, "_counts": self._counts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _seen=state["_counts"].numpy())

    def add(self, name: str) -> None:
        """One more."""
        worker = get_worker_info()
        row = 0 if worker is None else min(worker.id + 1, ROWS - 1)
        self._seen[row, self._names.index(name)] += 1

    def total(self) -> dict[str, int]:
        """The counts of all processes, by name."""
        return dict(zip(self._names, self._counts.sum(0).tolist(), strict=True))

    def clear(self) -> None:
        """Begin anew."""
        self._counts.zero_()
