"""The default store: a folder. Written aside, verified, renamed, the manifest last; reads never lock.

::

    ROOT/store.json                                    format version
    ROOT/pyramids/AB/KEY/pyramid.safetensors           AB: the first two digits of KEY
    ROOT/pyramids/AB/KEY/manifest.json                 exists exactly when the pyramid is complete
    ROOT/variants.bank                                 variants drawn beforehand, where there are any
    ROOT/partial/KEY.RANDOM/                           being written; safe to delete when nothing runs
    ROOT/claims/KEY.lock, KEY.json                     held by the process that fits KEY; who that is
    ROOT/derived/NAME                                  made out of the manifests; may be deleted at any time
    ROOT/quarantine/KEY.RANDOM/                        broken entries put aside; nothing reads them
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from singan_aug.errors import CorruptPyramidError, MissingPyramidError
from singan_aug.images.descriptor import encoded
from singan_aug.store._base import Holder, Store, writing
from singan_aug.store._catalogue import CATALOGUE, Broken, Listed, catalogued
from singan_aug.store._checks import MANIFEST_BYTES, WEIGHTS_BYTES, contradiction
from singan_aug.store._claims import CLAIM_SEC, Claims
from singan_aug.store._files import (
    changed_ns,
    listed,
    make_folder,
    note_change,
    read_file,
    refuse_links,
    sync,
    write_verified,
)
from singan_aug.store._format import STORE_FILE, STORE_TEXT, check_store_file
from singan_aug.store._key import Key
from singan_aug.store._leftovers import KEY, clear, incomplete
from singan_aug.store._manifest import FORMAT_VERSION, MANIFEST_NAME, WEIGHTS_NAME, Manifest, checksum

if TYPE_CHECKING:
    from singan_aug.pyramid import Pyramid

__all__ = ["DirectoryStore"]

SETTLED_NS = 2_000_000_000  # a folder that changed later than this ago may change again without another time stamp


class DirectoryStore(Store):
    """Pyramids in a folder that many processes may read and write at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.location = str(self.root)
        self._listings: dict[str, tuple[int | None, list[str]]] = {}  # of a shard: when it had changed, and its keys
        self._checked: tuple[int, int] | None = None  # when store.json, found right, was written, and its length
        self._claims = Claims(self.root / "claims")

    @property
    def bank_path(self) -> Path:
        """ROOT/variants.bank."""
        return self.root / "variants.bank"

    def __repr__(self) -> str:
        return f"DirectoryStore({self.location!r})"

    def exists(self) -> bool:
        """Whether it was ever written to."""
        return any((self.root / name).exists() for name in (STORE_FILE, "pyramids"))

    def keys(self) -> Iterator[str]:
        """Keys of all complete pyramids, sorted. Raises `StoreFormatError`, `CorruptPyramidError`."""
        self._check_format()
        for shard in sorted(listed(self.root / "pyramids")):
            folder = f"{self.root}/pyramids/{shard}"
            for key in sorted(listed(folder)):
                # plain strings: a path object for each of ten thousand would take longer than the disk
                if KEY.fullmatch(key) and os.path.exists(f"{folder}/{key}/{MANIFEST_NAME}"):  # noqa: PTH110
                    yield key

    def entries(self) -> Iterator[Listed | Broken]:
        """Out of the catalogue, as far as it is up to date; the rest is read, and goes into it."""
        self._check_format()
        if not self.exists():
            return iter(())
        return catalogued(self.root / "derived" / CATALOGUE, self._groups(), self.manifest)

    def _groups(self) -> Iterator[list[tuple[str, str]]]:
        for shard in sorted(listed(self.root / "pyramids")):
            keys = sorted(key for key in listed(f"{self.root}/pyramids/{shard}") if KEY.fullmatch(key))
            if keys and keys[0][:2] == keys[-1][:2] == shard:
                yield [(key, self._manifest_path(key)) for key in keys]

    def __contains__(self, key: str) -> bool:
        self._check_format()
        return self._complete(key)

    def find(self, fingerprint: str) -> list[str]:
        """Keys of the pyramids fitted to one image: one folder is listed, and again when it has changed."""
        shard, prefix = fingerprint[:2], f"{fingerprint}-"
        folder = f"{self.location}/pyramids/{shard}"
        changed = changed_ns(folder)
        if changed is None or changed != self._listings.get(shard, (None,))[0]:
            self._check_format()
            names = listed(folder)
            complete = [name for name in names if self._complete(name)]
            if len(complete) < len(names) or time.time_ns() - (changed or 0) < SETTLED_NS:
                return sorted(name for name in complete if name.startswith(prefix))
            self._listings[shard] = (changed, complete)
        return sorted(name for name in self._listings[shard][1] if name.startswith(prefix))

    def manifest(self, key: str) -> Manifest:
        """What is known of a pyramid; one flipped byte in its file is noticed."""
        self._check_format()
        path = self._entry(key) / MANIFEST_NAME
        data = self._read(path, key, MANIFEST_BYTES)
        try:
            manifest = Manifest.from_json(data.decode(errors="replace"), str(path))
        except CorruptPyramidError as error:
            raise CorruptPyramidError(f"{error}: {_remedy(key)}") from None
        if manifest.key != key:
            raise CorruptPyramidError(f"{path}: it describes {manifest.key}, not {key}: {_remedy(key)}")
        wrong = contradiction(manifest)
        if wrong:
            raise CorruptPyramidError(f"{path}: {wrong}: {_remedy(key)}")
        return manifest

    def has_weights(self, key: str, weights_checksum: str) -> bool:
        """A pipeline asks this of every image: the manifest's text is searched, not parsed."""
        try:
            with open(self._manifest_path(key), "rb", buffering=0) as file:  # noqa: PTH123 (half the time)
                return f'"weights_checksum": "{weights_checksum}"'.encode() in file.read()
        except OSError:
            return False

    def load(self, key: str) -> Pyramid:
        """The pyramid, its checksums verified. Where another process replaces it meanwhile, the new one."""
        manifest = self.manifest(key)
        while True:
            try:
                return self._load(manifest)
            except CorruptPyramidError:
                before, manifest = manifest, self.manifest(key)
                if manifest == before:  # else it was replaced between the reading of its two files
                    raise

    def _load(self, manifest: Manifest) -> Pyramid:
        from singan_aug.store._codec import decode  # torch: not needed to list, find or remove

        key = manifest.key
        path = self._entry(key) / WEIGHTS_NAME
        weights = self._read(path, key, WEIGHTS_BYTES)
        if len(weights) != manifest.weights_bytes:
            raise CorruptPyramidError(
                f"{path}: expected {manifest.weights_bytes} bytes, got {len(weights)}: " + _remedy(key)
            )
        if checksum(weights) != manifest.weights_checksum:
            raise CorruptPyramidError(f"{path}: its checksum is not the manifest's: " + _remedy(key))
        return decode(weights, manifest, str(path))

    def save(
        self, key: Key, pyramid: Pyramid, *, name: str = "", source_size: tuple[int, int] | None = None
    ) -> Manifest:
        """Write aside, read back, rename; the manifest last. A pyramid under the same key is replaced."""
        from singan_aug.store._codec import descriptor_of, encode

        weights, dtype = encode(pyramid)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            key=str(key),
            fingerprint=key.fingerprint.digest,
            turn_code=key.fingerprint.turn_code,
            name=name,
            source_size=source_size or pyramid.size,
            channels=pyramid.channels,
            scale_sizes=tuple(scale.size for scale in pyramid.scales),
            displacement_px=pyramid.displacement_px,
            mask_values=pyramid.mask_values,
            config=pyramid.config,
            provenance=dict(pyramid.provenance),
            created_at=datetime.now(UTC).isoformat(),
            weights_dtype=dtype,
            weights_bytes=len(weights),
            weights_checksum=checksum(weights),
            descriptor=encoded(descriptor_of(pyramid, key.fingerprint.turn_code)),
        )
        self.put(str(key), manifest.to_json().encode(), weights)
        return manifest

    def put(self, key: str, manifest: bytes, weights: bytes) -> None:
        """Keep an entry's two files as they are. Raises `StoreWriteError`."""
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
        self._check_format()
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
            raise self._missing(key)
        with self._claims.alone(key), writing(self.location):
            if not entry.is_dir():  # another process was faster
                raise self._missing(key)
            refuse_links(entry.parent.parent, entry.parent, entry)
            yield entry
            note_change(self.root / "pyramids", key[:2])

    def prepare(self) -> None:
        """Make the folders, and check that they can be written."""
        self._check_format()
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
        self._check_format()
        clear(self.root, self._claims, self._complete)

    def changes(self) -> int:
        """The modification time of `pyramids/`, which every save and removal sets."""
        try:
            return os.stat(self.root / "pyramids").st_mtime_ns  # noqa: PTH116
        except OSError:
            return 0

    def read_derived(self, name: str) -> bytes | None:
        """From `derived/`."""
        try:
            return (self.root / "derived" / name).read_bytes()
        except OSError:
            return None

    def write_derived(self, name: str, data: bytes) -> None:
        """Into `derived/`, whole or not at all; not where the store cannot be written."""
        if not (self.root / "partial").is_dir():
            return
        with suppress(OSError), self._claims.claim("derived", CLAIM_SEC, noted=False) as mine:
            if mine:
                self._write_derived(name, data)

    def _write_derived(self, name: str, data: bytes) -> None:
        aside = Path(tempfile.mkdtemp(prefix="derived.", dir=self.root / "partial"))
        try:
            (aside / name).write_bytes(data)
            make_folder(self.root / "derived")
            (aside / name).replace(self.root / "derived" / name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _entry(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise MissingPyramidError(f"expected a key such as `singan-aug ls` prints, got {key!r}")
        return self.root / "pyramids" / key[:2] / key

    def _complete(self, key: str) -> bool:
        return bool(KEY.fullmatch(key)) and os.path.exists(self._manifest_path(key))  # noqa: PTH110 (every look-up)

    def _manifest_path(self, key: str) -> str:
        return f"{self.location}/pyramids/{key[:2]}/{key}/{MANIFEST_NAME}"

    def _missing(self, key: str) -> MissingPyramidError:
        return MissingPyramidError(f"no pyramid {key} in {self.location}: see `singan-aug ls` for those it has")

    def _read(self, path: Path, key: str, limit_bytes: int) -> bytes:
        try:
            return read_file(path, limit_bytes)
        except FileNotFoundError:
            if path.name == WEIGHTS_NAME and self._complete(key):
                raise CorruptPyramidError(f"{path}: missing beside its manifest: " + _remedy(key)) from None
            raise self._missing(key) from None
        except OSError as error:
            raise CorruptPyramidError(f"{path}: cannot be read ({error.strerror}): {_remedy(key)}") from None

    def _check_format(self) -> None:
        self._checked = check_store_file(f"{self.location}/{STORE_FILE}", self._checked)


def _remedy(key: str) -> str:
    return f"remove it with `singan-aug rm {key}` and fit the image again"
