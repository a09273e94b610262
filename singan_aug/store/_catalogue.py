"""The catalogue: what all manifests of a store say, in one file, so that a list of 100,000 pyramids reads no manifest.

It is never the truth. A row counts only while its manifest is the file that it was made of, by the time it changed, its
length and its number on the disk; any other is read again. The file may be deleted at any time, and is made again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, MissingPyramidError, StoreError
from singan_aug.pyramid.sizes import Size
from singan_aug.store._files import make_folder
from singan_aug.store._manifest import Manifest

__all__ = ["CATALOGUE", "Broken", "Listed", "catalogued", "listed_as"]

CATALOGUE = "catalogue-1.sqlite"  # among the derived files; another layout, another number
_TABLE = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, stamp TEXT, name TEXT, source_height INT, source_width INT, "
    "height INT, width INT, channels INT, scales INT, masked INT, weights_bytes INT, created_at TEXT, config TEXT) "
    "WITHOUT ROWID"
)
_CONFIGS = "CREATE TABLE configs (digest TEXT PRIMARY KEY, config TEXT) WITHOUT ROWID"


class Listed(NamedTuple):
    """What a list tells of a pyramid."""

    key: str
    name: str  # file name of the source image when it was fitted
    source_size: Size  # (height, width)
    size: Size  # (height, width) of the finest scale
    channels: int
    scales: int
    masked: bool
    weights_bytes: int
    created_at: str
    config: FitConfig


class Broken(NamedTuple):
    """An entry whose manifest cannot be read, and why."""

    key: str
    error: StoreError


def listed_as(manifest: Manifest) -> Listed:
    """The part of a manifest that a list tells."""
    return Listed(
        manifest.key,
        manifest.name,
        manifest.source_size,
        manifest.scale_sizes[-1],
        manifest.channels,
        len(manifest.scale_sizes),
        bool(manifest.mask_values),
        manifest.weights_bytes,
        manifest.created_at,
        manifest.config,
    )


def catalogued(
    path: Path,  # of the catalogue
    groups: Iterator[list[tuple[str, str]]],  # sorted keys that begin alike, each with the path of its manifest
    read: Callable[[str], Manifest],
) -> Iterator[Listed | Broken]:
    """All entries in the order of their keys. What the catalogue lacks is read, and kept where that is possible."""
    database = _opened(path)
    if database is None:
        for group in groups:
            for key, manifest_path in group:
                entry = None if _stamp(manifest_path) is None else _read(key, read)
                if entry is not None:
                    yield entry
        return
    with closing(database):
        shards = []
        for group in groups:
            shards.append(group[0][0][:2])
            yield from _of_group(database, group, read)
        with suppress(sqlite3.Error), database:
            there = ", ".join("?" * len(shards))
            database.execute(f"DELETE FROM entries WHERE substr(key, 1, 2) NOT IN ({there})", shards)


def _of_group(
    database: sqlite3.Connection, group: list[tuple[str, str]], read: Callable[[str], Manifest]
) -> Iterator[Listed | Broken]:
    known = _known(database, group[0][0][:2])
    fresh: list[tuple[str, Listed]] = []
    for key, manifest_path in group:
        stamp = _stamp(manifest_path)
        row = known.pop(key, None)
        if stamp is None:
            known[key] = row or ("", None)
            continue
        entry: Listed | Broken | None = row[1] if row and row[0] == stamp else None
        if entry is None:
            entry = _read(key, read)
            if isinstance(entry, Listed):
                fresh.append((stamp, entry))
            elif row:
                known[key] = row
        if entry is not None:
            yield entry
    if fresh or known:
        _keep(database, fresh, list(known))


def _read(key: str, read: Callable[[str], Manifest]) -> Listed | Broken | None:
    """None where it was removed meanwhile."""
    try:
        return listed_as(read(key))
    except MissingPyramidError:
        return None
    except StoreError as error:
        return Broken(key, error)


def _stamp(path: str) -> str | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (of every entry)
    except OSError:
        return None
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"


def _opened(path: Path) -> sqlite3.Connection | None:
    """The catalogue, made where there is none or another one; None where there can be none."""
    with suppress(OSError):
        make_folder(path.parent)
    if path.is_symlink() or path.parent.is_symlink() or (path.exists() and not path.is_file()):
        return None
    for mode, again in (("rwc", True), ("rwc", False), ("ro", False)):
        database = None
        try:
            database = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=5.0)
            database.execute("PRAGMA trusted_schema = OFF")
            found = [sql for (sql,) in database.execute("SELECT sql FROM sqlite_master ORDER BY name") if sql]
            if not found and mode != "ro":
                database.execute(_CONFIGS)
                database.execute(_TABLE)
                database.commit()
            elif found != [_CONFIGS, _TABLE]:
                raise sqlite3.DatabaseError("another layout")
        except sqlite3.Error as error:
            if database is not None:
                database.close()
            if isinstance(error, sqlite3.OperationalError):  # it cannot be written, or another process writes it
                continue
            if not again:
                return None
            with suppress(OSError):
                path.unlink()
            continue
        return database
    return None


def _known(database: sqlite3.Connection, shard: str) -> dict[str, tuple[str, Listed | None]]:
    """Stamps and entries of keys that begin so; None for what makes no sense."""
    rows: list[tuple[Any, ...]] = []
    configs: dict[str, Any] = {}
    with suppress(sqlite3.Error):
        rows = database.execute("SELECT * FROM entries WHERE key >= ? AND key < ?", (shard, shard + "g")).fetchall()
        configs = dict(database.execute("SELECT digest, config FROM configs").fetchall())
    known: dict[str, tuple[str, Listed | None]] = {}
    for key, stamp, name, *numbers, weights_bytes, created_at, digest in rows:
        entry = None
        with suppress(ValueError, TypeError, RecursionError):
            source_height, source_width, height, width, channels, scales, masked = map(int, numbers)
            entry = Listed(
                key,
                str(json.loads(name)),
                (source_height, source_width),
                (height, width),
                channels,
                scales,
                bool(masked),
                int(weights_bytes),
                str(created_at),
                _config_of(str(configs.get(digest)), digest),
            )
        known[key] = (stamp, entry)
    return known


@lru_cache(maxsize=1024)
def _config_of(text: str, digest: str) -> FitConfig:
    config = FitConfig.from_json(text)
    if config.digest() != digest:
        raise ConfigError("another config")
    return config


def _keep(database: sqlite3.Connection, fresh: list[tuple[str, Listed]], gone: list[str]) -> None:
    rows = []
    for stamp, e in fresh:
        facts = (e.channels, e.scales, e.masked, e.weights_bytes, e.created_at, e.config.digest())
        rows.append((e.key, stamp, json.dumps(e.name), *e.source_size, *e.size, *facts))
    configs = {entry.config.digest(): entry.config.to_json() for _, entry in fresh}
    with suppress(sqlite3.Error), database:  # read-only, full, or another process writes: the next one keeps it
        database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in gone])
        database.executemany("INSERT OR REPLACE INTO configs VALUES (?, ?)", configs.items())
        database.executemany(f"INSERT OR REPLACE INTO entries VALUES ({', '.join('?' * 13)})", rows)
