"""find_images(): the image files of folders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from singan_aug.errors import ConfigError
from singan_aug.images import IMAGE_SUFFIXES, walk_files

__all__ = ["Found", "each_path", "find_images"]


@dataclass(frozen=True)
class Found:
    """What a walk found."""

    images: tuple[Path, ...]  # sorted, each once
    unreadable: tuple[tuple[Path, str], ...]  # folders that could not be entered, and why
    others: tuple[Path, ...]  # files that no image suffix marks

    @property
    def ignored(self) -> int:
        """How many files are not taken for images."""
        return len(self.others)


def each_path(paths: Path | str | Iterable[Path | str]) -> list[Path]:
    """A path alone is a list of one: letter by letter, "/photos" would be the whole disk.

    Raises `ConfigError` for what is no path, and for "", which would be the current folder.
    """
    given = [paths] if isinstance(paths, str | Path) or not isinstance(paths, Iterable) else list(paths)
    for path in given:
        if not isinstance(path, str | Path) or path == "":
            raise ConfigError(f"expected paths of image files or folders, got {path!r}")
    return [Path(path) for path in given]


def find_images(paths: Path | str | Iterable[Path | str]) -> Found:
    """Files named outright, whatever their suffix, and those with an image suffix in folders of any depth.

    Links are followed, a folder is never entered inside itself, names that start with a dot are left out.
    """
    images: dict[Path, None] = {}
    others: dict[Path, None] = {}
    unreadable: list[tuple[Path, str]] = []
    for path in each_path(paths):
        if not path.is_dir():
            images[path] = None
            continue
        for file in walk_files(path, lambda folder, why: unreadable.append((folder, why))):
            (images if file.suffix.lower() in IMAGE_SUFFIXES else others)[file] = None
    return Found(tuple(images), tuple(unreadable), tuple(others))
