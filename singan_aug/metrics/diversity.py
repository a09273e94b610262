"""How much the variants of one image differ, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.metrics._inputs import checked

__all__ = ["Deviation", "pixel_diversity"]


def pixel_diversity(
    draws: Tensor,  # [N, 1 or 3, H, W] in [0, 1], N of at least 2
    real: Tensor,  # [1, 1 or 3, H', W'] in [0, 1], their source
) -> float:
    """The deviation of each value over the draws, averaged, as a ratio to the deviation of the source's values.

    Shaham et al. (ICCV 2019), section 4: 0 where all draws are one, about 1 where they have nothing in common but the
    source's distribution. Both deviations are the unbiased ones. Raises `ImageError`.
    """
    deviation = Deviation()
    deviation.add(draws)
    return deviation.ratio_to(real)


class Deviation:
    """The same of draws that come a few at a time: only their mean and the sum of squares about it are held.

    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979, equation 2.1.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = torch.zeros((), dtype=torch.float64, device="cpu")

    def add(self, draws: Tensor) -> None:
        """[N, 1 or 3, H, W] in [0, 1], of the size of all before. Raises `ImageError`."""
        draws = checked(draws, "draws").double()
        mean, total = draws.mean(0), self.count + len(draws)
        apart = mean - self._mean
        self._squares = self._squares + (draws - mean).square().sum(0)
        self._squares = self._squares + apart.square() * (self.count * len(draws) / total)
        self._mean = self._mean + apart * (len(draws) / total)
        self.count = total

    def ratio_to(self, real: Tensor) -> float:
        """Pixel diversity, of at least two draws of `real`, [1, 1 or 3, H', W'] in [0, 1]. Raises `ImageError`."""
        real = checked(real, "real")
        if self.count < 2 or len(real) != 1:
            raise ImageError(f"expected two draws or more of one image, got {self.count} of {len(real)}")
        deviation = float(real.double().std())
        if deviation == 0:
            raise ImageError("expected a source with some contrast, got one where every value is the same")
        return float((self._squares / (self.count - 1)).sqrt().mean()) / deviation
