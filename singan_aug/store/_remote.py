"""A store on any file system that fsspec knows: `s3://BUCKET/FOLDER`, `gs://`, `hf://`, `memory://` and so on.

The files are those of a folder store, each written whole or not at all by such file systems, the manifest last. What is
read is kept on this machine: weights under their checksum, manifests under what the list of files says of them. That
list is trusted for ten seconds, or for a hundred times as long as it took.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
import xxhash
from filelock import FileLock, Timeout

from singan_aug.errors import ConfigError, CorruptPyramidError, StoreWriteError
from singan_aug.store._checks import WEIGHTS_BYTES
from singan_aug.store._entries import EntryStore
from singan_aug.store._files import make_folder, read_file
from singan_aug.store._format import STORE_BYTES, STORE_FILE, STORE_TEXT, check_store_text
from singan_aug.store._leftovers import KEY
from singan_aug.store._local import derived_of, local_of
from singan_aug.store._manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest, checksum

__all__ = ["RemoteStore"]

_TRUSTED_SEC = 10.0  # a list of files, at least
_TRUSTED_RATIO = 100  # of the time that it took
# What file systems tell of a file that another one in its place would change; a length alone does not do.
_STAMPS = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified", "created", "updated")


class RemoteStore(EntryStore):
    """Pyramids at a URL, with copies on this machine of what was read.

    Processes of one machine claim a key from each other, and machines do not: an image that two fit at once is fitted
    twice, and kept once.
    """

    def __init__(self, url: str) -> None:
        self.location = url.rstrip("/")
        self._local = local_of(self.location)
        self._opened: tuple[Any, str] | None = None
        self._stamps: dict[str, str] = {}  # of each key, what tells its manifest from another
        self._number = 0  # of that list
        self._trusted_until = 0.0
        self._format_checked = False

    def __repr__(self) -> str:
        return f"RemoteStore({self.location!r})"

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.location}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["url"])  # type: ignore[misc]

    @property
    def derived_path(self) -> Path:
        """On this machine."""
        return derived_of(self.location)

    def exists(self) -> bool:
        """Whether it was ever written to."""
        with self._reading():
            return any(self._fs.exists(self._at(name)) for name in (STORE_FILE, "pyramids"))

    def check_format(self) -> None:
        """Of store.json, until it is found right."""
        if not self._format_checked:
            with self._reading(), suppress(FileNotFoundError):
                text = self._fs.cat_file(self._at(STORE_FILE), start=0, end=STORE_BYTES)
                check_store_text(text.decode(errors="replace"), f"{self.location}/{STORE_FILE}")
                self._format_checked = True

    def keys(self) -> Iterator[str]:
        """Of all complete pyramids, sorted, as they are now."""
        self._trusted_until = 0.0
        return iter(sorted(self._listed()))

    def __contains__(self, key: str) -> bool:
        return bool(KEY.fullmatch(key)) and self._stamp(key) is not None

    def find(self, fingerprint: str) -> list[str]:
        """Out of the list of files."""
        return sorted(key for key in self._listed() if key.startswith(f"{fingerprint}-"))

    def shard_keys(self, shard: str) -> list[str]:
        """Out of the list of files."""
        return sorted(key for key in self._listed() if key.startswith(shard))

    def shards(self) -> Mapping[str, int]:
        """One, which is another when the list of files is another."""
        return {"": self.changes()} if self._listed() else {}

    def changes(self) -> int:
        """A checksum of the list of files, and one more for each change of this process."""
        self._listed()
        return self._number

    def read(self, key: str, file_name: str, limit_bytes: int) -> bytes:
        """One of the two files of an entry: the manifest out of the copies on this machine, where it is there."""
        self.refuse_odd_key(key)
        if file_name != MANIFEST_NAME:
            return self._fetched(key, file_name, limit_bytes)
        stamp = self._listed().get(key) or self._stamp(key)
        if stamp is None:
            raise self.missing(key)
        if not stamp or stamp.startswith("size="):
            return self._fetched(key, file_name, limit_bytes)
        name = f"{key}.{checksum(stamp.encode())}"
        return self._copied("manifests", name, limit_bytes, lambda: self._fetched(key, file_name, limit_bytes))

    def read_weights(self, manifest: Manifest) -> bytes:
        """Out of the copies on this machine, where they are there, and are those that the manifest means."""
        copy, key = self._local / "weights" / manifest.weights_checksum, manifest.key
        data = self._copied(
            "weights", copy.name, WEIGHTS_BYTES, lambda: self._fetched(key, WEIGHTS_NAME, WEIGHTS_BYTES)
        )
        if checksum(data) != manifest.weights_checksum:  # of the copy, or the pyramid was replaced meanwhile
            with suppress(OSError):
                copy.unlink()
            self._stamps.pop(key, None)
            data = self._fetched(key, WEIGHTS_NAME, WEIGHTS_BYTES)
        return data

    def put(self, key: str, manifest: bytes, weights: bytes) -> None:
        """The weights, then the manifest; where they replace others, the old manifest goes first."""
        self.refuse_odd_key(key)
        self.prepare()
        with self._writing():
            if self._stamp(key) is not None:
                self._fs.rm_file(self._entry(key, MANIFEST_NAME))
            self._fs.pipe_file(self._entry(key, WEIGHTS_NAME), weights)
            self._fs.pipe_file(self._entry(key, MANIFEST_NAME), manifest)
        self._stamp(key)
        self._number += 1

    def remove(self, key: str) -> None:
        """The manifest goes first."""
        self.refuse_odd_key(key)
        self.check_format()
        with self._writing():
            there = [name for name in (MANIFEST_NAME, WEIGHTS_NAME) if self._fs.exists(self._entry(key, name))]
            for name in there:
                self._fs.rm_file(self._entry(key, name))
        self._stamps.pop(key, None)
        self._number += 1
        if not there:
            raise self.missing(key)

    def quarantine(self, key: str) -> str:
        """To `quarantine/KEY.RANDOM`."""
        self.refuse_odd_key(key)
        aside = f"quarantine/{key}.{uuid.uuid4().hex[:8]}"
        with self._writing():
            there = [name for name in (MANIFEST_NAME, WEIGHTS_NAME) if self._fs.exists(self._entry(key, name))]
            for name in there:
                self._fs.pipe_file(self._at(f"{aside}/{name}"), self._fs.cat_file(self._entry(key, name)))
                self._fs.rm_file(self._entry(key, name))
        self._stamps.pop(key, None)
        self._number += 1
        if not there:
            raise self.missing(key)
        return f"{self.location}/{aside}"

    def prepare(self) -> None:
        """Write store.json where there is none."""
        self.check_format()
        if not self._format_checked:
            with self._writing():
                self._fs.pipe_file(self._at(STORE_FILE), STORE_TEXT.encode())
            self._format_checked = True

    @contextmanager
    def claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Among the processes of this machine."""
        with self._writing():
            make_folder(self._local / "claims")
        lock = FileLock(self._local / "claims" / f"{key}.lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @property
    def _fs(self) -> Any:
        return self._connected()[0]

    def _at(self, name: str) -> str:
        return f"{self._connected()[1]}/{name}"

    def _entry(self, key: str, file_name: str) -> str:
        return self._at(f"pyramids/{key[:2]}/{key}/{file_name}")

    def _connected(self) -> tuple[Any, str]:
        if self._opened is None:
            try:
                fs, root = fsspec.core.url_to_fs(self.location, use_listings_cache=False)
            except (ImportError, ValueError) as error:
                raise ConfigError(f"cannot open the store {self.location}: {error}") from None
            self._opened = fs, root.rstrip("/")
        return self._opened

    def _listed(self) -> dict[str, str]:
        """Of each complete pyramid, what tells its manifest from another; read anew from time to time."""
        if time.monotonic() < self._trusted_until:
            return self._stamps
        self.check_format()
        started = time.monotonic()
        with self._reading():
            try:
                files = self._fs.find(self._at("pyramids"), detail=True)
            except FileNotFoundError:
                files = {}
        found = {}
        for path, told in files.items():
            parts = path.split("/")[-3:]
            if parts[-1] == MANIFEST_NAME and KEY.fullmatch(parts[-2]) and parts[0] == parts[1][:2]:
                found[parts[1]] = _stamp_of(told)
        self._stamps = found
        text = "\n".join(f"{key} {stamp}" for key, stamp in sorted(found.items()))
        self._number = xxhash.xxh3_64_intdigest(text.encode()) >> 2
        now = time.monotonic()
        self._trusted_until = now + max(_TRUSTED_SEC, _TRUSTED_RATIO * (now - started))
        return found

    def _stamp(self, key: str) -> str | None:
        """As it is now; None where the pyramid is missing."""
        self.check_format()
        with self._reading():
            try:
                self._stamps[key] = _stamp_of(self._fs.info(self._entry(key, MANIFEST_NAME)))
            except FileNotFoundError:
                self._stamps.pop(key, None)
        return self._stamps.get(key)

    def _fetched(self, key: str, file_name: str, limit_bytes: int) -> bytes:
        with self._reading():
            try:
                size = self._fs.info(self._entry(key, file_name))["size"]
                if size is None or size > limit_bytes:
                    what = f"it has {size} bytes, {limit_bytes:,} are the most: {self.remedy(key)}"
                    raise CorruptPyramidError(f"{self.path_of(key, file_name)}: {what}")
                return bytes(self._fs.cat_file(self._entry(key, file_name)))
            except FileNotFoundError:
                if file_name == WEIGHTS_NAME and self._stamp(key) is not None:
                    where = self.path_of(key, file_name)
                    raise CorruptPyramidError(f"{where}: missing beside its manifest: {self.remedy(key)}") from None
                raise self.missing(key) from None

    def _copied(self, folder: str, name: str, limit_bytes: int, fetch: Callable[[], bytes]) -> bytes:
        """A copy on this machine, made where there is none and it can be."""
        copy = self._local / folder / name
        with suppress(OSError):
            return read_file(copy, limit_bytes)
        data = fetch()
        with suppress(OSError):
            copy.parent.mkdir(parents=True, exist_ok=True)
            aside = copy.with_name(f"{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
            aside.write_bytes(data)
            aside.replace(copy)
        return data

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What the network or a service refuses, as `CorruptPyramidError`."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CorruptPyramidError(f"cannot read the store {self.location}: {error.strerror or error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except StoreWriteError:
            raise
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreWriteError(f"cannot write to the store {self.location}: {reason}") from error


def _stamp_of(told: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={told[name]}" for name in (*_STAMPS, "size") if told.get(name) is not None)
