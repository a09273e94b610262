"""Shards: parts of a dataset that are the same on every machine, whatever else is there."""

from __future__ import annotations

import os
import re
import zlib

from singan_aug.dataset._events import Outcome, Todo
from singan_aug.errors import ConfigError

__all__ = ["Shard", "in_shard", "read_shard"]

Shard = tuple[int, int]  # (number, count): 1 to count


def read_shard(text: str) -> Shard:
    """Of `3/8` (3, 8). Raises `ConfigError`."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    return checked((int(found[1]), int(found[2])) if found else (0, 0), text)


def checked(shard: Shard, given: object) -> Shard:
    """Raises `ConfigError` where there is no such shard."""
    if not 1 <= shard[0] <= shard[1]:
        raise ConfigError(f"expected a shard such as 3/8, from 1/8 to 8/8, got {given!r}")
    return shard


def in_shard(item: Todo | Outcome, shard: Shard) -> bool:
    """By the image's fingerprint, so that copies are in one shard; by its name where it could not be read."""
    number = int(item.key[:16], 16) if item.key else zlib.crc32(os.fsencode(item.path.name))
    return number % shard[1] == shard[0] - 1
