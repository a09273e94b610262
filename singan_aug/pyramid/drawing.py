"""draw(), trace() and reconstruct(): pure functions of a pyramid, a start scale, a size and a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from singan_aug._checks import check_count, check_seed
from singan_aug.errors import ConfigError
from singan_aug.images import to_unit
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.pictures import rows_as_png
from singan_aug.pyramid.pyramid import Pyramid
from singan_aug.pyramid.scale import Canvas, draw_upwards
from singan_aug.pyramid.sizes import Size, StartScale, resolve_start_scale, sizes_for
from singan_aug.pyramid.threads import one_thread

__all__ = ["Traced", "draw", "reconstruct", "trace"]

BATCH = 16  # draws made at once, at most; more take more memory and no less time
BATCH_PX = BATCH * 64 * 64  # and pixels of them, on a CPU: what its caches hold


@dataclass(frozen=True, eq=False)
class Traced:
    """Variants, and where each of their pixels comes from. What is asked for is made then, and kept."""

    canvases: tuple[Canvas, ...]  # a few variants each
    origins: Tensor | None  # int64 [n, 2, H, W]: row and column in the source at the pyramid's finest size; None where
    # pixels are generated and none are copied
    pyramid: Pyramid

    @cached_property
    def signed(self) -> Tensor:
        """[n, C, H, W] in about [-1, 1]."""
        with torch.no_grad(), one_thread():
            return _joined([canvas.image for canvas in self.canvases])

    @cached_property
    def masks(self) -> Tensor | None:
        """int32 [n, H, W]: the pyramid's mask, carried; values out of its `mask_values` alone."""
        return None if self.origins is None else self.pyramid.carried_mask(self.origins)

    @cached_property
    def images(self) -> Tensor:
        """[n, C, H, W] in [0, 1]: what `draw` gives."""
        return to_unit(self.signed)

    @cached_property
    def levels(self) -> Tensor:
        """uint8 [n, C, H, W]: the images to 8 bits."""
        with torch.no_grad(), one_thread():
            return _joined([canvas.levels for canvas in self.canvases])

    @cached_property
    def change(self) -> Tensor | None:
        """[n, C', H, W], C' = 3 at most: what blending over seams has added to the source's pixels, in [0, 1]."""
        with torch.no_grad(), one_thread():
            found = [canvas.change / 2 for canvas in self.canvases if canvas.change is not None]
        return _joined(found) if found else None

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the first variants in a row."""
        return rows_as_png([self.images])


def draw(
    pyramid: Pyramid,
    variants: int = 1,
    start_scale: StartScale = 0,
    size: Size | None = None,
    seed: int = 0,
) -> Tensor:
    """Variants, float [N, C, H, W] in [0, 1] on the pyramid's device; on the CPU it takes one thread.

    Args:
        pyramid: what to draw from.
        variants: how many (N), at least 1. The i-th depends on (seed, i) alone, not on how many there are.
        start_scale: 0 (coarsest: new global structure) to `len(pyramid) - 1` (finest: texture alone); negative ones
            count from the finest; "coarse", "medium" or "fine" of whatever scales there are. The scales below it give
            the reconstruction, as if z* had been fed to them.
        size: (height, width) of the variants from any start scale; the source's by default.
        seed: same seed, same pixels on one device.

    Raises:
        StartScaleError: the pyramid has no such scale.
        ConfigError: `variants`, `size` or `seed` is out of range.
    """
    return trace(pyramid, variants, start_scale, size, seed).images


def trace(
    pyramid: Pyramid,
    variants: int = 1,
    start_scale: StartScale = 0,
    size: Size | None = None,
    seed: int = 0,
) -> Traced:
    """What `draw` gives for the same arguments, to the bit, with the origin of every pixel and the mask, if any.

    Raises as `draw` does.
    """
    start = resolve_start_scale(start_scale, len(pyramid))
    check_count("variants", variants)
    check_seed(seed)
    if size is not None and not (isinstance(size, Sequence) and len(size) == 2 and min(size) >= 1):
        raise ConfigError(f"expected size to be (height, width), at least 1 each, got {size!r}")
    own = tuple(scale.size for scale in pyramid.scales)
    sizes = own if size is None else sizes_for(own, size)
    batch = min(BATCH, max(1, BATCH_PX // math.prod(sizes[-1]))) if pyramid.device.type == "cpu" else BATCH
    canvases, origins = [], []
    with torch.no_grad(), one_thread():
        for first in range(0, variants, batch):
            generators = [generator_for(seed, i) for i in range(first, min(first + batch, variants))]
            canvas = draw_upwards(pyramid.scales[start:], sizes[start:], generators)
            canvases.append(canvas)
            if canvas.origin is not None:
                origins.append(canvas.origin)
        return Traced(tuple(canvases), _joined(origins) if origins else None, pyramid)


def _joined(batches: list[Tensor]) -> Tensor:
    return torch.cat(batches) if len(batches) > 1 else batches[0]


def reconstruct(pyramid: Pyramid) -> Tensor:
    """The source as the pyramid remembers it, from {z*, 0, ..., 0}: float [1, C, H, W] in [0, 1]."""
    with torch.inference_mode(), one_thread():
        image = to_unit(pyramid.scales[-1].reconstruct())
    return image.clone()
