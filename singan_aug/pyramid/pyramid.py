"""Pyramid: the frozen fitted artefact. It holds what drawing needs and nothing that training needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.images import bytes_to_signed, signed_to_bytes
from singan_aug.pyramid.copied.scale import CopiedScale, copied_bytes, copied_scales
from singan_aug.pyramid.generated.scale import generated_bytes, unpack_generated
from singan_aug.pyramid.pictures import rows_as_png
from singan_aug.pyramid.scale import Scale
from singan_aug.pyramid.sizes import START_WORDS, Size, given_coarsest_px, stack_sizes

__all__ = ["Pyramid", "stored_bytes"]


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A pyramid fitted to one image. Drawing from it is a pure function of (pyramid, start scale, size, seed)."""

    config: FitConfig
    channels: int  # 1 grey, 3 RGB
    scales: tuple[Scale, ...]  # coarsest first: generated ones below, copied ones above
    provenance: Mapping[str, Any] = field(
        default_factory=dict
    )  # versions, device, cost, errors: informs, never decides
    displacement_px: tuple[float, ...] = ()  # mean, of a draw from each start scale, in pixels of the finest
    mask: Tensor | None = None  # uint8 [*size]: indices into `mask_values`; it rides along and decides nothing
    mask_values: tuple[int, ...] = ()  # the legal ones, ascending; empty without a mask

    def __len__(self) -> int:
        return len(self.scales)

    @property
    def size(self) -> Size:
        """(height, width) of the finest scale."""
        return self.scales[-1].size

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        finest = self.scales[-1]  # of a copied one the source is there, and what enters is made when it is needed
        return finest.source.device if isinstance(finest, CopiedScale) else finest.entering.device

    @property
    def memory_bytes(self) -> int:
        """What its tensors take in memory, with what draws make of them and keep."""
        mask_bytes = 0 if self.mask is None else self.mask.numel()
        return mask_bytes + sum(scale.memory_bytes for scale in self.scales)

    def to(self, device: torch.device | str) -> Pyramid:
        """A copy on another device; this one is left as it is."""
        return self.from_tensors(
            {name: tensor.to(device, copy=True) for name, tensor in self.tensors().items()},
            config=self.config,
            channels=self.channels,
            size=self.size,
            provenance=self.provenance,
            displacement_px=self.displacement_px,
            mask_values=self.mask_values,
        )

    def with_provenance(self, provenance: Mapping[str, Any]) -> Pyramid:
        """The same pyramid with another provenance."""
        return replace(self, provenance=provenance)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the reconstruction beside three variants, of start scales coarse to fine."""
        from singan_aug.pyramid.drawing import draw, reconstruct  # which import this module

        memory = reconstruct(self)
        return rows_as_png([torch.cat([memory, draw(self, 3, start_scale=start)]) for start in START_WORDS])

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored of it, by name; floats, or bytes where 8 bits are exact."""
        kept = {f"scales.{k}.{name}": t for k, scale in enumerate(self.scales) for name, t in scale.stored().items()}
        finest = self.scales[-1]
        if isinstance(finest, CopiedScale):
            kept["source"] = signed_to_bytes(finest.source)
        return kept if self.mask is None else {**kept, "mask": self.mask}

    def carried_mask(
        self,
        origins: Tensor,  # int64 [..., 2, H, W]: rows and columns at `size`
    ) -> Tensor | None:
        """int32 [..., H, W]: the mask's values at these origins; None without a mask."""
        if self.mask is None:
            return None
        values = torch.tensor(self.mask_values, dtype=torch.int32, device=self.mask.device)
        return values[self.mask[origins.select(-3, 0), origins.select(-3, 1)].long()]

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        config: FitConfig,
        channels: int,
        size: Size,  # of the finest scale
        provenance: Mapping[str, Any],
        displacement_px: tuple[float, ...] = (),
        mask_values: tuple[int, ...] = (),
    ) -> Pyramid:
        """The inverse of `tensors`. Raises KeyError or RuntimeError where names or shapes do not fit the config."""
        mask = tensors["mask"] if mask_values else None
        if mask is not None and (tuple(mask.shape) != size or int(mask.max()) >= len(mask_values)):
            raise RuntimeError(f"mask: expected {size} and {len(mask_values)} values, got {tuple(mask.shape)}")
        scales = _unpacked(tensors, config, channels, size)
        return cls(config, channels, scales, provenance, displacement_px, mask, mask_values)


def stored_bytes(size: Size, channels: int, config: FitConfig) -> int:
    """About how much the tensors of a pyramid take in a store."""
    generated, copied = stack_sizes(size, config)
    spent = 0
    if config.generated is not None:
        spent += generated_bytes(generated, config.generated, channels)
    if config.copied is not None:
        spent += copied_bytes(copied, config.copied, channels, searched=config.generated is not None)
    return spent


def _unpacked(tensors: Mapping[str, Tensor], config: FitConfig, channels: int, size: Size) -> tuple[Scale, ...]:
    entering = tensors.get("scales.0.entering")  # stored at the size that the fit gave the coarsest scale
    given = None if entering is None else given_coarsest_px((entering.shape[-2], entering.shape[-1]), size, config)
    generated, copied = stack_sizes(size, config, given)
    own: list[dict[str, Tensor]] = [{} for _ in (*generated, *copied)]
    for name, tensor in tensors.items():
        if name.startswith("scales."):
            k, _, rest = name.removeprefix("scales.").partition(".")
            if not k.isdecimal() or int(k) >= len(own):
                raise RuntimeError(f"{name}: expected tensors of {len(own)} scales")
            own[int(k)][rest] = tensor
    scales: tuple[Scale, ...] = ()
    resample = config.sizes.resample
    if config.generated is not None:
        scales += unpack_generated(own[: len(generated)], generated, config.generated, channels, resample)
    if config.copied is not None:
        source = bytes_to_signed(tensors["source"])
        if tuple(source.shape) != (1, channels, *size):
            raise RuntimeError(f"source: expected {(1, channels, *size)}, got {tuple(source.shape)}")
        bases = [each["basis"] for each in own[len(generated) :]]
        scales += copied_scales(source, bases, copied, config.copied, resample)
    return scales
