"""Scale: one step of a pyramid, of either sort; and the canvas that a draw hands from scale to scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from singan_aug.images import signed_to_bytes
from singan_aug.pyramid.sizes import Size

__all__ = ["Canvas", "Scale", "draw_upwards"]


class Canvas:
    """A draw under way, at the size of the scale that made it."""

    image: Tensor  # [N, C, h, w] in about [-1, 1]
    origin: Tensor | None  # [N, 2, h, w] int64: row and column in the source, where pixels were copied from it
    change: Tensor | None = None  # [N, C', h, w]: what was added to the first of their channels

    def __init__(self, image: Tensor, origin: Tensor | None = None) -> None:
        self.image, self.origin = image, origin

    @property
    def levels(self) -> Tensor:
        """uint8 [N, C, h, w]: the image to 8 bits."""
        return signed_to_bytes(self.image)


class Scale(ABC):
    """One scale of a fitted pyramid: generated (generated/scale.py) or copied (copied/scale.py)."""

    size: Size  # (height, width) of the source here
    entering: Tensor  # [1, C, h', w'] the reconstruction by the scale below, at its own size; the anchor at scale 0

    @abstractmethod
    def draw(
        self,
        below: Canvas | None,  # a draw of the scale below; None: the draw starts here, from `entering`
        size: Size,  # of the output: `self.size`, or another
        generators: Sequence[torch.Generator],  # one for each of the N samples
    ) -> Canvas:
        """N outputs of this scale with fresh noise. The i-th depends on the i-th generator alone."""

    @abstractmethod
    def reconstruct(self) -> Tensor:
        """[1, C, *self.size] in about [-1, 1]: the output for {z*, 0, ..., 0}."""

    @abstractmethod
    def stored(self) -> Mapping[str, Tensor]:
        """What a store has to keep of it, by name; of all copied scales together one source is kept beside it."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """What it takes in memory, once it has been drawn from."""


def draw_upwards(
    scales: Sequence[Scale],
    sizes: Sequence[Size],  # of each scale's output
    generators: Sequence[torch.Generator],  # one for each sample
    below: Canvas | None = None,  # what enters the first of them; None: the draw starts there
) -> Canvas:
    """A draw that starts at the first of these consecutive scales, carried up through all of them."""
    canvas = below
    for scale, size in zip(scales, sizes, strict=True):
        canvas = scale.draw(canvas, size, generators)
    assert canvas is not None
    return canvas
