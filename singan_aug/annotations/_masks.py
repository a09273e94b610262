"""Files of class or instance numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from singan_aug.errors import ImageError, LabelError
from singan_aug.images import Mask, decoded, exif_orientation, to_mask

__all__ = ["LOSSY_SUFFIXES", "MASK_SUFFIXES", "open_mask", "read_mask"]

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # formats that keep numbers as they are
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".jp2", ".avif")  # and those that may not

_LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000", "AVIF"})
_NEAR = 64  # levels beside black and white that a lossy format makes of them along edges
_MOST_BETWEEN = 0.03  # the share of pixels that may lie further from both


def open_mask(path: Path) -> Image.Image:
    """A mask file, decoded and upright, in its own mode. One in a lossy format is black and white again.

    Raises `LabelError` for what is no image, and for a lossy one of more values than black and white.
    """
    try:
        return decoded(path, _upright, "a mask")
    except ImageError as error:
        raise LabelError(f"mask {path}: {error}") from None


def read_mask(path: Path) -> Mask:
    """A mask file's values, int32 [H, W]; RGB with equal channels counts as grey. Raises `LabelError`."""
    image = open_mask(path)
    bands = image.split() if image.mode == "RGB" else ()
    equal = bool(bands) and all(band.tobytes() == bands[0].tobytes() for band in bands)
    try:
        return to_mask(bands[0] if equal else image)
    except ImageError as error:
        raise LabelError(f"mask {path}: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    lossy = image.format in _LOSSY_FORMATS
    if exif_orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    return _black_and_white(image) if lossy else image.copy()  # the copy outlives the file


def _black_and_white(image: Image.Image) -> Image.Image:
    colours = np.asarray(image.convert("RGB"), dtype=np.int16)
    grey = colours.mean(axis=-1)
    between = ((grey > _NEAR) & (grey < 255 - _NEAR)).mean()
    coloured = (np.ptp(colours, axis=-1) > _NEAR).mean()
    if max(between, coloured) > _MOST_BETWEEN or 0 < grey.max() < 255 - _NEAR:
        raise ImageError(f"{image.format or 'this format'} keeps no numbers, black and white alone: save masks as PNG")
    return Image.fromarray(np.where(grey > 127, 255, 0).astype(np.uint8))
