"""The catalogue answers lists without reading manifests, and is never the truth."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from singan_aug.fitting import fit
from singan_aug.presets import fast
from singan_aug.store import Broken, DirectoryStore, Listed, Manifest, MemoryStore, make_key
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = fast(coarsest_px=14)
NAMES = ["a.png", "b\udce9.png", "c.png"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> DirectoryStore:
    store = DirectoryStore(tmp_path_factory.mktemp("made") / "store")
    for seed, name in enumerate(NAMES):
        photo = make_photo(18, 24, seed=seed)
        store.save(make_key(photo, CONFIG), fit(photo, CONFIG), name=name, source_size=(180, 240))
    return store


@pytest.fixture
def store(made: DirectoryStore, tmp_path: Path) -> DirectoryStore:
    shutil.copytree(made.root, tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


def _catalogue(store: DirectoryStore) -> Path:
    return store.root / "derived" / "catalogue-1.sqlite"


def _expected(store: DirectoryStore) -> list[Listed]:
    found = []
    for key in store.keys():
        m = store.manifest(key)
        numbers = (3, len(m.scale_sizes), False, m.weights_bytes)
        found.append(Listed(key, m.name, (180, 240), (18, 24), *numbers, m.created_at, CONFIG))
    return found


def _reads(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that are read from now on."""
    read: list[str] = []
    manifest = DirectoryStore.manifest

    def noting(self: DirectoryStore, key: str) -> Manifest:
        read.append(key)
        return manifest(self, key)

    monkeypatch.setattr(DirectoryStore, "manifest", noting)
    return read


def test_a_second_list_reads_no_manifest(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _expected(store)
    read = _reads(store, monkeypatch)
    assert list(store.entries()) == expected
    assert read == [entry.key for entry in expected]
    assert list(DirectoryStore(store.root).entries()) == expected
    assert list(MemoryStore(store).entries()) == expected
    assert len(read) == len(expected)


def test_what_changed_is_read_again_and_what_went_is_forgotten(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = _expected(store)
    list(store.entries())
    store.remove(first.key)
    path = store.root / "pyramids" / second.key[:2] / second.key / "manifest.json"
    path.write_bytes(path.read_bytes()[:-1])
    photo = make_photo(18, 24, seed=9)
    store.save(make_key(photo, CONFIG), fit(photo, CONFIG), name="d.png")
    read = _reads(store, monkeypatch)
    entries = {entry.key: entry for entry in store.entries()}
    assert first.key not in entries
    assert isinstance(entries[second.key], Broken)
    assert entries[third.key] == third
    assert set(read) == {second.key, str(make_key(photo, CONFIG))}
    with closing(sqlite3.connect(_catalogue(store))) as database, database:
        assert {key for (key,) in database.execute("SELECT key FROM entries")} == set(entries) - {second.key}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def _forge_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE entries SET width = 'wide', name = '[', config = 'none'")


def _forge_layout(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TRIGGER evil AFTER INSERT ON entries BEGIN DELETE FROM entries; END")


def _link_out(path: Path) -> None:
    outside = path.parent.parent.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def _replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "no database": lambda path: path.write_bytes(b"no database" * 1000),
    "cut short": _truncate,
    "odd rows": _forge_rows,
    "another layout": _forge_layout,
    "a link": _link_out,
    "a folder": _replace_by_a_folder,
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_catalogue_changes_no_list(store: DirectoryStore, damage: str) -> None:
    expected = _expected(store)
    list(store.entries())
    DAMAGE[damage](_catalogue(store))
    outside = store.root.parent / "outside"
    before = outside.read_bytes() if outside.exists() else None
    for _ in range(2):
        assert list(store.entries()) == expected
    assert before is None or outside.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_place_of_the_catalogue_hangs_nobody(store: DirectoryStore) -> None:
    _catalogue(store).parent.mkdir()
    os.mkfifo(_catalogue(store))
    assert list(store.entries()) == _expected(store)


def test_a_list_that_is_left_early_breaks_nothing(store: DirectoryStore) -> None:
    expected = _expected(store)
    assert next(iter(store.entries())) == expected[0]
    assert list(store.entries()) == expected
