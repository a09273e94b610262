"""The default store: a folder. Written aside, verified, renamed, the manifest last; reads never lock.

::

    ROOT/store.json                                    format version
    ROOT/pyramids/AB/KEY/pyramid.safetensors           AB: the first two digits of KEY
    ROOT/pyramids/AB/KEY/manifest.json                 exists exactly when the pyramid is complete
    ROOT/variants.bank                                 variants drawn beforehand, where there are any
    ROOT/partial/KEY.RANDOM/                           being written; safe to delete when nothing runs
    ROOT/claims/KEY.lock, KEY.json                     held by the process that fits KEY; who that is
    ROOT/unfinished/KEY                                the state of a long fit, for whoever goes on with it
    ROOT/failures/KEY.json                             why KEY could not be fitted
    ROOT/derived/NAME                                  made out of the manifests; may be deleted at any time
    ROOT/quarantine/KEY.RANDOM/                        broken entries put aside
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from singan_aug.errors import CorruptPyramidError
from singan_aug.store._base import Holder, writing
from singan_aug.store._catalogue import CATALOGUE, Broken, Listed, catalogued
from singan_aug.store._claims import Claims
from singan_aug.store._entries import EntryStore
from singan_aug.store._failures import Failures
from singan_aug.store._files import (
    SETTLED_NS,
    changed_ns,
    last_changes,
    listed,
    make_folder,
    note_change,
    read_file,
    refuse_links,
    sync,
    write_verified,
)
from singan_aug.store._format import STORE_FILE, STORE_TEXT, check_store_file
from singan_aug.store._leftovers import KEY, clear, incomplete
from singan_aug.store._manifest import MANIFEST_NAME, WEIGHTS_NAME

__all__ = ["DirectoryStore"]

_SHARD = re.compile(r"[0-9a-f]{2}")


class DirectoryStore(EntryStore):
    """Pyramids in a folder that many processes may read and write at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.location = str(self.root)
        self._listings: dict[str, tuple[int | None, list[str]]] = {}  # of a shard: when it had changed, and its keys
        self._checked: tuple[int, int] | None = None  # when store.json, found right, was written, and its length
        self._claims = Claims(self.root / "claims")
        self.failures = Failures(self.root / "failures")

    @property
    def bank_path(self) -> Path:
        """ROOT/variants.bank."""
        return self.root / "variants.bank"

    @property
    def derived_path(self) -> Path:
        """ROOT/derived."""
        return self.root / "derived"

    def __repr__(self) -> str:
        return f"DirectoryStore({self.location!r})"

    def exists(self) -> bool:
        """Whether it was ever written to."""
        return any((self.root / name).exists() for name in (STORE_FILE, "pyramids"))

    def keys(self) -> Iterator[str]:
        """Keys of all complete pyramids, sorted. Raises `StoreFormatError`, `CorruptPyramidError`."""
        self.check_format()
        for shard in sorted(listed(self.root / "pyramids")):
            folder = f"{self.root}/pyramids/{shard}"
            for key in sorted(listed(folder)):
                # plain strings: a path object for each of ten thousand would take longer than the disk
                if KEY.fullmatch(key) and os.path.exists(f"{folder}/{key}/{MANIFEST_NAME}"):  # noqa: PTH110
                    yield key

    def entries(self) -> Iterator[Listed | Broken]:
        """Out of the catalogue, as far as it is up to date; the rest is read, and goes into it."""
        self.check_format()
        if not self.exists():
            return iter(())
        return catalogued(self.root / "derived" / CATALOGUE, self._groups(), self.manifest)

    def _groups(self) -> Iterator[list[tuple[str, str]]]:
        for shard in sorted(listed(self.root / "pyramids")):
            keys = sorted(key for key in listed(f"{self.root}/pyramids/{shard}") if KEY.fullmatch(key))
            if keys and keys[0][:2] == keys[-1][:2] == shard:
                yield [(key, self._manifest_path(key)) for key in keys]

    def __contains__(self, key: str) -> bool:
        self.check_format()
        return self._complete(key)

    def among(self, keys: Iterable[str]) -> set[str]:
        """A look at each, rather than a list of all."""
        return {key for key in keys if key in self}

    def find(self, fingerprint: str) -> list[str]:
        """Keys of the pyramids fitted to one image: one folder is listed, and again when it has changed."""
        shard, prefix = fingerprint[:2], f"{fingerprint}-"
        folder = f"{self.location}/pyramids/{shard}"
        changed = changed_ns(folder)
        if changed is None or changed != self._listings.get(shard, (None,))[0]:
            self.check_format()
            names = listed(folder)
            complete = [name for name in names if self._complete(name)]
            if len(complete) < len(names) or time.time_ns() - (changed or 0) < SETTLED_NS:
                return sorted(name for name in complete if name.startswith(prefix))
            self._listings[shard] = (changed, complete)
        return sorted(name for name in self._listings[shard][1] if name.startswith(prefix))

    def has_weights(self, key: str, weights_checksum: str) -> bool:
        """A pipeline asks this of every image: the manifest's text is searched, not parsed."""
        try:
            with open(self._manifest_path(key), "rb", buffering=0) as file:  # noqa: PTH123 (half the time)
                return f'"weights_checksum": "{weights_checksum}"'.encode() in file.read()
        except OSError:
            return False

    def put(self, key: str, manifest: bytes, weights: bytes) -> None:
        """Written aside, read back, renamed; the manifest last. Raises `StoreWriteError`."""
        self.prepare()
        entry = self._entry(key)
        with self._claims.alone(key), writing(self.location):
            aside = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self.root / "partial"))
            try:
                for file_name, data in ((WEIGHTS_NAME, weights), (MANIFEST_NAME, manifest)):
                    write_verified(aside / file_name, data)
                refuse_links(entry.parent)
                make_folder(entry)
                (entry / MANIFEST_NAME).unlink(missing_ok=True)  # never an old manifest beside new weights
                for file_name in (WEIGHTS_NAME, MANIFEST_NAME):
                    (aside / file_name).replace(entry / file_name)
                    sync(entry)
                note_change(self.root / "pyramids", key[:2])
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def remove(self, key: str) -> None:
        """Forget a pyramid, complete or broken: the manifest goes first."""
        self.check_format()
        with self._taken_out(key) as entry:
            (entry / MANIFEST_NAME).unlink(missing_ok=True)
            shutil.rmtree(entry)

    def quarantine(self, key: str) -> str:
        """To `quarantine/KEY`, or KEY and a number where one lies there already."""
        with self._taken_out(key) as entry:
            make_folder(self.root / "quarantine")
            aside = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self.root / "quarantine"))
            entry.replace(aside)  # a folder replaces an empty one
        return str(aside)

    @contextmanager
    def _taken_out(self, key: str) -> Iterator[Path]:
        """The folder of an entry, whole or broken, while no other process is at it."""
        entry = self._entry(key)
        if not entry.is_dir():
            raise self.missing(key)
        with self._claims.alone(key), writing(self.location):
            if not entry.is_dir():  # another process was faster
                raise self.missing(key)
            refuse_links(entry.parent.parent, entry.parent, entry)
            yield entry
            note_change(self.root / "pyramids", key[:2])

    def prepare(self) -> None:
        """Make the folders, and check that they can be written."""
        self.check_format()
        with writing(self.location):
            for folder in ("pyramids", "partial", "claims"):
                make_folder(self.root / folder)
            with tempfile.TemporaryFile(dir=self.root / "partial") as probe:
                probe.write(b"0")
            if not (self.root / STORE_FILE).exists():
                self._write_store_file()

    def _write_store_file(self) -> None:
        aside = self.root / "partial" / STORE_FILE
        with FileLock(self.root / "claims" / "store.lock"):
            try:
                write_verified(aside, STORE_TEXT.encode())
                aside.replace(self.root / STORE_FILE)
            finally:
                aside.unlink(missing_ok=True)

    def unfinished(self, key: str) -> Path | None:
        """ROOT/unfinished/KEY; `sweep` clears those of which there is a pyramid."""
        self.refuse_odd_key(key)
        folder = self.root / "unfinished"
        return None if folder.is_symlink() else folder / key

    @contextmanager
    def claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        """The operating system releases a claim when its process ends, however it ends."""
        with self._claims.claim(key, -1 if wait else 0) as mine:
            yield mine

    def holder(self, key: str) -> Holder | None:
        """As the holder notes it in `claims/KEY.json`."""
        return self._claims.holder(key)

    def abandoned(self, keys: Iterable[str]) -> set[str]:
        """Those whose notes are left without a lock."""
        return self._claims.abandoned(keys)

    def incomplete(self) -> list[str]:
        """Keys of entries without a manifest: a write that was cut short. `sweep` clears them."""
        return incomplete(self.root, self._complete)

    def sweep(self) -> None:
        """Delete what cut-short writes left behind, except where a living process holds the claim."""
        self.check_format()
        clear(self.root, self._claims, self._complete)

    def changes(self) -> int:
        """The modification time of `pyramids/`, which every save and removal sets."""
        return changed_ns(f"{self.location}/pyramids") or 0

    def shards(self) -> Mapping[str, int]:
        """Of each folder when its list of files changed; 0 if that was just now."""
        self.check_format()
        return last_changes(self.root / "pyramids", _SHARD)

    def shard_keys(self, shard: str) -> list[str]:
        """Complete ones in one folder."""
        names = listed(f"{self.location}/pyramids/{shard}") if _SHARD.fullmatch(shard) else []
        return sorted(name for name in names if name.startswith(shard) and self._complete(name))

    def _entry(self, key: str) -> Path:
        self.refuse_odd_key(key)
        return self.root / "pyramids" / key[:2] / key

    def _complete(self, key: str) -> bool:
        return bool(KEY.fullmatch(key)) and os.path.exists(self._manifest_path(key))  # noqa: PTH110 (every look-up)

    def _manifest_path(self, key: str) -> str:
        return f"{self.location}/pyramids/{key[:2]}/{key}/{MANIFEST_NAME}"

    def read(self, key: str, file_name: str, limit_bytes: int) -> bytes:
        """One of the two files."""
        path = self._entry(key) / file_name
        try:
            return read_file(path, limit_bytes)
        except FileNotFoundError:
            if file_name == WEIGHTS_NAME and self._complete(key):
                raise CorruptPyramidError(f"{path}: missing beside its manifest: {self.remedy(key)}") from None
            raise self.missing(key) from None
        except OSError as error:
            raise CorruptPyramidError(f"{path}: cannot be read ({error.strerror}): {self.remedy(key)}") from None

    def check_format(self) -> None:
        """Of store.json; looked at again when it has changed."""
        self._checked = check_store_file(f"{self.location}/{STORE_FILE}", self._checked)
