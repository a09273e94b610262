"""Store: the seam between pyramids and where they live."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from singan_aug.config import FitConfig
from singan_aug.errors import MissingPyramidError, StoreError, StoreWriteError
from singan_aug.store._catalogue import Broken, Listed, listed_as
from singan_aug.store._failures import Failures
from singan_aug.store._key import Key
from singan_aug.store._manifest import Manifest

if TYPE_CHECKING:
    from singan_aug.pyramid import Pyramid

__all__ = ["Holder", "Store", "writing"]


@dataclass(frozen=True)
class Holder:
    """Who has claimed a key."""

    host: str
    pid: int
    since: str  # by that machine's clock

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Store(ABC):
    """Pyramids by key. A backend writes five methods; constructing one touches nothing."""

    location: str  # what a message calls it and `open_store` takes
    failures = Failures()  # a backend that can keep notes has its own

    def command(self, *words: object) -> str:
        """What to type about this store, for messages."""
        return shlex.join(["singan-aug", *map(str, words), "--store", self.location])

    @property
    def bank_path(self) -> Path | None:
        """The file of its bank of variants, whether it exists or not; None for a backend without a place for one."""
        return None

    @property
    def derived_path(self) -> Path | None:
        """A folder for what can be made again out of the manifests, whether it exists or not; None without one."""
        return None

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Keys of all complete pyramids, sorted."""

    @abstractmethod
    def manifest(self, key: str) -> Manifest:
        """What is known of a pyramid. Raises `MissingPyramidError`, `CorruptPyramidError`, `StoreFormatError`."""

    @abstractmethod
    def load(self, key: str) -> Pyramid:
        """The pyramid, on the CPU, its checksums verified. Raises as `manifest` does."""

    def check(self, key: str, *, deep: bool = False) -> None:
        """Read a pyramid back and compare it with its checksums; `deep` also makes it again. Raises as `load`."""
        del deep
        self.load(key)

    @abstractmethod
    def save(
        self, key: Key, pyramid: Pyramid, *, name: str = "", source_size: tuple[int, int] | None = None
    ) -> Manifest:
        """Keep a pyramid, whole or not at all. `name` and `source_size` (height, width) describe the source image.

        Raises `StoreWriteError`.
        """

    def quarantine(self, key: str) -> str:
        """Put a broken entry aside, where nothing reads it; where it lies now. Raises as `remove` does."""
        raise StoreWriteError(f"{self.location} has no place to put {key} aside")

    @abstractmethod
    def remove(self, key: str) -> None:
        """Forget a pyramid. Raises `MissingPyramidError`, `StoreWriteError`."""

    def __contains__(self, key: str) -> bool:
        return key in set(self.keys())

    def among(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are there now."""
        return set(self.keys()).intersection(keys)

    def entries(self) -> Iterator[Listed | Broken]:
        """What a list tells of every pyramid, in the order of the keys, those that cannot be read among them."""
        for key in self.keys():
            try:
                yield listed_as(self.manifest(key))
            except MissingPyramidError:  # removed meanwhile
                continue
            except StoreError as error:
                yield Broken(key, error)

    def exists(self) -> bool:
        """Whether there is a store at this place, with pyramids or without."""
        return True

    def matching(self, digits: str) -> list[str]:
        """Keys, sorted, that begin so; with a dash, those of which the fingerprint and the rest begin so."""
        image, dash, rest = digits.lower().partition("-")
        return [key for key in self.keys() if key[:32].startswith(image) and (not dash or key[33:].startswith(rest))]

    def find(self, fingerprint: str) -> list[str]:
        """Keys of the pyramids fitted to one image, sorted: one for each config."""
        return [key for key in self.keys() if key.startswith(f"{fingerprint}-")]

    def latest(self, fingerprint: str, config: FitConfig | None = None) -> str | None:
        """Key of the pyramid fitted last to one image, of this config alone where one is given; None without any."""
        keys = self.find(fingerprint)
        if config is not None:
            keys = [key for key in keys if self.manifest(key).config.digest() == config.digest()]
        if len(keys) > 1:
            keys.sort(key=lambda key: (self.manifest(key).created_at, key))
        return keys[-1] if keys else None

    def has_weights(self, key: str, weights_checksum: str) -> bool:
        """Whether there is a pyramid under this key whose manifest says so of its weights."""
        try:
            return self.manifest(key).weights_checksum == weights_checksum
        except StoreError:  # whoever loads it says what is wrong
            return False

    def prepare(self) -> None:
        """Make the place ready for writing. Raises `StoreWriteError`, `StoreFormatError`."""

    def sweep(self) -> None:
        """Clear what writes that were cut short left behind. Raises `StoreWriteError`."""

    def unfinished(self, key: str) -> Path | None:
        """A file for the state of a long fit that is under way, whether it exists or not; None without a place."""
        del key
        return None

    def claim(self, key: str, *, wait: bool) -> AbstractContextManager[bool]:
        """A context in which no other process fits this key; False where another does and `wait` is False."""
        del key, wait
        return nullcontext(True)

    def holder(self, key: str) -> Holder | None:
        """Which other process has claimed this key; None where none has. Ask again and again to see one expire."""
        del key
        return None

    def abandoned(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys whose claim ended with a process that was killed while it had it."""
        del keys
        return set()

    def changes(self) -> int:
        """A number that another save or removal replaces; cheap to ask. Always 0 where the backend cannot tell."""
        return 0

    def shards(self) -> Mapping[str, int]:
        """The digits that keys begin with, each with a number that a save or removal among them replaces.

        0 where the backend cannot tell; one shard, "", where it has no parts.
        """
        return {"": 0}

    def shard_keys(self, shard: str) -> list[str]:
        """Keys, sorted, that begin so."""
        return [key for key in self.keys() if key.startswith(shard)]

    def descriptor(self, key: str) -> str:
        """What the fitted image looks like from afar: that field of the manifest. Raises as `manifest` does."""
        return self.manifest(key).descriptor


@contextmanager
def writing(location: str) -> Iterator[None]:
    """What the operating system refuses, as `StoreWriteError`."""
    try:
        yield
    except (Timeout, StoreWriteError):
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreWriteError(
            f"cannot write to the store {location}: {reason}; free space or change its permissions, "
            "or name another folder with --store"
        ) from error
