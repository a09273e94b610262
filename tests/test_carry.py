"""Stores merged, packed and unpacked; archives that are damaged, or made to harm."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
import xxhash
from typer.testing import CliRunner, Result

from singan_aug import cli
from singan_aug.errors import CorruptPyramidError, StoreError, StoreFormatError, StoreWriteError
from singan_aug.fitting import fit
from singan_aug.lookup import PerceptualIndex
from singan_aug.presets import fast
from singan_aug.pyramid import draw
from singan_aug.store import DirectoryStore, PackedStore, make_key, open_store
from singan_aug.store._packed import write_pack
from singan_aug.transforms.torchvision import SinGANAugment
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = fast(coarsest_px=14)


def _photo(seed: int):
    return make_photo(18, 26, seed=seed)


def _store(place: Path, *seeds: int) -> DirectoryStore:
    store = DirectoryStore(place)
    for seed in seeds:
        store.save(make_key(_photo(seed), CONFIG), fit(_photo(seed), CONFIG), name=f"{seed}.png")
    return store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    place = tmp_path_factory.mktemp("made")
    _store(place / "a", 0, 1, 2)
    _store(place / "b", 2, 3)
    return place


@pytest.fixture
def a(made: Path, tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(shutil.copytree(made / "a", tmp_path / "a"))


@pytest.fixture
def b(made: Path, tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(shutil.copytree(made / "b", tmp_path / "b"))


@pytest.fixture
def packed(a: DirectoryStore, tmp_path: Path) -> Path:
    assert _run("pack", a.root, tmp_path / "carry.zip").exit_code == 0
    return tmp_path / "carry.zip"


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli.app, ["store", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _files(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes() for path in (place / "pyramids").rglob("*") if path.is_file()
    }


def _twin(store: DirectoryStore, key: str, seed: int) -> None:
    """Another pyramid under a key that is there, fitted later."""
    pyramid = store.load(key)
    tensors = {name: tensor.clone() for name, tensor in pyramid.tensors().items()}
    tensors["source"] = 255 - tensors["source"] if tensors["source"].dtype == torch.uint8 else -tensors["source"]
    changed = type(pyramid).from_tensors(
        tensors, config=pyramid.config, channels=3, size=pyramid.size, provenance={}, displacement_px=()
    )
    store.save(make_key(_photo(seed), CONFIG), changed, name="twin.png")


def test_merging_copies_what_is_not_there(a: DirectoryStore, b: DirectoryStore) -> None:
    before = _files(b.root)
    dry = _run("merge", a.root, b.root, "--dry-run")
    assert "2 copied" in dry.stdout
    assert _files(b.root) == before
    result = _run("merge", a.root, b.root)
    assert result.exit_code == 0
    assert "2 copied, 1 there already" in result.stdout
    assert _files(b.root) == _files(a.root) | before


def test_merging_into_nothing_makes_a_store(a: DirectoryStore, tmp_path: Path) -> None:
    assert _run("merge", a.root, tmp_path / "new").exit_code == 0
    assert _files(tmp_path / "new") == _files(a.root)
    assert "3 there already" in _run("merge", a.root, tmp_path / "new").stdout


@pytest.mark.parametrize("choice", ["keep", "replace", "newer"])
@pytest.mark.parametrize("later", ["from", "into"])
def test_a_conflict_is_named_and_settled_as_told(a: DirectoryStore, b: DirectoryStore, choice: str, later: str) -> None:
    key = str(make_key(_photo(2), CONFIG))
    source, target = (a, b)
    _twin(source if later == "from" else target, key, 2)
    ours, theirs = source.manifest(key), target.manifest(key)
    taken = choice == "replace" or (choice == "newer" and later == "from")
    dry = _run("merge", source.root, target.root, "--on-conflict", choice, "--dry-run")
    assert target.manifest(key) == theirs
    result = _run("merge", source.root, target.root, "--on-conflict", choice)
    assert target.manifest(key).weights_checksum == (ours if taken else theirs).weights_checksum
    assert result.exit_code == dry.exit_code == (1 if choice == "keep" else 0)
    if choice == "keep":
        assert f"conflict: {key}" in result.stderr
    if taken:
        assert f"replaced {key}" in result.stdout
    draw(target.load(key), start_scale=0)


def test_what_is_broken_is_left_out_and_named(a: DirectoryStore, b: DirectoryStore, tmp_path: Path) -> None:
    key = str(make_key(_photo(0), CONFIG))
    weights = a.root / "pyramids" / key[:2] / key / "pyramid.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for command in (["merge", a.root, b.root], ["pack", a.root, tmp_path / "new.zip"]):
        result = _run(*command)
        assert result.exit_code == 1
        assert key in result.stderr
    assert key not in b
    assert len(list(PackedStore(tmp_path / "new.zip").keys())) == 2
    result = _run("merge", b.root, a.root, "--json")
    assert {each["status"] for each in json.loads(result.stdout)} == {"copied", "there already"}


def test_a_broken_one_in_the_target_is_replaced(a: DirectoryStore, b: DirectoryStore) -> None:
    key = str(make_key(_photo(2), CONFIG))
    (b.root / "pyramids" / key[:2] / key / "manifest.json").write_text("{")
    assert "1 replaced" in _run("merge", a.root, b.root).stdout
    draw(b.load(key), start_scale=0)


def test_a_dry_run_of_packing_tells_what_packing_does(a: DirectoryStore, packed: Path, tmp_path: Path) -> None:
    key = str(make_key(_photo(0), CONFIG))
    weights = a.root / "pyramids" / key[:2] / key / "pyramid.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    file, before = tmp_path / "new.zip", packed.read_bytes()
    for place, refused in ((file, f"left out: {weights}"), (packed, "expected a new file to pack into")):
        dry = _run("pack", a.root, place, "--dry-run")
        assert (file.exists(), packed.read_bytes()) == (False, before)
        assert refused in dry.stderr
        result = _run("pack", a.root, place)
        assert (dry.exit_code, dry.stderr) == (result.exit_code, result.stderr)
        assert dry.stdout == result.stdout.replace("pyramids packed", "pyramids would be packed")
        file.unlink(missing_ok=True)


def test_packed_and_unpacked_is_the_same(a: DirectoryStore, packed: Path, tmp_path: Path) -> None:
    assert _run("unpack", packed, tmp_path / "out", "--dry-run").exit_code == 0
    assert not (tmp_path / "out").exists()
    assert _run("unpack", packed, tmp_path / "out").exit_code == 0
    assert _files(tmp_path / "out") == _files(a.root)
    assert _run("pack", tmp_path / "out", tmp_path / "again.zip").exit_code == 0
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_any_program_that_knows_zip_files_can_unpack_it(a: DirectoryStore, packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unzipped")
    store = DirectoryStore(tmp_path / "unzipped")
    assert list(store.keys()) == list(a.keys())
    assert _files(store.root) == _files(a.root)


@pytest.mark.usefixtures("elsewhere")
def test_a_packed_store_is_read_by_what_reads_stores(a: DirectoryStore, packed: Path) -> None:
    assert isinstance(open_store(packed), PackedStore)
    for command in (["ls"], ["verify"], ["du"], ["show", next(a.keys())[:8]]):
        assert CliRunner().invoke(cli.app, [*command, "--store", str(packed)]).exit_code == 0, command
    image = torch.from_numpy(_photo(1).copy()).movedim(-1, 0)
    one, other = (SinGANAugment(store=str(place), seed=3, p=1.0)(image) for place in (a.root, packed))
    assert torch.equal(one, other)
    assert not torch.equal(one, image)
    assert len(PerceptualIndex(open_store(packed))) == 3


def test_a_packed_store_is_never_written(packed: Path, a: DirectoryStore, b: DirectoryStore) -> None:
    before, store = packed.read_bytes(), open_store(packed)
    key = next(store.keys())
    assert "read only" in _run("merge", b.root, packed).stderr
    for act in (store.prepare, lambda: store.remove(key), lambda: store.quarantine(key)):
        with pytest.raises(StoreWriteError, match="read only"):
            act()
    with pytest.raises(StoreWriteError, match="read only"):
        store.save(make_key(_photo(9), CONFIG), a.load(key))
    assert _run("pack", b.root, packed).exit_code == 1
    assert packed.read_bytes() == before


def test_an_archive_in_place_of_another_is_seen(packed: Path, b: DirectoryStore, tmp_path: Path) -> None:
    store = open_store(packed)
    before = list(store.keys())
    assert _run("pack", b.root, tmp_path / "other.zip").exit_code == 0
    (tmp_path / "other.zip").replace(packed)
    assert list(store.keys()) == list(b.keys()) != before
    packed.unlink()
    assert list(store.keys()) == []
    assert not store.exists()


def test_a_failed_pack_leaves_nothing(a: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    result = _run("pack", a.root, tmp_path / "new.zip")
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert list(tmp_path.glob("new.zip*")) == []


# Damaged, or made to harm


def test_every_byte_that_is_changed_is_noticed_or_means_nothing(packed: Path, tmp_path: Path) -> None:
    """Bytes that only other programs read (names, times, the zip's own checksums) may change."""
    whole = packed.read_bytes()
    expected = {key: PackedStore(packed).files(key) for key in PackedStore(packed).keys()}
    noticed = 0
    for place in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        path = tmp_path / "damaged.zip"
        path.write_bytes(bytes(damaged))
        try:
            store = PackedStore(path)
            found = {key: store.files(key) for key in store.keys()}
        except StoreError:
            noticed += 1
            continue
        assert found == expected
    payload = sum(len(text) + len(weights) for _, text, weights in expected.values())
    assert noticed > 0.98 * payload / 61


@pytest.mark.parametrize("length", [0, 10, 21, 22, 300, -1, -300, -5000])
def test_one_that_is_cut_short_is_refused(packed: Path, length: int) -> None:
    packed.write_bytes(packed.read_bytes()[:length])
    with pytest.raises(StoreError):
        list(PackedStore(packed).keys())
    assert CliRunner().invoke(cli.app, ["ls", "--store", str(packed)]).exit_code == 1


def test_any_other_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("../../escaped", b"")
    with pytest.raises(StoreFormatError, match="store pack"):
        list(PackedStore(tmp_path / "other.zip").keys())
    result = _run("unpack", tmp_path / "other.zip", tmp_path / "out")
    assert result.exit_code == 1
    assert not (tmp_path / "out" / "pyramids").exists()
    assert not list(tmp_path.rglob("escaped"))


def _forged(packed: Path, key: bytes, manifest: tuple[int, int], weights: tuple[int, int]) -> None:
    """An archive whose one row says so, with checksums that fit."""
    row = struct.pack("<49sQQQQ", key, *manifest, *weights)
    data = bytes(1000) + row
    comment = f"singan-aug pack 1 1000 1 {xxhash.xxh3_128_hexdigest(row)}".encode()
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    packed.write_bytes(file.getvalue())


KEY = b"a" * 32 + b"-" + b"b" * 16


@pytest.mark.parametrize("key", [b"../" * 16 + b"x", b"/" * 49, b"", b"A" * 32 + b"-" + b"b" * 16, KEY[:-1] + b"\n"])
def test_what_is_no_key_is_refused(packed: Path, tmp_path: Path, key: bytes) -> None:
    _forged(packed, key, (0, 10), (10, 10))
    with pytest.raises(CorruptPyramidError, match="damaged"):
        list(PackedStore(packed).keys())
    assert _run("unpack", packed, tmp_path / "out").exit_code == 1


@pytest.mark.parametrize("place", [(0, 2**40), (2**63, 10), (0, 2**64 - 1), (2**64 - 1, 2), (990, 20)])
def test_sizes_that_cannot_be_are_refused(packed: Path, place: tuple[int, int]) -> None:
    _forged(packed, KEY, place, place)
    store = PackedStore(packed)
    assert list(store.keys()) == [KEY.decode()]
    with pytest.raises(CorruptPyramidError, match="it cannot have"):
        store.manifest(KEY.decode())


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, what: str) -> None:
    path = tmp_path / "odd.zip"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(StoreError):
        list(PackedStore(path).keys())


def test_files_are_read_where_they_were_written(tmp_path: Path) -> None:
    count = write_pack(tmp_path / "new.zip", [(KEY.decode(), b"manifest", b"weights")])
    assert count == 1
    assert PackedStore(tmp_path / "new.zip").read(KEY.decode(), "manifest.json", 100) == b"manifest"
    assert PackedStore(tmp_path / "new.zip").read(KEY.decode(), "pyramid.safetensors", 100) == b"weights"
