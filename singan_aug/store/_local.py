"""Where this machine keeps what belongs to a store that lies elsewhere, or that cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import xxhash

__all__ = ["default_location", "derived_of", "local_of"]


def default_location() -> Path:
    """$SINGAN_AUG_STORE, else this platform's cache folder of the user."""
    named = os.environ.get("SINGAN_AUG_STORE") or os.environ.get("SINGAN_AUG_CACHE")  # its name before 0.1
    return Path(named) if named else platformdirs.user_cache_path("singan-aug", appauthor=False)


def local_of(name: str) -> Path:
    """A folder of the user's for copies of what a store elsewhere holds, which may be deleted at any time."""
    return platformdirs.user_cache_path("singan-aug-elsewhere", appauthor=False) / xxhash.xxh3_64_hexdigest(
        name.encode()
    )


def derived_of(name: str) -> Path:
    """The same, for what is made out of its manifests."""
    return local_of(name) / "derived"
