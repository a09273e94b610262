"""The bank: variants drawn beforehand, in one file of a store that every process maps and none copies.

::

    8 bytes   length of the header, little-endian
    header    JSON, padded with spaces: what the bank was asked to hold, and where the rest lies
    entries   one record for each pyramid and start scale, sorted
    slots     `variants` records for each entry: checksum, seed and round of a variant; zeros while there is none
    pixels    of every slot, [H, W, C], in the order of the slots

The file is laid out aside and renamed into place with empty slots, which then fill; so it is of use while it is being
drawn, and drawing resumes where it stopped. A variant is one whose pixels and seed give its checksum: a reader copies
the pixels, checks, and takes another slot where a writer was at work, whether that writer lives or not. Only writers
lock.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from singan_aug.errors import CorruptPyramidError
from singan_aug.images import Pixels
from singan_aug.pyramid.sizes import StartScale
from singan_aug.store import checksum, refuse_newer

__all__ = [
    "ENTRY",
    "LENGTH",
    "SLOT",
    "BankFile",
    "BankSpec",
    "Banked",
    "Entry",
    "Slot",
    "bank_bytes",
    "guard",
    "seeded_checksum",
]

LENGTH = struct.Struct("<Q")
SLOT = struct.Struct("<QQQ")  # checksum, seed, round
ENTRY = struct.Struct("<49sHHIIBB32sQ")  # an `Entry`, and where its pixels begin


@dataclass(frozen=True)
class BankSpec:
    """What a bank is asked to hold."""

    variants: int  # of each pyramid at each start scale
    start_scales: tuple[StartScale, ...]  # as they were given, for each pyramid to resolve
    seed: int  # the variants' seeds derive from it


class Entry(NamedTuple):
    """The variants of one pyramid at one start scale."""

    key: str
    start_scale: int  # 0 to scales - 1
    scales: int  # that the pyramid has
    height: int  # of its finest scale, as the variants'
    width: int
    channels: int
    turn_code: int  # of its manifest: which way round the variants are held
    weights_checksum: str  # of its manifest: variants of another fit under the same key are none of this one

    @property
    def variant_bytes(self) -> int:
        """What the pixels of one variant take."""
        return self.height * self.width * self.channels


class Slot(NamedTuple):
    """The place of one variant."""

    entry: int  # position of its entry in the file
    place: int  # 0 to variants - 1
    round: int  # how often it was drawn anew


class Banked(NamedTuple):
    """A variant out of the bank."""

    pixels: Pixels  # [H, W, C] at the size of the pyramid, a copy
    seed: int  # drawing with it gives these pixels
    turn_code: int  # images.turn_between(pixels, turn_code, the image's own) is the variant as the image is held


def bank_bytes(entries: Sequence[Entry], variants: int) -> int:
    """Length of the file that holds them, but for its header."""
    return sum(variants * (entry.variant_bytes + SLOT.size) for entry in entries) + len(entries) * ENTRY.size


class BankFile:
    """A bank's file, mapped. Raises OSError, `CorruptPyramidError`, `StoreFormatError`."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            self.identity = (status.st_dev, status.st_ino, status.st_size)
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b""
        try:
            (length,) = LENGTH.unpack_from(self.map)
            header = json.loads(self.map[LENGTH.size : LENGTH.size + length])
            refuse_newer(header["format_version"], str(path))
            table_at = LENGTH.size + length
            self.slots_at: int = table_at + header["entries"] * ENTRY.size
            table = self.map[table_at : self.slots_at]
            intact = header.pop("checksum") == guard(header, table) and len(self.map) == header["bytes"]
            self.spec = BankSpec(header["variants"], tuple(header["start_scales"]), header["seed"])
        except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            intact = False
        if not intact:
            raise CorruptPyramidError(
                f"{path}: not a bank that this package wrote, or truncated: remove it with `singan-aug bank --rm` and "
                "draw it again"
            )
        self._table = table

    def __len__(self) -> int:
        return len(self._table) // ENTRY.size

    @cached_property
    def rows(self) -> dict[tuple[bytes, int], int]:
        """Position of each entry by key and start scale."""
        return {(key, start): row for row, (key, start, *_) in enumerate(ENTRY.iter_unpack(self._table))}

    @cached_property
    def scales(self) -> dict[bytes, int]:
        """How many scales each pyramid has."""
        return {key: scales for key, _, scales, *_ in ENTRY.iter_unpack(self._table)}

    def entry(self, row: int) -> tuple[Entry, int]:
        """An entry, and where its pixels begin."""
        key, start_scale, scales, height, width, channels, turn_code, weights, pixels_at = ENTRY.unpack_from(
            self._table, row * ENTRY.size
        )
        return Entry(key.decode(), start_scale, scales, height, width, channels, turn_code, weights.decode()), pixels_at

    @property
    def entries(self) -> list[Entry]:
        """All of them, in the order of the file."""
        return [self.entry(row)[0] for row in range(len(self))]

    def slot_at(self, row: int, place: int) -> int:
        """Where a slot begins."""
        return self.slots_at + (row * self.spec.variants + place) * SLOT.size

    def slot(self, row: int, place: int) -> tuple[int, int, int]:
        """Checksum, seed and round."""
        return SLOT.unpack_from(self.map, self.slot_at(row, place))

    def variant(self, row: int, place: int) -> Banked | None:
        """What a slot holds, copied; None where it is empty or being written."""
        found, seed, _ = self.slot(row, place)
        if not found:
            return None
        entry, pixels_at = self.entry(row)
        start = pixels_at + place * entry.variant_bytes
        copied = np.frombuffer(self.map, np.uint8, entry.variant_bytes, start).copy()
        if seeded_checksum(copied, seed) != found:
            return None
        return Banked(copied.reshape(entry.height, entry.width, entry.channels), seed, entry.turn_code)


def seeded_checksum(pixels: NDArray[np.uint8], seed: int) -> int:
    """Of a variant's pixels and its seed; never 0."""
    return xxhash.xxh3_64_intdigest(pixels.data, seed) or 1  # 0 marks an empty slot


def guard(header: dict[str, Any], table: bytes) -> str:
    """The checksum that a header holds, over all else in it and the entries."""
    return checksum(json.dumps(header, sort_keys=True).encode() + table)
