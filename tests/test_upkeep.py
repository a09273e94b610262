"""`du`, `prune` and `verify --repair`."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner, Result

from singan_aug import cli
from singan_aug.fitting import fit
from singan_aug.images import pixels_to_pil
from singan_aug.presets import fast, smooth
from singan_aug.store import DirectoryStore, Manifest, checksum, make_key
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")

MADE = {"a": (fast(coarsest_px=14), 18), "b": (fast(coarsest_px=14), 60), "c": (smooth(coarsest_px=14), 18)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    folder = tmp_path_factory.mktemp("made")
    store = DirectoryStore(folder / "store")
    for seed, (name, (config, side)) in enumerate(MADE.items()):
        photo = make_photo(side, side + 6, seed=seed)
        (folder / "in").mkdir(exist_ok=True)
        pixels_to_pil(photo).save(folder / "in" / f"{name}.png")
        store.save(make_key(photo, config), fit(photo, config), name=f"{name}.png")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> DirectoryStore:
    shutil.copytree(made / "store", tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


def _run(store: DirectoryStore, *arguments: object) -> Result:
    result = CliRunner().invoke(cli.app, [*map(str, arguments), "--store", str(store.root)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _names(store: DirectoryStore) -> str:
    return "".join(sorted(Path(store.manifest(key).name).stem for key in store.keys()))


def _key(store: DirectoryStore, name: str) -> str:
    return next(key for key in store.keys() if store.manifest(key).name == f"{name}.png")


def _entry(store: DirectoryStore, name: str) -> Path:
    key = _key(store, name)
    return store.root / "pyramids" / key[:2] / key


def test_du_adds_up(store: DirectoryStore) -> None:
    key = _key(store, "a")
    store.failures.note(key, "it diverged")
    store.quarantine(_key(store, "b"))
    taken = json.loads(_run(store, "du", "--json").stdout)
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert taken["bytes"]["total"] == sum(path.stat().st_size for path in files)
    parts = sum(size for what, size in taken["bytes"].items() if what != "total")
    assert parts == taken["bytes"]["total"]
    assert taken["bytes"]["failures"] == (store.root / "failures" / f"{key}.json").stat().st_size
    assert taken["bytes"]["quarantine"] > 0
    assert sorted(taken["pyramids"].values()) == [1, 1]
    assert "total" in _run(store, "du").stdout


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        (["--older-than", "1h"], "abc"),
        (["--older-than", "0h"], ""),
        (["--larger-than", "15KB"], "ac"),
        (["--larger-than", "1GB"], "abc"),
        (["--preset", "smooth coarsest_px=14"], "ab"),
        (["--preset", "smooth coarsest_px=14", "--larger-than", "15KB"], "abc"),
        (["--unused-for", "30d"], "abc"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_prune_removes_what_all_conditions_apply_to(store: DirectoryStore, conditions: list[str], left: str) -> None:
    result = _run(store, "prune", *conditions, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.count("would remove ") == 3 - len(left)
    assert _names(store) == "abc"
    if len(left) < 2:
        result = _run(store, "prune", *conditions)
        assert result.exit_code == 2
        assert "--yes" in result.stderr
        assert _names(store) == "abc"
    assert _run(store, "prune", *conditions, "--yes").exit_code == 0
    assert _names(store) == left


def test_prune_knows_what_was_not_read_for_long(store: DirectoryStore) -> None:
    long_ago = time.time() - 40 * 86400
    os.utime(_entry(store, "b") / "pyramid.safetensors", (long_ago, long_ago))
    assert _run(store, "prune", "--unused-for", "30d").exit_code == 0
    assert _names(store) == "ac"


def test_prune_removes_what_is_of_no_image(store: DirectoryStore, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "in", tmp_path / "in")
    assert "0 pyramids" in _run(store, "prune", "--not-in", tmp_path / "in").stdout
    (tmp_path / "in" / "a.png").unlink()
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    result = _run(store, "prune", "--not-in", tmp_path / "in")
    assert result.exit_code == 2
    assert "broken.png" in result.stderr
    (tmp_path / "in" / "broken.png").unlink()
    assert _run(store, "prune", "--not-in", tmp_path / "in").exit_code == 0
    assert _names(store) == "bc"
    (tmp_path / "empty").mkdir()
    for nowhere in (tmp_path / "empty", tmp_path / "nowhere"):
        assert _run(store, "prune", "--not-in", nowhere, "--yes").exit_code == 2
    assert _names(store) == "bc"


@pytest.mark.parametrize("wrong", [[], ["--older-than", "soon"], ["--larger-than", "big"]], ids=" ".join)
def test_prune_of_nonsense_removes_nothing(store: DirectoryStore, wrong: list[str]) -> None:
    assert _run(store, "prune", *wrong, "--yes").exit_code == 2
    assert _names(store) == "abc"


def test_repair_puts_aside_what_is_broken_and_keeps_its_bytes(store: DirectoryStore) -> None:
    broken = {name: _entry(store, name) for name in ("a", "c")}
    keys = {name: entry.name for name, entry in broken.items()}
    for entry in broken.values():
        weights = entry / "pyramid.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    damaged = {name: (entry / "pyramid.safetensors").read_bytes() for name, entry in broken.items()}
    for refused in (["--repair", "--dry-run"], ["--repair"]):
        assert _run(store, "verify", *refused).exit_code in (1, 2)
        assert len(list(store.keys())) == 3
    result = _run(store, "verify", "--repair", "--yes", "--jobs", "2")
    assert result.exit_code == 1
    assert all(key in result.stderr for key in keys.values())
    assert _names(store) == "b"
    aside = {path.name.partition(".")[0]: path for path in (store.root / "quarantine").iterdir()}
    for name, key in keys.items():
        assert (aside[key] / "pyramid.safetensors").read_bytes() == damaged[name]
        assert (aside[key] / "manifest.json").exists()
    assert _run(store, "verify").exit_code == 0
    assert store.incomplete() == []


def test_verify_goes_on_where_it_was_interrupted(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singan_aug.cli.store.AT_ONCE", 1)
    keys = list(store.keys())
    weights = store.root / "pyramids" / keys[0][:2] / keys[0] / "pyramid.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    read: list[str] = []
    check = DirectoryStore.check

    def interrupted(self: DirectoryStore, key: str, *, deep: bool = False) -> None:
        read.append(key)
        if len(read) == 3:
            raise KeyboardInterrupt
        check(self, key, deep=deep)

    monkeypatch.setattr(DirectoryStore, "check", interrupted)
    CliRunner().invoke(cli.app, ["verify", "--store", str(store.root)])
    assert read == keys
    result = _run(store, "verify", "--resume", "--json")
    assert read[3:] == [keys[0], keys[2]]  # what was broken is looked at again
    assert [row["ok"] for row in json.loads(result.stdout)] == [False, True, True]
    _run(store, "verify", "--resume")
    assert read[5:] == keys  # the last run came to its end


def test_a_deep_check_notices_what_has_the_right_checksum_and_is_no_pyramid(store: DirectoryStore) -> None:
    key = next(store.keys())
    entry = store.root / "pyramids" / key[:2] / key
    weights = safetensors.torch.save({"scales.0.entering": torch.zeros(1)})
    (entry / "pyramid.safetensors").write_bytes(weights)
    changes = {"weights_bytes": len(weights), "weights_checksum": checksum(weights)}
    manifest = store.manifest(key)
    (entry / "manifest.json").write_text(Manifest(**{**dict(manifest), **changes}).to_json())
    assert _run(store, "verify").exit_code == 0
    assert _run(store, "verify", "--resume", "--deep").exit_code == 1


def test_a_journal_of_nonsense_skips_nothing(store: DirectoryStore) -> None:
    (store.root / "derived").mkdir(exist_ok=True)
    (store.root / "derived" / "verified-1.jsonl").write_text('{"keys": 3}\nnonsense')
    result = _run(store, "verify", "--resume")
    assert result.stdout.startswith("3 of 3 pyramids")
