"""How close variants are to their source, and how far from one another. Fitting and drawing need none of this.

Weights are not shipped: `InceptionStem.load` and `LpipsAlex.load` read safetensors files of their users.
"""

from singan_aug.metrics.diversity import pixel_diversity
from singan_aug.metrics.frechet import InceptionStem, sifid
from singan_aug.metrics.perceptual import LpipsAlex, lpips

__all__ = ["InceptionStem", "LpipsAlex", "lpips", "pixel_diversity", "sifid"]
