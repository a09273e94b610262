"""Arguments that are out of their range: one way to say so, naming argument, expectation and value."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from singan_aug.errors import ConfigError

if TYPE_CHECKING:
    from singan_aug.config import FitConfig

__all__ = ["MOST_SEED", "check_config", "check_count", "check_device", "check_number", "check_seed"]

MOST_SEED = 2**63 - 1


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Raises `ConfigError` unless it is a whole number in range."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not _within(value, least, most):
        raise ConfigError(f"expected {name} to be a whole number{_range(least, most)}, got {value!r}")


def check_number(name: str, value: Any, least: float, most: float | None = None) -> None:
    """Raises `ConfigError` unless it is a number in range."""
    if isinstance(value, bool) or not isinstance(value, Real) or not _within(value, least, most):
        raise ConfigError(f"expected {name} to be a number{_range(least, most)}, got {value!r}")


def check_seed(value: Any) -> None:
    """Raises `ConfigError` unless it can be the seed of a draw."""
    check_count("seed", value, 0, MOST_SEED)


def check_config(config: Any) -> FitConfig:
    """The config itself. Raises `ConfigError` where it is none."""
    from singan_aug.config import FitConfig  # which imports this module

    if not isinstance(config, FitConfig):
        raise ConfigError(f"expected config to be a FitConfig, such as fast() gives, got {config!r}")
    return config


def check_device(value: Any) -> None:
    """Raises `ConfigError` unless it names a device of torch."""
    import torch

    try:
        torch.device(value)
    except (RuntimeError, TypeError):
        raise ConfigError(f"expected device to be one of torch, such as 'cpu' or 'cuda', got {value!r}") from None


def _within(value: Any, least: float, most: float | None) -> bool:
    return bool(least <= value <= (math.inf if most is None else most))


def _range(least: float, most: float | None) -> str:
    return f" of at least {least:,}" if most is None else f" from {least:,} to {most:,}"
