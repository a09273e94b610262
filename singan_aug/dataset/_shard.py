"""Shards: parts of a dataset that are the same on every machine, whatever else is there."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import xxhash

from singan_aug.errors import ConfigError

__all__ = ["Shard", "in_shard", "read_shard"]

FIRST_BYTES = 2**16
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


def in_shard(path: Path, shard: Shard) -> bool:
    """By the file's length and its first bytes, so that copies of it are in one shard, and no other image is decoded.

    By its name where it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            number = xxhash.xxh3_64_intdigest(file.read(FIRST_BYTES), seed=os.fstat(file.fileno()).st_size)
    except OSError:
        number = zlib.crc32(os.fsencode(path.name))
    return number % shard[1] == shard[0] - 1
