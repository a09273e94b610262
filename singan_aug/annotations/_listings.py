"""Folders, each listed once."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from singan_aug.annotations._match import Parts

__all__ = ["Listings"]


class Listings:
    """What is in folders, remembered."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, list[str]]] = {}
        self._folders: dict[tuple[Parts, Path], tuple[Path, ...]] = {}

    def called(self, folder: Path, stem: str, suffixes: Collection[str]) -> list[Path]:
        """The files in a folder of this name, with one of these suffixes, in whatever letters."""
        if folder not in self._names:
            by_stem = self._names[folder] = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():  # noqa: PTH208 (names alone)
                by_stem.setdefault(Path(name).stem, []).append(name)
        names = self._names[folder].get(stem, ())
        return [folder / name for name in names if Path(name).suffix.lower() in suffixes]

    def folders(self, named: Parts, own: Path) -> tuple[Path, ...]:
        """The folders that a path leads to from those above a folder, but for the folder itself."""
        if (named, own) not in self._folders:
            found = (above.joinpath(*named) for above in (own, *own.parents))
            self._folders[named, own] = tuple(each for each in found if each != own and os.path.isdir(each))  # noqa: PTH112
        return self._folders[named, own]
