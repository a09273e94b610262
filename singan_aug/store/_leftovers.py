"""What writes that were cut short left behind, cleared where no living process is still at it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from singan_aug.store._base import writing
from singan_aug.store._claims import Claims
from singan_aug.store._files import listed, refuse_links

__all__ = ["KEY", "clear", "incomplete"]

KEY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}")
WRITTEN_UNDER = {"variants.bank": "bank", "store.json": "store"}  # what lies in partial/, and the claim of its writer
NAMED_CLAIMS = {"bank", "store", "derived"}


def incomplete(root: Path, is_complete: Callable[[str], bool]) -> list[str]:
    """Keys of which there is something, and no manifest."""
    shards = listed(root / "pyramids")
    found = {key for shard in shards for key in listed(root / "pyramids" / shard) if not is_complete(key)}
    found |= {_claim_of(name) for name in listed(root / "partial")}
    return sorted(key for key in found if KEY.fullmatch(key))


def clear(root: Path, claims: Claims, is_complete: Callable[[str], bool]) -> None:
    """Delete all of it. Raises `StoreWriteError`."""
    with writing(str(root)):
        refuse_links(root / "partial")
        for claim, names in groupby(sorted(listed(root / "partial"), key=_claim_of), _claim_of):
            if claim in NAMED_CLAIMS or KEY.fullmatch(claim):
                with claims.claim(claim, 0, noted=False) as mine:
                    for name in names if mine else ():
                        _delete(root / "partial" / name)
        for key in incomplete(root, is_complete):
            with claims.claim(key, 0, noted=False) as mine:
                if mine and not is_complete(key):
                    entry = root / "pyramids" / key[:2] / key
                    refuse_links(entry.parent.parent, entry.parent, entry)
                    shutil.rmtree(entry, ignore_errors=True)
        claims.forget(is_complete)
        refuse_links(root / "unfinished")
        for name in listed(root / "unfinished"):
            if is_complete(name.partition(".")[0]):  # KEY, or one that was being written: KEY.NUMBER
                _delete(root / "unfinished" / name)


def _claim_of(name: str) -> str:
    return WRITTEN_UNDER.get(name) or name.partition(".")[0]


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)  # of a link, the link itself
