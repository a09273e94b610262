"""Pyramid <-> safetensors bytes. The manifest carries what is not a tensor."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError

from singan_aug.errors import CorruptPyramidError
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.store._manifest import Manifest

__all__ = ["decode", "encode"]

TOLERANCE = 1 / 255  # half precision is used where no draw moves by more


def encode(pyramid: Pyramid) -> tuple[bytes, str]:
    """(safetensors bytes, name of their dtype): half precision where draws from every start scale stay within 1/255."""
    half = {name: tensor.cpu().half() for name, tensor in pyramid.tensors().items()}
    if _close(pyramid, _rebuild(half, pyramid)):
        return safetensors.torch.save(_packed(half)), "float16"
    full = {name: tensor.cpu().float() for name, tensor in pyramid.tensors().items()}
    return safetensors.torch.save(_packed(full)), "float32"


def decode(weights: bytes, manifest: Manifest, where: str) -> Pyramid:
    """The pyramid, in float32 on the CPU. Raises `CorruptPyramidError` where tensors and manifest do not fit."""
    try:
        tensors = {name: tensor.float() for name, tensor in safetensors.torch.load(weights).items()}
        return Pyramid.from_tensors(
            tensors,
            config=manifest.config,
            channels=manifest.channels,
            size=manifest.scale_sizes[-1],
            provenance=manifest.provenance,
        )
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise CorruptPyramidError(f"{where}: its tensors do not fit its manifest ({error})") from None


def _packed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _rebuild(tensors: dict[str, torch.Tensor], pyramid: Pyramid) -> Pyramid:
    return Pyramid.from_tensors(
        {name: tensor.float() for name, tensor in tensors.items()},
        config=pyramid.config,
        channels=pyramid.channels,
        size=pyramid.size,
        provenance={},
    )


def _close(pyramid: Pyramid, other: Pyramid) -> bool:
    pairs = [(reconstruct(pyramid), reconstruct(other))]
    pairs += [(draw(pyramid, start_scale=k), draw(other, start_scale=k)) for k in range(len(pyramid))]
    return all(float((a.cpu() - b).abs().max()) <= TOLERANCE for a, b in pairs)
