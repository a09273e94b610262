"""Files of a store: read with a limit, written whole or not at all, and never through a link that somebody planted."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "SETTLED_NS",
    "changed_ns",
    "last_changes",
    "listed",
    "make_folder",
    "note_change",
    "open_regular",
    "read_file",
    "refuse_links",
    "sync",
    "write_new",
    "write_verified",
]


SETTLED_NS = 2_000_000_000  # a folder that changed later than this ago may change again without another time stamp


def open_regular(path: Path | str) -> BinaryIO:
    """A file to read, unbuffered. OSError for whatever is no regular one: a pipe or a device never answers."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.fdopen(handle, "rb", buffering=0)


def read_file(path: Path | str, limit_bytes: int) -> bytes:
    """All of a regular file. OSError for whatever is none, or is longer than the limit."""
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length > limit_bytes:
            raise OSError(errno.EFBIG, f"it has {length:,} bytes, and {limit_bytes:,} are the most")
        return file.read(length)


def refuse_links(*places: Path) -> None:
    """Raise OSError where something is written to, or removed from, a place that is a link into another folder."""
    for path in places:
        if path.is_symlink():
            raise OSError(errno.ELOOP, f"{path.name} is a link, and nothing is written through links: remove it")


def make_folder(path: Path) -> None:
    """The folder and those above it, each synced into the one that holds it. OSError where it is a link."""
    refuse_links(path)
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def changed_ns(folder: str) -> int | None:
    """When its list of files changed; None where there is none."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 (every look-up)
    except OSError:
        return None


def last_changes(folder: Path, names: re.Pattern[str]) -> dict[str, int]:
    """When the folders in a folder, of such names, changed; 0 where that was just now: they may change unnoticed."""
    now_ns = time.time_ns()
    found = {name: changed_ns(f"{folder}/{name}") for name in listed(folder) if names.fullmatch(name)}
    return {name: ns if abs(now_ns - ns) > SETTLED_NS else 0 for name, ns in found.items() if ns is not None}


def listed(folder: Path | str) -> list[str]:
    """The names in a folder; none where there is no folder."""
    try:
        return os.listdir(folder)  # noqa: PTH208 (names alone: this is on every look-up's path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def note_change(pyramids: Path, shard: str) -> None:
    """Mark a shard and all of the pyramids as changed now: a file system's own clock may tick too seldom."""
    for folder in (pyramids / shard, pyramids):
        with suppress(OSError):
            os.utime(folder, ns=(time.time_ns(), time.time_ns()))


def write_verified(path: Path, data: bytes) -> None:
    """A new file, synced, and read back to see that the disk has what was written."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if path.read_bytes() != data:
        raise OSError(f"{path.name} does not read back as it was written")


def write_new(path: Path, text: str) -> int:
    """A small file in place of another, never through a link; its number."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
        file.write(text)
        return os.fstat(file.fileno()).st_ino


def sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut."""
    if os.name == "nt":
        return  # folders cannot be synced there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
