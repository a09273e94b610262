"""PerceptualIndex: the pyramid of an image that was resized, cropped, recoloured or re-encoded on its way here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from singan_aug.errors import StoreError
from singan_aug.images import Pixels
from singan_aug.images.descriptor import CELLS, DESCRIPTOR_BYTES, decoded
from singan_aug.lookup._crop_hashes import CropHashes
from singan_aug.lookup._match import Contents, Match, find_match

__all__ = ["DescribedImages", "PerceptualIndex"]

_FILE = "perceptual-index-1"  # among the store's derived data; another layout, another number


class Described(Protocol):
    """What the index asks of a manifest."""

    @property
    def descriptor(self) -> str:
        """The descriptor of the fitted image, as `images.descriptor.encoded` gives it."""


class DescribedImages(Protocol):
    """What the index asks of a store."""

    def keys(self) -> Iterator[str]:
        """Of all pyramids."""

    def find(self, fingerprint: str) -> list[str]:
        """Keys of the pyramids fitted to one image."""

    def manifest(self, key: str) -> Described:
        """What is known of a pyramid. Raises `StoreError`."""

    def changes(self) -> int:
        """A number that another save or removal replaces."""

    def read_derived(self, name: str) -> bytes | None:
        """What `write_derived` kept."""

    def write_derived(self, name: str, data: bytes) -> None:
        """Keep what can be made again."""


class PerceptualIndex:
    """Finds the fitted image that a query shows although its pixels have changed: ask for its `fingerprint` first.

    It looks through descriptors kept in the manifests: 4.8 KB an image in memory. They are read on first use, out of
    one file that the store keeps for it, and again when a query is missed after pyramids were added or removed. It
    pickles, and each process reads for itself.
    """

    def __init__(self, store: DescribedImages) -> None:
        self._store = store
        self._contents: Contents | None = None
        self._changes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_store"])  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._current().keys)

    @property
    def memory_bytes(self) -> int:
        """Of everything kept."""
        return self._current().memory_bytes

    def refresh(self) -> None:
        """Take in what was added to the store, and forget what was removed. Keeps what it made for other processes."""
        changes = self._store.changes()
        first = {key[:32]: key for key in sorted(self._store.keys(), reverse=True)}  # one config's descriptor will do
        keys = sorted(first.values())
        fresh = self._contents is None
        contents = self._contents or _unpacked_file(self._store.read_derived(_FILE)) or _contents_of([], [])
        if keys != contents.keys:
            contents = _updated(contents, keys, self._store)
            if fresh:
                self._store.write_derived(_FILE, _packed_file(contents))
        self._contents, self._changes = contents, changes

    def find(self, pixels: Pixels, only: str | None = None) -> Match | None:
        """The image that `pixels` [H, W, 1, 3 or 4] are most certainly of, a fourth channel left out of account.

        `only`: the fingerprint of the one image that it can be, for who knows; twins of it then do not count.

        Found after a resize, a crop of at least 70 % of the area, a change of aspect, conversion to grey (ITU-R 601) or
        BGR, JPEG compression, flips and quarter turns, alone or together. None where no image fits, several fit about
        as well, or it cannot be told for sure which part of the image it is. Raises what `Store.keys` raises.
        """
        if only is not None:
            return self._find_one(pixels, only)
        match = find_match(self._current(), pixels)
        if match is None and self._store.changes() != self._changes:
            self.refresh()
            match = find_match(self._current(), pixels)
        return match

    def _find_one(self, pixels: Pixels, fingerprint: str) -> Match | None:
        for key in self._store.find(fingerprint)[:1]:
            return find_match(_contents_of([key], [_descriptor(self._store, key)]), pixels)
        return None

    def _current(self) -> Contents:
        if self._contents is None:
            self.refresh()
        assert self._contents is not None
        return self._contents


def _contents_of(keys: list[str], descriptors: Iterable[NDArray[np.uint8]]) -> Contents:
    rows = np.array(list(descriptors), dtype=np.uint8).reshape(-1, DESCRIPTOR_BYTES)
    return Contents(keys, rows, CropHashes.of(rows[:, : CELLS**2].reshape(-1, CELLS, CELLS)))


def _updated(contents: Contents, keys: list[str], store: DescribedImages) -> Contents:
    places = {key: place for place, key in enumerate(keys)}
    added = sorted(places.keys() - set(contents.keys))
    new = _contents_of(added, (_descriptor(store, key) for key in added))
    numbers = [np.array([places.get(key, -1) for key in part.keys], dtype=np.intp) for part in (contents, new)]
    descriptors = np.empty((len(keys), DESCRIPTOR_BYTES), dtype=np.uint8)
    for part, number in zip((contents, new), numbers, strict=True):
        descriptors[number[number >= 0]] = part.descriptors[number >= 0]
    crop_hashes = contents.crop_hashes.renumbered(numbers[0]).joined(new.crop_hashes.renumbered(numbers[1]))
    return Contents(keys, descriptors, crop_hashes)


def _descriptor(store: DescribedImages, key: str) -> NDArray[np.uint8]:
    with suppress(StoreError, ValueError):  # removed meanwhile, or broken: `verify` says so, and a draw from it would
        return decoded(store.manifest(key).descriptor)
    return np.zeros(DESCRIPTOR_BYTES, dtype=np.uint8)


def _packed_file(contents: Contents) -> bytes:
    keys = np.frombuffer("".join(contents.keys).encode(), dtype=np.uint8)
    data = to_safetensors({"keys": keys, "descriptors": contents.descriptors, **vars(contents.crop_hashes)})
    return xxhash.xxh3_128_digest(data) + data


def _unpacked_file(data: bytes | None) -> Contents | None:
    """None for anything that is not whole: it is made again."""
    if data is None or xxhash.xxh3_128_digest(memoryview(data)[16:]) != data[:16]:
        return None
    try:
        arrays = from_safetensors(data[16:])
        text = arrays.pop("keys").tobytes().decode()
        keys = [text[i : i + 49] for i in range(0, len(text), 49)]
        return Contents(keys, arrays.pop("descriptors"), CropHashes(**arrays))
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
