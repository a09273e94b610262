"""LPIPS: how far apart two images of one size look, place by place.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features, CVPR 2018, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.metrics._inputs import paired, read_weights, signed_colour

__all__ = ["LpipsAlex", "lpips"]

# Of each convolution of AlexNet: its index there, output channels, input channels, side, stride, padding.
CONVOLUTIONS = (
    (0, 64, 3, 11, 4, 2),
    (3, 192, 64, 5, 1, 2),
    (6, 384, 192, 3, 1, 1),
    (8, 256, 384, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
POOLED_BEFORE = (1, 2)  # these convolutions see a max-pooling, 3 px with stride 2
LEAST_PX = 31  # a shorter side leaves nothing after the second pooling
SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and deviation, for images in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
NORM_EPS = 1e-10


@dataclass(frozen=True, eq=False)
class LpipsAlex:
    """AlexNet's convolutions and the heads that version 0.1 of LPIPS trained on them."""

    convolutions: tuple[tuple[Tensor, Tensor], ...]  # weight and bias of each of five
    heads: tuple[Tensor, ...]  # [1, C, 1, 1] of each, not negative

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> LpipsAlex:
        """Read `features.{index}.weight`, `.bias` and `lin{i}.weight` of a safetensors file; compute on `device`.

        Raises `ConfigError` where the file holds no such weights.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (index, out, into, side, _, _) in enumerate(CONVOLUTIONS):
            shapes |= {f"features.{index}.weight": (out, into, side, side), f"features.{index}.bias": (out,)}
            shapes[f"lin{i}.weight"] = (1, out, 1, 1)
        held = read_weights(path, shapes, device)
        indices = [index for index, *_ in CONVOLUTIONS]
        return cls(
            tuple((held[f"features.{index}.weight"], held[f"features.{index}.bias"]) for index in indices),
            tuple(held[f"lin{i}.weight"] for i in range(len(CONVOLUTIONS))),
        )

    def features(
        self,
        unit: Tensor,  # [N, 1 or 3, H, W] in [0, 1]
        name: str = "image",  # what messages call it
    ) -> list[Tensor]:
        """Of each layer [N, C, h, w], every position's vector of length 1. Raises `ImageError`."""
        signed = signed_colour(unit, name, least_px=LEAST_PX, device=self.heads[0].device)
        shift, scale = (signed.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        layers, features = [], (signed - shift) / scale
        with torch.no_grad():
            for i, (weight, bias) in enumerate(self.convolutions):
                if i in POOLED_BEFORE:
                    features = functional.max_pool2d(features, 3, 2)
                *_, stride, padding = CONVOLUTIONS[i]
                features = functional.conv2d(features, weight, bias, stride, padding).relu()
                layers.append(features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + NORM_EPS))
        return layers


def lpips(
    one: Tensor,  # [1 or N, 1 or 3, H, W] in [0, 1]
    other: Tensor,  # [1 or N, 1 or 3, H, W] in [0, 1]
    network: LpipsAlex,
) -> Tensor:
    """LPIPS v0.1 of each pair, float64 [N] on the CPU; 0 for equal images, about 0.3 for another layout of one texture.

    Zhang et al., equation 1: the sum over layers of the mean over positions of |w (f - f')|^2, where a head holds w^2.

    Raises `ImageError` for another shape or range, sizes that differ, or sides under 31 px.
    """
    paired(one, other, "the two batches")
    if one.shape[-2:] != other.shape[-2:]:
        raise ImageError(f"expected two of one size, got {list(one.shape)} and {list(other.shape)}: resize one")
    layers = zip(network.features(one, "the first"), network.features(other, "the second"), network.heads, strict=True)
    apart = [((f - g).square() * head).sum(1).mean((1, 2)) for f, g, head in layers]
    return torch.stack(apart).sum(0).double().cpu()
