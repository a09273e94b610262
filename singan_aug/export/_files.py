"""Writing into the folder of an export: whole files or none, and through no link."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from singan_aug.errors import ConfigError

__all__ = ["copied", "refuse_links", "write_text", "written_aside"]


def refuse_links(out: Path, inside: Path) -> None:
    """Raise `ConfigError` where a folder of a path inside `out` is a link: what is written would land elsewhere."""
    folder = out
    for part in inside.parent.parts:
        folder = folder / part
        if folder.is_symlink():
            raise ConfigError(
                f"expected a folder of the export's own, got {folder}, a link to {folder.readlink()}: remove the link, "
                "or name another folder"
            )


def written_aside(out: Path, inside: Path, write: Callable[[Path], Any]) -> None:
    """Write `out / inside` under another name and rename it, so that it is there whole or not at all.

    A link of that name is replaced, never followed. Raises `ConfigError` as `refuse_links` does, and `OSError`.
    """
    refuse_links(out, inside)
    path = out / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()  # the name itself may fill the limit
    aside = path.with_name(f".{digest}.part{path.suffix}")
    aside.unlink(missing_ok=True)
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(out: Path, inside: Path, text: str) -> None:
    """The same for a text: UTF-8, and bytes that were none when it was read as they were."""
    written_aside(out, inside, lambda aside: aside.write_bytes(text.encode("utf-8", "surrogateescape")))


def copied(source: Path, out: Path, inside: Path, link: bool) -> None:
    """A copy, or a hard link where the file system has them and both lie on one. Of a link: what it leads to."""
    if not source.is_file():  # a device has no end
        raise OSError(errno.EINVAL, "not a file")
    if link:
        refuse_links(out, inside)
        target = out / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.unlink(missing_ok=True)
            target.hardlink_to(source.resolve())
            return
        except OSError:
            pass
    written_aside(out, inside, lambda aside: shutil.copy2(source, aside))
