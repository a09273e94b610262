"""The two networks of a scale, built from registered blocks by plain keyword arguments."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singan_aug.config import Networks
from singan_aug.errors import ConfigError
from singan_aug.pyramid.generated.blocks import BLOCKS, KERNEL_PX, conv3x3

__all__ = ["Critic", "Generator", "critic_from", "generator_from"]

STRIP_PX = 2**18  # pixels that a generator works on at once when it draws: some 128 MB a layer of 128 channels
PADDINGS = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}


def _layers(channels: int, width: int, layers: int, block: str, batch_norm: bool, outputs: int) -> nn.Sequential:
    build = BLOCKS[block]
    hidden = [build(channels if i == 0 else width, width, batch_norm) for i in range(layers - 1)]
    return nn.Sequential(*hidden, conv3x3(width, outputs))


class Generator(nn.Module):
    """Residual generator of one scale (Shaham et al. 2019, eq. 4): x = entering + psi(entering + noise).

    `layers` layers of 3x3 see 2 * layers + 1 pixels; the input is padded once, so the output has the input's size.
    """

    def __init__(
        self,
        channels: int,  # of the image: 1, 3 or 4
        *,
        width: int,  # hidden channels
        layers: int,
        block: str,
        batch_norm: bool,
        padding: str,  # zeros, reflect or replicate
    ) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise ConfigError(f"expected a padding out of {', '.join(sorted(PADDINGS))}, got {padding!r}")
        self.body = _layers(channels, width, layers, block, batch_norm, channels)
        self.padding = PADDINGS[padding]
        self.pad_px = layers * (KERNEL_PX // 2)

    def forward(
        self,
        entering: Tensor,  # [N, C, H, W] in about [-1, 1]: the output of the scale below, upsampled
        noise: Tensor,  # [N, C, H, W], its amplitude applied
    ) -> Tensor:
        """[N, C, H, W]."""
        # An image no larger than what it would be padded with has nothing to reflect.
        mode = "replicate" if self.padding == "reflect" and min(entering.shape[-2:]) <= self.pad_px else self.padding
        padded = F.pad(entering + noise, (self.pad_px,) * 4, mode=mode)
        residual = self.body(padded) if self.training else self._in_strips(padded)
        return entering + residual.tanh()

    def _in_strips(self, padded: Tensor) -> Tensor:
        """The body of a few rows at a time: the same, in memory that does not grow with the image's height."""
        rows = max(1, STRIP_PX // (padded.shape[0] * padded.shape[3]))
        height = padded.shape[2] - 2 * self.pad_px
        strips = [
            self.body(padded[:, :, top : min(top + rows, height) + 2 * self.pad_px]) for top in range(0, height, rows)
        ]
        return strips[0] if len(strips) == 1 else torch.cat(strips, 2)


class Critic(nn.Module):
    """Patch critic: a map of scores, one for each receptive field; its mean is the score of the image."""

    def __init__(self, channels: int, *, width: int, layers: int, block: str, batch_norm: bool) -> None:
        super().__init__()
        self.body = _layers(channels, width, layers, block, batch_norm, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] to [N, 1, H - 2 * layers, W - 2 * layers]."""
        scores: Tensor = self.body(image)
        return scores


def generator_from(networks: Networks, channels: int, width: int, device: str = "cpu") -> Generator:
    """The generator that a config describes, with unset weights: float32 on `device`, whatever torch's defaults are."""
    with torch.device(device):
        generator = Generator(
            channels,
            width=width,
            layers=networks.layers,
            block=networks.block,
            batch_norm=networks.batch_norm,
            padding=networks.padding,
        )
    return generator.float()


def critic_from(networks: Networks, channels: int, width: int) -> Critic:
    """The critic that a config describes, with unset weights: float32 on the CPU, whatever torch's defaults are."""
    with torch.device("cpu"):
        critic = Critic(
            channels, width=width, layers=networks.layers, block=networks.block, batch_norm=networks.batch_norm
        )
    return critic.float()
