"""Which keys could not be fitted, and why: so that they are not tried again unasked."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from singan_aug.store._files import make_folder, read_file, write_new

__all__ = ["Failures"]

NOTE_BYTES = 65536  # the longest note that is read


class Failures:
    """Notes in a folder, one file for each key. Without a folder none are kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def note(self, key: str, reason: str) -> None:
        """That a fit failed; nothing where the folder cannot be written."""
        if self._folder:
            at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            with suppress(OSError):
                make_folder(self._folder)
                write_new(self._path(key), json.dumps({"reason": reason, "at": at}))

    def of(self, key: str) -> tuple[str, str] | None:
        """Why it failed, and when; None where it did not, or the note is damaged."""
        try:
            found = json.loads(read_file(self._path(key), NOTE_BYTES)) if self._folder else {}
            return str(found["reason"]), str(found["at"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def forget(self, key: str) -> None:
        """It was fitted after all."""
        if self._folder:
            with suppress(OSError):
                self._path(key).unlink()

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.json"
