"""Masks: class or instance numbers of every pixel, int32 [H, W]."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from singan_aug.errors import ImageError
from singan_aug.images.arrays import WIDE_INTEGER_MODES, Mask, Pixels, to_pixels

__all__ = ["image_and_mask", "mask_to_pil", "resize_mask", "to_mask"]

_MASK_MODES = frozenset({"1", "L", "P"}) | WIDE_INTEGER_MODES


def to_mask(mask: Any) -> Mask:
    """int32 [H, W] of a mask: an integer or bool array or tensor [H, W], or a PIL image of one channel.

    Values are kept as they are: palette images ("P") give their indices, black and white ones ("1") 0 and 1.
    Raises `ImageError` for any other type, shape or dtype.
    """
    if isinstance(mask, Image.Image):
        if mask.mode not in _MASK_MODES:
            raise ImageError(
                f"expected a mask of one channel of integers (PIL mode L, P, 1 or I), got mode {mask.mode}: save class "
                "numbers, not colours"
            )
        array = np.asarray(mask)
    else:
        array = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    if array.ndim != 2 or array.size == 0:
        raise ImageError(f"expected a mask of shape [H, W], got {list(array.shape)}")
    if array.dtype.kind not in "biu":
        raise ImageError(f"expected a mask of integers, got {array.dtype}: masks hold class or instance numbers")
    limits = np.iinfo(np.int32)
    if array.dtype.kind != "b" and (array.min() < limits.min or array.max() > limits.max):
        raise ImageError(f"expected mask values of at most 32 bits, got {array.min()}..{array.max()}")
    return array.astype(np.int32)


def image_and_mask(image: Any, mask: Any = None) -> tuple[Pixels, Mask | None]:
    """Pixels [H, W, 1 or 3] and the mask that rides along: `mask`, or the image's own fourth channel.

    Raises `ImageError` where the two differ in size, or there are two masks.
    """
    pixels = to_pixels(image)
    if pixels.shape[-1] == 4:
        if mask is not None:
            raise ImageError("expected one mask, got one beside an image with a fourth channel: leave one of them out")
        return np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].astype(np.int32)
    if mask is None:
        return pixels, None
    values = to_mask(mask)
    if values.shape != pixels.shape[:2]:
        sizes = [f"{width}x{height}" for height, width in (values.shape, pixels.shape[:2])]
        raise ImageError(f"expected a mask of the image's size, {sizes[1]}, got {sizes[0]}: they belong together")
    return pixels, values


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Nearest-neighbour resize to (height, width), centres aligned as in `resize_pixels`: no value is made up."""
    rows, columns = (
        ((np.arange(to) + 0.5) * own / to).astype(np.int64) for own, to in zip(mask.shape, size, strict=True)
    )
    return np.ascontiguousarray(mask[rows[:, None], columns])


def mask_to_pil(mask: Mask) -> Image.Image:
    """A mask as PIL "L", or "I;16" where a value is over 255. Raises `ImageError` for values that fit neither."""
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > 65535:
        raise ImageError(f"expected mask values in 0..65535, which image files hold, got {low}..{high}")
    return Image.fromarray(mask.astype(np.uint8 if high <= 255 else np.uint16))
