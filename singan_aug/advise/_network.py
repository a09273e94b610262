"""The user's own network in a trial: one of timm by its name, a module, or a function that builds one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singan_aug.errors import ConfigError

__all__ = ["Build", "Network", "built", "check_network"]

Build = Callable[[int, int], nn.Module]  # of channels and classes (1 for masks: a logit for each pixel)
Network = str | nn.Module | Build
DECODER_WIDTH = 32


def built(network: Network, *, masks: bool) -> tuple[str, Build]:
    """A name, and a function that gives a fresh network for each run.

    Args:
        network: the name of a model of timm, with random weights (for masks its features, joined by a small decoder as
            in a U-Net); a module, of which each run trains a copy with the weights it has; or a function of (channels,
            classes).

    Raises `ConfigError` for an unknown name, or where timm is missing.
    """
    if isinstance(network, str):
        return network, _of_timm(network, masks=masks)
    if isinstance(network, nn.Module):
        module = network
        return type(module).__qualname__, lambda *_: copy.deepcopy(module).train()
    if not callable(network):
        raise ConfigError(
            "expected a network as a name of timm, a torch module or a function of (channels, classes), got "
            f"{network!r}"
        )
    return getattr(network, "__qualname__", type(network).__name__), network


def check_network(
    build: Build,
    channels: int,
    outputs: int,  # classes; 1 for masks
    sizes: tuple[tuple[int, int], ...],  # height and width of what it is trained on and tested on
    *,
    masks: bool,
) -> None:
    """Show one an empty image of each size. Raises `ConfigError` where what comes out is not right."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = build(channels, outputs).eval()
        for height, width in sizes:
            wanted = (2, 1, height, width) if masks else (2, outputs)
            try:
                found: Any = network(torch.zeros(2, channels, height, width, dtype=torch.float32, device="cpu"))
            except (RuntimeError, ValueError, TypeError, AssertionError) as error:
                told = str(error).strip().partition("\n")[0]
                raise ConfigError(
                    f"expected a network that takes images [N, {channels}, {height}, {width}], got: {told}"
                ) from None
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            if shape != wanted:
                raise ConfigError(
                    f"expected of a network the logits {list(wanted)} for {[2, channels, height, width]}, got "
                    f"{list(shape) if isinstance(shape, tuple) else shape}"
                )


def _of_timm(name: str, *, masks: bool) -> Build:
    try:
        import timm
    except ModuleNotFoundError:
        raise ConfigError(f"the network {name!r} needs timm: pip install timm") from None
    if name not in timm.list_models(name):
        raise ConfigError(f"expected a model of timm, got {name!r}: timm.list_models() lists them")

    def build(channels: int, classes: int) -> nn.Module:
        if not masks:
            model: nn.Module = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=classes)
            return model
        try:
            encoder = timm.create_model(name, pretrained=False, in_chans=channels, features_only=True)
        except (RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"expected a model of timm that gives features, for masks, got {name!r}: {error}"
            ) from None
        return _Decoded(encoder, encoder.feature_info.channels(), classes)

    return build


class _Decoded(nn.Module):
    """Features of several sizes, the coarsest enlarged and joined with the next, as in a U-Net."""

    def __init__(self, encoder: nn.Module, channels: list[int], outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        joined = [channels[-1], *([DECODER_WIDTH] * (len(channels) - 1))]
        self.up = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(below + beside, DECODER_WIDTH, 3, padding=1, bias=False),
                    nn.BatchNorm2d(DECODER_WIDTH),
                    nn.ReLU(),
                )
                for below, beside in zip(joined, channels[-2::-1], strict=False)
            ]
        )
        self.last = nn.Conv2d(DECODER_WIDTH if len(channels) > 1 else channels[0], outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, outputs, H, W]."""
        *finer, seen = self.encoder(image)
        for join, beside in zip(self.up, finer[::-1], strict=True):
            seen = join(torch.cat([_enlarged(seen, beside.shape[-2:]), beside], 1))
        return _enlarged(self.last(seen), image.shape[-2:])


def _enlarged(image: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(image, list(size), mode="bilinear", align_corners=False)
