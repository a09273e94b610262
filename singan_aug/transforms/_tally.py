"""Tally: what became of the images, counted across all the processes of a loader."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import get_worker_info

__all__ = ["Tally"]

ROWS = 257  # the main process and as many workers; those beyond share the last row


class Tally:
    """Counts in shared memory, a row for each worker, so that none waits for another and none is lost.

    A copy that reaches a loader's worker counts into the same memory; any other copy counts for itself.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._counts = torch.zeros(ROWS, len(self._names), dtype=torch.int64).share_memory_()

    def add(self, name: str) -> None:
        """One more."""
        worker = get_worker_info()
        row = 0 if worker is None else min(worker.id + 1, ROWS - 1)
        self._counts[row, self._names.index(name)] += 1

    def total(self) -> dict[str, int]:
        """The counts of all processes, by name."""
        return dict(zip(self._names, self._counts.sum(0).tolist(), strict=True))

    def clear(self) -> None:
        """Begin anew."""
        self._counts.zero_()
