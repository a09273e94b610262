"""What is kept of an image to recognise it by: 4 KB. numpy and Pillow alone.

Brightness here is (R + 2 G + B) / 4, which BGR leaves as it is; the two tints are R - B, which BGR negates, and
G - (R + B) / 2, which it leaves. Those of a grey image are zero.
"""

from __future__ import annotations

import base64
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from singan_aug.images.arrays import Pixels

__all__ = [
    "CELLS",
    "DESCRIPTOR_BYTES",
    "TINT_CELLS",
    "Floats",
    "brightness",
    "cell_means",
    "decoded",
    "encoded",
    "make_descriptor",
    "tints",
]

Floats = NDArray[np.float32]
CELLS = 60  # a side, of the brightness
TINT_CELLS = 16  # a side, of the tints
DESCRIPTOR_BYTES = CELLS**2 + 2 * TINT_CELLS**2


def make_descriptor(pixels: Pixels) -> NDArray[np.uint8]:
    """[DESCRIPTOR_BYTES]: the mean brightness of 60 x 60 cells, then both tints of 16 x 16 cells, halved, about 128."""
    grey = brightness(cell_means(pixels, CELLS))
    tint = tints(cell_means(pixels, TINT_CELLS)) / 2 + 128
    return np.asarray(np.rint(np.concatenate([grey.ravel(), tint.ravel()])).clip(0, 255), dtype=np.uint8)


def encoded(descriptor: NDArray[np.uint8]) -> str:
    """As a manifest holds it: base64."""
    return base64.b64encode(descriptor.tobytes()).decode()


def decoded(text: str) -> NDArray[np.uint8]:
    """The inverse of `encoded`; zeros, which nothing is found by, for what is none."""
    try:
        data = base64.b64decode(text)
    except ValueError:  # as `binascii.Error` is one too
        data = b""
    return np.frombuffer(data if len(data) == DESCRIPTOR_BYTES else bytes(DESCRIPTOR_BYTES), dtype=np.uint8)


def cell_means(pixels: Pixels, cells: int) -> Floats:
    """Mean of every cell of a grid that covers the image: pixels [H, W, C] to [cells, cells, C] in 0..255."""
    height, width = pixels.shape[:2]
    by = (max(1, width // (8 * cells)), max(1, height // (8 * cells)))  # large images first by Pillow: it is faster
    if max(by) > 1:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        pixels = np.asarray(image.reduce(by)).reshape(-(-height // by[1]), -(-width // by[0]), -1)
    values = pixels.reshape(len(pixels), -1).astype(np.float32)
    rows = (_grid(cells, height / by[1], len(pixels)) @ values).reshape(cells, pixels.shape[1], -1)
    return np.asarray(np.matmul(_grid(cells, width / by[0], pixels.shape[1]), rows))


@lru_cache(maxsize=64)
def _grid(cells: int, length: float, pixels: int) -> Floats:
    """[cells, pixels]: the mean over each of `cells` equal parts of `length` pixels, the last of which may be cut."""
    edges = np.linspace(0, length, cells + 1)[:, None]
    covered = np.clip(edges - np.arange(pixels), 0, 1)
    return np.asarray(np.diff(covered, axis=0) * (cells / length), dtype=np.float32)


def brightness(means: Floats) -> Floats:
    """[..., C] in 0..255 to [...]."""
    if means.shape[-1] == 1:
        return means[..., 0]
    return means[..., :3] @ np.array([0.25, 0.5, 0.25], dtype=np.float32)


def tints(means: Floats) -> Floats:
    """[H, W, C] in 0..255 to [2, H, W] in -255..255."""
    if means.shape[-1] == 1:
        return np.zeros((2, *means.shape[:2]), dtype=np.float32)
    return np.moveaxis(means[..., :3] @ np.array([[1, -0.5], [0, 1], [-1, -0.5]], dtype=np.float32), -1, 0)
