"""The segments of one store: opened, appended to, and made again where they are damaged.

::

    FOLDER/head                 checksum, and JSON: names of the segments, rows whose image is gone, state of the shards
    FOLDER/NAME/                a segment; its name is its checksum
    FOLDER/lock                 held by the process that appends

What is added goes into a new segment. Small ones are merged, so that there are few; large ones stay as they are.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from filelock import FileLock

from singan_aug.errors import StoreError
from singan_aug.images.descriptor import decoded
from singan_aug.lookup._segment import MOST_IMAGES, DamagedSegmentError, Row, Segment

__all__ = ["DescribedImages", "Segments", "discard", "opened", "refreshed"]

_HEAD = "head"
_MERGED_RATIO = 2  # a segment up to so much larger than what is added is merged with it
_GONE_SHARE = 0.5  # of a segment's images, before it is written anew without them


class DescribedImages(Protocol):
    """What the index asks of a store."""

    def find(self, fingerprint: str) -> list[str]:
        """Keys of the pyramids fitted to one image."""

    def descriptor(self, key: str) -> str:
        """Of the fitted image, as `images.descriptor.encoded` gives it. Raises `StoreError`."""

    def changes(self) -> int:
        """A number that another save or removal replaces."""

    def shards(self) -> Mapping[str, int]:
        """The digits that keys begin with, each with a number that a change of these keys replaces, or 0."""

    def shard_keys(self, shard: str) -> list[str]:
        """Keys that begin so."""

    @property
    def derived_path(self) -> Path | None:
        """A folder for what can be made again."""


@dataclass(frozen=True)
class Segments:
    """Of a store as it was when its shards had these numbers."""

    segments: tuple[Segment, ...] = ()
    shards: Mapping[str, int] = field(default_factory=dict)

    def stale(self, shards: Mapping[str, int]) -> list[str]:
        """The shards that may hold other keys by now."""
        changed = [shard for shard, number in shards.items() if not number or self.shards.get(shard) != number]
        return sorted({*changed, *(shard for shard in self.shards if shard not in shards)})


def opened(folder: Path, before: Segments) -> Segments | None:
    """As they are in the folder; segments that are mapped already stay so. None where there are none, or damaged."""
    mapped = {segment.name: segment for segment in before.segments}
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, DamagedSegmentError):
        check, _, text = (folder / _HEAD).read_text().partition("\n")
        if xxhash.xxh3_128_hexdigest(text.encode()) != check:
            return None
        head = json.loads(text)
        segments = []
        for name, gone in head["segments"].items():
            segment = mapped.get(name) or Segment.mapped(folder / Path(name).name)
            if segment.name != name:
                return None
            alive = np.ones(len(segment), dtype=np.bool_)
            alive[gone] = False
            segments.append(segment.where(alive))
        return Segments(tuple(segments), dict(head["shards"]))
    return None


def discard(folder: Path) -> bool:
    """Forget what is damaged; False where it cannot be."""
    with suppress(OSError):
        (folder / _HEAD).unlink(missing_ok=True)
    return not (folder / _HEAD).exists()


def refreshed(store: DescribedImages, folder: Path | None, before: Segments) -> Segments:
    """With what was added to the store, without what was removed; kept in the folder where that is possible."""
    now = (opened(folder, before) if folder else None) or before
    if not now.stale(store.shards()):
        return now
    with _alone(folder) as mine:
        if folder is None or not mine:
            return _updated(store, now, None)
        now = opened(folder, before) or Segments()  # another process may have been here first
        try:
            now = _updated(store, now, folder)
            _write_head(folder, now)
        except OSError:  # a full disk, perhaps
            return _updated(store, now, None)
        _clear(folder, {segment.name for segment in now.segments})
        return now


@contextmanager
def _alone(folder: Path | None) -> Iterator[bool]:
    """While no other process appends; False where nothing can be written."""
    lock = None
    with suppress(OSError):
        if folder and not any(path.is_symlink() for path in (folder, folder.parent)):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock")
            lock.acquire()
    mine = lock is not None and lock.is_locked
    try:
        yield mine
    finally:
        if lock is not None and mine:
            lock.release()


def _updated(store: DescribedImages, before: Segments, folder: Path | None) -> Segments:
    shards = dict(store.shards())  # first: what changes from here on is looked at again
    segments = list(before.segments)
    added: dict[str, str] = {}
    for shard in before.stale(shards):
        there = {key[:32]: key for key in reversed(store.shard_keys(shard))}  # one config's descriptor will do
        names = np.array(sorted(there), dtype="S32")
        for place, segment in enumerate(segments):
            rows = segment.span(shard)
            known = segment.fingerprints[rows]
            alive = segment.alive.copy()
            alive[rows] = np.isin(known, names)
            segments[place] = segment.where(alive)
            for fingerprint in known[alive[rows]]:
                del there[bytes(fingerprint).decode()]
        added |= there
    merged = _merged_with(segments, len(added))
    kept = [segment for segment in segments if segment not in merged]
    sources: list[Iterable[Row]] = [segment.rows() for segment in merged]
    rows_of_all = heapq.merge(_read(store, added), *sources, key=lambda row: row[0])
    return Segments((*kept, *_made(rows_of_all, folder)), shards)


def _read(store: DescribedImages, added: Mapping[str, str]) -> Iterator[Row]:
    for fingerprint, key in sorted(added.items()):
        with suppress(StoreError, ValueError):  # removed meanwhile, or broken: `verify` says so, and a draw from it
            yield fingerprint.encode(), decoded(store.descriptor(key))


def _merged_with(segments: list[Segment], added: int) -> list[Segment]:
    """Those to be written anew: small beside what is added, or with most of their images gone."""
    chosen = []
    for segment in sorted(segments, key=len):
        there = int(segment.alive.sum())
        small = added and there <= _MERGED_RATIO * added and there + added <= MOST_IMAGES
        if small or there < _GONE_SHARE * len(segment):
            chosen.append(segment)
            added += there
    return chosen


def _made(rows: Iterator[Row], folder: Path | None) -> Iterator[Segment]:
    while True:
        some = islice(rows, MOST_IMAGES)
        if folder is None:
            segment = Segment.of(some, None)
        else:
            aside = Path(tempfile.mkdtemp(prefix="new.", dir=folder))
            try:
                segment = Segment.of(some, aside)
                if segment is not None:
                    with suppress(FileExistsError):
                        _move(aside, folder / segment.name)
                    segment = Segment.mapped(folder / segment.name)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        if segment is None:
            return
        yield segment


def _move(aside: Path, place: Path) -> None:
    if place.exists():  # of the same name, but perhaps damaged since
        shutil.rmtree(place)
    aside.chmod(0o777 & ~_umask())
    aside.rename(place)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_head(folder: Path, now: Segments) -> None:
    gone = {segment.name: np.flatnonzero(~segment.alive).tolist() for segment in now.segments}
    text = json.dumps({"segments": gone, "shards": dict(now.shards)})
    aside = folder / f"{_HEAD}.new"
    aside.write_text(f"{xxhash.xxh3_128_hexdigest(text.encode())}\n{text}")
    aside.replace(folder / _HEAD)


def _clear(folder: Path, names: set[str]) -> None:
    """Without segments that are in use no more; other processes keep what they have mapped."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in names:
            shutil.rmtree(path, ignore_errors=True)
