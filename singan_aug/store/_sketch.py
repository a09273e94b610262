"""A sketch: the 4 KB that the perceptual index keeps of an image, and where a query lies in it. numpy and Pillow alone.

Brightness here is (R + 2 G + B) / 4, which BGR leaves as it is; the two tints are R - B, which BGR negates, and
G - (R + B) / 2, which it leaves. Those of a grey image are zero.
"""

from __future__ import annotations

import base64
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from singan_aug.images import Pixels

__all__ = [
    "CELLS",
    "SKETCH_BYTES",
    "TINT_CELLS",
    "WHOLE",
    "Box",
    "Floats",
    "brightness",
    "cell_means",
    "decoded",
    "encoded",
    "halved",
    "luma_of",
    "make_sketch",
    "mean_weights",
    "register",
    "sample",
    "tints",
    "unpacked",
]

Floats = NDArray[np.float32]
Box = NDArray[np.float32]  # [..., 4]: top, left, bottom, right, in shares of the height and the width

CELLS = 60  # a side, of the brightness
QUERY_CELLS = 20  # a side, of what is compared: so much fewer that the place between cells hardly matters
TINT_CELLS = 16  # a side, of the tints
SKETCH_BYTES = CELLS**2 + 2 * TINT_CELLS**2
WHOLE: Box = np.array([0, 0, 1, 1], dtype=np.float32)

_STILL = 5e-4  # of a side: registration ends where no edge moves further
_STEPS = 256  # of the table below, a cell


def make_sketch(pixels: Pixels) -> NDArray[np.uint8]:
    """[SKETCH_BYTES]: the mean brightness of 60 x 60 cells, then both tints of 16 x 16 cells, halved, about 128."""
    grey = brightness(cell_means(pixels, CELLS))
    tint = tints(cell_means(pixels, TINT_CELLS)) / 2 + 128
    return np.asarray(np.rint(np.concatenate([grey.ravel(), tint.ravel()])).clip(0, 255), dtype=np.uint8)


def encoded(sketch: NDArray[np.uint8]) -> str:
    """As a manifest holds it: base64."""
    return base64.b64encode(sketch.tobytes()).decode()


def decoded(text: str) -> NDArray[np.uint8]:
    """The inverse of `encoded`; zeros, which nothing is found by, for what is none."""
    data = base64.b64decode(text)
    return np.frombuffer(data if len(data) == SKETCH_BYTES else bytes(SKETCH_BYTES), dtype=np.uint8)


def unpacked(sketches: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """[N, SKETCH_BYTES] to brightness [N, 60, 60] in 0..255 and tints [N, 2, 16, 16] in -256..254."""
    grey, tint = np.split(sketches.astype(np.float32), [CELLS**2], axis=1)
    return grey.reshape(-1, CELLS, CELLS), (tint.reshape(-1, 2, TINT_CELLS, TINT_CELLS) - 128) * 2


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


def luma_of(grey: Floats, tint: Floats) -> Floats:
    """What conversion to grey (ITU-R 601) makes of brightness [..., H, W] with tints [..., 2, H, W]."""
    return np.asarray(grey + 0.0925 * tint[..., 0, :, :] + 0.087 * tint[..., 1, :, :])


def halved(image: Floats) -> Floats:
    """[..., 2 N, 2 M] to the means of four, [..., N, M]."""
    rows = image[..., ::2, :] + image[..., 1::2, :]
    return np.asarray((rows[..., ::2] + rows[..., 1::2]) / 4)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic convolution with a = -1/2 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_AHEAD = np.arange(-_STEPS, 2 * _STEPS + 1) / _STEPS
# How much of a cell has been summed at a place -1 to 2 cells past its start: running sums are interpolated, so that the
# means of whole cells stay what they are.
_SUMMED = (_cubic(_AHEAD - 1) + _cubic(_AHEAD - 2) + _cubic(_AHEAD - 3)).astype(np.float32)


def mean_weights(start: Floats, stop: Floats, cells: int, source_cells: int) -> Floats:
    """[..., cells, source_cells]: the means over `cells` equal parts of an interval, [...] in shares of the side."""
    from singan_aug.store._lookup import weigh_each  # Numba is not imported before the first look-up

    weights = np.empty((start.size, cells, source_cells), dtype=np.float32)
    weigh_each(start.ravel(), stop.ravel(), _SUMMED, _STEPS, weights)
    return weights.reshape(*start.shape, cells, source_cells)


def sample(source: Floats, box: Box, cells: int) -> Floats:
    """Mean over each cell of a grid in a box: source [..., S, S], box [..., 4] to [..., cells, cells]."""
    weights = mean_weights(box[..., :2], box[..., 2:], cells, source.shape[-1])
    return np.asarray(weights[..., 0, :, :] @ source @ weights[..., 1, :, :].swapaxes(-1, -2))


def register(source: Floats, query: Floats, box: Box, steps: int) -> tuple[Box, Floats]:
    """Where `query` [K, N, N] lies in `source` [K, S, S]: Gauss-Newton from `box` [K, 4], each axis moved and scaled.

    The inverse compositional form, which takes the query's derivatives once (Baker & Matthews 2004, sec. 3.2).
    Returns the box, and the covariance of its four edges [K, 4, 4] where the error of a cell has variance 1.
    """
    from singan_aug.store._lookup import settle, slopes_by_edges

    jacobian = np.empty((len(query), 4, query[0].size), dtype=np.float32)
    slopes_by_edges(query, jacobian)
    normal = jacobian @ jacobian.swapaxes(1, 2)
    damping = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-3  # where nothing holds an edge, it stays
    covariance = np.linalg.inv(normal + damping * np.eye(4, dtype=np.float32))
    settled = np.array(box, dtype=np.float32)
    settle(source, query, settled, jacobian, covariance, steps, _STILL, _SUMMED, _STEPS)
    return settled, covariance
