from __future__ import annotations

import ast
import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

import singan_aug
from singan_aug.errors import CorruptPyramidError, MissingPyramidError, StoreError, StoreFormatError, StoreWriteError
from singan_aug.fitting import fit
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.store import FORMAT_VERSION, DirectoryStore, Key, make_key, open_store
from singan_aug.store._codec import encode
from tests.conftest import make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1 / 255
CONFIG = quick(coarsest_px=14, steps_coarsest=8, steps_finer=6, learning_rate=1e-2)
PHOTO, OTHER_PHOTO = make_photo(18, 24), make_photo(18, 24, seed=1)
MASKS = (0x01, 0x20, 0x80)  # the lowest bit, a letter's case, the highest bit
SOURCES = sorted(Path(singan_aug.__file__).parent.rglob("*.py"))


@dataclass(frozen=True)
class Case:
    """Two fitted pyramids and the keys they go by."""

    pyramid: Pyramid
    other: Pyramid
    key: Key
    other_key: Key


@pytest.fixture(scope="module")
def case(one_thread: None) -> Case:
    pyramid, other = fit(PHOTO, CONFIG), fit(OTHER_PHOTO, CONFIG)
    return Case(pyramid, other, make_key(PHOTO, CONFIG), make_key(OTHER_PHOTO, CONFIG))


@pytest.fixture
def store(tmp_path: Path, case: Case) -> DirectoryStore:
    """One that holds `case.pyramid` and `case.other`."""
    store = DirectoryStore(tmp_path / "store")
    store.save(case.key, case.pyramid, name="a.png")
    store.save(case.other_key, case.other, name="b.png")
    return store


def _entry(store: DirectoryStore, key: Key) -> Path:
    return store.root / "pyramids" / str(key)[:2] / str(key)


def _weights(store: DirectoryStore, key: Key) -> Path:
    return _entry(store, key) / "pyramid.safetensors"


def _manifest(store: DirectoryStore, key: Key) -> Path:
    return _entry(store, key) / "manifest.json"


def _files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but claims, which are no data."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith("claims")}


def _same(one: Pyramid, other: Pyramid) -> bool:
    return torch.equal(reconstruct(one), reconstruct(other)) and all(
        torch.equal(draw(one, start_scale=k, seed=3), draw(other, start_scale=k, seed=3)) for k in range(len(one))
    )


@contextmanager
def _changed(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    assert data != before
    path.write_bytes(data)
    yield
    path.write_bytes(before)


def _flipped(data: bytes, position: int, mask: int) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def _guarded(values: dict[str, Any]) -> bytes:
    """A manifest with a valid checksum, made as cache/README.md says."""
    values = {name: value for name, value in values.items() if name != "manifest_checksum"}
    guard = xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())
    return (json.dumps({**values, "manifest_checksum": guard}, indent=2) + "\n").encode()


# What lies on the disk


def test_the_layout_is_the_documented_one(store: DirectoryStore, case: Case) -> None:
    entries = [f"pyramids/{str(key)[:2]}/{key}" for key in (case.key, case.other_key)]
    files = ("manifest.json", "pyramid.safetensors")
    assert set(_files(store.root)) == {"store.json", *(f"{entry}/{file}" for entry in entries for file in files)}
    assert json.loads((store.root / "store.json").read_text()) == {
        "format": "singan-aug store",
        "format_version": FORMAT_VERSION,
    }


def test_a_copied_store_is_the_same_store(store: DirectoryStore, case: Case, tmp_path: Path) -> None:
    before = store.load(str(case.key))
    store.root.rename(tmp_path / "moved elsewhere")
    moved = open_store(f"file:{tmp_path / 'moved elsewhere'}")
    assert _same(before, moved.load(str(case.key)))
    assert sorted(moved.keys()) == sorted([str(case.key), str(case.other_key)])


def test_saving_the_same_again_gives_the_same_weights(store: DirectoryStore, case: Case) -> None:
    before = _weights(store, case.key).read_bytes()
    store.save(case.key, case.pyramid)
    assert _weights(store, case.key).read_bytes() == before


def test_foreign_files_are_no_pyramids(store: DirectoryStore, case: Case) -> None:
    keys = list(store.keys())
    shard = _entry(store, case.key).parent
    (store.root / "pyramids" / ".DS_Store").touch()
    (shard / "notes.txt").touch()
    for name in ("not a key", "0" * 49, f"{case.key}.bak"):
        (shard / name).mkdir()
        (shard / name / "manifest.json").write_bytes(_manifest(store, case.key).read_bytes())
    assert list(store.keys()) == keys
    assert store.find(case.key.fingerprint.digest) == [str(case.key)]


# Half precision


def test_half_precision_is_used_where_draws_stay_the_same(store: DirectoryStore, case: Case) -> None:
    manifest = store.manifest(str(case.key))
    assert manifest.weights_dtype == "float16"
    elements = sum(tensor.numel() for tensor in case.pyramid.tensors().values())
    assert 2 * elements < manifest.weights_bytes < 2 * elements + 8192  # the header


def _hard_for_half(pyramid: Pyramid, factor: float) -> Pyramid:
    """The same function: LeakyReLU is homogeneous, so one layer may be scaled up and the next one down."""
    tensors = dict(pyramid.tensors())
    assert not pyramid.config.leaves()["batch_norm"]
    convolutions = [name for name in tensors if name.startswith("scales.0.generator.") and tensors[name].ndim == 4]
    first, second = convolutions[:2]
    bias = first.removesuffix("weight") + "bias"
    tensors |= {first: tensors[first] * factor, bias: tensors[bias] * factor, second: tensors[second] / factor}
    return Pyramid.from_tensors(
        tensors, config=pyramid.config, channels=pyramid.channels, size=pyramid.size, provenance={}
    )


@pytest.mark.parametrize("factor", [1e7, 1e-7])  # weights beyond 65504, and weights below 6e-8
def test_single_precision_is_used_where_half_loses(store: DirectoryStore, case: Case, factor: float) -> None:
    pyramid = _hard_for_half(case.pyramid, factor)
    assert float((draw(pyramid, seed=3) - draw(case.pyramid, seed=3)).abs().max()) < TOLERANCE
    manifest = store.save(case.key, pyramid)
    assert manifest.weights_dtype == "float32"
    loaded = store.load(str(case.key))
    assert all(torch.equal(tensor, loaded.tensors()[name]) for name, tensor in pyramid.tensors().items())
    assert _same(loaded, pyramid)


# Damage


def test_a_truncated_weights_file_is_noticed(store: DirectoryStore, case: Case) -> None:
    path = _weights(store, case.key)
    data = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 2, len(data) - 1):
        with _changed(path, data[:length]), pytest.raises(CorruptPyramidError, match=str(case.key)) as caught:
            store.load(str(case.key))
        assert f"`{store.command('rm', case.key)}`" in str(caught.value)
    for longer in (data + b"\0", data + data):
        with _changed(path, longer), pytest.raises(CorruptPyramidError, match=str(case.key)):
            store.load(str(case.key))


def test_a_flipped_byte_in_the_weights_is_noticed(store: DirectoryStore, case: Case) -> None:
    path = _weights(store, case.key)
    data = path.read_bytes()
    rng = random.Random(0)
    positions = {0, 1, 7, 8, 9, len(data) - 1, *(rng.randrange(len(data)) for _ in range(60))}
    for position in sorted(positions):
        damaged = _flipped(data, position, 1 << rng.randrange(8))
        with _changed(path, damaged), pytest.raises(CorruptPyramidError, match=str(case.key)) as caught:
            store.load(str(case.key))
        assert f"`{store.command('rm', case.key)}`" in str(caught.value)
    assert _same(store.load(str(case.key)), store.load(str(case.key)))


def test_swapped_weights_are_noticed(store: DirectoryStore, case: Case) -> None:
    assert len(_weights(store, case.key).read_bytes()) == len(_weights(store, case.other_key).read_bytes())
    with (
        _changed(_weights(store, case.key), _weights(store, case.other_key).read_bytes()),
        pytest.raises(CorruptPyramidError, match=str(case.key)),
    ):
        store.load(str(case.key))


def test_missing_weights_are_noticed(store: DirectoryStore, case: Case) -> None:
    _weights(store, case.key).unlink()
    with pytest.raises(CorruptPyramidError, match="missing beside its manifest") as caught:
        store.load(str(case.key))
    assert str(case.key) in str(caught.value)


def test_weights_that_are_a_folder_are_noticed(store: DirectoryStore, case: Case) -> None:
    _weights(store, case.key).unlink()
    _weights(store, case.key).mkdir()
    with pytest.raises(CorruptPyramidError, match=str(case.key)):
        store.load(str(case.key))


def test_a_flipped_byte_in_the_manifest_is_noticed(store: DirectoryStore, case: Case) -> None:
    path = _manifest(store, case.key)
    data = path.read_bytes()
    for position in range(0, len(data), 29):  # tests/test_manifest.py tries them all
        damaged = _flipped(data, position, MASKS[position % len(MASKS)])
        with _changed(path, damaged), pytest.raises(StoreError, match=str(case.key)) as caught:
            store.load(str(case.key))
        assert isinstance(caught.value, (CorruptPyramidError, StoreFormatError))


def test_a_truncated_manifest_is_noticed(store: DirectoryStore, case: Case) -> None:
    path = _manifest(store, case.key)
    data = path.read_bytes()
    for length in (0, 1, 2, len(data) // 2, len(data) - 3, len(data) - 2, len(data) - 1):
        with _changed(path, data[:length]), pytest.raises(CorruptPyramidError, match=str(case.key)):
            store.manifest(str(case.key))


def test_the_manifest_of_another_key_is_noticed(store: DirectoryStore, case: Case) -> None:
    with _changed(_manifest(store, case.key), _manifest(store, case.other_key).read_bytes()):
        for method in (store.manifest, store.load):
            with pytest.raises(CorruptPyramidError) as caught:
                method(str(case.key))
            assert str(case.key) in str(caught.value)
            assert str(case.other_key) in str(caught.value)


def test_a_whole_entry_under_another_key_is_noticed(store: DirectoryStore, case: Case) -> None:
    place = str(case.key)[:-1] + ("1" if str(case.key)[-1] == "0" else "0")
    _entry(store, case.key).rename(_entry(store, case.key).with_name(place))
    with pytest.raises(CorruptPyramidError, match=str(case.key)):
        store.load(place)


@pytest.mark.parametrize(
    "changes",
    [{"channels": 1}, {"scale_sizes": [[40, 50]]}, {"config": CONFIG.replace(width=9).model_dump()}],
    ids=["channels", "sizes", "config"],
)
def test_tensors_that_do_not_fit_the_manifest_are_noticed(
    store: DirectoryStore, case: Case, changes: dict[str, Any]
) -> None:
    path = _manifest(store, case.key)
    with (
        _changed(path, _guarded({**json.loads(path.read_bytes()), **changes})),
        pytest.raises(CorruptPyramidError, match=str(case.key)),
    ):
        store.load(str(case.key))


def test_weights_that_are_no_safetensors_are_noticed(store: DirectoryStore, case: Case) -> None:
    data = b"checksummed, and yet no safetensors"
    values = json.loads(_manifest(store, case.key).read_bytes())
    values |= {"weights_bytes": len(data), "weights_checksum": xxhash.xxh3_128_hexdigest(data)}
    with (
        _changed(_manifest(store, case.key), _guarded(values)),
        _changed(_weights(store, case.key), data),
        pytest.raises(CorruptPyramidError, match=str(case.key)),
    ):
        store.load(str(case.key))


def test_damage_to_one_leaves_the_others(store: DirectoryStore, case: Case) -> None:
    loaded = store.load(str(case.other_key))
    with _changed(_weights(store, case.key), b""), _changed(_manifest(store, case.key), b"{"):
        assert sorted(store.keys()) == sorted([str(case.key), str(case.other_key)])
        assert _same(store.load(str(case.other_key)), loaded)


def test_what_is_broken_can_be_removed_and_replaced(store: DirectoryStore, case: Case) -> None:
    for data in (b"", b"{}", b"\xff\xfe"):
        _manifest(store, case.key).write_bytes(data)
        with pytest.raises(CorruptPyramidError):
            store.load(str(case.key))
        store.remove(str(case.key))
        with pytest.raises(MissingPyramidError):
            store.load(str(case.key))
        store.save(case.key, case.pyramid)
        store.load(str(case.key))
        _weights(store, case.key).unlink()
        store.save(case.key, case.pyramid)
        store.load(str(case.key))


# The store's own file


Look = Callable[[DirectoryStore, Case], Any]
LOOKS: dict[str, Look] = {
    "keys": lambda store, case: list(store.keys()),
    "find": lambda store, case: store.find(case.key.fingerprint.digest),
    "prepare": lambda store, case: store.prepare(),
    "save": lambda store, case: store.save(case.key, case.pyramid),
    "manifest": lambda store, case: store.manifest(str(case.key)),
    "load": lambda store, case: store.load(str(case.key)),
    "contains": lambda store, case: str(case.key) in store,
    "remove": lambda store, case: store.remove(str(case.key)),
    "sweep": lambda store, case: store.sweep(),
    "claim": lambda store, case: store.claim(str(case.key), wait=False).__enter__(),
}


def test_every_flipped_byte_of_store_json_is_noticed(store: DirectoryStore, case: Case) -> None:
    path = store.root / "store.json"
    data = path.read_bytes()
    damaged = [_flipped(data, position, MASKS[position % len(MASKS)]) for position in range(len(data))]
    for each in [*damaged, b"", data[:1], data[:-1], data + b"\n"]:
        with _changed(path, each):
            for look in ("keys", "find", "prepare"):
                with pytest.raises(StoreError, match=r"store\.json") as caught:
                    LOOKS[look](store, case)
                assert isinstance(caught.value, (CorruptPyramidError, StoreFormatError))
    assert len(list(store.keys())) == 2


@pytest.mark.parametrize(
    "look",
    [
        "keys",
        "find",
        "prepare",
        "save",
        "manifest",
        "load",
        "contains",
        "remove",
        "sweep",
    ],
)
def test_a_newer_store_is_refused_with_the_remedy(store: DirectoryStore, case: Case, look: str) -> None:
    newer = {"format": "singan-aug store", "format_version": FORMAT_VERSION + 1, "compression": "zstd"}
    (store.root / "store.json").write_text(json.dumps(newer))
    before = _files(store.root)
    with pytest.raises(StoreFormatError) as caught:
        LOOKS[look](store, case)
    message = str(caught.value)
    for word in (store.location, "store.json", str(FORMAT_VERSION + 1), "pip install -U singan-aug", "--store"):
        assert word in message
    assert _files(store.root) == before


@pytest.mark.parametrize("guarded", [True, False])
def test_a_newer_manifest_is_refused_with_the_remedy(store: DirectoryStore, case: Case, guarded: bool) -> None:
    path = _manifest(store, case.key)
    values = {**json.loads(path.read_bytes()), "format_version": FORMAT_VERSION + 1, "codec": "zstd"}
    with _changed(path, _guarded(values) if guarded else json.dumps(values).encode()):
        for method in (store.manifest, store.load):
            with pytest.raises(StoreFormatError) as caught:
                method(str(case.key))
            for word in (str(case.key), str(FORMAT_VERSION + 1), "pip install -U singan-aug"):
                assert word in str(caught.value)
        store.load(str(case.other_key))


# Writes that fail


def _no_space(*args: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Full(io.FileIO):
    """A file on a disk that fills up half way through."""

    def write(self, data: Any) -> int:
        super().write(data[: len(data) // 2])
        _no_space()
        return 0


def _on_call(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Fails from that call on."""
    calls = iter(range(count - 1))

    def patched(*args: Any, **options: Any) -> Any:
        return function(*args, **options) if next(calls, None) is not None else _no_space()

    return patched


def _full_disk(patch: pytest.MonkeyPatch, count: int) -> None:
    opened, calls = Path.open, iter(range(count - 1))

    def patched(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if "w" in mode and next(calls, None) is None:
            return _Full(path, "w")
        return opened(path, mode, *args, **options)

    patch.setattr(Path, "open", patched)


def _check_refusal(store: DirectoryStore, error: StoreWriteError, reason: int = errno.ENOSPC) -> None:
    assert isinstance(error, OSError)
    for word in (store.location, os.strerror(reason), "free space or change its permissions", "--store"):
        assert word in str(error)


ASIDE: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "writing the weights": lambda patch: _full_disk(patch, 1),
    "writing the manifest": lambda patch: _full_disk(patch, 2),
    "syncing the weights": lambda patch: patch.setattr(os, "fsync", _on_call(1, os.fsync)),
    "syncing the manifest": lambda patch: patch.setattr(os, "fsync", _on_call(2, os.fsync)),
    "making a folder aside": lambda patch: patch.setattr(os, "mkdir", _no_space),
}


@pytest.mark.parametrize("step", list(ASIDE))
@pytest.mark.parametrize("present", [True, False], ids=["replaced", "new"])
def test_a_full_disk_leaves_the_store_as_it_was(
    store: DirectoryStore, case: Case, step: str, present: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not present:
        store.remove(str(case.key))
    before = _files(store.root)
    with monkeypatch.context() as patch:
        ASIDE[step](patch)
        with pytest.raises(StoreWriteError) as caught:
            store.save(case.key, case.other)
    _check_refusal(store, caught.value)
    assert _files(store.root) == before
    assert list((store.root / "partial").iterdir()) == []
    store.save(case.key, case.pyramid)
    store.load(str(case.key))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("present", [True, False], ids=["replaced", "new"])
def test_a_rename_that_fails_leaves_no_half_pyramid(
    store: DirectoryStore, case: Case, step: int, present: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not present:
        store.remove(str(case.key))
    other = _files(_entry(store, case.other_key))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _on_call(step, Path.replace))
        with pytest.raises(StoreWriteError) as caught:
            store.save(case.key, case.other)
    _check_refusal(store, caught.value)
    assert list((store.root / "partial").iterdir()) == []
    assert _files(_entry(store, case.other_key)) == other
    _check_whole_or_absent(store, case)
    store.sweep()
    _check_swept(store)


def test_a_write_that_does_not_read_back_is_refused(
    store: DirectoryStore, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(store.root)
    read = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: _flipped(read(path), 50, 1))
        with pytest.raises(StoreWriteError, match="does not read back"):
            store.save(case.key, case.other)
    assert _files(store.root) == before


def test_a_full_disk_under_a_new_store(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path / "store")
    with monkeypatch.context() as patch:
        _full_disk(patch, 1)
        with pytest.raises(StoreWriteError) as caught:
            store.prepare()
    _check_refusal(store, caught.value)
    assert _files(store.root) == {}


def _make_read_only(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Permissions bind nobody who is root: refuse what a read-only file system refuses."""

    def guard(module: Any, name: str, writes: Callable[..., bool]) -> None:
        function = getattr(module, name)

        def patched(path: Any, *args: Any, **options: Any) -> Any:
            if not isinstance(path, int) and str(path).startswith(str(folder)) and writes(*args, **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return function(path, *args, **options)

        patch.setattr(module, name, patched)

    for name in ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "chmod"):
        guard(os, name, lambda *args, **options: True)
    guard(os, "open", lambda flags, *args, **options: bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    guard(io, "open", lambda mode="r", *args, **options: not set(mode).isdisjoint("wax+"))


@pytest.mark.parametrize("action", ["prepare", "save", "remove", "sweep", "claim"])
def test_a_read_only_store_refuses_writes(
    store: DirectoryStore, case: Case, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = store.root / "partial" / f"{case.key}.abc"
    leftover.mkdir()
    before = _files(store.root)
    with monkeypatch.context() as patch:
        _make_read_only(patch, store.root)
        with pytest.raises(StoreWriteError) as caught:
            LOOKS[action](store, case)
    _check_refusal(store, caught.value, errno.EROFS)
    assert _files(store.root) == before


def test_a_read_only_store_is_read(store: DirectoryStore, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _make_read_only(patch, store.root)
        assert len(list(store.keys())) == 2
        assert store.find(case.key.fingerprint.digest) == [str(case.key)]
        store.load(str(case.key))


def test_a_file_is_no_store(tmp_path: Path, case: Case) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"precious")
    store = DirectoryStore(path)
    assert list(store.keys()) == []
    for action in (store.prepare, lambda: store.save(case.key, case.pyramid)):
        with pytest.raises(StoreWriteError, match=r"photo\.png"):
            action()
    assert path.read_bytes() == b"precious"


def test_the_manifest_is_renamed_last_and_after_everything_is_synced(
    store: DirectoryStore, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, fsync, unlink = Path.replace, os.fsync, Path.unlink

    def noting_replace(path: Path, target: Any) -> Path:
        done.append(f"rename {path.name}")
        return replace(path, target)

    def noting_fsync(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def noting_unlink(path: Path, missing_ok: bool = False) -> None:
        done.append(f"unlink {path.name}")
        unlink(path, missing_ok=missing_ok)

    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells which file is synced")
    monkeypatch.setattr(Path, "replace", noting_replace)
    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "unlink", noting_unlink)
    store.save(case.key, case.pyramid)
    assert done == [
        "sync pyramid.safetensors",
        "sync manifest.json",
        "unlink manifest.json",
        "rename pyramid.safetensors",
        f"sync {case.key}",
        "rename manifest.json",
        f"sync {case.key}",
    ]


# Writes that are killed


# Runs `action` again and again in forks that kill themselves, each at another line that Python executes: at every line
# of the store's own module, and at a few lines in between, in other modules. It imports no torch: pyramids are
# encoded beforehand.
KILLER = """
import json, os, shutil, signal, sys, types
from pathlib import Path

import numpy as np

codec = types.ModuleType("singan_aug.store._codec")
codec.encode = lambda pyramid: (pyramid.weights, "float16")
codec.descriptor_of = lambda pyramid, turn_code: np.zeros(4112, dtype=np.uint8)
sys.modules[codec.__name__] = codec

from singan_aug.config import FitConfig
from singan_aug.store import DirectoryStore, Fingerprint, Key

job = json.loads(sys.argv[1])
place = Path(job["place"])
key = Key(Fingerprint(*job["fingerprint"]), job["digest"])
scales = [types.SimpleNamespace(size=tuple(size)) for size in job["sizes"]]
pyramid = types.SimpleNamespace(
    weights=Path(job["weights"]).read_bytes(), channels=3, scales=scales, size=scales[-1].size,
    config=FitConfig(**job["config"]), provenance={"new": True}, displacement_px=(), mask_values=(),
)

def act(root):
    store = DirectoryStore(root)
    if job["action"] == "save":
        store.save(key, pyramid, name="new.png")
    elif job["action"] == "remove":
        store.remove(str(key))
    else:
        store.sweep()

os.fsync = lambda handle: None  # slow, and no protection from a kill
lines, own = 0, []

def tracer(kill_at):
    def trace(frame, event, argument):
        global lines
        if event == "line":
            lines += 1
            if frame.f_code.co_filename.endswith(("_directory.py", "_leftovers.py", "_claims.py")):
                own.append(lines)
            if lines == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

def run(name, kill_at):
    root = place / name
    shutil.copytree(job["base"], root)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        sys.settrace(tracer(kill_at))
        act(root)
        sys.settrace(None)
        (place / "lines.json").write_text(json.dumps([lines, own]))
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)

shutil.copytree(job["base"], place / "warm")
act(place / "warm")  # whatever is imported on first use is imported now
assert run("0", None) == 0
total, own = json.loads((place / "lines.json").read_text())
points = sorted({*own, *range(1, total, max(1, total // 25))})
codes = [run(str(point), point) for point in points]
print(json.dumps([codes.count(-signal.SIGKILL), len(points), len(own)]))
"""


def _child(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def _killed_stores(case: Case, base: DirectoryStore, tmp_path: Path, action: str) -> list[DirectoryStore]:
    """Copies of `base`, in each of which `action` on `case.key` was killed at another moment."""
    place = tmp_path / "killed"
    place.mkdir()
    weights, dtype = encode(case.other)
    assert dtype == "float16"
    (tmp_path / "weights").write_bytes(weights)
    job = {
        "place": str(place),
        "base": str(base.root),
        "action": action,
        "fingerprint": [case.key.fingerprint.digest, case.key.fingerprint.turn_code],
        "digest": case.key.digest,
        "sizes": [scale.size for scale in case.pyramid.scales],
        "weights": str(tmp_path / "weights"),
        "config": CONFIG.model_dump(),
    }
    done = subprocess.run(_child(KILLER, json.dumps(job)), check=True, capture_output=True, text=True)
    assert done.stderr == ""
    killed, points, own = json.loads(done.stdout)
    # A line or two more or less may be executed than in the rehearsal, so the last point may come too late.
    assert killed >= points - 2
    assert own > 10
    return [DirectoryStore(path) for path in sorted(place.iterdir()) if path.is_dir()]


def _check_whole_or_absent(store: DirectoryStore, case: Case) -> str:
    if str(case.key) not in store:
        with pytest.raises(MissingPyramidError):
            store.load(str(case.key))
        assert store.find(case.key.fingerprint.digest) == []
        return "absent"
    manifest = store.manifest(str(case.key))
    store.load(str(case.key))  # verifies the checksums
    return manifest.name


def _check_swept(store: DirectoryStore) -> None:
    assert store.incomplete() == []
    assert list((store.root / "partial").iterdir()) == []
    for shard in (store.root / "pyramids").iterdir():
        for entry in shard.iterdir():
            assert sorted(path.name for path in entry.iterdir()) == ["manifest.json", "pyramid.safetensors"]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of one process")

# What may be there after a kill at any moment, and over all moments is.
AFTER = {"save": {"a.png", "absent", "new.png"}, "remove": {"a.png", "absent"}, "sweep": {"a.png"}}


def _cut_short(store: DirectoryStore, case: Case) -> str:
    """Leaves what a killed write leaves behind; the key that it was for."""
    lost = str(case.key)[:-1] + ("1" if str(case.key)[-1] == "0" else "0")
    for folder in (_entry(store, case.key).with_name(lost), store.root / "partial" / f"{lost}.abc"):
        folder.mkdir()
        (folder / "pyramid.safetensors").write_bytes(b"half")
    (store.root / "partial" / f"{case.key}.def").mkdir()
    return lost


@needs_fork
@pytest.mark.parametrize("action", list(AFTER))
def test_a_kill_leaves_whole_pyramids(store: DirectoryStore, case: Case, tmp_path: Path, action: str) -> None:
    if action == "sweep":
        _cut_short(store, case)
    other = _files(_entry(store, case.other_key))
    seen = set()
    for killed in _killed_stores(case, store, tmp_path, action):
        assert str(case.other_key) in list(killed.keys())
        seen.add(_check_whole_or_absent(killed, case))
        whole = _files(_entry(killed, case.key)) if str(case.key) in killed else {}
        killed.sweep()
        _check_swept(killed)
        assert _files(_entry(killed, case.key)) == whole
        assert _files(_entry(killed, case.other_key)) == other
    assert seen == AFTER[action]


@needs_fork
def test_a_kill_while_a_store_is_made_leaves_one_that_can_be_used(case: Case, tmp_path: Path) -> None:
    base = DirectoryStore(tmp_path / "empty")
    base.root.mkdir()
    seen = set()
    for killed in _killed_stores(case, base, tmp_path, "save"):
        seen.add(_check_whole_or_absent(killed, case))
        killed.prepare()
        killed.sweep()
        _check_swept(killed)
    assert seen == {"absent", "new.png"}


def test_sweeping_clears_what_was_cut_short(store: DirectoryStore, case: Case) -> None:
    before = _files(store.root)
    lost = _cut_short(store, case)
    assert store.incomplete() == sorted([lost, str(case.key)])
    assert lost not in store
    store.sweep()
    assert store.incomplete() == []
    assert _files(store.root) == before


# Claims


CLAIMER = """
import sys
from pathlib import Path
from singan_aug.store import DirectoryStore

root, key, wait, released = sys.argv[1:]
print("asking", flush=True)
with DirectoryStore(root).claim(key, wait=wait == "wait") as mine:
    print(("mine" if mine else "busy"), Path(released).exists(), flush=True)
    sys.stdin.readline()
    Path(released).touch()
"""


class Claimer:
    """Another process that claims a key and holds it until told, or killed."""

    def __init__(self, store: DirectoryStore, key: str, *, wait: bool = False) -> None:
        self.released = store.root.parent / f"released {key}"
        words = [str(store.root), key, "wait" if wait else "no", str(self.released)]
        self.process = subprocess.Popen(
            _child(CLAIMER, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Claimer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.communicate()

    def reads(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def release(self) -> None:
        self.process.communicate("\n")


def test_of_many_processes_one_gets_a_claim(store: DirectoryStore, case: Case) -> None:
    key = str(case.key)
    with Claimer(store, key) as a, Claimer(store, key) as b, Claimer(store, key) as c:
        answers = []
        for claimer in (a, b, c):
            assert claimer.reads() == ["asking"]
            answers.append(claimer.reads()[0])
        assert sorted(answers) == ["busy", "busy", "mine"]


def test_a_claim_is_waited_for(store: DirectoryStore, case: Case) -> None:
    with Claimer(store, str(case.key)) as holder:
        assert [holder.reads()[0], holder.reads()[0]] == ["asking", "mine"]
        with Claimer(store, str(case.key), wait=True) as waiting:
            assert waiting.reads() == ["asking"]
            holder.release()
            assert waiting.reads() == ["mine", "True"]  # and not before it was released


def test_a_killed_process_loses_its_claim(store: DirectoryStore, case: Case) -> None:
    with Claimer(store, str(case.key)) as holder:
        assert [holder.reads()[0], holder.reads()[0]] == ["asking", "mine"]
        with store.claim(str(case.key), wait=False) as mine:
            assert not mine
        with Claimer(store, str(case.key), wait=True) as waiting:
            assert waiting.reads() == ["asking"]
            holder.process.send_signal(signal.SIGKILL)
            assert waiting.reads() == ["mine", "False"]


def test_sweeping_leaves_what_a_living_process_claims(store: DirectoryStore, case: Case) -> None:
    claimed, lost = str(case.key), str(case.other_key)
    store.remove(lost)
    for key in (claimed, lost):
        folder = store.root / "partial" / f"{key}.abc"
        folder.mkdir()
        (folder / "pyramid.safetensors").write_bytes(b"half")
    with Claimer(store, claimed) as holder:
        assert [holder.reads()[0], holder.reads()[0]] == ["asking", "mine"]
        store.sweep()
        assert [path.name for path in (store.root / "partial").iterdir()] == [f"{claimed}.abc"]
        store.load(claimed)  # readers do not care
        holder.process.kill()
        holder.process.wait()
        store.sweep()
    assert list((store.root / "partial").iterdir()) == []
    assert list(store.keys()) == [claimed]


def test_removing_does_not_break_a_claim(store: DirectoryStore, case: Case) -> None:
    with store.claim(str(case.key), wait=False) as first:
        assert first
        store.remove(str(case.key))
        with store.claim(str(case.key), wait=False) as second:
            assert not second


# Never a pickle


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_is_pickled_into_or_out_of_a_file(path: Path) -> None:
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
    tree = ast.parse(path.read_text())
    harmless = _loads_arrays_alone(tree)
    calls = {"torch.load", "torch.save", "np.load", "np.save", "numpy.load", "joblib.load", "joblib.dump"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert modules.isdisjoint(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in modules
        elif isinstance(node, ast.Attribute) and (path.name, ast.unparse(node)) != ("weights.py", "torch.load"):
            assert node in harmless or ast.unparse(node) not in calls


def _loads_arrays_alone(tree: ast.AST) -> set[ast.AST]:
    """The functions of calls as `np.load(file, allow_pickle=False)`, with nothing else beside it."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load"]
    return {call.func for call in calls if [*map(ast.unparse, call.keywords)] == ["allow_pickle=False"]}


def test_published_weights_are_loaded_as_tensors_alone_and_after_their_checksum() -> None:
    (path,) = (path for path in SOURCES if path.name == "weights.py")
    tree = ast.parse(path.read_text())
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "_check"]
    (load,), (check, *_) = loads, checks
    assert check.lineno < load.lineno
    assert [ast.unparse(each.value) for each in load.keywords if each.arg == "weights_only"] == ["True"]
