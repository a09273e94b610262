"""Finder: which pyramid an image belongs to, by its exact pixels, by what it looks like, or by a key beside it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from singan_aug.config import FitConfig
from singan_aug.errors import ImageError
from singan_aug.images import Pixels, load_image, quiet_decoding
from singan_aug.lookup import Match, PerceptualIndex
from singan_aug.store import Fingerprint, Store, fingerprint

__all__ = ["WHOLE", "Finder", "Relation"]

WHOLE = (0.0, 0.0, 1.0, 1.0)
REMEMBERED = 100_000  # images whose fingerprints a process keeps, some 300 bytes each

_KEY = re.compile(r"[0-9a-f]{32}(-[0-9a-f]{16})?")


@dataclass(frozen=True)
class Relation:
    """The pyramid that an image belongs to, and what the pipeline has made of the source until here."""

    key: str
    match: Match

    @property
    def is_whole(self) -> bool:
        """Whether the image shows all of the source."""
        return bool(self.match.box == WHOLE)


class Finder:
    """Finds the pyramid of an image among those of one config, or whichever was fitted last. For one process."""

    def __init__(self, store: Store, config: FitConfig | None) -> None:
        self._store = store
        self._config = config
        self._index = PerceptualIndex(store)
        self._identities: dict[tuple[Any, ...], Fingerprint] = {}

    def find(self, pixels: Pixels, sample_key: str | None) -> Relation | None:
        """First by the exact pixels, then by what they look like; a key says which image it must be."""
        identity = self.identity(pixels)
        named = identity.digest if sample_key is None else _digest_of(sample_key)
        if named is None:
            return None
        match: Match | None = Match(identity.digest, identity.turn_code, WHOLE, "rgb")
        key = self._store.latest(named, self._config)
        if named != identity.digest or key is None:
            match = self._index.find(pixels, named if sample_key is not None else None)
        if match is None:
            return None
        if sample_key is not None and len(sample_key) > len(match.fingerprint) and sample_key in self._store:
            key = str(sample_key)
        elif key is None:
            key = self._store.latest(match.fingerprint, self._config)
        return None if key is None else Relation(key, match)

    def identity(self, pixels: Pixels) -> Fingerprint:
        """`fingerprint`, but for an image that this process has met before by its plain hash, which is cheaper."""
        met = (*pixels.shape, xxhash.xxh3_128_digest(np.ascontiguousarray(pixels).data))
        if met not in self._identities:
            if len(self._identities) >= REMEMBERED:
                self._identities.clear()
            self._identities[met] = fingerprint(pixels)
        return self._identities[met]


def _digest_of(sample_key: str) -> str | None:
    """The fingerprint that a `SampleKey` names; None for a file that is none."""
    if _KEY.fullmatch(sample_key):
        return sample_key[:32]
    with suppress(OSError, ImageError):
        written = Path(sample_key).stat()
        return _digest_of_file(str(sample_key), written.st_mtime_ns, written.st_size)
    return None


@lru_cache(maxsize=100_000)
def _digest_of_file(path: str, *written: int) -> str:
    del written  # tells a file that was replaced from the one before
    with quiet_decoding():
        return fingerprint(load_image(path).pixels).digest
