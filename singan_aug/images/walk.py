"""Walking through the folders of a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["walk_files"]

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
