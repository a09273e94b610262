"""Every later version reads the stores of every earlier one: cache/golden/v1, v2, ... never change once released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import safetensors.numpy
import torch
import xxhash
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from singan_aug.images import Mask, to_mask, turn_pixels
from singan_aug.pyramid import draw, reconstruct
from singan_aug.store import FORMAT_VERSION, DirectoryStore, fingerprint, make_key
from tests.golden.make_golden_store import GOLDEN
from tests.golden.make_manifest_schema import SCHEMA_PATH

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1 / 255  # other machines and versions of torch add in another order; a step of an 8-bit image is never near

every_golden = pytest.mark.parametrize("golden", sorted(GOLDEN.glob("v*")), ids=lambda path: path.name)


def _expected(golden: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((golden / "golden.json").read_text())
    return values


def _mask(golden: Path) -> Mask:
    with Image.open(golden / _expected(golden)["mask"]) as mask:
        return to_mask(mask)


def _check(image: Tensor, pixels: list[dict[str, Any]], may_differ_ratio: float) -> None:
    assert len(pixels) >= 5
    differ = 0
    for pixel in pixels:
        y, x = pixel["at"]
        differ += bool((image[0, :, y, x] - torch.tensor(pixel["value"])).abs().max() > TOLERANCE)
    assert differ <= may_differ_ratio * len(pixels)


def _snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_is_a_golden_store_of_every_format() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"v{version}" for version in range(1, FORMAT_VERSION + 1)}


@every_golden
def test_golden_stores_are_small(golden: Path) -> None:
    assert sum(map(len, _snapshot(golden).values())) < 100_000


@every_golden
def test_a_golden_store_is_read_and_left_as_it_is(golden: Path) -> None:
    before = _snapshot(golden)
    store, expected = DirectoryStore(golden / "store"), _expected(golden)["pyramids"]
    assert list(store.keys()) == sorted(each["key"] for each in expected)
    for each in expected:
        pyramid = store.load(each["key"])  # verifies the checksums
        manifest = store.manifest(each["key"])
        assert manifest.format_version == int(golden.name[1:])
        assert [list(scale.size) for scale in pyramid.scales] == each["scale_sizes"]
        assert [list(size) for size in manifest.scale_sizes] == each["scale_sizes"]
        assert pyramid.channels == manifest.channels == 3
        assert pyramid.config == manifest.config
    assert _snapshot(golden) == before


@every_golden
def test_golden_pyramids_are_found_by_their_image(golden: Path) -> None:
    expected, store = _expected(golden), DirectoryStore(golden / "store")
    keys = sorted(each["key"] for each in expected["pyramids"])
    pixels = np.asarray(Image.open(golden / expected["image"]))
    for code in range(8):
        identity = fingerprint(np.ascontiguousarray(turn_pixels(pixels, code)))
        assert store.find(identity.digest) == keys
    for key in keys:
        manifest = store.manifest(key)
        assert fingerprint(pixels).turn_code == manifest.turn_code
        if manifest.format_version == FORMAT_VERSION:
            assert str(make_key(pixels, manifest.config, _mask(golden) if manifest.mask_values else None)) == key


@every_golden
def test_a_golden_mask_is_read_to_the_value(golden: Path) -> None:
    store = DirectoryStore(golden / "store")
    masked = [key for key in store.keys() if store.manifest(key).mask_values]
    assert len(masked) == 1
    pyramid, mask = store.load(masked[0]), _mask(golden)
    rows, columns = (torch.arange(side) for side in mask.shape)
    held = pyramid.carried_mask(torch.stack(torch.meshgrid(rows, columns, indexing="ij")))
    assert held is not None
    assert np.array_equal(held.numpy(), mask)
    assert pyramid.mask_values == tuple(np.unique(mask).tolist())


@every_golden
def test_golden_pyramids_draw_as_they_always_did(golden: Path) -> None:
    for expected in _expected(golden)["pyramids"]:
        pyramid = DirectoryStore(golden / "store").load(expected["key"])
        _check(reconstruct(pyramid), expected["reconstruction"], 0.0)
        assert {each["start_scale"] for each in expected["draws"]} == set(range(len(pyramid)))
        for each in expected["draws"]:
            size = tuple(each["size"]) if each["size"] else None
            drawn = draw(pyramid, start_scale=each["start_scale"], size=size, seed=each["seed"])
            _check(drawn, each["pixels"], expected["may_differ_ratio"])


def test_what_is_recorded_would_notice_another_draw() -> None:
    store = DirectoryStore(GOLDEN / "v1" / "store")
    for expected in _expected(GOLDEN / "v1")["pyramids"]:
        pyramid = store.load(expected["key"])
        for each in expected["draws"]:
            if each["size"] is None:
                other = draw(pyramid, start_scale=each["start_scale"], seed=each["seed"] + 1)
                with pytest.raises(AssertionError):
                    _check(other, each["pixels"], expected["may_differ_ratio"])


@every_golden
def test_golden_manifests_validate(golden: Path) -> None:
    schema = json.loads(SCHEMA_PATH.read_text())
    for path in golden.rglob("manifest.json"):
        jsonschema.validate(json.loads(path.read_bytes()), schema)


@pytest.mark.parametrize("number", [0, 1], ids=["convolutional", "patches"])
def test_a_stranger_can_read_version_1(number: int) -> None:
    """A reader written from cache/README.md alone, without this package."""
    root, golden = GOLDEN / "v1" / "store", _expected(GOLDEN / "v1")
    expected = golden["pyramids"][number]
    assert json.loads((root / "store.json").read_bytes()) == {"format": "singan-aug store", "format_version": 1}
    entry = root / "pyramids" / expected["key"][:2] / expected["key"]

    text = (entry / "manifest.json").read_bytes()
    manifest = json.loads(text)
    guard = manifest.pop("manifest_checksum")
    assert xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode()) == guard
    assert text.decode() == json.dumps({**manifest, "manifest_checksum": guard}, indent=2) + "\n"
    assert manifest["key"] == expected["key"]

    weights = (entry / "pyramid.safetensors").read_bytes()
    assert len(weights) == manifest["weights_bytes"]
    assert xxhash.xxh3_128_hexdigest(weights) == manifest["weights_checksum"]
    tensors = safetensors.numpy.load(weights)
    assert {tensor.dtype.name for tensor in tensors.values()} <= {manifest["weights_dtype"], "uint8"}
    config, channels, sizes = manifest["config"], manifest["channels"], manifest["scale_sizes"]
    names = set(tensors)
    generated, copied = config.get("generated"), config.get("copied")
    assert (expected["sort"] != "copied") == (generated is not None)
    assert (expected["sort"] != "generated") == (copied is not None)
    first_copied = len(sizes) if copied is None else 0 if generated is None else generated["scales"]
    for k, (height, width) in enumerate(sizes):
        if k < first_copied:
            assert tensors[f"scales.{k}.amplitude"].shape in {(1, 1, 1, 1), (1, 1, height, width)}
            assert tensors[f"scales.{k}.entering"].shape == (1, channels, *sizes[max(k - 1, 0)])
            names -= {f"scales.{k}.amplitude", f"scales.{k}.entering"}
            assert any(name.startswith(f"scales.{k}.generator.") for name in names)
            names = {name for name in names if not name.startswith(f"scales.{k}.generator.")}
        else:
            patch = (channels, copied["patch_px"], copied["patch_px"])
            assert tensors[f"scales.{k}.basis"].shape == (copied["descriptor_dims"], *patch)
            names -= {f"scales.{k}.basis"}
    if generated is not None and generated["noise"]["anchor"] == "none":
        assert tensors["scales.0.z_star"].shape == (1, channels, *sizes[0])
        names -= {"scales.0.z_star"}
    if copied is not None:
        assert tensors["source"].shape == (1, channels, *sizes[-1])
        assert tensors["source"].dtype == np.uint8
        names -= {"source"}
    if manifest["mask_values"]:
        assert tensors["mask"].shape == tuple(sizes[-1])
        assert tensors["mask"].dtype == np.uint8
        assert np.array_equal(np.array(manifest["mask_values"])[tensors["mask"]], _mask(GOLDEN / "v1"))
        names -= {"mask"}
    assert names == set()
    if generated is not None and copied is not None:
        assert sizes[first_copied] == sizes[first_copied - 1]

    # The key, from the image and the config.
    pixels = np.asarray(Image.open(GOLDEN / "v1" / golden["image"]))
    code = manifest["turn_code"]

    def digest(values: NDArray[Any]) -> str:
        turned = values.swapaxes(0, 1) if code & 4 else values
        turned = turned[::-1] if code & 2 else turned
        turned = turned[:, ::-1] if code & 1 else turned
        shape = "x".join(map(str, turned.shape))
        return xxhash.xxh3_128_hexdigest(shape.encode() + turned.tobytes())

    assert digest(pixels) == manifest["fingerprint"]
    rest = expected["key"].removeprefix(f"{manifest['fingerprint']}-")
    changed = _changed(config, json.loads(SCHEMA_PATH.read_text())["$defs"], "FitConfig")
    config_digest = xxhash.xxh3_128_hexdigest(json.dumps(changed, sort_keys=True).encode())
    masked = bool(manifest["mask_values"])
    of_mask = digest(_mask(GOLDEN / "v1")[..., None].astype("<i4")) if masked else ""
    assert xxhash.xxh3_64_hexdigest(f"1/{masked}/{config_digest}{of_mask}".encode()) == rest


def _changed(values: dict[str, Any], definitions: dict[str, Any], name: str) -> dict[str, Any]:
    """The leaves that differ from their defaults; parts without any are left out, but for generated and copied."""
    changed = {}
    for field, value in values.items():
        described = definitions[name]["properties"][field]
        if isinstance(value, dict):
            refs = [each["$ref"] for each in (described, *described.get("anyOf", ())) if "$ref" in each]
            inner = _changed(value, definitions, refs[0].rpartition("/")[2])
            if inner or field in ("generated", "copied"):
                changed[field] = inner
        elif value != described["default"]:
            changed[field] = value
    return changed
