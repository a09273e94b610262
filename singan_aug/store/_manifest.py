"""The manifest of a stored pyramid: what it is, where it came from, and the checksums that guard it. No torch here."""

from __future__ import annotations

import json
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict

from singan_aug.config import FitConfig
from singan_aug.errors import CorruptPyramidError, StoreFormatError

__all__ = ["FORMAT_VERSION", "MANIFEST_NAME", "WEIGHTS_NAME", "Manifest", "checksum", "newer", "refuse_newer"]

FORMAT_VERSION = 1  # of everything a store holds; cache/README.md describes it
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "pyramid.safetensors"


def checksum(data: bytes) -> str:
    """32 hexadecimal digits (xxh3-128)."""
    return xxhash.xxh3_128_hexdigest(data)


def newer(where: str, what: str) -> StoreFormatError:
    """The error for something that a later version of this package must have written."""
    return StoreFormatError(
        f"{where}: {what}: it was written by a newer singan-aug; upgrade with `pip install -U singan-aug`, "
        "or name another store with --cache"
    )


def refuse_newer(version: Any, where: str) -> None:
    """Raise `StoreFormatError` for a format version that is newer than this package's."""
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise newer(where, f"expected format {FORMAT_VERSION} or older, got {version}")


class Manifest(BaseModel):
    """One stored pyramid. cache/manifest.schema.json is this class as JSON Schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    key: str
    fingerprint: str  # of the source image
    turn_code: int  # images.turn(fitted image, turn_code) is the orientation that was fingerprinted
    name: str  # file name of the source image when it was fitted; informs only
    source_size: tuple[int, int]  # (height, width) in pixels
    channels: int
    scale_sizes: tuple[tuple[int, int], ...]  # (height, width) of every scale, coarsest first
    displacement_px: tuple[float, ...]  # mean, of draws from each start scale, in pixels of the finest
    mask_values: tuple[int, ...]  # of the mask fitted with the image, ascending; empty without one
    config: FitConfig
    provenance: dict[str, Any]
    created_at: str  # ISO 8601, UTC
    weights_dtype: str  # "float16", or "float32" where half precision would move a draw by more than 1/255
    weights_bytes: int
    weights_checksum: str  # xxh3-128
    descriptor: str  # base64: what the perceptual index knows of the image

    def to_json(self) -> str:
        """Indented JSON with a trailing checksum over everything before it; the exact bytes of the file."""
        return _guarded(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """The inverse of `to_json`.

        Raises `CorruptPyramidError` if so much as one byte differs from what was written, `StoreFormatError` for a
        newer format. `where` names the file in the message.
        """
        try:
            values = json.loads(text)
            refuse_newer(values["format_version"], where)
            del values["manifest_checksum"]
            # Over the values as they stand, not as this version would write them: it may know more fields.
            intact = _guarded(values) == text
        except (ValueError, KeyError, TypeError, RecursionError):  # the JSON module's errors are ValueErrors
            raise CorruptPyramidError(f"{where}: not a manifest that this package wrote") from None
        if not intact:
            raise CorruptPyramidError(f"{where}: its checksum does not match its contents")
        try:
            return cls.model_validate(values)
        except ValueError:  # pydantic's
            raise newer(where, "its checksum is right but it has fields or values unknown here") from None


def _guarded(values: dict[str, Any]) -> str:
    guard = checksum(json.dumps(values, sort_keys=True).encode())
    return json.dumps({**values, "manifest_checksum": guard}, indent=2) + "\n"
