"""The bank: variants drawn beforehand, in one file of a store that every process reads from and none loads.

::

    8 bytes   length of the header, little-endian
    header    JSON, padded with spaces: what the bank was asked to hold, and where the rest lies
    entries   one record for each pyramid and start scale, sorted
    slots     `variants` records for each entry: checksum, seed and round of a variant; zeros while there is none
    pixels    of every slot, [H, W, C], in the order of the slots

The file is laid out aside and renamed into place with empty slots, which then fill; so it is of use while it is being
drawn, and drawing resumes where it stopped. A variant is one whose pixels, seed and round give its checksum: a reader
copies the pixels, checks, and takes another slot where a writer was at work, whether that writer lives or not. Only
writers lock.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import struct
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from singan_aug.errors import ConfigError, CorruptPyramidError
from singan_aug.images import Pixels
from singan_aug.pyramid.confine import MARGIN_PX, Confine, Confinement
from singan_aug.pyramid.sizes import START_WORDS, StartScale
from singan_aug.store import checksum, open_regular, refuse_newer

__all__ = [
    "ENTRY",
    "LENGTH",
    "MOST_VARIANTS",
    "SLOT",
    "BankFile",
    "BankSpec",
    "Banked",
    "Entry",
    "Slot",
    "bank_bytes",
    "guard",
    "is_int",
    "slot_checksum",
]

LENGTH = struct.Struct("<Q")
SLOT = struct.Struct("<QQQ")  # checksum, seed, round
ENTRY = struct.Struct("<49sHHIIBB32sQ")  # an `Entry`, and where its pixels begin
TABLE = np.dtype(
    [
        ("key", "S49"),
        ("start_scale", "<u2"),
        ("scales", "<u2"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("channels", "u1"),
        ("turn_code", "u1"),
        ("weights_checksum", "S32"),
        ("pixels_at", "<u8"),
    ]
)  # the same
MOST_VARIANTS = 10_000  # of each pyramid at each start scale
MOST_SCALES, MOST_PX, HEADER_BYTES = 256, 2**20, 2**16
LOOKS = 8  # at one slot, while another process writes it

SlotState = Literal["whole", "empty", "broken"]

_ROUND = 0x9E3779B97F4A7C15  # odd, so that no two rounds of a seed are the same
_KEY = re.compile(rb"[0-9a-f]{32}-[0-9a-f]{16}")


@dataclass(frozen=True)
class BankSpec:
    """What a bank is asked to hold."""

    variants: int  # of each pyramid at each start scale
    start_scales: tuple[StartScale, ...]  # as they were given, for each pyramid to resolve
    seed: int  # the variants' seeds derive from it
    confine: Confine | None = None  # as in `pyramid.confine`
    confine_margin_px: float = MARGIN_PX

    @property
    def confinement(self) -> Confinement | None:
        """What its variants are confined to. Raises `ConfigError`."""
        return Confinement.of(self.confine, self.confine_margin_px)

    def draws_as(self, other: BankSpec) -> bool:
        """Whether the same place holds the same variant."""
        return (self.seed, self.confinement) == (other.seed, other.confinement)

    def seed_of(self, entry: Entry, slot: Slot) -> int:
        """What the variant in a slot of an entry is drawn with."""
        from singan_aug.pyramid.noise import derive_seed  # torch

        return derive_seed("bank", self.seed, entry.key, entry.start_scale, slot.place, slot.round)


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
    """A bank's file, opened. Raises OSError, `CorruptPyramidError`, `StoreFormatError`.

    It is read at places, not mapped: a file that somebody cuts short would end every process that has it mapped.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_regular(path)
        weakref.finalize(self, self._file.close)
        self._turn = threading.Lock()  # where reading moves the file's own place
        status = os.fstat(self._file.fileno())
        self.identity = (status.st_dev, status.st_ino, status.st_size)
        try:
            self._head, header, table = self._read_head()
            refuse_newer(header["format_version"], str(path))
            intact = header.pop("checksum") == guard(header, table) and status.st_size == header["bytes"]
            how = (header.get("confine"), header.get("confine_margin_px", MARGIN_PX))  # not in those of before
            self.spec = BankSpec(header["variants"], tuple(header["start_scales"]), header["seed"], *how)
            intact = intact and is_spec(self.spec)
            self._table = np.frombuffer(table, TABLE)
            self.slots_at: int = len(self._head) + len(table)
            intact = intact and _is_layout(self._table, self.spec, self.slots_at, status.st_size)
        except (ConfigError, struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            intact = False
        if not intact:
            raise CorruptPyramidError(
                f"{path}: not a bank that this package wrote, or truncated: remove it with "
                f"`{shlex.join(['singan-aug', 'bank', '--rm', '--store', str(path.parent)])}` and draw it again"
            )

    def _read_head(self) -> tuple[bytes, dict[str, Any], bytes]:
        """Everything up to the entries, the header out of it, and the entries."""
        (length,) = LENGTH.unpack(self._read(0, LENGTH.size))
        if length > HEADER_BYTES:
            raise ValueError("no header is as long")
        head = self._read(0, LENGTH.size + length)
        header = json.loads(head[LENGTH.size :])
        count = header["entries"]
        if not isinstance(count, int) or not 0 <= count * ENTRY.size <= self.identity[2]:
            raise ValueError("more entries than the file has room for")
        return head, header, self._read(len(head), count * ENTRY.size)

    def _read(self, at: int, count: int) -> bytes:
        """So many bytes from a place on, fewer where the file ends before."""
        into = np.empty(count, np.uint8)
        return into[: self._read_into(into, at)].tobytes()

    def _read_into(self, into: NDArray[np.uint8], at: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [into.data], at)
        with self._turn:
            self._file.seek(at)
            return self._file.readinto(into.data) or 0  # type: ignore[attr-defined]

    def is_as_it_was(self) -> bool:
        """Whether nobody has put another bank into the same file."""
        return self._read(0, len(self._head)) == self._head

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def rows(self) -> dict[tuple[bytes, int], int]:
        """Position of each entry by key and start scale."""
        keys, starts = self._table["key"].tolist(), self._table["start_scale"].tolist()
        return {(key, start): row for row, (key, start) in enumerate(zip(keys, starts, strict=True))}

    @cached_property
    def scales(self) -> dict[bytes, int]:
        """How many scales each pyramid has."""
        return dict(zip(self._table["key"].tolist(), self._table["scales"].tolist(), strict=True))

    def entry(self, row: int) -> tuple[Entry, int]:
        """An entry, and where its pixels begin."""
        key, start_scale, scales, height, width, channels, turn_code, weights, pixels_at = self._table[row].tolist()
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
        return self._unpacked(self._read(self.slot_at(row, place), SLOT.size))[0]

    def slots(self, row: int) -> list[tuple[int, int, int]]:
        """Those of an entry."""
        return self._unpacked(self._read(self.slot_at(row, 0), self.spec.variants * SLOT.size))

    def _unpacked(self, data: bytes) -> list[tuple[int, int, int]]:
        count = max(1, len(data) // SLOT.size)
        return list(SLOT.iter_unpack(data[: count * SLOT.size].ljust(count * SLOT.size, b"\0")))

    def variant(self, row: int, place: int) -> Banked | None:
        """What a slot holds, copied; None where it is empty or being written, or the file was cut short."""
        found, seed, done = self.slot(row, place)
        if not found:
            return None
        entry, pixels_at = self.entry(row)
        pixels = np.empty(entry.variant_bytes, np.uint8)
        if self._read_into(pixels, pixels_at + place * entry.variant_bytes) != len(pixels):
            return None
        if slot_checksum(pixels, seed, done) != found:
            return None
        return Banked(pixels.reshape(entry.height, entry.width, entry.channels), seed, entry.turn_code)

    def state(self, row: int, place: int) -> SlotState:
        """What a slot is. One that is written meanwhile is looked at again; empty, where it is written all the time."""
        for _ in range(LOOKS):
            before = self.slot(row, place)
            if not any(before):
                return "empty"
            if self.variant(row, place) is not None:
                return "whole"
            if self.slot(row, place) == before:
                return "broken"
        return "empty"


def is_spec(spec: BankSpec) -> bool:
    """Whether a bank can be asked to hold this."""

    def is_start(scale: StartScale) -> bool:
        return scale in START_WORDS if isinstance(scale, str) else is_int(scale) and abs(scale) < MOST_SCALES

    return (
        is_int(spec.variants)
        and 1 <= spec.variants <= MOST_VARIANTS
        and 1 <= len(spec.start_scales) <= MOST_SCALES
        and all(map(is_start, spec.start_scales))
        and is_int(spec.seed)
        and 0 <= spec.seed < 2**63
        and (spec.confine is None or spec.confinement is not None)
    )


def is_int(value: Any) -> bool:
    """Whether it is a whole number and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_layout(table: NDArray[Any], spec: BankSpec, slots_at: int, length: int) -> bool:
    """Whether the pixels of the entries lie one after the other up to the end of the file, in order of the keys."""
    sides = [table[name].astype(np.int64) for name in ("height", "width", "channels")]
    if any(((side < 1) | (side > MOST_PX)).any() for side in sides):
        return False
    sizes = spec.variants * sides[0] * sides[1] * sides[2]
    first = slots_at + len(table) * spec.variants * SLOT.size
    names = list(zip(table["key"].tolist(), table["start_scale"].tolist(), strict=True))
    return bool(
        (sizes <= length).all()
        and np.array_equal(table["pixels_at"], first + np.cumsum(sizes) - sizes)
        and first + int(sizes.sum()) == length
        and (table["start_scale"] < table["scales"]).all()
        and (table["scales"] <= MOST_SCALES).all()
        and (table["channels"] <= 4).all()
        and (table["turn_code"] < 8).all()
        and all(_KEY.fullmatch(key) for key, _ in names)
        and all(one < other for one, other in pairwise(names))
    )


def slot_checksum(pixels: NDArray[np.uint8], seed: int, done: int) -> int:
    """Of a variant's pixels, its seed and its round; never 0. One flipped bit of any of them gives another."""
    return xxhash.xxh3_64_intdigest(pixels.data, (seed + _ROUND * done) % 2**64) or 1  # 0 marks an empty slot


def guard(header: dict[str, Any], table: bytes) -> str:
    """The checksum that a header holds, over all else in it and the entries."""
    return checksum(json.dumps(header, sort_keys=True).encode() + table)
