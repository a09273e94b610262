"""Where pyramids live."""

from __future__ import annotations

import os
import re
from pathlib import Path

from singan_aug.errors import ConfigError
from singan_aug.store._base import Holder, Store, writing
from singan_aug.store._catalogue import Broken, Listed
from singan_aug.store._copy import Copied, OnConflict, merge, pack
from singan_aug.store._directory import DirectoryStore
from singan_aug.store._entries import EntryStore
from singan_aug.store._files import open_regular, refuse_links
from singan_aug.store._key import Fingerprint, Key, abbreviated, fingerprint, make_key
from singan_aug.store._local import default_location
from singan_aug.store._manifest import FORMAT_VERSION, Manifest, checksum, refuse_newer
from singan_aug.store._memory import MemoryStore
from singan_aug.store._packed import PACK_SUFFIX, PackedStore

__all__ = [
    "FORMAT_VERSION",
    "Broken",
    "Copied",
    "DirectoryStore",
    "EntryStore",
    "Fingerprint",
    "Holder",
    "Key",
    "Listed",
    "Manifest",
    "MemoryStore",
    "OnConflict",
    "PackedStore",
    "Store",
    "abbreviated",
    "checksum",
    "default_location",
    "fingerprint",
    "make_key",
    "merge",
    "open_regular",
    "open_store",
    "pack",
    "refuse_links",
    "refuse_newer",
    "writing",
]

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")  # two letters at least, since C:/ is a folder; a Path has one slash


def open_store(location: Store | os.PathLike[str] | str | None = None) -> Store:
    """The store at a folder, in a packed file (.zip), or at a URL that fsspec knows (`s3://BUCKET/FOLDER`).

    The default one for None; "file:FOLDER" is a folder too; a store for itself. Touches nothing.
    """
    if isinstance(location, Store):
        return location
    if location is not None and not isinstance(location, str | os.PathLike):
        raise ConfigError(f"expected store to be a folder, a packed file, a URL or a Store, got {location!r}")
    text = os.fspath(default_location() if location is None else location)
    url = _URL.fullmatch(text)
    if url and url[1] != "file":
        try:
            from singan_aug.store._remote import RemoteStore  # fsspec: not needed for folders
        except ImportError:
            raise ConfigError(f'for a store at {text}, install "singan-aug[remote]"') from None
        return RemoteStore(f"{url[1]}://{url[2]}")
    path = Path(text.removeprefix("file:"))
    return PackedStore(path) if path.suffix == PACK_SUFFIX and not path.is_dir() else DirectoryStore(path)
