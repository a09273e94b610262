"""Why there is no pyramid of an image, and what to do: the message of a miss."""

from __future__ import annotations

import shlex

import numpy as np

from singan_aug.images import Pixels

__all__ = ["explain_miss", "looks_like_labels"]

LABEL_COLOURS = 32  # a mask has so many at most, and a photograph more
_CLIPPED_RATIO = 0.5  # of the values are 255: as where 16 bits were clipped to 8


def looks_like_labels(pixels: Pixels) -> bool:
    """Whether pixels [H, W, C] have as few colours as a mask of classes or instances has."""
    rows = np.ascontiguousarray(pixels[..., :3]).reshape(-1, min(pixels.shape[-1], 3)).astype(np.uint32)
    colours = rows @ np.array([1, 256, 65536], np.uint32)[: rows.shape[1]]
    return len(np.unique(colours[:4096])) <= LABEL_COLOURS and len(np.unique(colours)) <= LABEL_COLOURS


def explain_miss(pixels: Pixels, digest: str, store: str, *, sample_key: str | None, any_config: bool) -> str:
    """What was looked for and where, and the ways out, the likeliest first."""
    height, width, channels = pixels.shape
    named = "" if sample_key is None else f", named {str(sample_key)!r}"
    fitted = "" if any_config else " with this config"
    ways = [
        "images are found by their pixels, so put SinGANAugment first, before whatever changes them",
        f"fit the image with `singan-aug fit PATH --store {shlex.quote(store)}`, or pass on_miss='pass' to leave such "
        "images as they are",
    ]
    if looks_like_labels(pixels):
        ways.insert(0, "if this is a mask, give it to the adapter as one, in one call with its image: then it follows")
    if (pixels == 255).mean() >= _CLIPPED_RATIO:
        ways.insert(
            0,
            "most of its values are 255: if its file holds 16 bits, the loader has clipped them (Pillow's `convert` "
            "does, and so does torchvision's ImageFolder); divide them by 257, as `singan-aug fit` does",
        )
    return (
        f"no pyramid{fitted} for this image (fingerprint {digest}, {width}x{height}, {channels} channel(s){named}) in "
        f"the store {store}: {'; '.join(ways)}"
    )
