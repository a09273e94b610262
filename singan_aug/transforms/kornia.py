"""SinGANAugment for Kornia: whole batches of float tensors, on whatever device they are."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.images import like
from singan_aug.transforms._source import OnMiss, Settings, VariantSource

try:
    from kornia.augmentation import IntensityAugmentationBase2D
except ModuleNotFoundError as error:
    raise ImportError(f'SinGANAugment for Kornia needs {error.name}: pip install "singan-aug[kornia]"') from error

__all__ = ["SinGANAugment"]


class SinGANAugment(IntensityAugmentationBase2D):
    """Replace each image of a batch by a variant drawn from the pyramid that was fitted to it.

    Takes float tensors [B, C, H, W] or [C, H, W] in [0, 1] and keeps their dtype and device. Images are found by their
    pixels, so this belongs first, before anything that changes them; a float image that was uint8 / 255 is found too.
    Each image has a seed of its own in `params`, so `augment(images, params=augment._params)` gives the same again. It
    never fits: run `singan-aug fit` first. After `.eval()` it is the identity.

    Args:
        start_scale, strength, store, config, on_miss, device, bank: as for `singan_aug.SinGANAugment`.
        p: how likely each image of a batch is replaced.
        same_on_batch: one seed for all images of a batch, each still drawn from its own pyramid.
        keepdim: whether [C, H, W] comes back as such, rather than as a batch of one.

    Raises:
        ConfigError: an argument is not one of these, or CUDA in a forked worker.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    def __init__(
        self,
        start_scale: Any = None,
        *,
        strength: float | None = None,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        device: str = "cpu",
        bank: bool = True,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        folder = None if store is None else os.fspath(store)
        self._source = VariantSource(
            Settings(start_scale, strength, folder, config, on_miss, p=1.0, device=device, bank=bank)
        )

    def stats(self) -> dict[str, int]:
        """What became of the images so far: how many were drawn, and how many had no pyramid."""
        return self._source.stats()

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """A seed for each image, from torch's global generator."""
        count = 1 if self.same_on_batch else batch_shape[0]
        return {"seed": torch.randint(2**63 - 1, (count,)).expand(batch_shape[0])}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """A pure function of the images and their seeds; those that chance leaves out are not looked up."""
        del flags, transform
        if not self.training:
            return input
        output = input.clone()
        for i in params["batch_prob"].nonzero()[:, 0].tolist():
            variant = self._source.variant(input[i], int(params["seed"][i]))
            if variant is not None:
                output[i] = like(variant.image, input[i])
        return output
