"""Stores at URLs: what is kept on this machine, what another process changes, what the service refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from singan_aug import cli
from singan_aug.dataset import fit_dataset
from singan_aug.errors import ConfigError, CorruptPyramidError, MissingPyramidError, StoreFormatError, StoreWriteError
from singan_aug.fitting import fit
from singan_aug.images import pixels_to_pil
from singan_aug.lookup import PerceptualIndex
from singan_aug.presets import fast
from singan_aug.store import DirectoryStore, make_key, open_store
from singan_aug.store._remote import RemoteStore
from singan_aug.transforms.torchvision import SinGANAugment
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread", "elsewhere")

CONFIG = fast(coarsest_px=14)


class Fetched:
    """Files that were read from the store, and not from the copies on this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        cat = MemoryFileSystem.cat_file

        def noted(files: Any, path: str, *args: Any, **options: Any) -> bytes:
            self.names.append(path.rpartition("/")[2])
            return bytes(cat(files, path, *args, **options))

        monkeypatch.setattr(MemoryFileSystem, "cat_file", noted)

    def taken(self) -> list[str]:
        names, self.names = [name for name in self.names if name != "store.json"], []
        return names


@pytest.fixture
def url(tmp_path: Path) -> str:
    store = RemoteStore(f"memory://{tmp_path}/store")
    for seed in range(2):
        photo = make_photo(18, 26, seed=seed)
        store.save(make_key(photo, CONFIG), fit(photo, CONFIG), name=f"{seed}.png")
    return store.location


def _key(seed: int) -> str:
    return str(make_key(make_photo(18, 26, seed=seed), CONFIG))


def test_what_was_read_once_is_read_here(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = Fetched(monkeypatch)
    first = RemoteStore(url).load(_key(0))
    assert sorted(fetched.taken()) == ["manifest.json", "pyramid.safetensors"]
    again = RemoteStore(url).load(_key(0))  # another process
    assert fetched.taken() == []
    assert all(torch.equal(first.tensors()[name], tensor) for name, tensor in again.tensors().items())


def test_a_copy_that_is_damaged_is_fetched_again(url: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RemoteStore(url).load(_key(0))
    (copy,) = elsewhere.rglob("weights/*")
    copy.write_bytes(copy.read_bytes()[:-1])
    fetched = Fetched(monkeypatch)
    RemoteStore(url).load(_key(0))
    assert fetched.taken() == ["pyramid.safetensors"]


def test_without_a_place_for_copies_it_reads_all_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert RemoteStore(url).load(_key(0)).size == (18, 26)


def test_what_another_machine_replaces_is_seen_by_the_next_process(url: str) -> None:
    before = RemoteStore(url).manifest(_key(0))
    photo = make_photo(18, 26, seed=0)
    RemoteStore(url).save(make_key(photo, CONFIG), fit(photo, CONFIG), name="anew.png")
    assert RemoteStore(url).manifest(_key(0)).name == "anew.png" != before.name


def test_what_is_replaced_between_manifest_and_weights_is_read_anew(url: str) -> None:
    reader = RemoteStore(url)
    list(reader.keys())
    other = make_photo(18, 26, seed=5)
    RemoteStore(url).save(make_key(make_photo(18, 26, seed=0), CONFIG), fit(other, CONFIG), name="other")
    reader.load(_key(0))
    assert reader.manifest(_key(0)).name == "other"


def test_new_ones_are_found_when_the_list_of_files_is_old(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RemoteStore(url)
    photo = make_photo(18, 26, seed=7)
    assert reader.find(_key(7)[:32]) == []
    changes = reader.changes()
    RemoteStore(url).save(make_key(photo, CONFIG), fit(photo, CONFIG))
    monkeypatch.setattr(reader, "_trusted_until", 0.0)
    assert reader.find(_key(7)[:32]) == [_key(7)]
    assert reader.changes() != changes


@pytest.mark.parametrize("name", ["manifest.json", "pyramid.safetensors"])
def test_flipped_bits_are_named(url: str, name: str) -> None:
    files = fsspec.filesystem("memory")
    path = f"{url.removeprefix('memory:/')}/pyramids/{_key(0)[:2]}/{_key(0)}/{name}"
    data = bytearray(files.cat_file(path))
    data[len(data) // 2] ^= 4
    files.pipe_file(path, bytes(data))
    with pytest.raises(CorruptPyramidError, match=name.replace(".", r"\.")):
        RemoteStore(url).load(_key(0))
    result = CliRunner().invoke(cli.app, ["verify", "--store", url])
    assert result.exit_code == 1
    assert "1 of 2 pyramids" in result.stdout


def test_weights_that_are_missing_or_too_long_are_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singan_aug.store._remote.WEIGHTS_BYTES", 100)
    with pytest.raises(CorruptPyramidError, match="100 are the most"):
        RemoteStore(url).load(_key(0))
    path = f"{url.removeprefix('memory:/')}/pyramids/{_key(1)[:2]}/{_key(1)}/pyramid.safetensors"
    fsspec.filesystem("memory").rm_file(path)
    with pytest.raises(CorruptPyramidError, match="missing beside its manifest"):
        RemoteStore(url).load(_key(1))


def test_another_format_is_refused(url: str) -> None:
    path = f"{url.removeprefix('memory:/')}/store.json"
    fsspec.filesystem("memory").pipe_file(path, b'{"format": "singan-aug store", "format_version": 99}\n')
    with pytest.raises(StoreFormatError, match="upgrade"):
        list(RemoteStore(url).keys())


def test_what_cannot_be_written_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    photo = make_photo(18, 26, seed=3)
    with pytest.raises(StoreWriteError, match=r"memory://.*Access Denied"):
        RemoteStore(url).save(make_key(photo, CONFIG), fit(photo, CONFIG))
    assert len(list(RemoteStore(url).keys())) == 2


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        list(open_store("nosuch://place").keys())


@pytest.mark.parametrize("written", ["memory://a/b", "memory:/a/b"])
def test_urls_survive_being_paths(written: str) -> None:
    assert open_store(Path(written)).location == open_store(written).location == "memory://a/b"
    assert isinstance(open_store("C:/folder"), DirectoryStore)
    assert isinstance(open_store("file:folder"), DirectoryStore)


def test_quarantine_keeps_the_bytes(url: str) -> None:
    store = RemoteStore(url)
    place = store.quarantine(_key(0))
    assert list(store.keys()) == [_key(1)]
    assert len(fsspec.filesystem("memory").find(place.removeprefix("memory:/"))) == 2
    with pytest.raises(MissingPyramidError):
        store.quarantine(_key(0))


def test_transforms_look_ups_and_commands_work(url: str, tmp_path: Path) -> None:
    image = torch.from_numpy(make_photo(18, 26, seed=1).copy()).movedim(-1, 0)
    assert not torch.equal(SinGANAugment(store=url, seed=3, p=1.0)(image), image)
    assert len(PerceptualIndex(RemoteStore(url))) == 2
    pixels_to_pil(make_photo(18, 26, seed=4)).save(tmp_path / "new.png")
    runner = CliRunner()
    # in this process: other processes have another memory
    fit_dataset([tmp_path / "new.png"], url, CONFIG, batch_images=2)
    assert "3 pyramids" in runner.invoke(cli.app, ["ls", "--store", url]).stdout
    merged = runner.invoke(cli.app, ["store", "merge", url, str(tmp_path / "here")])
    assert "3 copied" in merged.stdout
    assert len(list(DirectoryStore(tmp_path / "here").keys())) == 3
