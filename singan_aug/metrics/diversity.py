"""How much the variants of one image differ, pixel by pixel."""

from __future__ import annotations

from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.metrics._inputs import checked

__all__ = ["pixel_diversity"]


def pixel_diversity(
    draws: Tensor,  # [N, 1 or 3, H, W] in [0, 1], N of at least 2
    real: Tensor,  # [1, 1 or 3, H', W'] in [0, 1], their source
) -> float:
    """The deviation of each value over the draws, averaged, as a ratio to the deviation of the source's values.

    Shaham et al. (ICCV 2019), section 4: 0 where all draws are one, about 1 where they have nothing in common but the
    source's distribution. Both deviations are the unbiased ones. Raises `ImageError`.
    """
    draws, real = checked(draws, "draws"), checked(real, "real")
    if len(draws) < 2 or len(real) != 1:
        raise ImageError(f"expected two draws or more of one image, got {len(draws)} of {len(real)}")
    deviation = float(real.double().std())
    if deviation == 0:
        raise ImageError("expected a source with some contrast, got one where every value is the same")
    return float(draws.double().std(0).mean()) / deviation
