"""What another process removes, replaces or writes while one reads is never called broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from singan_aug import cli
from singan_aug.bank import Bank, _file, draw_bank
from singan_aug.errors import MissingPyramidError
from singan_aug.fitting import fit
from singan_aug.presets import fast
from singan_aug.pyramid import Pyramid, reconstruct
from singan_aug.store import DirectoryStore, Manifest, MemoryStore, Store, make_key
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = fast(coarsest_px=12, descriptor_dims=4)
PHOTO, OTHER = make_photo(24, 30), make_photo(24, 30, seed=1)
KEY, OTHER_KEY = make_key(PHOTO, CONFIG), make_key(OTHER, CONFIG)
Act = Callable[[DirectoryStore], object]


@pytest.fixture(scope="module")
def pyramids(one_thread: None) -> tuple[Pyramid, Pyramid]:
    return fit(PHOTO, CONFIG), fit(OTHER, CONFIG)


@pytest.fixture
def store(tmp_path: Path, pyramids: tuple[Pyramid, Pyramid]) -> DirectoryStore:
    """One of two pyramids."""
    store = DirectoryStore(tmp_path / "store")
    for key, pyramid in zip((KEY, OTHER_KEY), pyramids, strict=True):
        store.save(key, pyramid, name="a.png")
    return store


def _once(monkeypatch: pytest.MonkeyPatch, what: str, act: Act) -> None:
    """Before the next call of this method of a store for KEY, another process acts."""
    method = getattr(DirectoryStore, what)
    acted: list[bool] = []

    def first_act(self: DirectoryStore, subject: Any) -> Any:
        key = subject.key if isinstance(subject, Manifest) else subject
        if key == str(KEY) and not acted:
            acted.append(True)
            act(DirectoryStore(self.root))
        return method(self, subject)

    monkeypatch.setattr(DirectoryStore, what, first_act)


def _remove(store: DirectoryStore) -> None:
    store.remove(str(KEY))


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("over", [lambda store: store, MemoryStore])
def test_what_is_replaced_between_its_two_files_is_loaded_as_it_is_now(
    over: Callable[[Store], Store],
    store: DirectoryStore,
    pyramids: tuple[Pyramid, Pyramid],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _once(monkeypatch, "read_weights", lambda other: other.save(KEY, pyramids[1]))
    assert torch.equal(reconstruct(over(store).load(str(KEY))), reconstruct(pyramids[1]))


def test_what_is_removed_between_its_two_files_is_missing(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _once(monkeypatch, "read_weights", _remove)
    with pytest.raises(MissingPyramidError):
        store.load(str(KEY))


def test_what_is_removed_and_fitted_again_between_its_two_files_is_loaded(
    store: DirectoryStore, pyramids: tuple[Pyramid, Pyramid], monkeypatch: pytest.MonkeyPatch
) -> None:
    def anew(other: DirectoryStore) -> None:
        other.remove(str(KEY))
        other.save(KEY, pyramids[1])

    _once(monkeypatch, "read_weights", anew)
    assert torch.equal(reconstruct(store.load(str(KEY))), reconstruct(pyramids[1]))


@pytest.mark.parametrize(("reads", "how"), [("_text", ()), ("load", ("--deep",))], ids=["bytes", "deep"])
def test_verify_passes_over_what_is_removed(
    reads: str, how: tuple[str, ...], store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _once(monkeypatch, reads, _remove)
    result = _run("verify", *how, "--store", store.root)
    assert result.exit_code == 0
    assert "1 of 1 pyramids are whole" in result.stdout
    assert "1 more were removed meanwhile" in result.stdout


def test_repair_puts_nothing_aside_that_was_mended(
    store: DirectoryStore, pyramids: tuple[Pyramid, Pyramid], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = store.root / "pyramids" / str(KEY)[:2] / str(KEY) / "pyramid.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    check = Bank.check

    def mend_first(self: Bank) -> tuple[int, int, int]:
        store.save(KEY, pyramids[0])
        return check(self)

    draw_bank(DirectoryStore(store.root), variants=1)
    monkeypatch.setattr(Bank, "check", mend_first)  # which `verify` calls after it has looked at the pyramids
    assert _run("verify", "--repair", "--store", store.root).exit_code == 1
    assert sorted(store.keys()) == sorted(map(str, (KEY, OTHER_KEY)))
    assert not (store.root / "quarantine").exists()


@pytest.mark.parametrize("catalogue", [True, False])
def test_a_list_passes_over_what_is_removed(
    catalogue: bool, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not catalogue:
        (store.root / "derived").write_bytes(b"")
    _once(monkeypatch, "manifest", _remove)
    assert [entry.key for entry in store.entries()] == [str(OTHER_KEY)]
    assert [entry.key for entry in DirectoryStore(store.root).entries()] == [str(OTHER_KEY)]


@pytest.mark.parametrize("what", ["manifest", "load"])
def test_a_bank_passes_over_what_is_removed(what: str, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _once(monkeypatch, what, _remove)
    report = draw_bank(store, variants=2)
    assert (report.drawn, report.failed) == (2, ())
    assert Bank(store).variant(str(OTHER_KEY), -1, 0) is not None


@pytest.mark.parametrize("method", ["remove", "quarantine"])
def test_of_two_that_remove_one_the_later_finds_nothing(
    method: str, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = store._claims.alone

    @contextmanager
    def later(key: str) -> Iterator[None]:
        DirectoryStore(store.root).remove(key)
        with alone(key):
            yield

    monkeypatch.setattr(store._claims, "alone", later)
    with pytest.raises(MissingPyramidError, match="no pyramid"):
        getattr(store, method)(str(KEY))


def test_a_variant_that_is_drawn_anew_meanwhile_is_not_broken(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_bank(store, variants=3)
    read = _file.BankFile._read_into
    acted: list[bool] = []

    def after_a_writer(self: _file.BankFile, into: NDArray[Any], at: int) -> int:
        if len(into) == PHOTO.size and not acted:  # the pixels of a variant, whose slot was read before
            acted.append(True)
            draw_bank(DirectoryStore(store.root), refresh=1.0)
        return read(self, into, at)

    monkeypatch.setattr(_file.BankFile, "_read_into", after_a_writer)
    assert Bank(store).check() == (6, 0, 0)
    assert acted
