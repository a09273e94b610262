"""Configs in a few words: the preset that is nearest, and what differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from singan_aug.config import FitConfig
from singan_aug.presets import PRESETS

__all__ = ["preset_words"]

TOLD = 3  # differences


@lru_cache(maxsize=256)
def preset_words(config: FitConfig) -> str:
    """Such as "fast", "fast finest_px=128 seed=3", or how many fields differ where there are more."""
    own = config.leaves()
    differences = {name: _differences(own, make().leaves()) for name, make in PRESETS.items()}
    name = min(differences, key=lambda each: (len(differences[each]), each != "fast", each))
    told = differences[name]
    if len(told) > TOLD:
        return f"{name}, {len(told)} changes"
    return " ".join([name, *(f"{field}={value}" for field, value in told.items())])


def _differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own.get(name) for name in {**other, **own} if own.get(name) != other.get(name)}
