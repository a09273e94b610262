"""Pyramid: the frozen fitted artefact. It holds what drawing needs and nothing that training needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.pyramid.networks import Generator, generator_from
from singan_aug.pyramid.scales import Size, scale_sizes, scale_widths

__all__ = ["Pyramid", "Scale"]


@dataclass(frozen=True, eq=False)
class Scale:
    """One scale: its generator and what a draw that starts here needs."""

    size: Size
    generator: Generator  # in eval mode, without gradients
    amplitude: Tensor  # [1, 1, 1, 1] or [1, 1, h, w]: of this scale's noise
    entering: Tensor  # [1, C, h', w'] the reconstruction by the scale below at its own size; the anchor at scale 0


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A pyramid fitted to one image. Drawing from it is a pure function of (pyramid, start scale, size, seed)."""

    config: FitConfig
    channels: int  # 1 grey, 3 RGB, 4 RGB and mask
    scales: tuple[Scale, ...]  # coarsest first
    z_star: Tensor  # [1, C, h, w] the fixed noise that, at the coarsest scale, reproduces the source image
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
        """Where the weights are."""
        return self.z_star.device

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
        """All that was learned: `z_star`, and for each scale K `scales.K.amplitude`, `.entering` and `.generator.*`."""
        named = {"z_star": self.z_star}
        for k, scale in enumerate(self.scales):
            named[f"scales.{k}.amplitude"] = scale.amplitude
            named[f"scales.{k}.entering"] = scale.entering
            for name, tensor in scale.generator.state_dict().items():
                if not name.endswith("num_batches_tracked"):  # BatchNorm's counter plays no part in drawing
                    named[f"scales.{k}.generator.{name}"] = tensor
        return named

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
        sizes = scale_sizes(size, config)
        scales = []
        for k, (scale_size, width) in enumerate(zip(sizes, scale_widths(len(sizes), config), strict=True)):
            generator = generator_from(config, channels, width)
            prefix = f"scales.{k}.generator."
            state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            for name, counter in generator.state_dict().items():
                if name.endswith("num_batches_tracked"):
                    state[name] = torch.zeros_like(counter)
            generator.load_state_dict(state, assign=True)
            generator.eval().requires_grad_(False)
            scales.append(
                Scale(scale_size, generator, tensors[f"scales.{k}.amplitude"], tensors[f"scales.{k}.entering"])
            )
        return cls(config, channels, tuple(scales), tensors["z_star"], provenance)
