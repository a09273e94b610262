"""What is trained: a small network for classes, and two small U-Nets for masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FoldedUNet", "SmallNetwork", "TinyUNet"]


class SmallNetwork(nn.Sequential):
    """Four convolutions with BatchNorm, three max-poolings, the mean over positions, one linear layer."""

    def __init__(self, channels: int, classes: int, width: int = 24) -> None:
        layers: list[nn.Module] = []
        into = channels
        for out, pooled in ((width, True), (2 * width, True), (4 * width, True), (4 * width, False)):
            layers += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pooled else []
            into = out
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, classes))


class TinyUNet(nn.Module):
    """Three levels of two convolutions each, joined by skips; one logit for each pixel. Sides are multiples of 4."""

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([_pair(channels, width), _pair(width, 2 * width), _pair(2 * width, 4 * width)])
        self.up = nn.ModuleList([_pair(6 * width, 2 * width), _pair(3 * width, width)])
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, 1, H, W]."""
        seen = []
        for level, pair in enumerate(self.down):
            image = pair(F.max_pool2d(image, 2) if level else image)
            seen.append(image)
        seen.pop()
        for pair in self.up:
            wider = F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)
            image = pair(torch.cat([wider, seen.pop()], 1))
        logits: Tensor = self.last(image)
        return logits


class FoldedUNet(nn.Module):
    """A U-Net of one convolution at each of three levels that sees 2x2 pixels folded into channels.

    That makes a step four times as cheap as one at full size; the last layer unfolds a logit for each pixel. Any size.
    """

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.first = _convolution(4 * channels, width)
        self.down = nn.ModuleList([_convolution(width, 2 * width), _convolution(2 * width, 4 * width)])
        self.middle = _convolution(4 * width, 4 * width)
        self.up = nn.ModuleList([_convolution(6 * width, 2 * width), _convolution(3 * width, width)])
        self.last = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, 1, H, W]."""
        height, width = image.shape[-2:]
        image = self.first(F.pixel_unshuffle(F.pad(image, (0, -width % 8, 0, -height % 8), "replicate"), 2))
        seen = []
        for convolution in self.down:
            seen.append(image)
            image = convolution(F.max_pool2d(image, 2))
        image = self.middle(image)
        for convolution in self.up:
            image = convolution(torch.cat([F.interpolate(image, scale_factor=2.0), seen.pop()], 1))
        logits: Tensor = F.pixel_shuffle(self.last(image), 2)
        return logits[..., :height, :width]


def _convolution(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _pair(into: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (into, out):
        layers += [nn.Conv2d(first, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)
