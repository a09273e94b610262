"""What every store backend promises. A new backend: one line in BACKENDS."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from singan_aug.config import FitConfig
from singan_aug.errors import MissingPyramidError, StoreError
from singan_aug.fitting import fit
from singan_aug.images import turn_pixels
from singan_aug.pyramid import Pyramid, draw, reconstruct, trace
from singan_aug.store import (
    DirectoryStore,
    Key,
    Manifest,
    MemoryStore,
    PackedStore,
    Store,
    fingerprint,
    make_key,
    open_store,
)
from singan_aug.store._packed import write_pack
from singan_aug.store._remote import RemoteStore
from tests.conftest import copies, make_photo, mixed, quick

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1 / 255  # what a store may change in a draw: one step of an 8-bit image

BACKENDS: dict[str, Callable[[Path], Store]] = {
    "directory": DirectoryStore,
    "memory over directory": lambda place: MemoryStore(DirectoryStore(place)),
    "memory too small for one": lambda place: MemoryStore(DirectoryStore(place), limit_bytes=1),
}


class PackedWhenRead(DirectoryStore):
    """Written as a folder; every reading is of a packed copy, made anew when the folder has changed."""

    @property
    def _packed(self) -> PackedStore:
        path = self.root / "packed" / "store.zip"
        entries = {key: self._both(key) for key in DirectoryStore.keys(self)}
        if entries:
            path.parent.mkdir(exist_ok=True)
            write_pack(path, [(key, *both) for key, both in entries.items()])
            self.location = str(path)
        else:
            path.unlink(missing_ok=True)
        return PackedStore(path)

    def _both(self, key: str) -> tuple[bytes, bytes]:
        entry = self.root / "pyramids" / key[:2] / key
        return (entry / "manifest.json").read_bytes(), (entry / "pyramid.safetensors").read_bytes()

    def keys(self) -> Iterator[str]:
        return self._packed.keys()

    def __contains__(self, key: str) -> bool:
        return key in self._packed

    def find(self, fingerprint: str) -> list[str]:
        return self._packed.find(fingerprint)

    def manifest(self, key: str) -> Manifest:
        return self._packed.manifest(key)

    def load(self, key: str) -> Pyramid:
        return self._packed.load(key)

    def check(self, key: str, *, deep: bool = False) -> None:
        self._packed.check(key, deep=deep)

    def has_weights(self, key: str, weights_checksum: str) -> bool:
        return self._packed.has_weights(key, weights_checksum)


BACKENDS["packed, to be read"] = PackedWhenRead
BACKENDS["memory://"] = lambda place: RemoteStore(f"memory://{place}")
BACKENDS["s3://"] = lambda place: RemoteStore(f"s3://bucket{place}")
NOWHERE = Key(fingerprint(make_photo(5, 6, seed=99)), "0" * 16)

Make = Callable[[Path], Store]

every_sort = pytest.mark.parametrize("sort", ["generated", "copied", "mixed"])


@pytest.fixture(params=list(BACKENDS))
def make(request: pytest.FixtureRequest, elsewhere: Path) -> Make:
    if request.param == "s3://":
        request.getfixturevalue("s3_server")
    return BACKENDS[request.param]


@pytest.fixture
def store(make: Make, tmp_path: Path) -> Store:
    return make(tmp_path / "store")


def _config(sort: str = "generated", **changes: Any) -> FitConfig:
    """Few steps, but large ones: what is stored must matter to a draw."""
    if sort == "copied":
        return copies(coarsest_px=14, shift_step_px=2, **changes)
    if sort == "mixed":
        return mixed(learning_rate=1e-2, **changes)
    return quick(coarsest_px=14, steps_coarsest=12, steps_finer=8, learning_rate=1e-2, **changes)


@functools.cache
def _pyramid(channels: int = 3, image_seed: int = 0, seed: int = 0, sort: str = "generated") -> Pyramid:
    return fit(make_photo(18, 26, channels, image_seed), _config(sort, seed=seed))


def _key(channels: int = 3, image_seed: int = 0, seed: int = 0, sort: str = "generated") -> Key:
    return make_key(make_photo(18, 26, channels, image_seed), _config(sort, seed=seed))


def _furthest(one: Pyramid, other: Pyramid) -> float:
    """The largest difference of any draw, of sizes and seeds that `save` did not look at."""
    starts = [(k, size) for k in range(len(one)) for size in (None, (23, 17))]
    of_one, of_other = (
        [reconstruct(each), *(draw(each, 3, start_scale=k, size=size, seed=41) for k, size in starts)]
        for each in (one, other)
    )
    return max(float((a - b).abs().max()) for a, b in zip(of_one, of_other, strict=True))


def test_constructing_touches_nothing(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_looking_touches_nothing(make: Make, tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    assert list(store.keys()) == []
    assert store.find(NOWHERE.fingerprint.digest) == []
    assert str(NOWHERE) not in store
    with pytest.raises(MissingPyramidError):
        store.load(str(NOWHERE))
    with pytest.raises(MissingPyramidError):
        store.remove(str(NOWHERE))
    assert list(tmp_path.iterdir()) == []


@every_sort
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_saved_is_loaded(make: Make, tmp_path: Path, channels: int, sort: str) -> None:
    pyramid, key = _pyramid(channels, sort=sort), _key(channels, sort=sort)
    make(tmp_path / "store").save(key, pyramid, name="bild ä.png", source_size=(180, 260))
    loaded = make(tmp_path / "store").load(str(key))
    assert loaded.config == pyramid.config
    assert loaded.channels == channels
    assert loaded.size == (18, 26)
    assert [scale.size for scale in loaded.scales] == [scale.size for scale in pyramid.scales]
    assert dict(loaded.provenance) == dict(pyramid.provenance)
    assert loaded.displacement_px == pyramid.displacement_px
    assert len(loaded.displacement_px) == len(loaded)
    before, after = pyramid.tensors(), loaded.tensors()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert after[name].shape == tensor.shape, name
        assert after[name].dtype == tensor.dtype, name
        # Half precision keeps 11 bits, and below 6e-5 steps of 6e-8.
        assert torch.allclose(after[name], tensor, rtol=2**-11, atol=2**-24), name


def test_a_mask_is_saved_with_its_values(make: Make, tmp_path: Path) -> None:
    image, config = make_photo(18, 26), _config("copied")
    mask = (np.arange(18 * 26).reshape(18, 26) // 100) * 70000 - 1  # wider than a byte
    key, pyramid = make_key(image, config, mask), fit(image, config, mask=mask)
    store = make(tmp_path / "store")
    assert store.save(key, pyramid).mask_values == (-1, 69999, 139999, 209999, 279999)
    loaded = make(tmp_path / "store").load(str(key))
    masks = trace(loaded, 2, seed=5).masks
    expected = trace(pyramid, 2, seed=5).masks
    assert masks is not None
    assert expected is not None
    assert torch.equal(masks, expected)
    assert store.latest(fingerprint(image).digest) == str(key)


@every_sort
def test_what_is_loaded_cannot_be_trained_by_accident(store: Store, sort: str) -> None:
    store.save(_key(sort=sort), _pyramid(sort=sort))
    for scale in store.load(str(_key(sort=sort))).scales:
        assert not any(tensor.requires_grad for tensor in scale.stored().values())
        assert not getattr(scale, "generator", torch.nn.Identity().eval()).training


@every_sort
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_stay_within_one_step_of_an_8_bit_image(store: Store, channels: int, sort: str) -> None:
    pyramid, key = _pyramid(channels, sort=sort), _key(channels, sort=sort)
    store.save(key, pyramid)
    assert _furthest(pyramid, store.load(str(key))) <= TOLERANCE


def test_loading_again_gives_the_same_draws(store: Store) -> None:
    store.save(_key(), _pyramid())
    assert _furthest(store.load(str(_key())), store.load(str(_key()))) == 0


def test_saving_leaves_the_pyramid(store: Store) -> None:
    before = {name: tensor.clone() for name, tensor in _pyramid().tensors().items()}
    store.save(_key(), _pyramid())
    after = _pyramid().tensors()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_manifest_says_what_was_saved(store: Store) -> None:
    pyramid, key = _pyramid(), _key()
    saved = store.save(key, pyramid, name="a.png", source_size=(36, 52))
    assert store.manifest(str(key)) == saved
    store.load(str(key))
    assert store.manifest(str(key)) == saved
    assert saved.key == str(key)
    assert (saved.fingerprint, saved.turn_code) == (key.fingerprint.digest, key.fingerprint.turn_code)
    assert (saved.name, saved.source_size, saved.channels) == ("a.png", (36, 52), 3)
    assert saved.scale_sizes == tuple(scale.size for scale in pyramid.scales)
    assert saved.config == pyramid.config
    assert saved.provenance == dict(pyramid.provenance)


def test_it_knows_whose_weights_a_key_holds(store: Store) -> None:
    manifest = store.save(_key(), _pyramid())
    assert store.has_weights(manifest.key, manifest.weights_checksum)
    assert not store.has_weights(manifest.key, manifest.weights_checksum[::-1])
    assert not store.has_weights(str(NOWHERE), manifest.weights_checksum)
    store.remove(manifest.key)
    assert not store.has_weights(manifest.key, manifest.weights_checksum)


def test_the_source_has_the_size_of_the_pyramid_unless_told(store: Store) -> None:
    assert store.save(_key(), _pyramid()).source_size == (18, 26)


def test_what_is_whole_passes_every_check(store: Store) -> None:
    store.save(_key(), _pyramid())
    for deep in (False, True):
        store.check(str(_key()), deep=deep)


def test_keys_are_those_saved_and_sorted(store: Store) -> None:
    keys = [_key(image_seed=seed) for seed in range(6)]
    for key in keys:
        store.save(key, _pyramid())
    assert list(store.keys()) == sorted(map(str, keys))
    assert all(str(key) in store for key in keys)


def test_the_pyramids_of_an_image_are_found_whatever_their_config(store: Store) -> None:
    for seed in (0, 1, 2):
        store.save(_key(seed=seed), _pyramid())
    store.save(_key(image_seed=1), _pyramid())
    found = store.find(fingerprint(make_photo(18, 26)).digest)
    assert found == sorted(str(_key(seed=seed)) for seed in (0, 1, 2))
    assert store.find(_key(image_seed=1).fingerprint.digest) == [str(_key(image_seed=1))]


def test_a_flipped_image_finds_the_pyramid(store: Store) -> None:
    store.save(_key(), _pyramid())
    flipped = fingerprint(turn_pixels(make_photo(18, 26), 5))
    assert store.find(flipped.digest) == [str(_key())]


def test_part_of_a_fingerprint_finds_nothing(store: Store) -> None:
    store.save(_key(), _pyramid())
    digest = _key().fingerprint.digest
    assert [store.find(part) for part in ("", digest[:2], digest[:31], digest + "0", str(_key()))] == [[]] * 5


@pytest.mark.parametrize("method", ["manifest", "load", "check", "remove"])
def test_a_missing_key_is_named(store: Store, method: str) -> None:
    store.save(_key(), _pyramid())
    with pytest.raises(MissingPyramidError) as caught:
        getattr(store, method)(str(NOWHERE))
    assert isinstance(caught.value, (KeyError, StoreError))
    message = str(caught.value)
    assert str(NOWHERE) in message
    assert store.location in message
    assert f"`{store.command('ls')}`" in message


@pytest.mark.parametrize("method", ["manifest", "load", "check", "remove"])
@pytest.mark.parametrize("key", ["", "abc", "..", "../../etc", f"{NOWHERE}/..", str(NOWHERE).upper(), f"{NOWHERE}\n"])
def test_what_is_no_key_is_refused(store: Store, method: str, key: str) -> None:
    store.save(_key(), _pyramid())
    assert key not in store
    with pytest.raises(MissingPyramidError, match="expected a key"):
        getattr(store, method)(key)
    assert list(store.keys()) == [str(_key())]


def test_what_is_removed_is_gone(store: Store) -> None:
    for seed in (0, 1):
        store.save(_key(seed=seed), _pyramid())
    store.load(str(_key()))
    store.remove(str(_key()))
    assert str(_key()) not in store
    assert list(store.keys()) == store.find(_key().fingerprint.digest) == [str(_key(seed=1))]
    for method in (store.load, store.manifest, store.remove):
        with pytest.raises(MissingPyramidError):
            method(str(_key()))


def test_what_was_removed_may_be_saved_again(store: Store) -> None:
    store.save(_key(), _pyramid())
    store.remove(str(_key()))
    store.save(_key(), _pyramid(image_seed=1))
    assert _furthest(_pyramid(image_seed=1), store.load(str(_key()))) <= TOLERANCE


def test_saving_twice_replaces(store: Store) -> None:
    store.save(_key(), _pyramid(), name="first")
    store.load(str(_key()))
    store.save(_key(), _pyramid(image_seed=1), name="second")
    assert list(store.keys()) == [str(_key())]
    assert store.manifest(str(_key())).name == "second"
    assert _furthest(_pyramid(image_seed=1), store.load(str(_key()))) <= TOLERANCE
    assert _furthest(_pyramid(), store.load(str(_key()))) > 5 * TOLERANCE


def test_two_stores_at_one_place_see_the_same(make: Make, tmp_path: Path) -> None:
    writer, reader = make(tmp_path / "store"), make(tmp_path / "store")
    assert str(_key()) not in reader
    writer.save(_key(), _pyramid())
    assert str(_key()) in reader
    assert list(reader.keys()) == reader.find(_key().fingerprint.digest) == [str(_key())]
    assert _furthest(writer.load(str(_key())), reader.load(str(_key()))) == 0


def test_the_location_opens_the_same_place(store: Store) -> None:
    store.save(_key(), _pyramid())
    assert list(open_store(store.location).keys()) == [str(_key())]


def test_preparing_and_sweeping_change_no_pyramid(store: Store) -> None:
    store.prepare()
    store.sweep()
    assert list(store.keys()) == []
    saved = store.save(_key(), _pyramid())
    store.prepare()
    store.sweep()
    assert store.manifest(str(_key())) == saved
    assert _furthest(_pyramid(), store.load(str(_key()))) <= TOLERANCE


def test_a_key_is_claimed_once(store: Store) -> None:
    with store.claim(str(_key()), wait=False) as first:
        assert first
        with store.claim(str(_key()), wait=False) as second:
            assert not second
        with store.claim(str(_key(seed=1)), wait=False) as other:
            assert other
    with store.claim(str(_key()), wait=True) as again:
        assert again


def test_an_error_ends_a_claim(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.claim(str(_key()), wait=False):
        raise ZeroDivisionError
    with store.claim(str(_key()), wait=False) as mine:
        assert mine


def test_a_claim_hides_nothing_from_readers(store: Store) -> None:
    store.save(_key(), _pyramid())
    with store.claim(str(_key()), wait=False):
        assert list(store.keys()) == [str(_key())]
        assert _furthest(_pyramid(), store.load(str(_key()))) <= TOLERANCE


class Counting(DirectoryStore):
    """Counts what is read."""

    loads = 0

    def load(self, key: str) -> Pyramid:
        self.loads += 1
        return super().load(key)


@pytest.fixture
def three(tmp_path: Path) -> Counting:
    store = Counting(tmp_path / "store")
    for seed in range(3):
        store.save(_key(image_seed=seed), _pyramid())
    return store


def _name(seed: int) -> str:
    return str(_key(image_seed=seed))


def test_memory_reads_once(three: Counting) -> None:
    store = MemoryStore(three)
    assert store.load(_name(0)) is store.load(_name(0))
    assert three.loads == 1


def test_memory_forgets_what_was_used_longest_ago(three: Counting) -> None:
    store = MemoryStore(three, limit_bytes=math.floor(2.5 * _pyramid().memory_bytes))
    for seed in (0, 1, 0, 2, 0):  # 2 pushes 1 out, because 0 was used since
        store.load(_name(seed))
    assert three.loads == 3
    store.load(_name(1))
    assert three.loads == 4


@pytest.mark.parametrize(("fit_in", "loads"), [(3, 3), (2, 9), (1, 9)])
def test_memory_is_bounded(three: Counting, fit_in: int, loads: int) -> None:
    store = MemoryStore(three, limit_bytes=fit_in * _pyramid().memory_bytes)
    for _ in range(3):
        for seed in range(3):
            store.load(_name(seed))
    assert three.loads == loads


def test_memory_counts_what_it_drops(three: Counting) -> None:
    store = MemoryStore(three, limit_bytes=2 * _pyramid().memory_bytes)
    for seed in (0, 1, 0, 1):  # if the bytes of what is dropped stayed on the bill, two would no longer fit
        store.load(_name(seed))
        store.save(_key(image_seed=seed), _pyramid())
    for seed in (0, 1):
        store.load(_name(seed))
    before = three.loads
    for seed in (0, 1):
        store.load(_name(seed))
    assert three.loads == before


def test_a_pyramid_larger_than_memory_is_kept_alone(three: Counting) -> None:
    store = MemoryStore(three, limit_bytes=1)
    store.load(_name(0))
    store.load(_name(0))
    assert three.loads == 1


def test_memory_forgets_what_is_removed_or_replaced(three: Counting) -> None:
    store = MemoryStore(three)
    first = store.load(_name(0))
    store.save(_key(image_seed=0), _pyramid(image_seed=1), name="new")
    assert store.load(_name(0)) is not first
    assert store.manifest(_name(0)).name == "new"
    store.remove(_name(0))
    assert _name(0) not in store
    with pytest.raises(MissingPyramidError):
        store.load(_name(0))
