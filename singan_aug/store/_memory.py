"""A bounded in-process layer over another store: a pyramid that was loaded lately is not read again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from singan_aug.store._base import Holder, Store
from singan_aug.store._catalogue import Broken, Listed
from singan_aug.store._key import Key
from singan_aug.store._manifest import Manifest

if TYPE_CHECKING:
    from singan_aug.pyramid import Pyramid

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """Keeps the pyramids loaded last, up to `limit_bytes` of tensors, on `device`.

    Everything else goes to the store beneath.
    """

    def __init__(self, beneath: Store, limit_bytes: int = 256 * 2**20, device: str = "cpu") -> None:
        self.beneath = beneath
        self.location = beneath.location
        self.failures = beneath.failures
        self.limit_bytes = limit_bytes
        self.device = device
        self._kept: OrderedDict[str, tuple[Pyramid, Manifest, int]] = OrderedDict()
        self._kept_bytes = 0

    @property
    def bank_path(self) -> Path | None:
        """That of the store beneath."""
        return self.beneath.bank_path

    @property
    def derived_path(self) -> Path | None:
        """That of the store beneath."""
        return self.beneath.derived_path

    def keys(self) -> Iterator[str]:
        """Those of the store beneath."""
        return self.beneath.keys()

    def __contains__(self, key: str) -> bool:
        return key in self._kept or key in self.beneath

    def among(self, keys: Iterable[str]) -> set[str]:
        """From the store beneath."""
        return self.beneath.among(keys)

    def entries(self) -> Iterator[Listed | Broken]:
        """From the store beneath."""
        return self.beneath.entries()

    def exists(self) -> bool:
        """Of the store beneath."""
        return self.beneath.exists()

    def matching(self, digits: str) -> list[str]:
        """From the store beneath."""
        return self.beneath.matching(digits)

    def find(self, fingerprint: str) -> list[str]:
        """From the store beneath, so that pyramids fitted meanwhile are found."""
        return self.beneath.find(fingerprint)

    def manifest(self, key: str) -> Manifest:
        """From memory where the pyramid is kept."""
        return self._kept[key][1] if key in self._kept else self.beneath.manifest(key)

    def has_weights(self, key: str, weights_checksum: str) -> bool:
        """Of the store beneath."""
        return self.beneath.has_weights(key, weights_checksum)

    def load(self, key: str) -> Pyramid:
        """From memory where it is kept; otherwise read, and kept in place of those used longest ago."""
        if key not in self._kept:
            pyramid, manifest = self.beneath.load(key), self.beneath.manifest(key)
            if self.device != "cpu":
                pyramid = pyramid.to(self.device)
            size = pyramid.memory_bytes
            self._kept[key] = (pyramid, manifest, size)
            self._kept_bytes += size
            while self._kept_bytes > self.limit_bytes and len(self._kept) > 1:
                _, (_, _, freed) = self._kept.popitem(last=False)
                self._kept_bytes -= freed
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def check(self, key: str, *, deep: bool = False) -> None:
        """Of the store beneath: what is kept here says nothing of its files."""
        self.beneath.check(key, deep=deep)

    def save(
        self, key: Key, pyramid: Pyramid, *, name: str = "", source_size: tuple[int, int] | None = None
    ) -> Manifest:
        """To the store beneath; what was kept under this key is dropped."""
        self._drop(str(key))
        return self.beneath.save(key, pyramid, name=name, source_size=source_size)

    def quarantine(self, key: str) -> str:
        """Here dropped, beneath put aside."""
        self._drop(key)
        return self.beneath.quarantine(key)

    def remove(self, key: str) -> None:
        """Here and beneath."""
        self._drop(key)
        self.beneath.remove(key)

    def prepare(self) -> None:
        """The store beneath."""
        self.beneath.prepare()

    def sweep(self) -> None:
        """The store beneath."""
        self.beneath.sweep()

    def unfinished(self, key: str) -> Path | None:
        """Of the store beneath."""
        return self.beneath.unfinished(key)

    def claim(self, key: str, *, wait: bool) -> AbstractContextManager[bool]:
        """The store beneath's claim."""
        return self.beneath.claim(key, wait=wait)

    def holder(self, key: str) -> Holder | None:
        """Of the store beneath's claim."""
        return self.beneath.holder(key)

    def abandoned(self, keys: Iterable[str]) -> set[str]:
        """Of the store beneath's claims."""
        return self.beneath.abandoned(keys)

    def changes(self) -> int:
        """The store beneath's."""
        return self.beneath.changes()

    def shards(self) -> Mapping[str, int]:
        """The store beneath's."""
        return self.beneath.shards()

    def shard_keys(self, shard: str) -> list[str]:
        """From the store beneath."""
        return self.beneath.shard_keys(shard)

    def descriptor(self, key: str) -> str:
        """From the store beneath."""
        return self.beneath.descriptor(key)

    def _drop(self, key: str) -> None:
        if key in self._kept:
            self._kept_bytes -= self._kept.pop(key)[2]
