"""A store that somebody made to harm: each value is refused before it is used, each file that is none is not opened."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import xxhash

from singan_aug.errors import CorruptPyramidError, StoreError, StoreWriteError
from singan_aug.fitting import fit
from singan_aug.lookup import PerceptualIndex
from singan_aug.presets import fast, learned, paper
from singan_aug.pyramid import Pyramid
from singan_aug.store import DirectoryStore, Key, make_key
from tests.conftest import make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTO = make_photo(18, 24)
CONFIGS = {
    "generated": quick(coarsest_px=14),
    "copied": fast(coarsest_px=14),
    "both": learned(coarsest_px=14, steps_coarsest=3),
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def made(request: pytest.FixtureRequest, one_thread: None) -> tuple[Key, Pyramid]:
    config = CONFIGS[request.param]
    return make_key(PHOTO, config), fit(PHOTO, config)


@pytest.fixture
def store(made: tuple[Key, Pyramid], tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "store")
    store.save(*made, name="a.png")
    return store


def _entry(store: DirectoryStore) -> Path:
    (key,) = store.keys()
    return store.root / "pyramids" / key[:2] / key


def _forge(store: DirectoryStore, **changes: Any) -> str:
    """Change values of the manifest, with the checksum that fits them; its key."""
    path = _entry(store) / "manifest.json"
    values = {**json.loads(path.read_text()), **changes}
    del values["manifest_checksum"]
    guard = xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())
    path.write_text(json.dumps({**values, "manifest_checksum": guard}, indent=2) + "\n")
    return path.parent.name


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_sizes": []},
        {"scale_sizes": [[0, 0]]},
        {"scale_sizes": [[14, 19], [18, 25]]},
        {"scale_sizes": [[18, 24]]},
        {"scale_sizes": [[10**9, 10**9]] * 2},
        {"scale_sizes": [[1, 1]] * 10_000},
        {"turn_code": 8},
        {"turn_code": -1},
        {"channels": 0},
        {"channels": 10**9},
        {"source_size": [0, 5]},
        {"source_size": [-3, 5]},
        {"source_size": [10**30, 5]},
        {"displacement_px": [1.0]},
        {"displacement_px": [1e300, 1e300]},
        {"displacement_px": [-1.0, 0.0]},
        {"mask_values": [1, 0]},
        {"mask_values": [0, 2**40]},
        {"mask_values": list(range(300))},
        {"created_at": "yesterday"},
        {"created_at": "2" * 1000},
        {"descriptor": "AAEC"},
        {"descriptor": "?" * 5484},
        {"descriptor": "A" * 10**5},
        {"descriptor": "\u00e9" * 5484},
        {"weights_dtype": "float8"},
        {"weights_bytes": -1},
        {"weights_bytes": 2**63},
        {"weights_checksum": "\x1b[31m" + "0" * 27},
        {"fingerprint": "0" * 32},
        {"format_version": 0},
        {"config": paper(seed=5).model_dump()},
    ],
    ids=lambda changes: f"{next(iter(changes))} {str(next(iter(changes.values())))[:20]}",
)
def test_a_number_out_of_bounds_is_refused_before_the_weights_are_read(
    store: DirectoryStore, changes: dict[str, Any]
) -> None:
    _forge(store)
    key = _entry(store).name
    assert store.manifest(key).name == "a.png"  # a forgery of what is true is taken
    _forge(store, **changes)
    (_entry(store) / "pyramid.safetensors").unlink()
    for method in (store.manifest, store.load):
        with pytest.raises(CorruptPyramidError, match=rf"manifest\.json: .*singan-aug rm {key}"):
            method(key)


@pytest.mark.parametrize(
    "changes",
    [
        {"finest_px": 10**9},
        {"scale_factor": 0.999},
        {"seam_passes": 10**9},
        {"seam_blend_px": 1e300},
        {"shift_cells": 10**9},
        {"shift_px": float("inf")},
        {"shift_step_px": 10**30},
        {"descriptor_dims": 10**9},
        {"match_tolerance": float("nan")},
    ],
    ids=str,
)
def test_a_config_out_of_bounds_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.save(make_key(PHOTO, CONFIGS["copied"]), fit(PHOTO, CONFIGS["copied"]))
    config = CONFIGS["copied"].model_dump()
    part = config["sizes" if "finest_px" in changes or "scale_factor" in changes else "copied"]
    part.update(changes)
    key = _forge(store, config=config)
    with pytest.raises(StoreError, match=next(iter(changes))):
        store.load(key)


def test_a_width_that_nobody_stored_takes_no_memory(tmp_path: Path) -> None:
    """A network of that width would take 10 GB: its weights are not there, so it is refused before it is made."""
    config = quick(coarsest_px=14, width=4096, width_max=4096, layers=16)
    key = make_key(PHOTO, config)
    store = DirectoryStore(tmp_path / "store")
    store.save(make_key(PHOTO, CONFIGS["generated"]), fit(PHOTO, CONFIGS["generated"]))
    _entry(store).rename(_entry(store).with_name(str(key)))
    _forge(store, key=str(key), config=config.model_dump())
    with pytest.raises(CorruptPyramidError, match="do not fit its manifest"):
        store.load(str(key))


def _retensored(store: DirectoryStore, whole: bytes, **changes: torch.Tensor | None) -> str:
    path = _entry(store) / "pyramid.safetensors"
    changed = {**safetensors.torch.load(whole), **changes}
    tensors = {name: tensor for name, tensor in changed.items() if tensor is not None}
    data = safetensors.torch.save(tensors)
    path.write_bytes(data)
    return _forge(store, weights_bytes=len(data), weights_checksum=xxhash.xxh3_128_hexdigest(data))


def test_every_tensor_of_another_shape_dtype_or_value_is_refused(store: DirectoryStore) -> None:
    path = _entry(store) / "pyramid.safetensors"
    whole = path.read_bytes()
    for name, tensor in safetensors.torch.load(whole).items():
        for other in (
            torch.cat([tensor, tensor]),
            tensor[..., :0],
            tensor[None],
            tensor.double(),
            tensor.long(),
            torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor.half(),
        ):
            key = _retensored(store, whole, **{name: other.contiguous()})
            with pytest.raises(CorruptPyramidError, match="do not fit its manifest"):
                store.load(key)
        key = _retensored(store, whole, **{name: None})
        with pytest.raises(CorruptPyramidError, match="do not fit its manifest"):
            store.load(key)
    key = _retensored(store, whole, extra=torch.zeros(9, dtype=torch.uint8))
    with pytest.raises(CorruptPyramidError, match="extra belongs to no scale"):
        store.load(key)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("what", ["pipe", "device", "long"])
@pytest.mark.parametrize("name", ["manifest.json", "pyramid.safetensors", "store.json"])
def test_what_is_no_file_of_a_store_is_neither_waited_for_nor_read_to_its_end(
    store: DirectoryStore, name: str, what: str
) -> None:
    key = _entry(store).name
    path = store.root / name if name == "store.json" else _entry(store) / name
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    with pytest.raises(CorruptPyramidError, match=name.replace(".", r"\.")):
        DirectoryStore(store.root).load(key)


@pytest.mark.parametrize("place", ["partial", "claims", "pyramids", "shard", "entry", "derived"])
def test_nothing_is_written_or_removed_through_a_planted_link(
    store: DirectoryStore, made: tuple[Key, Pyramid], place: str, tmp_path: Path
) -> None:
    key = _entry(store).name
    path = {"shard": _entry(store).parent, "entry": _entry(store)}.get(place, store.root / place)
    outside = tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    path.symlink_to(outside)
    before = {file.relative_to(outside): file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    PerceptualIndex(store).refresh()
    list(store.entries())
    if place != "derived":
        with pytest.raises(StoreWriteError, match="is a link"):
            store.save(*made)
    if place not in ("derived", "partial"):
        with pytest.raises(StoreWriteError, match="is a link"):
            store.remove(key)
    with suppress(StoreWriteError):
        store.sweep()
    after = {file.relative_to(outside): file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    assert after == before


def test_a_removal_waits_for_a_save_and_never_mixes_with_it(store: DirectoryStore, made: tuple[Key, Pyramid]) -> None:
    key, other = str(made[0]), DirectoryStore(store.root)
    with other.claim(key, wait=False) as mine:
        assert mine
        other.save(*made)  # under its own claim
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("singan_aug.store._claims.CLAIM_SEC", 0.0)
            for action in (lambda: store.remove(key), lambda: store.save(*made)):
                with pytest.raises(StoreWriteError, match=f"another process is at work on {key}"):
                    action()
        other.remove(key)
    with pytest.raises(StoreError):
        store.manifest(key)
