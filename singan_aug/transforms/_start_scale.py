"""Where a draw starts: a number, a word, a range or a weighted choice, made a scale once the pyramid is known."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from singan_aug.errors import ConfigError
from singan_aug.pyramid.sizes import START_WORDS, StartScale, resolve_start_scale, start_scale_at

__all__ = ["STRENGTHS", "StartScaleRule"]

STRENGTHS = (0, 10)  # RandAugment's magnitudes: the least and the most


class StartScaleRule:
    """A rule that gives the start scale of each draw.

    Args:
        start_scale: an int (0 the coarsest, negative ones from the finest); "coarse", "medium" or "fine", of whatever
            scales an image has; a range (first, last) of these, every scale in it as likely; or weights
            {scale: weight}. A range that reaches beyond an image's scales ends at its last.
        strength: in place of it, 0 (the finest scale) to 10 (the coarsest), as RandAugment's magnitude.

    Raises:
        ConfigError: none of these, or both.
    """

    def __init__(self, start_scale: Any, strength: float | None) -> None:
        if strength is not None and start_scale is not None:
            raise ConfigError(f"expected start_scale or strength, got both ({start_scale!r} and {strength!r})")
        self._strength = None if strength is None else _checked_strength(strength)
        self._weights: dict[StartScale, float] = {}
        self._range: tuple[StartScale, StartScale] | None = None
        if isinstance(start_scale, Mapping):
            self._weights = _checked_weights(start_scale)
        elif isinstance(start_scale, list | tuple):
            if len(start_scale) != 2:
                raise ConfigError(f"expected a range (first, last) as start_scale, got {start_scale!r}")
            first, last = (_checked_one(end) for end in start_scale)
            self._range = first, last
        elif self._strength is None:
            self._weights = {_checked_one(start_scale): 1.0}

    def choose(self, count: int, seed: int) -> int:
        """The start scale of one draw from a pyramid of `count` scales.

        Raises `StartScaleError` where the pyramid has no such scale.
        """
        if self._strength is not None:
            return start_scale_at(1 - self._strength / STRENGTHS[1], count)
        if len(self._weights) == 1:
            return resolve_start_scale(next(iter(self._weights)), count)
        rng = random.Random(seed)
        if self._range is not None:
            first, last = (_clipped(end, count) for end in self._range)
            return rng.randint(min(first, last), max(first, last))
        chosen = rng.choices(list(self._weights), list(self._weights.values()))[0]
        return resolve_start_scale(chosen, count)


def _clipped(end: StartScale, count: int) -> int:
    if isinstance(end, str):
        return resolve_start_scale(end, count)
    return min(max(end + count if end < 0 else end, 0), count - 1)


def _checked_one(value: Any) -> StartScale:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value in START_WORDS:
        return value
    raise ConfigError(
        f"expected start_scale to be an int, {', '.join(map(repr, START_WORDS))}, a range (first, last) of these "
        f"or weights {{scale: weight}}, got {value!r}"
    )


def _checked_weights(weights: Mapping[Any, Any]) -> dict[StartScale, float]:
    checked: dict[StartScale, float] = {}
    for scale, weight in weights.items():
        number = isinstance(scale, str) and scale.lstrip("-").isdigit()  # JSON turns the keys of a mapping into words
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
            raise ConfigError(f"expected weights of at least 0 as start_scale, got {weight!r} for {scale!r}")
        checked[_checked_one(int(scale) if number else scale)] = float(weight)
    if not sum(checked.values()):
        raise ConfigError(f"expected a weight above 0 as start_scale, got {dict(weights)!r}")
    return checked


def _checked_strength(strength: Any) -> float:
    least, most = STRENGTHS
    if not isinstance(strength, int | float) or isinstance(strength, bool) or not least <= strength <= most:
        raise ConfigError(f"expected a strength in {least} (texture alone) to {most} (new structure), got {strength!r}")
    return float(strength)
