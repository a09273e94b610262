"""Where a query lies in an image of which the descriptor is known: the box that fits best. numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from singan_aug.images.descriptor import CELLS, TINT_CELLS, Floats

__all__ = ["QUERY_CELLS", "WHOLE", "Box", "halved", "luma_of", "mean_weights", "register", "sample", "unpacked"]

Box = NDArray[np.float32]  # [..., 4]: top, left, bottom, right, in shares of the height and the width

QUERY_CELLS = 20  # a side, of what is compared: so much fewer that the place between cells hardly matters
WHOLE: Box = np.array([0, 0, 1, 1], dtype=np.float32)

_STILL = 5e-4  # of a side: registration ends where no edge moves further
_STEPS = 256  # of the table below, a cell


def unpacked(descriptors: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """[N, DESCRIPTOR_BYTES] to brightness [N, 60, 60] in 0..255 and tints [N, 2, 16, 16] in -256..254."""
    grey, tint = np.split(descriptors.astype(np.float32), [CELLS**2], axis=1)
    return grey.reshape(-1, CELLS, CELLS), (tint.reshape(-1, 2, TINT_CELLS, TINT_CELLS) - 128) * 2


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
    from singan_aug.lookup._compiled import weigh_each  # Numba is not imported before the first look-up

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
    from singan_aug.lookup._compiled import settle, slopes_by_edges

    jacobian = np.empty((len(query), 4, query[0].size), dtype=np.float32)
    slopes_by_edges(query, jacobian)
    normal = jacobian @ jacobian.swapaxes(1, 2)
    damping = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-3  # where nothing holds an edge, it stays
    covariance = np.linalg.inv(normal + damping * np.eye(4, dtype=np.float32))
    settled = np.array(box, dtype=np.float32)
    settle(source, query, settled, jacobian, covariance, steps, _STILL, _SUMMED, _STEPS)
    return settled, covariance
