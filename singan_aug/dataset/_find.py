"""find_images(): the image files of folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from singan_aug.images import IMAGE_SUFFIXES

__all__ = ["Found", "find_images"]


@dataclass(frozen=True)
class Found:
    """What a walk found."""

    images: tuple[Path, ...]  # sorted, each once
    unreadable: tuple[tuple[Path, str], ...]  # folders that could not be listed, and why
    ignored: int  # files that no image suffix marks


def find_images(paths: Iterable[Path | str]) -> Found:
    """Files named outright, whatever their suffix, and those with an image suffix in folders of any depth.

    Links are followed, each folder is entered once, names that start with a dot are left out.
    """
    images: dict[Path, None] = {}
    unreadable: list[tuple[Path, str]] = []
    ignored = 0
    for path in map(Path, paths):
        if not path.is_dir():
            images[path] = None
            continue
        for folder, names in _walk(path, unreadable):
            for name in names:
                if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                    images[folder / name] = None
                else:
                    ignored += 1
    return Found(tuple(images), tuple(unreadable), ignored)


def _walk(top: Path, unreadable: list[tuple[Path, str]]) -> Iterator[tuple[Path, list[str]]]:
    def refuse(error: OSError) -> None:
        unreadable.append((Path(error.filename or top), f"cannot list this folder: {error.strerror}"))

    entered = {os.path.realpath(top)}
    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=refuse):
        kept = []
        for name in sorted(subfolders):
            real = os.path.realpath(Path(folder) / name)
            if not name.startswith(".") and real not in entered:
                entered.add(real)
                kept.append(name)
        subfolders[:] = kept
        yield Path(folder), sorted(name for name in names if not name.startswith("."))
