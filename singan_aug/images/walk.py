"""Walking through the folders of a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from singan_aug.errors import ImageError

__all__ = ["no_images", "walk_files"]

LINKS_TO_ONE_FOLDER = 8  # links to links could otherwise make a handful of folders into millions


def walk_files(top: Path, refuse: Callable[[Path, str], None] | None = None) -> Iterator[Path]:
    """Every file below a folder, sorted. Links are followed, names that start with a dot are left out.

    A folder that is linked to from two places is entered at both, one inside itself never. `refuse` is told of folders
    that are not entered, and why.
    """

    def tell(folder: Path, why: str) -> None:
        if refuse is not None:
            refuse(folder, why)

    def failed(error: OSError) -> None:
        tell(Path(error.filename or top), f"cannot list this folder: {error.strerror}")

    above: dict[str, tuple[str, ...]] = {
        os.fspath(top): (os.path.realpath(top),)
    }  # the real paths of a folder and of those that it lies in
    entered: dict[str, int] = {}
    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=failed):
        own, kept = above.pop(folder), []
        for name in sorted(name for name in subfolders if not name.startswith(".")):
            path = os.path.join(folder, name)  # noqa: PTH118 (as os.walk joins them)
            real = os.path.realpath(path)
            if real in own:
                continue
            entered[real] = entered.get(real, 0) + 1
            if entered[real] > LINKS_TO_ONE_FOLDER:
                tell(Path(path), f"not entered: {LINKS_TO_ONE_FOLDER} other ways lead to the same folder")
                continue
            above[path] = (*own, real)
            kept.append(name)
        subfolders[:] = kept
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def no_images(*places: Path, others: int = 0) -> ImageError:
    """Of files and folders in which there is no image, but so many files of other kinds."""
    if not places:
        return ImageError("expected image files, or folders of them, got an empty list: name one or more")
    shown = ", ".join(map(str, places[:3])) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    count = "1 other file" if others == 1 else f"{others} other files"
    found = f"none ({count})" if others else "none"
    return ImageError(f"expected images in {shown}, got {found}: name a folder of files such as .jpg, .png or .tif")
