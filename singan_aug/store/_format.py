"""store.json: the one line that says that a folder is a store, and of which format."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from singan_aug.errors import CorruptPyramidError
from singan_aug.store._files import read_file
from singan_aug.store._manifest import FORMAT_VERSION, refuse_newer

__all__ = ["STORE_BYTES", "STORE_FILE", "STORE_TEXT", "check_store_file", "check_store_text"]

STORE_FILE = "store.json"
STORE_TEXT = json.dumps({"format": "singan-aug store", "format_version": FORMAT_VERSION}) + "\n"
STORE_BYTES = 4096  # at most

Written = tuple[int, int]  # when it was, and how long it is


def check_store_file(path: str, known: Written | None) -> Written | None:
    """When the file, found right, was written; None where there is none. `known`: when it was found right before.

    Raises `StoreFormatError`, `CorruptPyramidError`.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (every look-up)
        found = (status.st_mtime_ns, status.st_size)
        if found == known:
            return known
        text = read_file(path, STORE_BYTES).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CorruptPyramidError(f"{path}: cannot be read ({error.strerror})") from None
    check_store_text(text, path)
    return found


def check_store_text(text: str, path: str) -> None:
    """Raise `StoreFormatError`, `CorruptPyramidError` for what is not the contents of store.json."""
    if text == STORE_TEXT:
        return
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        refuse_newer(json.loads(text).get("format_version"), path)
    raise CorruptPyramidError(f"{path}: altered; expected {STORE_TEXT.strip()}: restore that line to read the store")
