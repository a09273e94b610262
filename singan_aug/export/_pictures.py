"""The image files of an export: what is kept of an original in the files of its variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from singan_aug.export._files import written_aside
from singan_aug.images import WIDE_INTEGER_MODES

__all__ = ["Original", "about", "save_variant", "variant_suffix"]

JPEG_QUALITY = 95
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG_EXIF_BYTES = 65_533  # at most
MOST_DPI = 65_535  # that JPEG can tell
ORIENTATION = 0x0112
SPACES = {"RGB": b"RGB ", "L": b"GRAY", "I;16": b"GRAY"}  # of an ICC profile, by the mode of the file it is about


@dataclass(frozen=True)
class Original:
    """What the file of an image says beside its pixels."""

    mode: str
    bits: int  # of a value
    profile: bytes  # ICC, or empty
    dpi: tuple[float, float] | None
    exif: bytes  # without the rotation: variants are upright

    @property
    def is_wide(self) -> bool:
        """Whether it is grey of more than 8 bits, which its variants are too."""
        return self.mode in WIDE_INTEGER_MODES

    @property
    def loses_bits(self) -> bool:
        """Whether its colours have more than the 8 bits that its variants get."""
        return self.bits > 8 and not self.is_wide


def variant_suffix(image: Path) -> str:
    """PNG and JPEG stay what they are, the rest becomes PNG."""
    return image.suffix if image.suffix.lower() in (*JPEG_SUFFIXES, ".png") else ".png"


def about(image: Image.Image) -> Original:
    """Of a file that Pillow has opened. It reads 16-bit colours as 8 bits, and says so in how it decodes them alone."""
    tiles = getattr(image, "tile", [])
    raw = [tile[3] if isinstance(tile[3], str) else str((*tile[3], "")[0]) for tile in tiles if tile[3]]
    bits = 16 if any(";16" in each for each in raw) else 8
    profile = image.info.get("icc_profile")
    return Original(image.mode, bits, profile if isinstance(profile, bytes) else b"", _dpi(image), _exif(image))


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(each) for each in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across <= MOST_DPI and 0 < down <= MOST_DPI else None  # nor where it is NaN


def _exif(image: Image.Image) -> bytes:
    if not image.info.get("exif"):  # a TIFF's tags say how it is stored
        return b""
    try:
        exif = image.getexif()
        exif.pop(ORIENTATION, None)
        return exif.tobytes() if len(exif) else b""
    except Exception:  # whatever Pillow raises on damaged EXIF
        return b""


def save_variant(image: Image.Image, original: Original, out: Path, inside: Path) -> None:
    """As a file of the original's mode (wide integers, grey or RGB), with its profile, resolution and EXIF."""
    is_png = inside.suffix.lower() == ".png"
    if original.is_wide and is_png:
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif original.mode not in ("1", "L", "LA", "La", "F", *WIDE_INTEGER_MODES):
        image = image.convert("RGB")
    options: dict[str, Any] = {} if is_png else {"quality": JPEG_QUALITY}
    if original.profile[16:20] == SPACES.get(image.mode):
        options["icc_profile"] = original.profile
    if original.dpi is not None:
        options["dpi"] = original.dpi if is_png else tuple(max(1, round(each)) for each in original.dpi)
    if original.exif and (is_png or len(original.exif) <= JPEG_EXIF_BYTES):
        options["exif"] = original.exif
    written_aside(out, inside, partial(image.save, **options))
