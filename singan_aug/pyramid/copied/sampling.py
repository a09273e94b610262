"""Blurring what is smooth already: of every few pixels one is enough."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["phases", "sampled_places", "spacing_px"]

APART = 1.5  # samples lie so many times closer than a deviation is long
REACH = 3.0  # deviations of the Gaussian after which it ends


def spacing_px(sigma_px: float) -> int:
    """How far apart the samples may lie of what was blurred so far already, and is blurred so far again."""
    return max(1, int(sigma_px / APART))


@lru_cache(maxsize=256)
def sampled_places(side: int, sigma_px: float) -> NDArray[np.int64]:
    """[G]: along an axis of `side` pixels each sample's place, edges repeated; pixel x is made of those from
    x // spacing_px(sigma_px) on, as many as `phases` has."""
    apart = spacing_px(sigma_px)
    before = _before(sigma_px)
    return np.clip(apart * np.arange(-before, -(-side // apart) + before + 1), 0, side - 1)


@lru_cache(maxsize=64)
def phases(sigma_px: float) -> NDArray[np.float32]:
    """[P, T]: the weights of T samples, for each of the P = spacing_px(sigma_px) places of a pixel between two."""
    apart, before = spacing_px(sigma_px), _before(sigma_px)
    offsets = apart * np.arange(-before, before + 2) - np.arange(apart)[:, None]
    weights = np.exp(-(offsets**2) / (2 * sigma_px**2)) * (np.abs(offsets) <= REACH * sigma_px)
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)


def _before(sigma_px: float) -> int:
    return -(-int(REACH * sigma_px) // spacing_px(sigma_px))
