from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import xxhash

from singan_aug.errors import CorruptPyramidError, StoreError, StoreFormatError
from singan_aug.presets import paper
from singan_aug.store import FORMAT_VERSION, Manifest
from singan_aug.store._manifest import checksum
from tests.conftest import quick
from tests.golden.make_manifest_schema import SCHEMA_PATH, manifest_schema

VALUES: dict[str, Any] = {
    "format_version": FORMAT_VERSION,
    "key": "0123456789abcdef0123456789abcdef-0123456789abcdef",
    "fingerprint": "0123456789abcdef0123456789abcdef",
    "turn_code": 5,
    "name": "grün.weiß Köln 東京.png",
    "source_size": (400, 600),
    "channels": 3,
    "scale_sizes": ((25, 38), (50, 75), (100, 150)),
    "displacement_px": (12.5, 3.0, 1.25),
    "mask_values": (0, 1, 255),
    "config": quick(),
    "provenance": {"package": "0.1.0", "attempt": 0, "process_sec": 1e-05, "reconstruction_rmse": [0.1, 0.05]},
    "created_at": "2026-01-02T03:04:05+00:00",
    "weights_dtype": "float16",
    "weights_bytes": 12345,
    "weights_checksum": "f" * 32,
    "descriptor": "AAEC",
}
MANIFEST = Manifest(**VALUES)
TEXT = MANIFEST.to_json()


def _guarded(values: dict[str, Any]) -> str:
    """A manifest with a valid checksum, made as cache/README.md says."""
    values = {name: value for name, value in values.items() if name != "manifest_checksum"}
    guard = xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())
    return json.dumps({**values, "manifest_checksum": guard}, indent=2) + "\n"


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_PATH.read_text())
    return schema


def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_schema())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": ""},
        {"name": "caf\udce9.png"},  # how Python spells a file name that is not UTF-8
        {"name": 'a "quoted"\\\n\t\0name'},
        {"config": paper(seed=2**63 - 1, learning_rate=1e-5)},
        {"provenance": {}},
        {"provenance": {"deep": {"er": [1, [2.5, None, True]]}}},
        {"channels": 4, "scale_sizes": ((30, 30),), "weights_dtype": "float32"},
    ],
    ids=str,
)
def test_a_manifest_is_read_as_it_was_written(changes: dict[str, Any]) -> None:
    manifest = Manifest(**{**VALUES, **changes})
    text = manifest.to_json()
    assert Manifest.from_json(text, "here") == manifest
    assert Manifest.from_json(text, "here").to_json() == text
    assert text == _guarded(json.loads(text))
    assert text.isascii()


def test_the_same_manifest_has_the_same_bytes() -> None:
    assert Manifest(**dict(reversed(VALUES.items()))).to_json() == TEXT


def test_the_checksum_is_xxh3_128() -> None:
    assert checksum(b"") == "99aa06d3014798d86001c324468d497f"  # of the reference implementation, for no bytes
    assert checksum(b"\0" * 1000) == xxhash.xxh3_128(b"\0" * 1000).hexdigest()


def test_every_flipped_bit_is_noticed() -> None:
    data = TEXT.encode()
    for position in range(len(data)):
        bit = 1 << position % 8
        damaged = (data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]).decode(
            errors="surrogateescape"
        )
        with pytest.raises((CorruptPyramidError, StoreFormatError), match=r"^here: "):
            Manifest.from_json(damaged, "here")


def test_every_flipped_case_is_noticed() -> None:
    for position, letter in enumerate(TEXT):
        if letter.swapcase() != letter:
            with pytest.raises(CorruptPyramidError, match=r"^here: "):
                Manifest.from_json(TEXT[:position] + letter.swapcase() + TEXT[position + 1 :], "here")


def test_every_truncation_is_noticed() -> None:
    for length in range(len(TEXT)):
        with pytest.raises(CorruptPyramidError, match=r"^here: "):
            Manifest.from_json(TEXT[:length], "here")


@pytest.mark.parametrize(
    "text",
    [
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace("  ", " "),
        json.dumps(json.loads(TEXT)),
        TEXT.replace('"turn_code": 5', '"turn_code": 5.0'),
        TEXT.replace('"turn_code": 5', '"turn_code": 5, "turn_code": 5'),
        TEXT.replace("1e-05", "0.00001"),
        TEXT.replace("\\u00fc", "ü"),
        _guarded(dict(reversed(VALUES.items())) | {"config": quick().model_dump()})[:-1],
    ],
)
def test_another_spelling_is_noticed(text: str) -> None:
    assert text != TEXT
    with pytest.raises(CorruptPyramidError):
        Manifest.from_json(text, "here")


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", "1", '"x"', "\0" * 100),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(CorruptPyramidError, match=r"^here: "):
        Manifest.from_json(text, "here")


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_field_that_is_missing_is_noticed_although_the_checksum_is_right(name: str) -> None:
    values = json.loads(TEXT)
    del values[name]
    with pytest.raises(StoreError):
        Manifest.from_json(_guarded(values), "here")


def test_a_config_without_a_later_field_is_read_with_its_default() -> None:
    """Manifests written before a field was added to FitConfig stay readable."""
    values = json.loads(TEXT)
    del values["config"]["generated"]["networks"]["layers"]
    assert Manifest.from_json(_guarded(values), "here").config == quick(layers=5)


@pytest.mark.parametrize("place", ["manifest", "config"])
def test_a_field_of_a_later_version_is_no_damage(place: str) -> None:
    """The checksum is right, so nothing is broken: the package is too old, and the remedy is another."""
    values = json.loads(TEXT)
    (values if place == "manifest" else values["config"])["invented_later"] = 1
    with pytest.raises(StoreFormatError, match="pip install -U singan-aug"):
        Manifest.from_json(_guarded(values), "here")


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 999])
def test_a_newer_format_is_refused_with_the_remedy(version: int) -> None:
    text = json.dumps({"format_version": version, "what": "ever"})
    with pytest.raises(StoreFormatError, match=r"^here: .*pip install -U singan-aug"):
        Manifest.from_json(text, "here")


@pytest.mark.parametrize("version", ["2", None, 1.5, True, [2]])
def test_a_version_that_is_no_integer_is_no_newer_format(version: Any) -> None:
    with pytest.raises(CorruptPyramidError):
        Manifest.from_json(json.dumps({"format_version": version}), "here")


def test_a_manifest_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        MANIFEST.name = "other"  # type: ignore[misc]


# cache/manifest.schema.json


def test_the_committed_schema_is_that_of_the_class() -> None:
    assert _schema() == manifest_schema(), "run `python -m tests.golden.make_manifest_schema`"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(_schema())


def test_a_manifest_validates() -> None:
    _validator().validate(json.loads(TEXT))


@pytest.mark.parametrize(
    "changes",
    [
        {"turn_code": "5"},
        {"config": None},
        {"source_size": [1]},
        {"scale_sizes": [[1, 2, 3]]},
        {"weights_bytes": 1.5},
        {"manifest_checksum": "ABC"},
        {"invented": 1},
        {"config": {**quick().model_dump(), "invented": 1}},
        {"config": {**quick().model_dump(), "seed": -1}},
    ],
    ids=str,
)
def test_what_is_no_manifest_does_not_validate(changes: dict[str, Any]) -> None:
    assert not _validator().is_valid({**json.loads(TEXT), **changes})


@pytest.mark.parametrize("name", [*VALUES, "manifest_checksum"])
def test_every_field_is_required(name: str) -> None:
    values = json.loads(TEXT)
    del values[name]
    assert not _validator().is_valid(values)


def test_the_readme_describes_every_field() -> None:
    text = (SCHEMA_PATH.parent / "README.md").read_text()
    for name in [*Manifest.model_fields, "manifest_checksum"]:
        assert f"`{name}`" in text, name
