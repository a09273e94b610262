"""Writing a bank's file: laid out, filled slot by slot, removed; by one process at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from singan_aug.bank._file import (
    ENTRY,
    LENGTH,
    SLOT,
    BankFile,
    BankSpec,
    Entry,
    Slot,
    bank_bytes,
    guard,
    slot_checksum,
)
from singan_aug.errors import MissingPyramidError, StoreError, StoreWriteError
from singan_aug.images import Pixels
from singan_aug.store import FORMAT_VERSION, Store, refuse_links, writing

__all__ = ["BankWriter", "OpenBank"]


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
    def opened(self, spec: BankSpec, entries: Sequence[Entry]) -> Iterator[OpenBank]:
        """The bank with room for these entries; variants that an older one has of them are kept.

        Raises `StoreWriteError`, before anything is written where there is no room for all of it.
        """
        entries = sorted(entries)
        old = None
        with suppress(OSError, StoreError):  # missing, broken or of another version: nothing of it is kept
            old = BankFile(self._path)
        if old is None or old.spec != spec or old.entries != entries:
            self._lay_out(spec, entries, old)
        with writing(self._store.location):
            refuse_links(self._path)
            file = self._path.open("r+b", buffering=0)
        with file:
            yield OpenBank(file, BankFile(self._path), self._store.location)
            with writing(self._store.location):
                os.fsync(file.fileno())

    def _lay_out(self, spec: BankSpec, entries: Sequence[Entry], old: BankFile | None) -> None:
        with writing(self._store.location):
            self._aside.unlink(missing_ok=True)  # of a process that was cut short
            free, needed = shutil.disk_usage(self._path.parent).free, bank_bytes(entries, spec.variants)
            if needed > free:
                raise StoreWriteError(
                    f"the bank takes {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free in "
                    f"{self._store.location}: ask for fewer --variants or start scales, or free space"
                )
            try:
                with self._aside.open("w+b", buffering=0) as file:
                    _write_empty(file, spec, entries)
                    if old is not None and old.spec.draws_as(spec):
                        _carry_over(old, OpenBank(file, BankFile(self._aside), self._store.location))
                    os.fsync(file.fileno())
                self._aside.replace(self._path)
            finally:
                self._aside.unlink(missing_ok=True)


class OpenBank:
    """A bank's slots, to be filled."""

    def __init__(self, file: Any, opened: BankFile, location: str) -> None:
        self._file, self._opened, self._location = file, opened, location
        self.spec, self.entries = opened.spec, opened.entries

    @property
    def capacity(self) -> int:
        """How many variants it has room for."""
        return len(self.entries) * self.spec.variants

    def missing(self, *, check: bool) -> list[Slot]:
        """The slots without a variant, in the order of the file; with `check`, also those that are broken.

        What is broken is to be drawn as it was; where its round is lost, as it was at first.
        """
        found = []
        for slot, full in self._slots():
            if not full or (check and self._opened.variant(slot.entry, slot.place) is None):
                _, seed, _ = self._opened.slot(slot.entry, slot.place)
                known = full and seed == self.spec.seed_of(self.entries[slot.entry], slot)
                found.append(slot if known else slot._replace(round=0))
        return found

    def oldest(self, count: int) -> list[Slot]:
        """The slots that were drawn anew least often, to be drawn once more: first of every entry, then the next."""
        full = sorted((slot.round, slot.place, slot.entry) for slot, full in self._slots() if full)
        return [Slot(entry, place, done + 1) for done, place, entry in full[:count]]

    def _slots(self) -> Iterator[tuple[Slot, bool]]:
        for row in range(len(self.entries)):
            for place, (found, _, done) in enumerate(self._opened.slots(row)):
                yield Slot(row, place, done), found != 0

    def write(self, slot: Slot, seed: int, pixels: Pixels) -> None:
        """Put a variant into its slot. At no moment does a reader get half of it. Raises `StoreWriteError`."""
        entry = self.entries[slot.entry]
        expected = (entry.height, entry.width, entry.channels)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise ValueError(f"expected uint8 pixels {expected}, got {pixels.dtype} {pixels.shape}")
        flat = np.ascontiguousarray(pixels).reshape(-1)
        slot_at = self._opened.slot_at(slot.entry, slot.place)
        with writing(self._location):
            _put(self._file, slot_at, bytes(SLOT.size))
            _put(self._file, self._opened.entry(slot.entry)[1] + slot.place * entry.variant_bytes, flat.data)
            _put(self._file, slot_at, SLOT.pack(slot_checksum(flat, seed, slot.round), seed, slot.round))


def _write_empty(file: Any, spec: BankSpec, entries: Sequence[Entry]) -> None:
    sizes = [spec.variants * entry.variant_bytes for entry in entries]
    header: dict[str, Any] = {
        "format": "singan-aug bank",
        "format_version": FORMAT_VERSION,
        **{name: value for name, value in asdict(spec).items() if spec.confine or "confine" not in name},
        "entries": len(entries),
        "bytes": 0,
    }
    room = len(json.dumps(header)) + 80  # for the checksum, and for the digits of `bytes`
    length = -(room // -64) * 64 - LENGTH.size
    pixels_at = LENGTH.size + length + len(entries) * (ENTRY.size + spec.variants * SLOT.size)
    starts = list(accumulate(sizes, initial=pixels_at))
    table = b"".join(
        ENTRY.pack(entry.key.encode(), *entry[1:-1], entry.weights_checksum.encode(), at)
        for entry, at in zip(entries, starts, strict=False)
    )
    header["bytes"] = starts[-1]
    header["checksum"] = guard(header, table)
    _put(file, 0, LENGTH.pack(length) + json.dumps(header).encode().ljust(length) + table)
    file.truncate(starts[-1])  # zeros: empty slots, and no room on the disk yet


def _carry_over(old: BankFile, new: OpenBank) -> None:
    for row, entry in enumerate(new.entries):
        before = old.rows.get((entry.key.encode(), entry.start_scale))
        if before is None or old.entry(before)[0] != entry:
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
