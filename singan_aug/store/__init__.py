"""Where pyramids live."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from singan_aug.store._base import Holder, Store, writing
from singan_aug.store._catalogue import Broken, Listed
from singan_aug.store._directory import DirectoryStore
from singan_aug.store._files import open_regular, refuse_links
from singan_aug.store._key import Fingerprint, Key, abbreviated, fingerprint, make_key
from singan_aug.store._manifest import FORMAT_VERSION, Manifest, checksum, refuse_newer
from singan_aug.store._memory import MemoryStore

__all__ = [
    "FORMAT_VERSION",
    "Broken",
    "DirectoryStore",
    "Fingerprint",
    "Holder",
    "Key",
    "Listed",
    "Manifest",
    "MemoryStore",
    "Store",
    "abbreviated",
    "checksum",
    "default_location",
    "fingerprint",
    "make_key",
    "open_regular",
    "open_store",
    "refuse_links",
    "refuse_newer",
    "writing",
]

_SCHEMES = {"file": DirectoryStore}  # "file:FOLDER"; a path without a scheme is a folder too


def default_location() -> Path:
    """$SINGAN_AUG_CACHE, else this platform's cache folder of the user."""
    named = os.environ.get("SINGAN_AUG_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("singan-aug", appauthor=False)


def open_store(location: Path | str | None = None) -> Store:
    """The store at a folder or "SCHEME:PLACE"; the default one for None. Touches nothing."""
    scheme, found, place = str(location).partition(":")
    if location is not None and found and scheme in _SCHEMES:
        return _SCHEMES[scheme](place)
    return DirectoryStore(location if location is not None else default_location())
