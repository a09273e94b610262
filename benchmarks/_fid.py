"""SIFID once more, by a route that shares nothing with `singan_aug.metrics`: torchvision's Inception, scipy's root.

The network is built of torchvision's own modules, as pytorch-fid builds it, with BatchNorm left unfolded; the distance
is the formula of Heusel et al. (2017) with a general matrix square root.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import linalg
from torch import nn
from torchvision.models.inception import BasicConv2d

__all__ = ["fid_stem", "sifid_by_scipy"]

LAYERS = {64: 3, 192: 5}  # convolutions before the first and before the second pooling


def fid_stem(weights: Path, channels: int = 64) -> nn.Module:
    """The first layers of torchvision's InceptionV3 with the weights of FID's."""
    convolutions = (
        BasicConv2d(3, 32, kernel_size=3, stride=2),
        BasicConv2d(32, 32, kernel_size=3),
        BasicConv2d(32, 64, kernel_size=3, padding=1),
        BasicConv2d(64, 80, kernel_size=1),
        BasicConv2d(80, 192, kernel_size=3),
    )[: LAYERS[channels]]
    held = load_file(weights)
    for i, each in enumerate(convolutions):
        each.load_state_dict(
            {
                "conv.weight": held[f"conv{i}.weight"],
                "bn.weight": torch.ones_like(held[f"conv{i}.beta"]),
                "bn.bias": held[f"conv{i}.beta"],
                "bn.running_mean": held[f"conv{i}.mean"],
                "bn.running_var": held[f"conv{i}.var"],
                "bn.num_batches_tracked": torch.tensor(0, device="cpu"),
            }
        )
    pooled: list[nn.Module] = [*convolutions[:3], nn.MaxPool2d(3, 2), *convolutions[3:]]
    return nn.Sequential(*(pooled if channels > 64 else pooled[:3])).eval()


def sifid_by_scipy(real: Path, fake: Path, stem: nn.Module) -> float:
    """Of two files."""
    (mean, covariance), (other_mean, other_covariance) = (_statistics(path, stem) for path in (real, fake))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", linalg.LinAlgWarning)  # some channels never see anything: singular, no harm
        root = np.trace(np.real(linalg.sqrtm(covariance @ other_covariance)))
    if not np.isfinite(root):  # SciPy 1.18 gives NaN for a singular product; the trace is the sum of its roots
        root = np.sqrt(np.maximum(linalg.eigvals(covariance @ other_covariance).real, 0)).sum()
    apart = np.square(mean - other_mean).sum()
    return float(apart + np.trace(covariance + other_covariance) - 2 * root)


def _statistics(path: Path, stem: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float64) / 127.5 - 1
    with torch.no_grad():
        activations = stem(torch.from_numpy(pixels).float().permute(2, 0, 1).unsqueeze(0))
    samples = activations.squeeze(0).permute(1, 2, 0).reshape(-1, activations.shape[1]).double().numpy()
    return np.mean(samples, axis=0), np.cov(samples, rowvar=False)
