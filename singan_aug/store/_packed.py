"""A store in one file, to carry and to read from: a zip whose members are not compressed, with an index of its own.

Any program that knows zip files can open it: inside are the files of a store. Its comment says where the index lies,
the last member: for each pyramid, in the order of keys, where its two files begin and how long they are. Readers take
the index and read the files at their places; the names that the zip gives to its members are never looked at.
"""

from __future__ import annotations

import os
import re
import tempfile
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from singan_aug.errors import CorruptPyramidError, StoreFormatError, StoreWriteError
from singan_aug.store._base import writing
from singan_aug.store._entries import EntryStore
from singan_aug.store._files import open_regular, sync
from singan_aug.store._format import STORE_FILE, STORE_TEXT
from singan_aug.store._leftovers import KEY
from singan_aug.store._local import derived_of
from singan_aug.store._manifest import FORMAT_VERSION, MANIFEST_NAME, WEIGHTS_NAME, newer

__all__ = ["PACK_SUFFIX", "PackedStore", "write_pack"]

PACK_SUFFIX = ".zip"
_INDEX = "index"
_ROW = np.dtype([("key", "S49"), (MANIFEST_NAME, "<u8", 2), (WEIGHTS_NAME, "<u8", 2)])  # (first byte, length) of a file
_COMMENT = re.compile(rb"singan-aug pack (\d{1,9}) (\d{1,15}) (\d{1,9}) ([0-9a-f]{32})\Z")
_COMMENT_TEXT = "singan-aug pack {version} {first} {count} {checksum}"
_TAIL_BYTES = 200  # of a zip: what follows its list of members, and the comment


@dataclass(frozen=True, eq=False)
class _Opened:
    """An archive as it is read."""

    signature: tuple[int, int, int]  # of the file: another one in its place has another
    handle: int  # of the file, closed when nobody has this any more
    rows: NDArray[np.void]  # [N] of `_ROW`, by key
    first: int  # byte of the index, before which all files lie
    checksum: str


class PackedStore(EntryStore):
    """Pyramids in one file that is read only."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()
        self.location = str(self.path)
        self._archive: _Opened | None = None

    def __repr__(self) -> str:
        return f"PackedStore({self.location!r})"

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.location}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    @property
    def derived_path(self) -> Path | None:
        """In the user's cache: nothing is written beside the archive."""
        archive = self._opened()
        return derived_of(f"pack {archive.checksum}") if archive else None

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.path.is_file()

    def keys(self) -> Iterator[str]:
        """Of all pyramids, sorted. Raises `CorruptPyramidError`, `StoreFormatError`."""
        archive = self._opened()
        return iter([] if archive is None else [key.decode() for key in archive.rows["key"]])

    def __contains__(self, key: str) -> bool:
        return bool(KEY.fullmatch(key)) and self._place(key) is not None

    def find(self, fingerprint: str) -> list[str]:
        """By binary search."""
        return [key for key in self.shard_keys(fingerprint) if key.startswith(f"{fingerprint}-")]

    def shards(self) -> Mapping[str, int]:
        """One, which is another when the file is another."""
        archive = self._opened()
        return {"": archive.signature[0] or 1} if archive else {}

    def shard_keys(self, shard: str) -> list[str]:
        """By binary search."""
        archive = self._opened()
        if archive is None:
            return []
        keys = archive.rows["key"]
        low, high = np.searchsorted(keys, [shard.encode(), shard.encode() + b"g"])
        return [key.decode() for key in keys[low:high]]

    def changes(self) -> int:
        """The modification time of the file."""
        archive = self._opened()
        return archive.signature[0] if archive else 0

    def read(self, key: str, file_name: str, limit_bytes: int) -> bytes:
        """One of the two files of an entry."""
        self.refuse_odd_key(key)
        place = self._place(key)
        if place is None or self._archive is None:
            raise self.missing(key)
        first, length = map(int, self._archive.rows[place][file_name])
        if length > limit_bytes or first + length > self._archive.first:
            raise CorruptPyramidError(
                f"{self.location}: {key}: it cannot have {length:,} bytes at {first:,}: {_REMEDY}"
            )
        data = os.pread(self._archive.handle, length, first)
        if len(data) != length:
            raise CorruptPyramidError(f"{self.location}: {key}: the file ends too soon: {_REMEDY}")
        return data

    def put(self, key: str, manifest: bytes, weights: bytes) -> None:
        """Refused: an archive is never changed."""
        del key, manifest, weights
        raise self._read_only()

    def prepare(self) -> None:
        """Refused as `put` is."""
        raise self._read_only()

    def remove(self, key: str) -> None:
        """Refused as `put` is; a key that is not there is missing."""
        self.refuse_odd_key(key)
        raise self._read_only() if key in self else self.missing(key)

    def quarantine(self, key: str) -> str:
        """Refused as `put` is."""
        del key
        raise self._read_only()

    def _read_only(self) -> StoreWriteError:
        return StoreWriteError(
            f"{self.location} is a packed store, which is read only: `singan-aug store unpack {self.location} FOLDER` "
            "makes a folder of it"
        )

    def _place(self, key: str) -> int | None:
        archive = self._opened()
        if archive is None:
            return None
        place = int(np.searchsorted(archive.rows["key"], key.encode()))
        return place if place < len(archive.rows) and archive.rows["key"][place] == key.encode() else None

    def _opened(self) -> _Opened | None:
        """The archive, and another where the file has been replaced; None where there is none."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._archive is None or self._archive.signature != signature:
            try:
                self._archive = _open(self.path, signature)
            except OSError as error:
                raise CorruptPyramidError(f"{self.location}: cannot be read ({error.strerror})") from None
        return self._archive


_REMEDY = "it is damaged: pack the store again with `singan-aug store pack`"


def _open(path: Path, signature: tuple[int, int, int]) -> _Opened:
    with open_regular(path) as file:
        rows, first, checksum = _index(file, str(path))
        opened = _Opened(signature, os.dup(file.fileno()), rows, first, checksum)
    weakref.finalize(opened, os.close, opened.handle)
    return opened


def _index(file: BinaryIO, where: str) -> tuple[NDArray[np.void], int, str]:
    """The rows, the byte at which they begin, and their checksum."""
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    found = _COMMENT.search(tail)
    if not found:
        raise StoreFormatError(f"{where}: expected an archive that `singan-aug store pack` wrote, got another file")
    version, first, count = (int(number) for number in found.groups()[:3])
    if version > FORMAT_VERSION:
        raise newer(where, f"expected format {FORMAT_VERSION} or older, got {version}")
    data = os.pread(file.fileno(), count * _ROW.itemsize, first) if first + count * _ROW.itemsize <= size else b""
    checksum = found[4].decode()
    if len(data) == count * _ROW.itemsize and xxhash.xxh3_128_hexdigest(data) == checksum:
        rows = np.frombuffer(data, _ROW)
        keys = rows["key"]
        if not count or (_are_keys(keys) and bool((keys[:-1] < keys[1:]).all())):
            return rows, first, checksum
    raise CorruptPyramidError(f"{where}: {_REMEDY}")


def _are_keys(keys: NDArray[np.bytes_]) -> bool:
    """Whether each is 32 hexadecimal digits, a dash, and 16 more."""
    letters = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), -1)
    dash = letters == ord("-")
    digits = np.isin(letters, np.frombuffer(b"0123456789abcdef", np.uint8))
    return bool(dash[:, 32].all() and np.delete(digits, 32, axis=1).all())


def write_pack(path: Path, entries: Iterable[tuple[str, bytes, bytes]]) -> int:
    """Pack (key, manifest, weights), in the order of the keys, into a new file; how many. The same give the same bytes.

    Raises `StoreWriteError`, and then leaves no file.
    """
    with writing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                count = _write(file, entries)
                file.flush()
                os.fsync(file.fileno())
            aside.chmod(0o644)
            aside.replace(path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)
    return count


def _write(file: BinaryIO, entries: Iterable[tuple[str, bytes, bytes]]) -> int:
    rows = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(file, archive, STORE_FILE, STORE_TEXT.encode())
        for key, manifest, weights in entries:
            places = [
                _add(file, archive, f"pyramids/{key[:2]}/{key}/{name}", data)
                for name, data in ((WEIGHTS_NAME, weights), (MANIFEST_NAME, manifest))
            ]
            rows.append((key.encode(), places[1], places[0]))
        index = np.array(rows, dtype=_ROW)
        first, _ = _add(file, archive, _INDEX, index.tobytes())
        checksum = xxhash.xxh3_128_hexdigest(index.tobytes())
        archive.comment = _COMMENT_TEXT.format(
            version=FORMAT_VERSION, first=first, count=len(rows), checksum=checksum
        ).encode()
    return len(rows)


def _add(file: BinaryIO, archive: zipfile.ZipFile, name: str, data: bytes) -> tuple[int, int]:
    """(first byte, length) of a member's data."""
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)
    return file.tell() - len(data), len(data)
