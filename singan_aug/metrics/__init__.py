"""How close variants are to their source, and how far from one another. Fitting and drawing need none of this.

Weights are not shipped: `InceptionStem.load` and `LpipsAlex.load` read safetensors files of their users, which
`singan-aug score --download FOLDER` makes of the published ones.
"""

from singan_aug.metrics.coherence import KnownPatches, incoherence
from singan_aug.metrics.diversity import pixel_diversity
from singan_aug.metrics.frechet import InceptionStem, sifid
from singan_aug.metrics.patches import nearest_copy, patch_distance
from singan_aug.metrics.perceptual import LpipsAlex, lpips
from singan_aug.metrics.pieces import Pieces, pieces

__all__ = [
    "InceptionStem",
    "KnownPatches",
    "LpipsAlex",
    "Pieces",
    "incoherence",
    "lpips",
    "nearest_copy",
    "patch_distance",
    "pieces",
    "pixel_diversity",
    "sifid",
]
