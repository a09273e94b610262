"""The bank: what it gives is what a draw gives, whoever writes meanwhile and wherever a writer was stopped."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner, Result

from singan_aug import cli
from singan_aug.bank import (
    BackgroundBank,
    Bank,
    BankProgress,
    BankSpec,
    BankWriter,
    Entry,
    Slot,
    _bank,
    _file,
    _writer,
    draw_bank,
    plan_bank,
    remove_bank,
)
from singan_aug.errors import (
    ConfigError,
    CorruptPyramidError,
    MissingPyramidError,
    StartScaleError,
    StoreFormatError,
    StoreWriteError,
)
from singan_aug.fitting import fit
from singan_aug.images import Pixels
from singan_aug.presets import fast
from singan_aug.pyramid import draw
from singan_aug.store import DirectoryStore, MemoryStore, make_key
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = fast(coarsest_px=12, descriptor_dims=4)
SMALL = fast(coarsest_px=30, descriptor_dims=4)  # of one scale
PHOTOS = {"a.png": make_photo(24, 30), "b.png": make_photo(26, 26, channels=1, seed=1)}
KEYS = {name: make_key(photo, CONFIG) for name, photo in PHOTOS.items()}
KEY = str(KEYS["a.png"])
SEEDS = range(200)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> DirectoryStore:
    """A store of two pyramids, without a bank, that no test changes."""
    store = DirectoryStore(tmp_path_factory.mktemp("fitted") / "store")
    for name, photo in PHOTOS.items():
        store.save(KEYS[name], fit(photo, CONFIG), name=name)
    return store


@pytest.fixture(scope="module")
def drawn(fitted: DirectoryStore) -> DirectoryStore:
    """The same with a bank."""
    store = DirectoryStore(fitted.root.parent / "drawn")
    shutil.copytree(fitted.root, store.root)
    draw_bank(store, variants=3, start_scale=[0, -1])
    return store


@pytest.fixture
def empty(fitted: DirectoryStore, tmp_path: Path) -> DirectoryStore:
    shutil.copytree(fitted.root, tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def full(drawn: DirectoryStore, tmp_path: Path) -> DirectoryStore:
    shutil.copytree(drawn.root, tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def _always_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bank, "REOPEN_SEC", 0.0)


def _live(store: DirectoryStore, key: str, start_scale: int, seed: int) -> Pixels:
    image = draw(store.load(key), 1, start_scale, seed=seed)[0]
    return (image * 255).round().byte().movedim(0, -1).numpy()


def _seeds(store: DirectoryStore, key: str = KEY, start_scale: int = 0) -> set[int]:
    found = (Bank(store).variant(key, start_scale, seed) for seed in SEEDS)
    return {variant.seed for variant in found if variant}


def _bytes(store: DirectoryStore) -> bytes:
    return store.bank_path.read_bytes()


def _one_entry(variants: int, side_px: int) -> tuple[BankSpec, list[Entry]]:
    return BankSpec(variants, (0,), 0), [Entry(KEY, 0, 1, side_px, side_px, 1, 0, "0" * 32)]


class _AnyPyramid(DirectoryStore):
    """A store for tests of the file alone: it takes whatever a entry says for true."""

    def has_weights(self, key: str, weights_checksum: str) -> bool:
        return True


# What a reader gets


@pytest.mark.parametrize("start_scale", [0, -1])
def test_a_variant_is_the_draw_of_its_seed(drawn: DirectoryStore, start_scale: int) -> None:
    bank = Bank(drawn)
    for key in map(str, KEYS.values()):
        seen = set()
        for seed in SEEDS:
            variant = bank.variant(key, start_scale, seed)
            assert variant is not None
            if variant.seed not in seen:
                assert np.array_equal(variant.pixels, _live(drawn, key, start_scale, variant.seed))
                assert variant.turn_code == drawn.manifest(key).turn_code
            seen.add(variant.seed)
        assert len(seen) == 3


def test_variants_are_copies_of_their_own(drawn: DirectoryStore) -> None:
    bank = Bank(drawn)
    first = bank.variant(KEY, 0, 5)
    assert first is not None
    before = first.pixels.copy()
    first.pixels[:] = 0
    again = bank.variant(KEY, 0, 5)
    assert again is not None
    assert np.array_equal(again.pixels, before)


def test_seeds_in_step_with_the_variants_still_meet_all(drawn: DirectoryStore) -> None:
    bank = Bank(drawn)
    found = [bank.variant(KEY, 0, seed) for seed in range(0, 3 * 60, 3)]
    counts = np.unique([variant.seed for variant in found if variant], return_counts=True)[1]
    assert len(counts) == 3
    assert counts.min() >= 8


def test_it_tells_what_it_holds(drawn: DirectoryStore) -> None:
    bank, scales = Bank(drawn), len(drawn.manifest(KEY).scale_sizes)
    assert bank.spec == BankSpec(3, (0, -1), 0)
    assert bank.scales(KEY) == scales > 1
    assert bank.start_scales(KEY) == (0, scales - 1)
    assert [bank.count(KEY, k) for k in (0, -1, scales - 1, scales)] == [3, 3, 3, 0]
    assert bank.check() == (12, 0, 0)
    assert bank.variant(KEY, scales, 0) is None
    assert bank.variant(KEY, -scales - 1, 0) is None
    unknown = "0" * 32 + "-" + "0" * 16
    assert (bank.scales(unknown), bank.start_scales(unknown), bank.count(unknown, 0)) == (None, (), 0)
    assert bank.variant(unknown, -1, 0) is None


def test_without_a_file_it_is_empty_until_there_is_one(empty: DirectoryStore) -> None:
    bank = Bank(MemoryStore(empty))
    assert bank.spec is None
    assert bank.variant(KEY, 0, 1) is None
    assert bank.start_scales(KEY) == ()
    assert bank.check() == (0, 0, 0)
    draw_bank(empty, variants=1, start_scale=[0])
    assert bank.count(KEY, 0) == 1
    assert bank.variant(KEY, 0, 1) is not None
    remove_bank(empty)
    assert bank.variant(KEY, 0, 1) is None


class _Seeds(Dataset[int]):
    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        variant = self.bank.variant(KEY, 0, index)
        assert variant is not None
        return variant.seed


def test_workers_and_copies_see_what_this_process_sees(drawn: DirectoryStore) -> None:
    bank = Bank(drawn)
    here = [_Seeds(bank)[i] for i in range(8)]
    assert [int(seed) for seed in DataLoader(_Seeds(bank), batch_size=None, num_workers=1)] == here
    copied = pickle.dumps(bank)
    assert len(copied) < 1000
    assert [_Seeds(pickle.loads(copied))[i] for i in range(8)] == here


def test_variants_of_another_fit_are_not_given_out(full: DirectoryStore) -> None:
    key = KEYS["a.png"]
    full.save(key, fit(PHOTOS["a.png"][:, ::-1], CONFIG))
    assert Bank(full).variant(str(key), 0, 1) is None
    assert Bank(full).variant(str(KEYS["b.png"]), 0, 1) is not None
    assert draw_bank(full).drawn == 6
    variant = Bank(full).variant(str(key), 0, 1)
    assert variant is not None
    assert np.array_equal(variant.pixels, _live(full, str(key), 0, variant.seed))


def test_variants_of_a_removed_pyramid_are_not_given_out(full: DirectoryStore) -> None:
    full.remove(KEY)
    assert Bank(full).variant(KEY, 0, 1) is None
    report = draw_bank(full)
    assert (report.drawn, report.variants) == (0, 6)
    assert Bank(full).start_scales(KEY) == ()


# Writers at work, and writers that were stopped


def test_no_reader_gets_half_a_variant_while_one_is_written(tmp_path: Path) -> None:
    store = _AnyPyramid(tmp_path)
    spec, entries = _one_entry(2, 512)
    done = threading.Event()

    def write() -> None:
        with BankWriter.claimed(store) as writer, writer.opened(spec, entries) as bank:
            for seed in range(100_000):
                bank.write(Slot(0, seed % 2, 0), seed, np.full((512, 512, 1), seed % 251, np.uint8))
                if done.is_set():
                    break

    thread = threading.Thread(target=write)
    thread.start()
    try:
        bank, seeds = Bank(store), set[int]()
        while len(seeds) < 50 and thread.is_alive():
            variant = bank.variant(KEY, 0, len(seeds))
            if variant:
                assert (variant.pixels == variant.seed % 251).all()
                seeds.add(variant.seed)
    finally:
        done.set()
        thread.join()
    assert len(seeds) == 50


@pytest.mark.parametrize("stopped_after", [0, 1, 2])
def test_a_slot_whose_writer_was_stopped_is_passed_over_and_drawn_again(
    full: DirectoryStore, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    wanted = _seeds(full)
    whole = _bytes(full)
    put, done = _writer._put, list[int]()

    def stop(file: Any, at: int, data: Any) -> None:
        if len(done) == stopped_after:
            put(file, at, bytes(data)[: len(data) // 2])
            raise KeyboardInterrupt
        done.append(at)
        put(file, at, data)

    monkeypatch.setattr(_writer, "_put", stop)
    with pytest.raises(KeyboardInterrupt):
        draw_bank(full, refresh=0.01)
    monkeypatch.setattr(_writer, "_put", put)
    assert _seeds(full) < wanted
    assert len(_seeds(full)) == 2
    report = draw_bank(full)
    assert report.drawn == 1
    if _seeds(full) == wanted:  # a slot whose round is lost is drawn as it was at first
        assert _bytes(full) == whole
    assert len(_seeds(full)) == 3


def test_resumed_it_is_what_it_is_in_one_go(empty: DirectoryStore, drawn: DirectoryStore) -> None:
    def stop(event: BankProgress) -> None:
        assert event.drawn < event.total == 12
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_bank(empty, variants=3, start_scale=[0, -1], on_event=stop)
    assert Bank(empty).check() == (6, 6, 0)
    assert draw_bank(empty).drawn == 6
    assert _bytes(empty) == _bytes(drawn)
    assert draw_bank(empty).drawn == 0


def test_the_number_of_workers_changes_nothing(empty: DirectoryStore, drawn: DirectoryStore) -> None:
    draw_bank(empty, variants=3, start_scale=[0, -1], jobs=2)
    assert _bytes(empty) == _bytes(drawn)


def test_broken_variants_are_found_passed_over_and_drawn_again(full: DirectoryStore) -> None:
    whole = _bytes(full)
    wanted = _seeds(full, str(KEYS["b.png"]), -1)
    altered = bytearray(whole)
    altered[-1] ^= 1
    full.bank_path.write_bytes(altered)
    assert Bank(full).check() == (11, 0, 1)
    assert sum(len(_seeds(full, str(key), -1)) for key in KEYS.values()) == 5
    assert draw_bank(full).drawn == 1
    assert _bytes(full) == whole
    assert _seeds(full, str(KEYS["b.png"]), -1) == wanted


def test_any_flipped_bit_of_a_slot_is_noticed_and_mended(full: DirectoryStore) -> None:
    draw_bank(full, refresh=0.01)
    whole = _bytes(full)
    file = _file.BankFile(full.bank_path)
    once = next((row, place) for row in range(len(file)) for place in range(3) if file.slot(row, place)[2] == 1)
    for slot in (once, (once[0], (once[1] + 1) % 3)):  # drawn anew, and not
        at = file.slot_at(*slot)
        for bit in range(8 * _file.SLOT.size):
            altered = bytearray(whole)
            altered[at + bit // 8] ^= 1 << bit % 8
            full.bank_path.write_bytes(altered)
            assert Bank(full).check() == (11, 0, 1), bit
    full.bank_path.write_bytes(altered)  # the highest bit of a round
    assert draw_bank(full).drawn == 1
    assert _bytes(full) == whole


def test_any_flipped_bit_of_an_empty_slot_is_noticed(empty: DirectoryStore) -> None:
    def stop(event: BankProgress) -> None:
        del event
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_bank(empty, variants=3, start_scale=[0, -1], on_event=stop)
    whole = _bytes(empty)
    file = _file.BankFile(empty.bank_path)
    row, place = next((row, place) for row in range(len(file)) for place in range(3) if not file.slot(row, place)[0])
    for bit in range(8 * _file.SLOT.size):
        altered = bytearray(whole)
        altered[file.slot_at(row, place) + bit // 8] ^= 1 << bit % 8
        empty.bank_path.write_bytes(altered)
        assert Bank(empty).check() == (6, 5, 1), bit
    assert draw_bank(empty).drawn == 6
    assert Bank(empty).check() == (12, 0, 0)
    assert all(file.slot(row, place)[2] == 0 for row in range(len(file)) for place in range(3))


def test_where_every_variant_is_broken_there_is_none(full: DirectoryStore) -> None:
    pixels = sum(photo.size for photo in PHOTOS.values()) * 6
    full.bank_path.write_bytes(_bytes(full)[:-pixels] + bytes(pixels))
    assert Bank(full).variant(KEY, 0, 1) is None
    assert Bank(full).check() == (0, 0, 12)


def test_any_altered_byte_of_the_index_is_an_error(full: DirectoryStore) -> None:
    whole = _bytes(full)
    slots = _file.BankFile(full.bank_path).slots_at
    for at in range(slots):
        if whole[at : at + 1] == b" ":
            continue
        full.bank_path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((CorruptPyramidError, StoreFormatError), match=r"variants\.bank"):
            Bank(full).variant(KEY, 0, 1)
    for length in (0, 5, 100, slots, len(whole) - 1):
        full.bank_path.write_bytes(whole[:length])
        with pytest.raises(CorruptPyramidError, match="bank --rm"):
            Bank(full).variant(KEY, 0, 1)
    assert draw_bank(full, variants=1).variants == 2  # of nothing is kept


def _forged(path: Path, header: dict[str, Any], **fields: int) -> None:
    """Write another header, or other fields into the first entry, and the checksum that fits them."""
    data = path.read_bytes()
    file = _file.BankFile(path)
    (length,) = _file.LENGTH.unpack_from(data)
    values = {**json.loads(data[8 : 8 + length]), **header}
    del values["checksum"]
    table = np.frombuffer(data[8 + length : file.slots_at], _file.TABLE).copy()
    for name, value in fields.items():
        table[name][0] = value
    values["checksum"] = _file.guard(values, table.tobytes())
    head = json.dumps(values).encode().ljust(length)
    assert len(head) == length
    path.write_bytes(data[:8] + head + table.tobytes() + data[file.slots_at :])


@pytest.mark.parametrize(
    "forged",
    [
        {"header": {"variants": 10**9}},
        {"header": {"variants": 0}},
        {"header": {"variants": True}},
        {"header": {"entries": 10**12}},
        {"header": {"entries": -1}},
        {"header": {"entries": 1.5}},
        {"header": {"start_scales": []}},
        {"header": {"start_scales": ["fin"]}},
        {"header": {"start_scales": [10**9]}},
        {"header": {"seed": -1}},
        {"height": 2**31},
        {"height": 0},
        {"width": 2**32 - 1},
        {"channels": 255},
        {"turn_code": 8},
        {"start_scale": 9},
        {"scales": 65535},
        {"pixels_at": 2**63},
        {"pixels_at": 0},
    ],
    ids=str,
)
def test_numbers_made_to_harm_are_refused(full: DirectoryStore, forged: dict[str, Any]) -> None:
    _forged(full.bank_path, {})
    assert Bank(full).check() == (12, 0, 0)  # a forgery of what is true is taken
    _forged(full.bank_path, forged.get("header", {}), **{k: v for k, v in forged.items() if k != "header"})
    with pytest.raises(CorruptPyramidError, match="bank --rm"):
        Bank(full).check()


def test_a_bank_cut_short_or_replaced_in_place_ends_no_reader(full: DirectoryStore) -> None:
    bank, whole = Bank(full), _bytes(full)
    assert bank.variant(KEY, 0, 1) is not None
    opened = bank._file
    assert opened is not None
    with full.bank_path.open("r+b") as file:
        file.truncate(200)
    assert all(opened.variant(row, place) is None for row in range(len(opened)) for place in range(3))
    with pytest.warns(RuntimeWarning, match="nothing is taken from the bank"):
        assert bank.variant(KEY, 0, 1) is None
    full.bank_path.write_bytes(whole)
    assert bank.variant(KEY, 0, 1) is not None
    other = full.root.parent / "other"
    shutil.copytree(full.root, other)
    draw_bank(DirectoryStore(other), seed=5, drop=True)
    full.bank_path.write_bytes((other / "variants.bank").read_bytes())
    assert bank.spec == BankSpec(3, (0, -1), 5)


def test_no_bank_is_drawn_through_a_link(full: DirectoryStore) -> None:
    elsewhere, before = full.root.parent / "elsewhere", _bytes(full)
    full.bank_path.rename(elsewhere)
    full.bank_path.symlink_to(elsewhere)
    with pytest.raises(StoreWriteError, match="is a link"):
        draw_bank(full, refresh=1.0)
    assert elsewhere.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_place_of_a_bank_hangs_nobody(empty: DirectoryStore) -> None:
    os.mkfifo(empty.bank_path)
    with pytest.raises(CorruptPyramidError, match="no regular file"):
        Bank(empty).variant(KEY, 0, 1)


def test_a_bank_of_a_newer_format_is_refused(full: DirectoryStore) -> None:
    full.bank_path.write_bytes(_bytes(full).replace(b'"format_version": 1', b'"format_version": 9'))
    with pytest.raises(StoreFormatError, match="newer singan-aug"):
        Bank(full).variant(KEY, 0, 1)


# Drawing


def test_more_variants_and_start_scales_keep_what_is_drawn(full: DirectoryStore) -> None:
    first, fine = _seeds(full), _seeds(full, start_scale=-1)
    report = draw_bank(full, variants=4)
    assert (report.drawn, report.variants) == (4, 16)
    assert first < _seeds(full)
    report = draw_bank(full, start_scale=[-1], drop=True)
    assert (report.drawn, report.variants) == (0, 8)
    assert _seeds(full) == set()
    assert fine < _seeds(full, start_scale=-1)
    assert draw_bank(full, variants=1, drop=True).variants == 2


@pytest.mark.parametrize(
    ("asked", "lost"),
    [({"variants": 1}, 8), ({"start_scale": [0]}, 6), ({"seed": 1}, 12), ({"variants": 4, "start_scale": [-1]}, 6)],
    ids=str,
)
def test_what_is_drawn_is_never_dropped_unasked(full: DirectoryStore, asked: dict[str, Any], lost: int) -> None:
    before = _bytes(full)
    assert plan_bank(full, **asked).dropped == lost
    with pytest.raises(ConfigError, match=rf"would drop {lost} variants.*--yes"):
        draw_bank(full, **asked)
    assert _bytes(full) == before
    draw_bank(full, **asked, drop=True)
    assert plan_bank(full, **asked).dropped == 0


def test_start_scales_that_no_pyramid_has_change_nothing(full: DirectoryStore) -> None:
    before = _bytes(full)
    for drop in (False, True):
        with pytest.raises(StartScaleError, match=r"expected a start scale in 0\.\."):
            draw_bank(full, start_scale=[77], drop=drop)
    assert _bytes(full) == before


def test_variants_of_a_pyramid_that_cannot_be_read_stay(full: DirectoryStore) -> None:
    manifest = full.root / "pyramids" / KEY[:2] / KEY / "manifest.json"
    whole, seeds = manifest.read_bytes(), _seeds(full)
    manifest.write_bytes(whole[:-1])
    report = draw_bank(full, variants=4)
    assert [key for key, _ in report.failed] == [KEY]
    manifest.write_bytes(whole)
    assert _seeds(full) == seeds


def test_another_seed_gives_other_variants(full: DirectoryStore) -> None:
    before = _seeds(full)
    assert draw_bank(full, seed=1, drop=True).drawn == 12
    assert not before & _seeds(full)


def test_a_refresh_draws_the_oldest_anew(full: DirectoryStore) -> None:
    first = _seeds(full)
    assert draw_bank(full, refresh=1 / 3).drawn == 4  # one of each pyramid and start scale
    second = _seeds(full)
    assert len(first & second) == 2
    draw_bank(full, refresh=2 / 3)
    third = _seeds(full)
    assert not first & third
    assert len(second & third) == 1
    variant = Bank(full).variant(KEY, 0, 0)
    assert variant is not None
    assert np.array_equal(variant.pixels, _live(full, KEY, 0, variant.seed))
    assert draw_bank(full).drawn == 0
    assert _seeds(full) == third


def test_a_pyramid_without_the_start_scale_does_not_stop_the_others(empty: DirectoryStore) -> None:
    photo = make_photo(20, 24, seed=3)
    key = make_key(photo, SMALL)
    empty.save(key, fit(photo, SMALL))
    report = draw_bank(empty, variants=1, start_scale=[1])
    assert (report.drawn, [name for name, _ in report.failed]) == (2, [str(key)])
    assert "expected a start scale in 0..0" in report.failed[0][1]
    assert draw_bank(empty, variants=1, start_scale=[0, -1], drop=True).failed == ()
    assert Bank(empty).start_scales(str(key)) == (0,)


def test_a_broken_pyramid_does_not_stop_the_others(empty: DirectoryStore) -> None:
    weights = empty.root / "pyramids" / KEY[:2] / KEY / "pyramid.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    report = draw_bank(empty, variants=2)
    assert (report.drawn, report.variants) == (2, 2)
    assert [name for name, _ in report.failed] == [KEY]


@pytest.mark.parametrize(
    "arguments",
    [
        {"variants": 0},
        {"variants": 2.5},
        {"variants": True},
        {"variants": 10**6},
        {"start_scale": []},
        {"start_scale": ["fine-ish"]},
        {"start_scale": [0.5]},
        {"seed": -1},
        {"seed": 2**63},
        {"refresh": 0.0},
        {"refresh": 1.5},
        {"refresh": -0.1},
        {"refresh": float("nan")},
    ],
)
@pytest.mark.parametrize("function", [draw_bank, plan_bank])
def test_nonsense_is_refused(fitted: DirectoryStore, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"expected .* got "):
        function(fitted, **arguments)
    assert not fitted.bank_path.exists()


def test_an_empty_store_has_no_bank(tmp_path: Path) -> None:
    with pytest.raises(MissingPyramidError, match="singan-aug fit"):
        draw_bank(DirectoryStore(tmp_path))
    with pytest.raises(MissingPyramidError, match="no bank"):
        remove_bank(DirectoryStore(tmp_path))


def test_one_writer_at_a_time(full: DirectoryStore) -> None:
    before = _bytes(full)
    with BankWriter.claimed(full):
        for write in (draw_bank, remove_bank):
            with pytest.raises(StoreWriteError, match="another process is drawing"):
                write(full)
    assert _bytes(full) == before
    assert draw_bank(full).drawn == 0


def test_without_room_nothing_is_written(full: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _bytes(full)
    usage = shutil.disk_usage(full.root)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreWriteError, match=r"takes \d+ MB, and 10 MB are free .* fewer --variants"):
        draw_bank(full, variants=9000)
    assert _bytes(full) == before
    assert list((full.root / "partial").iterdir()) == []


def test_a_disk_that_fills_up_leaves_what_is_drawn(empty: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put = _writer._put

    def fill_up(file: Any, at: int, data: Any) -> None:
        if Bank(empty).count(KEY, 0) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(file, at, data)

    monkeypatch.setattr(_writer, "_put", fill_up)
    with pytest.raises(StoreWriteError, match="free space"):
        draw_bank(empty, variants=4, start_scale=[0])
    monkeypatch.setattr(_writer, "_put", put)
    assert Bank(empty).count(KEY, 0) == 2
    assert Bank(empty).variant(KEY, 0, 0) is not None
    assert Bank(empty).check()[2] == 0
    assert draw_bank(empty).variants == 8


# Beside a training


def test_it_is_refreshed_in_the_background(full: DirectoryStore) -> None:
    first = _seeds(full)
    with BackgroundBank(full) as background:
        assert background.busy
        assert not background.refresh(0.5)
        background.wait()
        assert _seeds(full) == first
        assert background.refresh(0.3)
        background.wait()
        assert len(first & _seeds(full)) == 2
        with pytest.raises(ConfigError, match="share"):
            background.refresh(2.0)


def test_it_is_drawn_in_the_background_and_leaving_stops_it(empty: DirectoryStore) -> None:
    with BackgroundBank(empty, variants=2000, start_scale=[0]) as background:
        while Bank(empty).count(KEY, 0) == 0:
            assert background.busy
            time.sleep(0.01)
    assert not background.busy
    assert 0 < Bank(empty).count(KEY, 0) < 2000
    assert draw_bank(empty, variants=2, drop=True).variants == 4


def test_what_goes_wrong_in_the_background_is_a_warning(tmp_path: Path) -> None:
    background = BackgroundBank(DirectoryStore(tmp_path))
    with pytest.warns(RuntimeWarning, match="expected a store"), background:
        background.wait()


# The command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


def test_the_command_draws_refreshes_and_removes(empty: DirectoryStore, run: Callable[..., Result]) -> None:
    at = ("--store", empty.root)
    planned = json.loads(run("bank", *at, "--variants", 2, "--start-scale", -1, "--dry-run", "--json").stdout)
    assert not empty.bank_path.exists()
    assert (planned["pyramids"], planned["variants"], planned["to_draw"]) == (2, 4, 4)
    made = json.loads(run("bank", *at, "--variants", 2, "--start-scale", -1, "--json").stdout)
    assert made == {"variants": 4, "drawn": 4, "failed": {}}
    assert 0 < len(_bytes(empty)) - planned["bytes"] < 1000
    assert json.loads(run("bank", *at, "--dry-run", "--json").stdout)["to_draw"] == 0
    assert "2 variants drawn" in run("bank", *at, "--refresh", 0.5).stdout
    assert run("bank", *at, "--rm", "--yes").exit_code == 0
    assert not empty.bank_path.exists()
    assert run("bank", *at, "--rm", "--yes").exit_code == 1


@pytest.mark.parametrize(
    "wrong", [["--variants", "0"], ["--refresh", "2"], ["--rm", "--variants", "3"], ["--seed", "-1"], ["--jobs", "0"]]
)
def test_wrong_usage_is_exit_code_2(fitted: DirectoryStore, run: Callable[..., Result], wrong: list[str]) -> None:
    result = run("bank", "--store", fitted.root, *wrong)
    assert result.exit_code == 2
    assert not fitted.bank_path.exists()


def test_a_failed_pyramid_is_named_and_exit_code_1(empty: DirectoryStore, run: Callable[..., Result]) -> None:
    manifest = empty.root / "pyramids" / KEY[:2] / KEY / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    result = run("bank", "--store", empty.root, "--variants", 1)
    assert result.exit_code == 1
    assert f"singan-aug: {KEY}: " in result.stderr
    assert "1 variants drawn" in result.stdout


def test_the_command_drops_nothing_without_a_yes(full: DirectoryStore, run: Callable[..., Result]) -> None:
    at, before = ("--store", full.root), _bytes(full)
    for wanted in (["--variants", 1], ["--rm"], ["--start-scale", 77], ["--start-scale", 77, "--yes"]):
        result = run("bank", *at, *wanted)
        assert result.exit_code == 2, wanted
        assert len(result.stderr.splitlines()) == 1
    assert "12 variants" in run("bank", *at, "--rm", "--dry-run").stdout
    assert json.loads(run("bank", *at, "--variants", 1, "--dry-run", "--json").stdout)["dropped"] == 8
    assert "8 that are drawn would be dropped" in run("bank", *at, "--variants", 1, "--dry-run").stdout
    assert _bytes(full) == before
    assert run("bank", *at, "--variants", 1, "--yes").exit_code == 0
    assert Bank(full).check() == (4, 0, 0)


def test_verify_reads_the_bank_too(full: DirectoryStore, run: Callable[..., Result]) -> None:
    at = ("--store", full.root)
    assert "2 of 2 pyramids and 12 of 12 variants of the bank are whole" in run("verify", *at).stdout
    whole = _bytes(full)
    for altered, named in ((whole[:-1] + bytes([whole[-1] ^ 1]), "1 variants are broken"), (whole[:9], "bank --rm")):
        full.bank_path.write_bytes(altered)
        result = run("verify", *at)
        assert result.exit_code == 1
        assert named in result.stderr
        rows = json.loads(run("verify", *at, "--json").stdout)
        assert [row["ok"] for row in rows] == [True, True, False]
    assert run("verify", KEY, *at).exit_code == 0
