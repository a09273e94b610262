"""The manifest of a stored pyramid: what it is, where it came from, and the checksums that guard it. No torch here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from singan_aug.config import FitConfig
from singan_aug.errors import CorruptPyramidError, StoreFormatError

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "WEIGHTS_NAME",
    "Manifest",
    "checksum",
    "described",
    "intact",
    "newer",
    "refuse_newer",
]

FORMAT_VERSION = 1  # of everything a store holds; cache/README.md describes it
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "pyramid.safetensors"

Side = Annotated[int, Field(ge=1, le=2**20)]  # in pixels
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def checksum(data: bytes) -> str:
    """32 hexadecimal digits (xxh3-128)."""
    return xxhash.xxh3_128_hexdigest(data)


def newer(where: str, what: str) -> StoreFormatError:
    """The error for something that a later version of this package must have written."""
    return StoreFormatError(
        f"{where}: {what}: it was written by a newer singan-aug; upgrade with `pip install -U singan-aug`, "
        "or name another store with --store"
    )


def refuse_newer(version: Any, where: str) -> None:
    """Raise `StoreFormatError` for a format version that is newer than this package's."""
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise newer(where, f"expected format {FORMAT_VERSION} or older, got {version}")


def described(text: str, key: str, where: str) -> str:
    """The descriptor in the text of the manifest of `key`: all that is read of 100,000 of them.

    Raises `CorruptPyramidError`, `StoreFormatError`.
    """
    try:
        values = json.loads(text)
        refuse_newer(values["format_version"], where)
        guard = values.pop("manifest_checksum")
        if guard == _guard(values) and values["key"] == key:
            return str(values["descriptor"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CorruptPyramidError(f"{where}: not the manifest of {key} that this package wrote")


def intact(text: str, where: str) -> dict[str, Any]:
    """The values of a manifest, of which nothing is known but that its checksum is right. Raises as `from_json`."""
    try:
        values = json.loads(text)
        refuse_newer(values["format_version"], where)
        del values["manifest_checksum"]
        # Over the values as they stand, not as this version would write them: it may know more fields.
        whole = _guarded(values) == text
    except (ValueError, KeyError, TypeError, RecursionError):  # the JSON module's errors are ValueErrors
        raise CorruptPyramidError(f"{where}: not a manifest that this package wrote") from None
    if not whole:
        raise CorruptPyramidError(f"{where}: its checksum does not match its contents")
    return dict(values)


class Manifest(BaseModel):
    """One stored pyramid. cache/manifest.schema.json is this class as JSON Schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Annotated[int, Field(ge=1)]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}-[0-9a-f]{16}$")]
    fingerprint: Digest  # of the source image
    turn_code: Annotated[int, Field(ge=0, le=7)]  # images.turn(fitted image, turn_code) is what was fingerprinted
    name: str  # file name of the source image when it was fitted; informs only
    source_size: tuple[Side, Side]  # (height, width) in pixels
    channels: Annotated[int, Field(ge=1, le=4)]
    # (height, width) of every scale, coarsest first
    scale_sizes: Annotated[tuple[tuple[Side, Side], ...], Field(min_length=1, max_length=256)]
    # mean, of draws from each start scale, in pixels of the finest
    displacement_px: Annotated[tuple[float, ...], Field(max_length=256)]
    # of the mask fitted with the image, ascending; empty without one
    mask_values: Annotated[tuple[Annotated[int, Field(ge=-(2**31), lt=2**31)], ...], Field(max_length=256)]
    config: FitConfig
    provenance: dict[str, Any]
    created_at: Annotated[str, Field(max_length=64)]  # ISO 8601, UTC
    weights_dtype: Literal["float16", "float32"]  # the latter where half precision would move a draw by over 1/255
    weights_bytes: Annotated[int, Field(ge=0, le=2**32)]
    weights_checksum: Digest  # xxh3-128
    descriptor: Annotated[str, Field(max_length=8192)]  # base64: what the perceptual index knows of the image

    def to_json(self) -> str:
        """Indented JSON with a trailing checksum over everything before it; the exact bytes of the file."""
        return _guarded(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """The inverse of `to_json`.

        Raises `CorruptPyramidError` if so much as one byte differs from what was written, `StoreFormatError` for a
        newer format. `where` names the file in the message.
        """
        values = intact(text, where)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            field, message = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden" or "config" in problem["loc"]:
                raise newer(where, f"its checksum is right, but its {field} is unknown here ({message})") from None
            raise CorruptPyramidError(f"{where}: its {field} cannot be ({message})") from None


def _guard(values: dict[str, Any]) -> str:
    return checksum(json.dumps(values, sort_keys=True).encode())


def _guarded(values: dict[str, Any]) -> str:
    return json.dumps({**values, "manifest_checksum": _guard(values)}, indent=2) + "\n"
