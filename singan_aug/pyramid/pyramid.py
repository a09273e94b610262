"""Pyramid: the frozen fitted artefact. It holds what drawing needs and nothing that training needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from singan_aug.config import FitConfig

# Imported for their registration in KINDS.
from singan_aug.pyramid import convolutional as convolutional
from singan_aug.pyramid import patches as patches
from singan_aug.pyramid.scale import KINDS, Scale
from singan_aug.pyramid.scales import Size

__all__ = ["Pyramid"]


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A pyramid fitted to one image. Drawing from it is a pure function of (pyramid, start scale, size, seed)."""

    config: FitConfig
    channels: int  # 1 grey, 3 RGB, 4 RGB and mask
    scales: tuple[Scale, ...]  # coarsest first
    provenance: Mapping[str, Any] = field(
        default_factory=dict
    )  # versions, device, cost, errors: informs, never decides

    def __len__(self) -> int:
        return len(self.scales)

    @property
    def size(self) -> Size:
        """(height, width) of the finest scale."""
        return self.scales[-1].size

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.scales[0].entering.device

    @property
    def memory_bytes(self) -> int:
        """What its tensors take in memory."""
        held = [tensor for scale in self.scales for tensor in scale.tensors().values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def to(self, device: torch.device | str) -> Pyramid:
        """A copy on another device; this one is left as it is."""
        return self.from_tensors(
            {name: tensor.to(device, copy=True) for name, tensor in self.tensors().items()},
            config=self.config,
            channels=self.channels,
            size=self.size,
            provenance=self.provenance,
        )

    def with_provenance(self, provenance: Mapping[str, Any]) -> Pyramid:
        """The same pyramid with another provenance."""
        return replace(self, provenance=provenance)

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored of it, by name; floats, or bytes where 8 bits are exact."""
        return KINDS[self.config.kind].pack(self.scales)

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        config: FitConfig,
        channels: int,
        size: Size,  # of the finest scale
        provenance: Mapping[str, Any],
    ) -> Pyramid:
        """The inverse of `tensors`. Raises KeyError or RuntimeError where names or shapes do not fit the config."""
        return cls(config, channels, KINDS[config.kind].unpack(tensors, config, channels, size), provenance)
