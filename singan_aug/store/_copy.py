"""From store to store: merged, packed, unpacked. Every entry is verified on its way."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from singan_aug.errors import StoreError, StoreWriteError
from singan_aug.store._entries import EntryStore
from singan_aug.store._manifest import Manifest
from singan_aug.store._packed import write_pack

__all__ = ["Copied", "OnConflict", "merge", "pack"]


class OnConflict(Enum):
    """What becomes of a key under which two stores hold different pyramids."""

    KEEP = "keep"
    REPLACE = "replace"
    NEWER = "newer"


class Copied(NamedTuple):
    """What became of one entry."""

    key: str
    name: str
    status: str  # "copied", "there already", "conflict", "replaced" or "broken"
    message: str
    bytes: int  # that are copied


def merge(source: EntryStore, target: EntryStore, on_conflict: OnConflict, *, dry_run: bool) -> Iterator[Copied]:
    """Copy what `target` lacks, entry by entry; with `dry_run` only tell.

    Two pyramids of one key are the same where their weights are. Raises `StoreError` for what concerns a store as a
    whole: it cannot be written, or has another format.
    """
    keys = list(source.keys())  # before anything is made: it may be no store
    if not dry_run:
        target.prepare()
    for key in keys:
        try:
            manifest, text, weights = source.files(key)
        except StoreError as error:
            yield Copied(key, "", "broken", str(error), 0)
            continue
        status, message = _standing(manifest, source, target, on_conflict)
        if status in ("copied", "replaced") and not dry_run:
            target.put(key, text, weights)
        written = len(text) + len(weights) if status in ("copied", "replaced") else 0
        yield Copied(key, manifest.name, status, message, written)


def _standing(ours: Manifest, source: EntryStore, target: EntryStore, on_conflict: OnConflict) -> tuple[str, str]:
    if ours.key not in target:
        return "copied", ""
    try:
        theirs = target.manifest(ours.key)
    except StoreError as error:
        return "replaced", f"it was broken: {error}"
    if ours.weights_checksum == theirs.weights_checksum:
        return "there already", ""
    told = f"fitted {ours.created_at[:19]} in {source.location}, {theirs.created_at[:19]} in {target.location}"
    newer = ours.created_at > theirs.created_at
    if on_conflict is OnConflict.REPLACE or (on_conflict is OnConflict.NEWER and newer):
        return "replaced", told
    return "conflict" if on_conflict is OnConflict.KEEP else "there already", told


def pack(source: EntryStore, path: Path, broken: list[Copied], *, dry_run: bool = False) -> tuple[int, int]:
    """Write all whole entries into one new file: how many, and the bytes of their files. Those left out are added to
    `broken`. With `dry_run` only tell.

    Raises `StoreWriteError`, also where there is such a file.
    """
    if path.exists() or path.is_symlink():
        raise StoreWriteError(f"expected a new file to pack into, got {path}: name another one, or delete it")

    sizes: list[int] = []

    def entries() -> Iterator[tuple[str, bytes, bytes]]:
        for key in source.keys():
            try:
                _, text, weights = source.files(key)
            except StoreError as error:
                broken.append(Copied(key, "", "broken", str(error), 0))
                continue
            sizes.append(len(text) + len(weights))
            yield key, text, weights

    if dry_run:
        for _ in entries():
            pass
    else:
        write_pack(path, entries())
    return len(sizes), sum(sizes)
