"""Exact GPNN (Granot et al. 2022, "Drop the GAN"), written to be timed: every patch is compared with every other.

Pyramid ratio 3/4, 7 x 7 patches, alpha 0.005, noise of 0.75 on the coarsest scale, one iteration there and ten at every
other scale, overlapping patches averaged. Distances are kept where they fit into memory, else computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["pairs", "sample"]

RATIO = 0.75  # between neighbouring scales
PATCH_PX = 7
ALPHA = 5e-3  # smaller makes a sample use more of the source
NOISE = 0.75  # standard deviation, images in [-1, 1]
COARSEST_PX = 21  # short side of the coarsest scale, at least
ITERATIONS_COARSEST, ITERATIONS = 1, 10
ROWS = 1024  # queries compared at once
KEPT_BYTES = 2**30

Size = tuple[int, int]  # (height, width)


def pairs(size: Size) -> float:
    """How many pairs of patches a sample of this size compares, over all scales and iterations."""
    counts = [(h - PATCH_PX + 1) * (w - PATCH_PX + 1) for h, w in _sizes(size)]
    return float(counts[0] ** 2 * ITERATIONS_COARSEST + sum(count**2 for count in counts[1:]) * ITERATIONS)


@torch.inference_mode()
def sample(image: Tensor, generator: torch.Generator) -> Tensor:
    """A variant of an image [1, C, H, W] in [-1, 1], of the same shape."""
    sizes = _sizes((image.shape[2], image.shape[3]))
    sources = [_resize(image, size) for size in sizes]
    made = sources[0] + NOISE * torch.randn(sources[0].shape, generator=generator)
    for k, source in enumerate(sources):
        # Seen from the scale below, both are as blurred as each other (section 3.1: keys of the first iteration).
        keys = source if k == 0 else _resize(sources[k - 1], sizes[k])
        queries = made if k == 0 else _resize(made, sizes[k])
        for _ in range(ITERATIONS if k else ITERATIONS_COARSEST):
            values = F.unfold(source, PATCH_PX)
            nearest = _nearest(F.unfold(queries, PATCH_PX)[0].T, F.unfold(keys, PATCH_PX)[0].T)
            made = _averaged(values[:, :, nearest], sizes[k])
            queries, keys = made, source
    return made


def _sizes(size: Size) -> list[Size]:
    """Coarsest first."""
    sizes = [size]
    while min(sizes[0]) * RATIO >= COARSEST_PX:
        up = len(sizes)
        sizes.insert(0, (round(size[0] * RATIO**up), round(size[1] * RATIO**up)))
    return sizes


def _resize(image: Tensor, size: Size) -> Tensor:
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)


def _nearest(queries: Tensor, keys: Tensor) -> Tensor:
    """Each query's best key, [Q, D] and [K, D] to [Q]: the least D(q, k) / (alpha + min over q of D(q, k)), eq. 2."""
    squares = keys.square().sum(1)

    def compared() -> Iterator[Tensor]:
        for some in queries.split(ROWS):
            yield (some.square().sum(1, keepdim=True) + squares - 2 * some @ keys.T).clamp_min(0) / keys.shape[1]

    kept = list(compared()) if 4 * len(queries) * len(keys) <= KEPT_BYTES else None
    least = torch.full((len(keys),), torch.inf)
    for distances in kept or compared():
        least = torch.minimum(least, distances.amin(0))
    return torch.cat([(distances / (ALPHA + least)).argmin(1) for distances in kept or compared()])


def _averaged(patches: Tensor, size: Size) -> Tensor:
    """Overlapping patches [1, D, L] put together, each pixel the mean of all that cover it."""
    covered: Tensor = F.fold(torch.ones_like(patches), size, PATCH_PX)
    together: Tensor = F.fold(patches, size, PATCH_PX)
    return together / covered
