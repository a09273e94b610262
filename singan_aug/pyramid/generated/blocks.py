"""Block architectures: one hidden layer of a network each, registered by name.

A block maps [N, in, H, W] to [N, out, H - 2, W - 2] (a 3x3 receptive field, no padding): networks pad once at their
input, so that the field of a network with L layers is 2 L + 1 pixels whatever its blocks are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from singan_aug._registry import Registry

__all__ = ["BLOCKS", "KERNEL_PX", "conv3x3", "initialise", "register_block"]

KERNEL_PX = 3
SLOPE = 0.2  # of LeakyReLU on negative values

BLOCKS: Registry[Callable[[int, int, bool], nn.Module]] = Registry("block")
register_block = BLOCKS.register


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """A valid 3x3 convolution whose weights are left unset (`initialise` sets them without the global generator)."""
    return _conv(inputs, outputs, KERNEL_PX)


class _UnsetConv2d(nn.Conv2d):
    """As `nn.utils.skip_init` would make it, which imports torch's tools for symbolic shapes: a second."""

    def reset_parameters(self) -> None:
        """Left to `initialise`, or to whoever loads weights."""


def _conv(inputs: int, outputs: int, kernel_px: int, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    return _UnsetConv2d(inputs, outputs, kernel_px, groups=groups, bias=bias)


def _shortcut(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else _conv(inputs, outputs, 1)


def _norm(channels: int, batch_norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels)] if batch_norm else []


@register_block("conv")
class ConvBlock(nn.Sequential):
    """Conv - BatchNorm - LeakyReLU(0.2): the paper's layer."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        super().__init__(conv3x3(inputs, outputs), *_norm(outputs, batch_norm), nn.LeakyReLU(SLOPE, inplace=True))


@register_block("residual")
class ResidualBlock(nn.Module):
    """The same layer around a shortcut (He et al. 2016); a 1x1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        super().__init__()
        self.layer = ConvBlock(inputs, outputs, batch_norm)
        self.shortcut = _shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H - 2, W - 2]."""
        out: Tensor = self.layer(x) + self.shortcut(x[..., 1:-1, 1:-1])
        return out


@register_block("highway")
class HighwayBlock(nn.Module):
    """The same layer and a shortcut; a gate chooses between them at each place (Srivastava et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        super().__init__()
        self.layer = ConvBlock(inputs, outputs, batch_norm)
        self.gate = conv3x3(inputs, outputs)
        self.shortcut = _shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H - 2, W - 2]."""
        out: Tensor = torch.lerp(self.shortcut(x[..., 1:-1, 1:-1]), self.layer(x), self.gate(x).sigmoid())
        return out


@register_block("separable")
class SeparableBlock(nn.Sequential):
    """The same layer with its convolution in two: 3x3 in each channel, then 1x1 over channels (Chollet 2017)."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        super().__init__(
            _conv(inputs, inputs, KERNEL_PX, groups=inputs, bias=False),
            _conv(inputs, outputs, 1),
            *_norm(outputs, batch_norm),
            nn.LeakyReLU(SLOPE, inplace=True),
        )


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Initial weights, in place: convolutions N(0, 0.02), BatchNorm N(1, 0.02), biases 0, as the paper has them.

    A network without BatchNorm gets convolutions N(0, 2 / fan_in) instead (He et al. 2015), which its signal needs to
    survive the layers.
    """
    normed = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                spread = 0.02 if normed else (2 / module.weight[0].numel()) ** 0.5
                module.weight.normal_(0.0, spread, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(1.0, 0.02, generator=generator)
                module.bias.zero_()
