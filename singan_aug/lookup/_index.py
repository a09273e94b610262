"""PerceptualIndex: the pyramid of an image that was resized, cropped, recoloured or re-encoded on its way here."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from singan_aug.errors import StoreError
from singan_aug.images import Pixels
from singan_aug.images.descriptor import decoded
from singan_aug.lookup._match import Contents, Match, find_match
from singan_aug.lookup._segment import DamagedSegmentError, Segment
from singan_aug.lookup._segments import DescribedImages, Segments, discard, refreshed

__all__ = ["DescribedImages", "PerceptualIndex"]

_FOLDER = "perceptual-index-2"  # among the store's derived data; another layout, another number


class PerceptualIndex:
    """Finds the fitted image that a query shows although its pixels have changed: ask for its `fingerprint` first.

    It looks through descriptors kept in the manifests, 4.8 KB an image. They are collected in files that the store
    keeps for it, which processes map and share; in memory, where the store has no place for them. They are opened on
    first use, and again when a query is missed after pyramids were added or removed. It pickles, and each process
    opens them for itself.
    """

    def __init__(self, store: DescribedImages) -> None:
        self._store = store
        self._segments: Segments | None = None
        self._changes = 0
        self._in_files = True

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_store"])  # type: ignore[misc]

    def __len__(self) -> int:
        return self._current().images

    @property
    def mapped_bytes(self) -> int:
        """Of everything it looks through."""
        return self._current().mapped_bytes

    def refresh(self) -> None:
        """Take in what was added to the store, and forget what was removed. Keeps what it made for other processes."""
        changes = self._store.changes()
        try:
            segments = refreshed(self._store, self._folder(), self._segments or Segments())
        except DamagedSegmentError:
            self._forget()
            segments = refreshed(self._store, self._folder(), Segments())
        self._segments, self._changes = segments, changes

    def find(self, pixels: Pixels, only: str | None = None) -> Match | None:
        """The image that `pixels` [H, W, 1, 3 or 4] are most certainly of, a fourth channel left out of account.

        `only`: the fingerprint of the one image that it can be, for who knows; twins of it then do not count.

        Found after a resize, a crop of at least 70 % of the area, a change of aspect, conversion to grey (ITU-R 601) or
        BGR, JPEG compression, flips and quarter turns, alone or together. None where no image fits, several fit about
        as well, or it cannot be told for sure which part of the image it is. Raises what `Store.keys` raises.
        """
        if only is not None:
            return self._find_one(pixels, only)
        match = self._find_any(pixels)
        if match is None and self._store.changes() != self._changes:
            self.refresh()
            match = self._find_any(pixels)
        return match

    def _find_any(self, pixels: Pixels) -> Match | None:
        try:
            return find_match(self._current(), pixels)
        except DamagedSegmentError:
            self._forget()
            return find_match(self._current(), pixels)

    def _find_one(self, pixels: Pixels, fingerprint: str) -> Match | None:
        for key in self._store.find(fingerprint)[:1]:
            with suppress(StoreError, ValueError):
                segment = Segment.of([(fingerprint.encode(), decoded(self._store.descriptor(key)))], None)
                return find_match(Contents((segment,)), pixels) if segment else None
        return None

    def _current(self) -> Contents:
        if self._segments is None:
            self.refresh()
        assert self._segments is not None
        return Contents(self._segments.segments)

    def _folder(self) -> Path | None:
        place = self._store.derived_path
        return place / _FOLDER if place and self._in_files else None

    def _forget(self) -> None:
        """What is damaged: it is made again, in memory where the files cannot be replaced."""
        folder, self._segments = self._folder(), None
        if folder:
            self._in_files = discard(folder)
