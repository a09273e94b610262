"""Scale: one step of a pyramid, of either sort; and the canvas that a draw hands from scale to scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from singan_aug._registry import Registry
from singan_aug.config import FitConfig
from singan_aug.pyramid.sizes import Size

__all__ = ["KINDS", "Canvas", "Kind", "Scale"]


@dataclass(frozen=True, eq=False)
class Canvas:
    """A draw under way, at the size of the scale that made it."""

    image: Tensor  # [N, C, h, w] in about [-1, 1]
    origin: Tensor | None = None  # [N, 2, h, w] int64: row and column in the source, where pixels were copied from it


class Scale(ABC):
    """One scale of a fitted pyramid."""

    size: Size  # (height, width) of the source here
    entering: Tensor  # [1, C, h', w'] the reconstruction by the scale below, at its own size; the anchor at scale 0

    @abstractmethod
    def draw(
        self,
        below: Canvas | None,  # a draw of the scale below; None: the draw starts here, from `entering`
        size: Size,  # of the output: `self.size`, or another
        generators: Sequence[torch.Generator],  # one for each of the N samples
        config: FitConfig,
    ) -> Canvas:
        """N outputs of this scale with fresh noise. The i-th depends on the i-th generator alone."""

    def typical_origin(self, generators: Sequence[torch.Generator], config: FitConfig) -> Tensor | None:
        """int64 [2, *self.size], as `Canvas` has it, of a draw that starts here and moves pixels as far as most do.

        `generators` are candidates for its noise. None where pixels are generated.
        """
        del generators, config
        return None

    @abstractmethod
    def reconstruct(self, config: FitConfig) -> Tensor:
        """[1, C, *self.size] in about [-1, 1]: the output for {z*, 0, ..., 0}."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Everything it was made of, by name."""

    @property
    def memory_bytes(self) -> int:
        """What it takes in memory, once it has been drawn from."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())


class Kind(Protocol):
    """A kind of pyramid: what has to be kept of its scales, and how they are made of that again."""

    def pack(self, scales: Sequence[Scale]) -> dict[str, Tensor]:
        """What to store, by name. Names and shapes follow from (config, channels, size) alone."""

    def unpack(self, tensors: Mapping[str, Tensor], config: FitConfig, channels: int, size: Size) -> tuple[Scale, ...]:
        """The inverse. Raises KeyError or RuntimeError where names or shapes do not fit the config."""

    def stored_bytes(self, config: FitConfig, channels: int, size: Size) -> int:
        """About how much `pack` takes in a store."""


KINDS: Registry[Kind] = Registry("kind of pyramid")
