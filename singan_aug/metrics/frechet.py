"""SIFID: how far apart the statistics of small patches of two images are.

Shaham, Dekel, Michaeli: SinGAN, ICCV 2019, section 4.2; the distance is Heusel et al. (NeurIPS 2017), equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.metrics._inputs import paired, read_weights, signed_colour

__all__ = ["InceptionStem", "sifid"]

BATCH_NORM_EPS = 1e-3
# Of each convolution: output channels, input channels, side, stride, padding.
CONVOLUTIONS = ((32, 3, 3, 2, 0), (32, 32, 3, 1, 0), (64, 32, 3, 1, 1), (80, 64, 1, 1, 0), (192, 80, 3, 1, 0))
POOLED_BEFORE = 3  # this convolution sees the output of the first max-pooling, 3 px with stride 2
# Output channels: convolutions up to there, and the shortest side that leaves 2 x 2 positions to take a covariance of.
LAYERS = {64: (3, 9), 192: (5, 23)}


@dataclass(frozen=True, eq=False)
class InceptionStem:
    """The first convolutions of FID's InceptionV3, each with its BatchNorm folded into weight and bias."""

    convolutions: tuple[tuple[Tensor, Tensor], ...]  # weight [out, in, side, side] and bias [out] of each

    @classmethod
    def load(cls, path: Path | str, channels: int = 64, device: torch.device | str = "cpu") -> InceptionStem:
        """Read `conv{i}.weight`, `.beta`, `.mean` and `.var` of the convolutions that the layer needs.

        Args:
            path: a safetensors file.
            channels: 64, the layer before the first pooling, which SinGAN's released program uses; or 192, the one
                before the second, which its paper names. Values of the two do not compare.
            device: where to compute.

        Raises:
            ConfigError: no such layer, or the file holds no such weights.
        """
        if channels not in LAYERS:
            raise ConfigError(f"expected 64 or 192 channels, got {channels!r}")
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (out, into, side, _, _) in enumerate(CONVOLUTIONS[: LAYERS[channels][0]]):
            shapes[f"conv{i}.weight"] = (out, into, side, side)
            shapes |= {f"conv{i}.{name}": (out,) for name in ("beta", "mean", "var")}
        held = read_weights(path, shapes, device)
        folded = []
        for i in range(LAYERS[channels][0]):
            gain = (held[f"conv{i}.var"] + BATCH_NORM_EPS).rsqrt()  # this BatchNorm has no scale of its own
            bias = held[f"conv{i}.beta"] - held[f"conv{i}.mean"] * gain
            folded.append((held[f"conv{i}.weight"] * gain[:, None, None, None], bias))
        return cls(tuple(folded))

    @property
    def channels(self) -> int:
        """Of its output: 64 or 192."""
        return len(self.convolutions[-1][1])

    def features(
        self,
        unit: Tensor,  # [N, 1 or 3, H, W] in [0, 1]
        name: str = "image",  # what messages call it
    ) -> Tensor:
        """[N, channels, h, w], at least 0; h and w are about half the image's at 64 channels, a quarter at 192.

        Raises `ImageError` for another shape or range, or sides under 9 px (23 px at 192 channels).
        """
        device = self.convolutions[0][0].device
        features = signed_colour(unit, name, least_px=LAYERS[self.channels][1], device=device)
        with torch.no_grad():
            for i, (weight, bias) in enumerate(self.convolutions):
                if i == POOLED_BEFORE:
                    features = functional.max_pool2d(features, 3, 2)
                *_, stride, padding = CONVOLUTIONS[i]
                features = functional.conv2d(features, weight, bias, stride, padding).relu()
        return features


def sifid(
    real: Tensor,  # [1 or N, 1 or 3, H, W] in [0, 1]
    fake: Tensor,  # [N, 1 or 3, H', W'] in [0, 1]
    stem: InceptionStem,
) -> Tensor:
    """Single Image Frechet Inception Distance of each pair, float64 [N] on the CPU; 0 for equal statistics.

    Each image is one normal distribution, of its feature vectors over all positions. Values depend on the stem and its
    layer and, through the texture that a size can hold, on the sizes of the images.

    Raises `ImageError` for another shape or range.
    """
    count = paired(real, fake, "real and fake")
    ours = [_statistics(features) for features in stem.features(real, "real")]
    theirs = [_statistics(features) for features in stem.features(fake, "fake")]
    pairs = [(ours[i % len(ours)], theirs[i % len(theirs)]) for i in range(count)]
    return torch.stack([_frechet(*one, *other) for one, other in pairs])


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and covariance [C, C] of features [C, h, w] over positions; float64, since traces are subtracted."""
    samples = features.flatten(1).double().cpu()
    return samples.mean(1), torch.cov(samples)


def _frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """Heusel et al., equation 6: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    The last trace is the sum of the singular values of C^(1/2) C'^(1/2), whose squares are the eigenvalues of C C'.
    """
    cross = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance)).sum()
    apart: Tensor = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * cross
    return apart.clamp_min(0.0)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.mT
    return root
