"""What every metric asks of its images and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from singan_aug.errors import ConfigError, ImageError

__all__ = ["checked", "paired", "read_weights", "signed_colour"]


def checked(unit: Tensor, name: str) -> Tensor:
    """`unit` as [N, 3, H, W], grey repeated, if it is [N, 1 or 3, H, W], N > 0, and in [0, 1]. Raises `ImageError`."""
    if unit.ndim != 4 or unit.shape[1] not in (1, 3) or unit.numel() == 0:
        raise ImageError(f"expected {name} of shape [N, 1 or 3, H, W], got {list(unit.shape)}")
    if not unit.is_floating_point():
        raise ImageError(f"expected {name} to be floats in [0, 1], got {unit.dtype}: divide by 255")
    unit = unit.detach()
    low, high = (float(end) for end in unit.aminmax())
    if not (low >= 0 and high <= 1):  # NaN is in no range either
        raise ImageError(f"expected {name} in [0, 1], got {low:g}..{high:g}: score before normalising")
    return unit.expand(-1, 3, -1, -1)


def signed_colour(
    unit: Tensor,  # [N, 1 or 3, H, W] in [0, 1]
    name: str,
    *,
    least_px: int,
    device: torch.device,
) -> Tensor:
    """[N, 3, H, W] in [-1, 1], float32 on `device`. Raises `ImageError`."""
    unit = checked(unit, name)
    if min(unit.shape[-2:]) < least_px:
        raise ImageError(f"expected {name} of at least {least_px} px a side, got {list(unit.shape[-2:])}: enlarge it")
    return unit.to(device, torch.float32) * 2.0 - 1.0


def paired(one: Tensor, other: Tensor, names: str) -> int:
    """How many pairs two batches make: as many each, or one against all. Raises `ImageError`."""
    counts = {len(one), len(other)}
    if len(counts - {1}) > 1:
        raise ImageError(f"expected {names} to be as many, or one of them a single image, got {len(one)}, {len(other)}")
    return max(counts)


def read_weights(
    path: Path | str,
    shapes: Mapping[str, tuple[int, ...]],  # of the tensors that are needed
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Those tensors of a safetensors file, float32 on `device`; the file may hold more. Raises `ConfigError`."""
    try:
        held = load_file(path, device=str(device))
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a safetensors file of weights, got no such file") from None
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: expected a safetensors file of weights, got something else ({error})") from None
    missing = sorted(shapes.keys() - held.keys())
    if missing:
        raise ConfigError(f"{path}: expected a tensor {missing[0]} and found none: these are other weights")
    for name, shape in shapes.items():
        if tuple(held[name].shape) != shape:
            raise ConfigError(f"{path}: expected {name} of shape {list(shape)}, got {list(held[name].shape)}")
    return {name: held[name].float() for name in shapes}
