"""Which module computes the steps of a draw: steps_numba.py on the CPU, steps_torch.py elsewhere."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

__all__ = ["steps_for"]


def steps_for(device: torch.device) -> Any:
    """The module for tensors on this device, imported when it is first needed."""
    return import_module(f"singan_aug.pyramid.copied.{'steps_numba' if device.type == 'cpu' else 'steps_torch'}")
