"""The bank: variants drawn beforehand, in one file of a store that every process maps and none copies.

::

    8 bytes   length of the header, little-endian
    header    JSON, padded with spaces: what the bank was asked to hold, and where the rest lies
    strips    one record for each pyramid and start scale, sorted
    slots     `variants` records for each strip: checksum, seed and round of a variant; zeros while there is none
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
import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from singan_aug.errors import CorruptPyramidError, MissingPyramidError, StoreError, StoreWriteError
from singan_aug.images import Pixels
from singan_aug.store._base import Store, writing
from singan_aug.store._manifest import FORMAT_VERSION, checksum, refuse_newer

__all__ = ["Bank", "BankSpec", "BankWriter", "Banked", "Slot", "Strip", "bank_bytes"]

REOPEN_SEC = 1.0  # how often a reader looks whether there is another file

_LENGTH = struct.Struct("<Q")
_SLOT = struct.Struct("<QQQ")  # checksum, seed, round
_STRIP = struct.Struct("<49sHHIIBB32sQ")  # a `Strip`, and where its pixels begin


@dataclass(frozen=True)
class BankSpec:
    """What a bank is asked to hold."""

    variants: int  # of each pyramid at each start scale
    start_scales: tuple[int, ...]  # as they were given: negative ones count from each pyramid's finest
    seed: int  # the variants' seeds derive from it


class Strip(NamedTuple):
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

    strip: int  # position of its strip in the file
    place: int  # 0 to variants - 1
    round: int  # how often it was drawn anew


class Banked(NamedTuple):
    """A variant out of the bank."""

    pixels: Pixels  # [H, W, C] at the size of the pyramid, a copy
    seed: int  # drawing with it gives these pixels
    turn_code: int  # images.turn_between(pixels, turn_code, the image's own) is the variant as the image is held


def bank_bytes(strips: Sequence[Strip], variants: int) -> int:
    """Length of the file that holds them, but for its header."""
    return sum(variants * (strip.variant_bytes + _SLOT.size) for strip in strips) + len(strips) * _STRIP.size


class _File:
    """A bank's file, mapped. Raises OSError, `CorruptPyramidError`, `StoreFormatError`."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            self.identity = (status.st_dev, status.st_ino, status.st_size)
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b""
        try:
            (length,) = _LENGTH.unpack_from(self.map)
            header = json.loads(self.map[_LENGTH.size : _LENGTH.size + length])
            refuse_newer(header["format_version"], str(path))
            table_at = _LENGTH.size + length
            self.slots_at: int = table_at + header["strips"] * _STRIP.size
            table = self.map[table_at : self.slots_at]
            intact = header.pop("checksum") == _guard(header, table) and len(self.map) == header["bytes"]
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
        return len(self._table) // _STRIP.size

    @cached_property
    def rows(self) -> dict[tuple[bytes, int], int]:
        """Position of each strip by key and start scale."""
        return {(key, start): row for row, (key, start, *_) in enumerate(_STRIP.iter_unpack(self._table))}

    @cached_property
    def scales(self) -> dict[bytes, int]:
        """How many scales each pyramid has."""
        return {key: scales for key, _, scales, *_ in _STRIP.iter_unpack(self._table)}

    def strip(self, row: int) -> tuple[Strip, int]:
        """A strip, and where its pixels begin."""
        key, start_scale, scales, height, width, channels, turn_code, weights, pixels_at = _STRIP.unpack_from(
            self._table, row * _STRIP.size
        )
        return Strip(key.decode(), start_scale, scales, height, width, channels, turn_code, weights.decode()), pixels_at

    @property
    def strips(self) -> list[Strip]:
        return [self.strip(row)[0] for row in range(len(self))]

    def slot_at(self, row: int, place: int) -> int:
        return self.slots_at + (row * self.spec.variants + place) * _SLOT.size

    def slot(self, row: int, place: int) -> tuple[int, int, int]:
        """Checksum, seed and round."""
        return _SLOT.unpack_from(self.map, self.slot_at(row, place))

    def variant(self, row: int, place: int) -> Banked | None:
        """What a slot holds, copied; None where it is empty or being written."""
        found, seed, _ = self.slot(row, place)
        if not found:
            return None
        strip, pixels_at = self.strip(row)
        start = pixels_at + place * strip.variant_bytes
        copied = np.frombuffer(self.map, np.uint8, strip.variant_bytes, start).copy()
        if _seeded_checksum(copied, seed) != found:
            return None
        return Banked(copied.reshape(strip.height, strip.width, strip.channels), seed, strip.turn_code)


def _seeded_checksum(pixels: NDArray[np.uint8], seed: int) -> int:
    return xxhash.xxh3_64_intdigest(pixels.data, seed) or 1  # 0 marks an empty slot


class Bank:
    """The variants that a store holds ready. Reading locks nothing; a bank may be drawn or refreshed meanwhile.

    It pickles and survives a fork; each process maps the file for itself and shares its pages. Constructing one touches
    nothing, and without a file it is an empty one, until there is a file: it looks again after a second.
    Every method raises `CorruptPyramidError` and `StoreFormatError` for a file that is no bank of this version.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reset(None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_store"])  # type: ignore[misc]

    def _reset(self, file: _File | None) -> None:
        self._file = file
        self._current: dict[int, bool] = {}
        self._looked_sec = time.monotonic() if file else -np.inf

    def _opened(self) -> _File | None:
        if time.monotonic() - self._looked_sec < REOPEN_SEC:
            return self._file
        path = self._store.bank_path
        if path is None:
            return None
        try:
            status = path.stat()
            if self._file is None or self._file.identity != (status.st_dev, status.st_ino, status.st_size):
                self._reset(_File(path))
        except (FileNotFoundError, NotADirectoryError):
            self._reset(None)
        except OSError as error:
            raise CorruptPyramidError(f"{path}: cannot be read ({error.strerror})") from None
        self._looked_sec = time.monotonic()
        return self._file

    @property
    def spec(self) -> BankSpec | None:
        """What it was asked to hold; None where there is no bank."""
        file = self._opened()
        return file.spec if file else None

    def scales(self, key: str) -> int | None:
        """How many scales a pyramid has; None where the bank does not know it."""
        file = self._opened()
        return file.scales.get(key.encode()) if file else None

    def start_scales(self, key: str) -> tuple[int, ...]:
        """The start scales, 0 or more, for which it has room for variants of this pyramid."""
        file = self._opened()
        count = self.scales(key) or 0
        return tuple(k for k in range(count) if (key.encode(), k) in file.rows) if file else ()

    def count(self, key: str, start_scale: int) -> int:
        """How many variants it holds. Negative start scales count from the finest."""
        file, row = self._find(key, start_scale)
        return sum(file.slot(row, i)[0] != 0 for i in range(file.spec.variants)) if file else 0

    def holds(self, strip: Strip) -> bool:
        """Whether it has room for variants of exactly this strip."""
        file, row = self._find(strip.key, strip.start_scale)
        return file is not None and file.strip(row)[0] == strip

    def variant(self, key: str, start_scale: int, seed: int) -> Banked | None:
        """The variant that the seed picks, always the same one of a bank that is left alone; None where there is none.

        A negative start scale counts from the finest. Variants of a pyramid that was removed, or was fitted anew, are
        not given out; each process looks at that once.
        """
        file, row = self._find(key, start_scale)
        if file is None or not self._is_current(file, row):
            return None
        first = xxhash.xxh3_64_intdigest(_LENGTH.pack(seed % 2**64))  # so that consecutive seeds do not go in step
        for place in range(first, first + file.spec.variants):
            found = file.variant(row, place % file.spec.variants)
            if found:
                return found
        return None

    def _find(self, key: str, start_scale: int) -> tuple[_File, int] | tuple[None, int]:
        file = self._opened()
        if file is None:
            return None, 0
        name = key.encode()
        row = file.rows.get((name, start_scale + file.scales.get(name, 0) if start_scale < 0 else start_scale))
        return (None, 0) if row is None else (file, row)

    def _is_current(self, file: _File, row: int) -> bool:
        if row not in self._current:
            strip, _ = file.strip(row)
            self._current[row] = self._store.has_weights(strip.key, strip.weights_checksum)
        return self._current[row]

    def check(self) -> tuple[int, int, int]:
        """Read every slot: how many variants are whole, how many slots are empty, and how many are broken."""
        file = self._opened()
        whole = empty = 0
        if file is None:
            return 0, 0, 0
        slots = [(row, i) for row in range(len(file)) for i in range(file.spec.variants)]
        for slot in slots:
            whole += file.variant(*slot) is not None
            empty += file.slot(*slot)[0] == 0
        return whole, empty, len(slots) - whole - empty


class BankWriter:
    """The one process that writes a store's bank; make it with `BankWriter.claimed`."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store, self._path = store, path
        self._aside = path.parent / "partial" / path.name

    @classmethod
    @contextmanager
    def claimed(cls, store: Store) -> Iterator[BankWriter]:
        """The writer, while no other process writes. Raises `StoreWriteError` where one does, or the store cannot be
        written or has no place for a bank.
        """
        if store.bank_path is None:
            raise StoreWriteError(f"expected a store in a folder to draw a bank in, got {store.location}")
        store.prepare()
        with store.claim("bank", wait=False) as mine:
            if not mine:
                raise StoreWriteError(
                    f"another process is drawing the bank of {store.location}: run this again when it is done"
                )
            yield cls(store, store.bank_path)

    def remove(self) -> None:
        """Delete the bank. Raises `MissingPyramidError` where there is none."""
        with writing(self._store.location):
            try:
                self._path.unlink()
            except FileNotFoundError:
                raise MissingPyramidError(f"there is no bank in {self._store.location}") from None

    @contextmanager
    def opened(self, spec: BankSpec, strips: Sequence[Strip]) -> Iterator[OpenBank]:
        """The bank with room for these strips; variants that an older one has of them are kept.

        Raises `StoreWriteError`, before anything is written where there is no room for all of it.
        """
        strips = sorted(strips)
        old = None
        with suppress(OSError, StoreError):  # missing, broken or of another version: nothing of it is kept
            old = _File(self._path)
        if old is None or old.spec != spec or old.strips != strips:
            self._lay_out(spec, strips, old)
        with writing(self._store.location):
            file = self._path.open("r+b", buffering=0)
        with file:
            yield OpenBank(file, _File(self._path), self._store.location)
            with writing(self._store.location):
                os.fsync(file.fileno())

    def _lay_out(self, spec: BankSpec, strips: Sequence[Strip], old: _File | None) -> None:
        with writing(self._store.location):
            self._aside.unlink(missing_ok=True)  # of a process that was cut short
            free, needed = shutil.disk_usage(self._path.parent).free, bank_bytes(strips, spec.variants)
            if needed > free:
                raise StoreWriteError(
                    f"the bank takes {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free in "
                    f"{self._store.location}: ask for fewer --variants or start scales, or free space"
                )
            try:
                with self._aside.open("w+b", buffering=0) as file:
                    _write_empty(file, spec, strips)
                    if old is not None and old.spec.seed == spec.seed:
                        _carry_over(old, OpenBank(file, _File(self._aside), self._store.location))
                    os.fsync(file.fileno())
                self._aside.replace(self._path)
            finally:
                self._aside.unlink(missing_ok=True)


class OpenBank:
    """A bank's slots, to be filled."""

    def __init__(self, file: Any, mapped: _File, location: str) -> None:
        self._file, self._mapped, self._location = file, mapped, location
        self.spec, self.strips = mapped.spec, mapped.strips

    @property
    def capacity(self) -> int:
        """How many variants it has room for."""
        return len(self.strips) * self.spec.variants

    def missing(self, *, check: bool) -> list[Slot]:
        """The slots without a variant, in the order of the file; with `check`, also those that are broken."""
        found = []
        for slot, full in self._slots():
            if not full or (check and self._mapped.variant(slot.strip, slot.place) is None):
                found.append(slot._replace(round=slot.round if full else 0))
        return found

    def oldest(self, count: int) -> list[Slot]:
        """The slots that were drawn anew least often, to be drawn once more: first of every strip, then the next."""
        full = sorted((slot.round, slot.place, slot.strip) for slot, full in self._slots() if full)
        return [Slot(strip, place, done + 1) for done, place, strip in full[:count]]

    def _slots(self) -> Iterator[tuple[Slot, bool]]:
        for row in range(len(self.strips)):
            for place in range(self.spec.variants):
                found, _, done = self._mapped.slot(row, place)
                yield Slot(row, place, done), found != 0

    def write(self, slot: Slot, seed: int, pixels: Pixels) -> None:
        """Put a variant into its slot. At no moment does a reader get half of it. Raises `StoreWriteError`."""
        strip = self.strips[slot.strip]
        expected = (strip.height, strip.width, strip.channels)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise ValueError(f"expected uint8 pixels {expected}, got {pixels.dtype} {pixels.shape}")
        flat = np.ascontiguousarray(pixels).reshape(-1)
        slot_at = self._mapped.slot_at(slot.strip, slot.place)
        with writing(self._location):
            _put(self._file, slot_at, bytes(_SLOT.size))
            _put(self._file, self._mapped.strip(slot.strip)[1] + slot.place * strip.variant_bytes, flat.data)
            _put(self._file, slot_at, _SLOT.pack(_seeded_checksum(flat, seed), seed, slot.round))


def _write_empty(file: Any, spec: BankSpec, strips: Sequence[Strip]) -> None:
    sizes = [spec.variants * strip.variant_bytes for strip in strips]
    header: dict[str, Any] = {
        "format": "singan-aug bank",
        "format_version": FORMAT_VERSION,
        **asdict(spec),
        "strips": len(strips),
        "bytes": 0,
    }
    room = len(json.dumps(header)) + 80  # for the checksum, and for the digits of `bytes`
    length = -(room // -64) * 64 - _LENGTH.size
    pixels_at = _LENGTH.size + length + len(strips) * (_STRIP.size + spec.variants * _SLOT.size)
    starts = list(accumulate(sizes, initial=pixels_at))
    table = b"".join(
        _STRIP.pack(strip.key.encode(), *strip[1:-1], strip.weights_checksum.encode(), at)
        for strip, at in zip(strips, starts, strict=False)
    )
    header["bytes"] = starts[-1]
    header["checksum"] = _guard(header, table)
    _put(file, 0, _LENGTH.pack(length) + json.dumps(header).encode().ljust(length) + table)
    file.truncate(starts[-1])  # zeros: empty slots, and no room on the disk yet


def _guard(header: dict[str, Any], table: bytes) -> str:
    return checksum(json.dumps(header, sort_keys=True).encode() + table)


def _carry_over(old: _File, new: OpenBank) -> None:
    for row, strip in enumerate(new.strips):
        before = old.rows.get((strip.key.encode(), strip.start_scale))
        if before is None or old.strip(before)[0] != strip:
            continue
        for place in range(min(old.spec.variants, new.spec.variants)):
            found = old.variant(before, place)
            if found:
                new.write(Slot(row, place, old.slot(before, place)[2]), found.seed, found.pixels)


def _put(file: Any, at: int, data: Any) -> None:
    file.seek(at)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
