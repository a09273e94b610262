"""What a `verify` that was interrupted had checked already: a line for each lot of pyramids."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from singan_aug.store import Store, refuse_links

__all__ = ["Verified"]

# among the derived files: {"keys": [...], "wrong": {KEY: MESSAGE}}
_FILE = "verified-1.jsonl"
_DEEP_FILE = "verified-deep-1.jsonl"


class Verified:
    """The journal of one run; in memory alone where the store has no place for it, or cannot be written."""

    def __init__(self, store: Store, *, resume: bool, deep: bool = False) -> None:
        self._path = store.derived_path / (_DEEP_FILE if deep else _FILE) if store.derived_path else None
        self.wrong: dict[str, str] = {}
        self._seen: set[str] = set()
        if resume and self._path:
            self._read(self._path)
        elif self._path:
            self.finish()

    def _read(self, path: Path) -> None:
        with suppress(OSError, ValueError, TypeError, KeyError):  # the last line may have been cut short
            for line in path.read_text().splitlines():
                lot = json.loads(line)
                self._seen.update(lot["keys"])
                self.wrong.update(lot["wrong"])

    def left(self, keys: list[str]) -> list[str]:
        """Those that are not checked yet; what was found broken is checked again."""
        return [key for key in keys if key not in self._seen or key in self.wrong]

    def add(self, keys: list[str], wrong: dict[str, str]) -> None:
        """Note what became of a lot."""
        self.wrong = {key: message for key, message in self.wrong.items() if key not in keys} | wrong
        with suppress(OSError):
            if self._path:
                refuse_links(self._path.parent, self._path)
                self._path.parent.mkdir(exist_ok=True)
                with self._path.open("a") as file:
                    file.write(json.dumps({"keys": keys, "wrong": wrong}) + "\n")

    def finish(self) -> None:
        """The next run begins at the beginning."""
        with suppress(OSError):
            if self._path:
                refuse_links(self._path.parent)
                self._path.unlink(missing_ok=True)
