"""The perceptual index: what it says of an altered image must hold, and what is uncertain must not be found."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from singan_aug.fitting import fit
from singan_aug.images import Pixels, inverse_turn, pixels_to_pil, turn_pixels
from singan_aug.images.descriptor import CELLS, DESCRIPTOR_BYTES, cell_means, decoded, encoded, make_descriptor
from singan_aug.lookup import Match, PerceptualIndex
from singan_aug.lookup._crop_hashes import CROPS, composed
from singan_aug.lookup._registration import WHOLE, register, sample, unpacked
from singan_aug.presets import fast
from singan_aug.pyramid import Pyramid
from singan_aug.store import DirectoryStore, Key, Manifest, MemoryStore, Store, fingerprint, make_key
from tests.conftest import make_photo

CONFIG = fast(finest_px=120)
SIZE = (96, 120)
PHOTOS = [make_photo(*SIZE, seed=seed) for seed in range(4)]
GREY = make_photo(*SIZE, channels=1, seed=9)
Query = tuple[Pixels, tuple[float, float, float, float], str]  # and the box and colours that should be found
WHOLE_BOX = (0.0, 0.0, 1.0, 1.0)


def _key(pixels: Pixels) -> Key:
    return make_key(pixels, CONFIG)


def _save(store: Store, pixels: Pixels) -> str:
    return store.save(_key(pixels), fit(pixels, CONFIG)).key


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("index") / "store"
    for pixels in (*PHOTOS, GREY):
        _save(DirectoryStore(place), pixels)
    return place


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> DirectoryStore:
    """A store of its own, for tests that change it."""
    return DirectoryStore(shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("derived")))


@pytest.fixture(scope="module")
def index(place: Path) -> PerceptualIndex:
    return PerceptualIndex(DirectoryStore(place))


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    image = np.asarray(pixels_to_pil(pixels).resize((width, height), Image.Resampling.BILINEAR))
    return image.reshape(height, width, -1)


def _cropped(pixels: Pixels, top: int, left: int, bottom: int, right: int) -> Query:
    height, width = pixels.shape[:2]
    return pixels[top:bottom, left:right], (top / height, left / width, bottom / height, right / width), "rgb"


def _grey(pixels: Pixels) -> Pixels:
    return np.asarray(pixels_to_pil(pixels).convert("L"))[..., None]


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    pixels_to_pil(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(pixels.shape)


def _resized_crop(pixels: Pixels) -> Query:
    cut, box, _ = _cropped(pixels, 3, 11, 87, 117)
    return _resized(cut, 90, 90), box, "rgb"


FOUND: dict[str, Callable[[Pixels], Query]] = {
    "the same": lambda p: (p, WHOLE_BOX, "rgb"),
    "smaller": lambda p: (_resized(p, 60, 75), WHOLE_BOX, "rgb"),
    "larger": lambda p: (_resized(p, 200, 250), WHOLE_BOX, "rgb"),
    "of another aspect": lambda p: (_resized(p, 80, 80), WHOLE_BOX, "rgb"),
    "its centre": lambda p: _cropped(p, 7, 8, 89, 112),
    "a corner": lambda p: _cropped(p, 0, 0, 82, 103),
    "a strip": lambda p: _cropped(p, 0, 20, 96, 110),
    "cropped and resized": _resized_crop,
    "grey": lambda p: (_grey(p), WHOLE_BOX, "grey"),
    "grey, rounded down": lambda p: (
        (p @ [0.2989, 0.587, 0.114] - 0.3).clip(0).astype(np.uint8)[..., None],
        WHOLE_BOX,
        "grey",
    ),
    "three equal channels": lambda p: (np.repeat(_grey(p), 3, axis=-1), WHOLE_BOX, "grey"),
    "BGR": lambda p: (p[..., ::-1], WHOLE_BOX, "bgr"),
    "BGR, cropped": lambda p: (_resized_crop(p)[0][..., ::-1], _resized_crop(p)[1], "bgr"),
    "a JPEG": lambda p: (_jpeg(p, 75), WHOLE_BOX, "rgb"),
    "a fourth channel": lambda p: (np.concatenate([p, p[..., :1]], axis=-1), WHOLE_BOX, "rgb"),
}


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    height = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    width = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return height * width / (sum(areas) - height * width)


def _shown(source: Pixels, match: Match, size: tuple[int, int]) -> Pixels:
    """What a match says that the query shows, made out of the source."""
    upright = turn_pixels(source, fingerprint(source).turn_code)
    held = np.ascontiguousarray(turn_pixels(upright, inverse_turn(match.turn_code)))
    height, width = held.shape[:2]
    top, left, bottom, right = match.box
    box = (left * width, top * height, right * width, bottom * height)
    image = pixels_to_pil(held).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(image).reshape(*size, -1)
    return {"rgb": pixels, "bgr": pixels[..., ::-1], "grey": _grey(pixels)}[match.colours]


@pytest.mark.parametrize("turn_code", range(8))
@pytest.mark.parametrize("alteration", FOUND)
def test_an_altered_image_is_found(index: PerceptualIndex, alteration: str, turn_code: int) -> None:
    source = PHOTOS[turn_code % len(PHOTOS)]
    altered, box, colours = FOUND[alteration](source)
    query = np.ascontiguousarray(turn_pixels(altered, turn_code))
    match = index.find(query)
    assert match is not None
    assert match.fingerprint == fingerprint(source).digest
    assert match.colours == colours
    shown = _shown(source, match, (query.shape[0], query.shape[1])).astype(float)
    error = np.abs(shown - query[..., : shown.shape[-1]]).mean()
    assert error < 8  # levels: JPEG compression of this texture alone makes 6; another turn would make tens
    if turn_code == 0:
        assert _iou(match.box, box) > 0.98  # a pixel and a half of the source


def test_a_whole_image_has_exactly_the_whole_box(index: PerceptualIndex) -> None:
    for size in ((96, 120), (60, 75), (100, 100)):
        match = index.find(_resized(PHOTOS[0], *size))
        assert match is not None
        assert match.box == WHOLE_BOX


def test_a_grey_source_keeps_its_colours(index: PerceptualIndex) -> None:
    match = index.find(np.repeat(_resized(GREY, 60, 75), 3, axis=-1))
    assert match is not None
    assert (match.fingerprint, match.colours) == (fingerprint(GREY).digest, "rgb")


def _covered(pixels: Pixels) -> Pixels:
    out = pixels.copy()
    out[30:55, 40:70] = 255
    return out


REFUSED: dict[str, Callable[[Pixels], Pixels]] = {
    "half of it": lambda p: p[:, :60],
    "60 % of it": lambda p: p[10:84, 12:105],
    "turned by 5 degrees": lambda p: np.asarray(pixels_to_pil(p).rotate(5)),
    "brightened": lambda p: np.clip(p * 1.15, 0, 255).astype(np.uint8),
    "inverted": lambda p: 255 - p,
    "its channels in another order": lambda p: np.roll(p, 1, axis=-1),
    "partly covered": _covered,
    "shifted": lambda p: np.roll(p, 12, axis=1),
    "coloured over": lambda p: np.clip(p + np.array([25, 0, 0]), 0, 255).astype(np.uint8),
    "of a few pixels": lambda p: _resized(p, 12, 15),
    "flat": lambda p: np.full_like(p, 130),
    "another texture under the same sky": lambda p: make_photo(*SIZE, seed=77),
    "noise": lambda p: np.random.default_rng(0).integers(0, 256, p.shape, dtype=np.uint8),
}


@pytest.mark.parametrize("alteration", REFUSED)
def test_what_is_not_the_image_is_not_found(index: PerceptualIndex, alteration: str) -> None:
    for photo in PHOTOS:
        assert index.find(np.ascontiguousarray(REFUSED[alteration](photo))) is None


def _lone(place: Path, *images: Pixels) -> PerceptualIndex:
    store = DirectoryStore(place)
    for pixels in images:
        _save(store, pixels)
    return PerceptualIndex(store)


def test_of_two_images_that_are_nearly_equal_none_is_found(tmp_path: Path) -> None:
    twin = PHOTOS[0].copy()
    twin[::2] ^= 1
    index = _lone(tmp_path, PHOTOS[0], twin)
    assert index.find(_resized(PHOTOS[0], 70, 88)) is None
    assert index.find(_resized_crop(twin)[0]) is None


def test_an_image_that_repeats_itself_is_found_whole_and_its_crops_are_not(tmp_path: Path) -> None:
    tiled = np.tile(make_photo(24, 24, seed=5), (4, 5, 1))
    index = _lone(tmp_path, tiled)
    assert index.find(np.ascontiguousarray(tiled[:84, 24:])) is None


def test_a_mirror_image_of_itself_is_not_found(tmp_path: Path) -> None:
    half = make_photo(96, 60, seed=6)
    mirrored = np.concatenate([half, half[:, ::-1]], axis=1)
    assert _lone(tmp_path, mirrored).find(_resized(mirrored, 70, 88)) is None


def test_a_crop_of_an_image_that_is_the_same_all_along_is_not_found(tmp_path: Path) -> None:
    bands = np.repeat(make_photo(96, 120, seed=7)[:, :1], 120, axis=1)
    assert _lone(tmp_path, bands).find(np.ascontiguousarray(bands[:, :100])) is None


def test_an_empty_store_finds_nothing_and_stays_untouched(tmp_path: Path) -> None:
    index = PerceptualIndex(DirectoryStore(tmp_path / "store"))
    assert index.find(PHOTOS[0]) is None
    assert len(index) == 0
    assert list(tmp_path.iterdir()) == []


# What the store does meanwhile


def _finds(index: PerceptualIndex, pixels: Pixels) -> bool:
    match = index.find(_resized(pixels, 80, 100))
    return match is not None and match.fingerprint == fingerprint(pixels).digest


def test_what_is_added_and_removed_is_seen(copy: DirectoryStore) -> None:
    index, added = PerceptualIndex(copy), make_photo(*SIZE, seed=20)
    assert not _finds(index, added)
    key = _save(DirectoryStore(copy.root), added)
    assert _finds(index, added)
    assert all(_finds(index, photo) for photo in PHOTOS)
    copy.remove(key)
    index.refresh()
    assert not _finds(index, added)
    assert all(_finds(index, photo) for photo in PHOTOS)


def test_what_is_deleted_by_hand_is_seen_by_the_next_index(copy: DirectoryStore) -> None:
    assert _finds(PerceptualIndex(copy), PHOTOS[1])
    key = str(_key(PHOTOS[1]))
    shutil.rmtree(copy.root / "pyramids" / key[:2] / key)
    index = PerceptualIndex(copy)
    assert not _finds(index, PHOTOS[1])
    assert _finds(index, PHOTOS[2])


def test_an_image_fitted_by_two_configs_is_one(copy: DirectoryStore) -> None:
    other = CONFIG.replace(seed=5)
    copy.save(make_key(PHOTOS[0], other), fit(PHOTOS[0], other))
    index = PerceptualIndex(copy)
    assert len(index) == len(PHOTOS) + 1
    assert _finds(index, PHOTOS[0])
    copy.remove(str(_key(PHOTOS[0])))
    assert _finds(PerceptualIndex(copy), PHOTOS[0])


def test_the_next_index_reads_no_manifest(copy: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    PerceptualIndex(copy).refresh()
    read: list[str] = []
    monkeypatch.setattr(DirectoryStore, "descriptor", lambda self, key: read.append(key))
    index = PerceptualIndex(copy)
    assert all(_finds(index, photo) for photo in PHOTOS)
    assert read == []


def _segments(store: DirectoryStore) -> dict[Path, bytes]:
    """Files of the index but for the lock."""
    files = (store.root / "derived").rglob("*")
    return {file: file.read_bytes() for file in files if file.is_file() and file.name != "lock"}


def _settled(store: DirectoryStore) -> DirectoryStore:
    """As if nothing had changed for an hour: until then folders are looked through again."""
    for folder in [*(store.root / "pyramids").iterdir(), store.root / "pyramids"]:
        changed = 1.7e9 + len(list(folder.iterdir()))  # what is added changes it
        os.utime(folder, (changed, changed))
    return store


FILES = ["head", "fingerprints", "descriptors", "checks", "levels", "hashes", "owners", "turn_codes"]


@pytest.mark.parametrize("file_name", FILES)
@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_made_again(copy: DirectoryStore, file_name: str, damage: bytes | None) -> None:
    PerceptualIndex(_settled(copy)).refresh()
    whole = _segments(copy)
    (file,) = (path for path in whole if path.name == file_name)
    damaged = bytearray(whole[file])
    for place in range(len(damaged)):
        damaged[place] ^= 4
    file.write_bytes(bytes(damaged) if damage is None else damage)
    index = PerceptualIndex(copy)
    assert all(_finds(index, photo) for photo in PHOTOS)
    assert _segments(copy) == whole


def test_a_damaged_file_that_cannot_be_replaced_is_done_without(
    copy: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    PerceptualIndex(_settled(copy)).refresh()
    (file,) = (path for path in _segments(copy) if path.name == "descriptors")
    file.write_bytes(bytes(file.stat().st_size))

    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    index = PerceptualIndex(copy)
    assert all(_finds(index, photo) for photo in PHOTOS)


def test_what_is_added_leaves_large_segments_as_they_are(copy: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singan_aug.lookup._segments._MERGED_RATIO", 1)
    PerceptualIndex(_settled(copy)).refresh()
    before = {path: data for path, data in _segments(copy).items() if path.name != "head"}
    inodes = {path: path.stat().st_ino for path in before}
    read: list[str] = []
    described = DirectoryStore.descriptor

    def noted(self: DirectoryStore, key: str) -> str:
        read.append(key)
        return described(self, key)

    monkeypatch.setattr(DirectoryStore, "descriptor", noted)
    added = [make_photo(*SIZE, seed=seed) for seed in (20, 21, 22)]
    for pixels in added:
        _save(copy, pixels)
        index = PerceptualIndex(_settled(copy))
        assert all(_finds(index, photo) for photo in (*PHOTOS, pixels))
    assert sorted(read) == sorted(str(_key(pixels)) for pixels in added)
    after = _segments(copy)
    assert all(after[path] == data and path.stat().st_ino == inodes[path] for path, data in before.items())
    names = {path.parent.name for path in after if path.name != "head"}
    assert len(names) == 3  # five images; two, merged when the second was added; one


def test_segments_whose_images_are_gone_are_written_anew(copy: DirectoryStore) -> None:
    PerceptualIndex(_settled(copy)).refresh()
    for pixels in (*PHOTOS[:2], GREY):
        copy.remove(str(_key(pixels)))
    assert len(PerceptualIndex(copy)) == 2
    (fingerprints,) = (data for path, data in _segments(copy).items() if path.name == "fingerprints")
    assert len(fingerprints) == 2 * 32
    assert _finds(PerceptualIndex(copy), PHOTOS[2])


def test_one_that_comes_back_is_found(copy: DirectoryStore) -> None:
    index = PerceptualIndex(copy)
    assert _finds(index, PHOTOS[1])
    copy.remove(str(_key(PHOTOS[1])))
    index.refresh()
    assert not _finds(index, PHOTOS[1])
    _save(copy, PHOTOS[1])
    assert _finds(index, PHOTOS[1])
    assert len(index) == len(PHOTOS) + 1


def test_a_manifest_that_is_mended_is_taken_in(copy: DirectoryStore) -> None:
    key = str(_key(PHOTOS[1]))
    manifest = copy.root / "pyramids" / key[:2] / key / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace("descriptor", "descriptXr"))
    assert not _finds(PerceptualIndex(copy), PHOTOS[1])
    copy.remove(key)
    _save(copy, PHOTOS[1])
    assert _finds(PerceptualIndex(copy), PHOTOS[1])


def test_twins_in_different_segments_are_twins(copy: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("singan_aug.lookup._segments._MERGED_RATIO", 0)
    index = PerceptualIndex(copy)
    assert _finds(index, PHOTOS[0])
    twin = PHOTOS[0].copy()
    twin[::2] ^= 1
    key = _save(copy, twin)
    index.refresh()
    assert len({path.parent for path in _segments(copy) if path.name != "head"}) == 2
    assert not _finds(index, PHOTOS[0])
    copy.remove(key)
    index.refresh()
    assert _finds(index, PHOTOS[0])


def test_a_store_that_cannot_be_written_is_searched_all_the_same(
    copy: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert _finds(PerceptualIndex(copy), PHOTOS[0])
    assert not list((copy.root / "derived").glob("*/head"))


def test_a_broken_manifest_hides_one_image_alone(copy: DirectoryStore) -> None:
    key = str(_key(PHOTOS[1]))
    (copy.root / "pyramids" / key[:2] / key / "manifest.json").write_text("{")
    index = PerceptualIndex(copy)
    assert not _finds(index, PHOTOS[1])
    assert _finds(index, PHOTOS[2])


def test_it_pickles_without_what_it_read(place: Path, index: PerceptualIndex) -> None:
    assert _finds(index, PHOTOS[0])
    data = pickle.dumps(index)
    assert len(data) < 1000
    assert _finds(pickle.loads(data), PHOTOS[0])


class _Plain(Store):
    """The five methods that a backend must write, over another store."""

    def __init__(self, beneath: Store) -> None:
        self.beneath, self.location = beneath, beneath.location

    def keys(self) -> Iterator[str]:
        return self.beneath.keys()

    def manifest(self, key: str) -> Manifest:
        return self.beneath.manifest(key)

    def load(self, key: str) -> Pyramid:
        return self.beneath.load(key)

    def save(self, key: Key, pyramid: Pyramid, **options: Any) -> Manifest:
        return self.beneath.save(key, pyramid, **options)

    def remove(self, key: str) -> None:
        self.beneath.remove(key)


@pytest.mark.parametrize("layer", [MemoryStore, _Plain])
def test_it_works_over_any_store(copy: DirectoryStore, layer: Callable[[Store], Store]) -> None:
    index = PerceptualIndex(layer(copy))
    assert all(_finds(index, photo) for photo in PHOTOS)
    copy.remove(str(_key(PHOTOS[0])))
    index.refresh()
    assert not _finds(index, PHOTOS[0])
    assert (copy.root / "derived").exists() == (layer is MemoryStore)


# The parts


@given(st.integers(0, 7), st.integers(0, 7))
def test_two_turns_compose(first: int, then: int) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert np.array_equal(turn_pixels(turn_pixels(pixels, first), then), turn_pixels(pixels, composed(first, then)))


def test_crops_are_of_seven_tenths_or_more() -> None:
    sizes = CROPS[:, 2:] - CROPS[:, :2]
    assert (CROPS >= 0).all()
    assert (CROPS <= 1).all()
    assert (sizes.prod(axis=1) > 0.69).all()
    assert (CROPS == WHOLE).all(axis=1).sum() == 1


@pytest.mark.parametrize("size", [(60, 120), (30, 20), (33, 50)])
def test_cells_are_means(size: tuple[int, int]) -> None:
    pixels = make_photo(*size)
    parts = pixels.repeat(20, axis=0).repeat(20, axis=1).astype(float)  # of which every cell has a whole number
    exact = parts.reshape(20, size[0], 20, size[1], 3).mean(axis=(1, 3))
    assert np.allclose(cell_means(pixels, 20), exact, atol=0.01)


def test_cells_of_a_large_image_are_nearly_means() -> None:
    pixels = make_photo(333, 501)
    parts = pixels.repeat(20, axis=0).astype(float).reshape(20, 333, 501, 3).mean(axis=1)
    exact = parts.repeat(20, axis=1).reshape(20, 20, 501, 3).mean(axis=2)
    # shrunk by whole numbers first, and rounded: where a cell ends within a shrunk pixel, part of it is misplaced
    assert np.abs(cell_means(pixels, 20) - exact).max() < 3


def test_a_sketch_survives_its_manifest() -> None:
    descriptor = make_descriptor(PHOTOS[0])
    assert descriptor.shape == (DESCRIPTOR_BYTES,)
    assert np.array_equal(decoded(encoded(descriptor)), descriptor)
    assert not decoded("AAEC").any()


def test_means_of_whole_cells_are_kept() -> None:
    grey, _ = unpacked(make_descriptor(PHOTOS[0])[None])
    thirds = grey.reshape(20, 3, 20, 3).mean(axis=(1, 3))
    assert np.allclose(sample(grey[0], WHOLE, 20), thirds, atol=0.01)


@given(st.floats(0, 0.12), st.floats(0, 0.12), st.floats(0.88, 1), st.floats(0.88, 1))
def test_registration_finds_the_box(top: float, left: float, bottom: float, right: float) -> None:
    source, _ = unpacked(make_descriptor(PHOTOS[0])[None])
    box = np.array([[top, left, bottom, right]], dtype=np.float32)
    start = CROPS[[np.abs(CROPS - box).max(axis=1).argmin()]]
    found, _ = register(source, sample(source, box, 20), start, steps=6)
    assert np.abs(found - box).max() < 0.2 / CELLS  # a fifth of a cell
