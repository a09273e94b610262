"""How many threads the work here takes: one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread of the CPU, for the time being.

    The tensors here are too small to gain from more; on a busy machine threads that wait for each other cost fifty
    times what they save; and another count could change the last digit of a sum, hence a pixel.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
