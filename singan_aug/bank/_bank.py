"""Bank: reading the variants that a store holds ready."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from typing import Any

import numpy as np
import xxhash

from singan_aug.bank._file import LENGTH, Banked, BankFile, BankSpec, Entry
from singan_aug.errors import CorruptPyramidError
from singan_aug.pyramid.confine import Confinement
from singan_aug.store import Store

__all__ = ["Bank"]

REOPEN_SEC = 1.0  # how often a reader looks whether there is another file


class Bank:
    """The variants that a store holds ready. Reading locks nothing; a bank may be drawn or refreshed meanwhile.

    It pickles and survives a fork; processes share what the system caches of the file. Constructing one touches
    nothing, and without a file it is an empty one, until there is a file: it looks again after a second. Every method
    raises `CorruptPyramidError` and `StoreFormatError` for a file that is no bank of this version; but where one that
    was is being written over, it is empty until that is done, and a training goes on.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._had_one = False
        self._reset(None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_store"])  # type: ignore[misc]

    def _reset(self, file: BankFile | None) -> None:
        self._file = file
        self._current: dict[int, bool] = {}
        self._looked_sec = time.monotonic() if file else -np.inf

    def _opened(self) -> BankFile | None:
        if time.monotonic() - self._looked_sec < REOPEN_SEC:
            return self._file
        path = self._store.bank_path
        if path is None:
            return None
        try:
            status = path.stat()
            found = (status.st_dev, status.st_ino, status.st_size)
            if self._file is None or self._file.identity != found or not self._file.is_as_it_was():
                self._reset(BankFile(path))
        except (FileNotFoundError, NotADirectoryError):
            self._reset(None)
        except CorruptPyramidError as error:
            if not self._had_one:
                raise
            self._reset(None)
            warnings.warn(f"nothing is taken from the bank: {error}", RuntimeWarning, stacklevel=3)
        except OSError as error:
            raise CorruptPyramidError(f"{path}: cannot be read ({error.strerror})") from None
        self._had_one = self._had_one or self._file is not None
        self._looked_sec = time.monotonic()
        return self._file

    @property
    def spec(self) -> BankSpec | None:
        """What it was asked to hold; None where there is no bank."""
        file = self._opened()
        return file.spec if file else None

    @property
    def confinement(self) -> Confinement | None:
        """What its variants are confined to, if to anything."""
        spec = self.spec
        return spec.confinement if spec else None

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
        return sum(slot[0] != 0 for slot in file.slots(row)) if file else 0

    def holds(self, entry: Entry) -> bool:
        """Whether it has room for variants of exactly this entry."""
        file, row = self._find(entry.key, entry.start_scale)
        return file is not None and file.entry(row)[0] == entry

    def variant(self, key: str, start_scale: int, seed: int) -> Banked | None:
        """The variant that the seed picks, always the same one of a bank that is left alone; None where there is none.

        A negative start scale counts from the finest. Variants of a pyramid that was removed, or was fitted anew, are
        not given out; each process looks at that once.
        """
        file, row = self._find(key, start_scale)
        if file is None or not self._is_current(file, row):
            return None
        first = xxhash.xxh3_64_intdigest(LENGTH.pack(seed % 2**64))  # so that consecutive seeds do not go in step
        for place in range(first, first + file.spec.variants):
            found = file.variant(row, place % file.spec.variants)
            if found:
                return found
        return None

    def _find(self, key: str, start_scale: int) -> tuple[BankFile, int] | tuple[None, int]:
        file = self._opened()
        if file is None:
            return None, 0
        name = key.encode()
        row = file.rows.get((name, start_scale + file.scales.get(name, 0) if start_scale < 0 else start_scale))
        return (None, 0) if row is None else (file, row)

    def _is_current(self, file: BankFile, row: int) -> bool:
        if row not in self._current:
            entry, _ = file.entry(row)
            self._current[row] = self._store.has_weights(entry.key, entry.weights_checksum)
        return self._current[row]

    def check(self) -> tuple[int, int, int]:
        """Read every slot: how many variants are whole, how many slots are empty, and how many are broken."""
        file = self._opened()
        if file is None:
            return 0, 0, 0
        found = Counter(file.state(row, i) for row in range(len(file)) for i in range(file.spec.variants))
        return found["whole"], found["empty"], found["broken"]
