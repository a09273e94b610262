"""SinGANAugment for torchvision's transforms v2 (and, on PIL images, v1's Compose)."""

from __future__ import annotations

import os
from typing import Any

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from singan_aug.config import FitConfig
from singan_aug.images import like
from singan_aug.pyramid.noise import derive_seed
from singan_aug.transforms._source import OnMiss, VariantSource

__all__ = ["SinGANAugment"]

_GEOMETRY = tuple(
    getattr(tv_tensors, name) for name in ("BoundingBoxes", "KeyPoints", "Mask") if hasattr(tv_tensors, name)
)


def _is_plain_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, tv_tensors.TVTensor)


class SinGANAugment(v2.Transform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Images are found by their pixels, so this belongs first in a pipeline, right after decoding. They come out in the
    type, dtype, size, mode and device they came in: PIL images, `tv_tensors.Image`, and uint8 or float ([0, 1])
    tensors [..., C, H, W]. Labels pass untouched. It never fits: run `singan-aug fit` first.

    Args:
        start_scale: 0 (coarsest: new global structure) up to the finest scale (texture alone); negative ones count
            from the finest.
        store: the store's folder; by default $SINGAN_AUG_CACHE, else the user's cache folder.
        config: take pyramids fitted with exactly this config; by default the one fitted last.
        on_miss: "error" raises `MissingPyramidError` for an image without a pyramid, "pass" leaves it as it is.

    Raises:
        ConfigError: an argument is not one of these.
        TypeError: when called with masks, bounding boxes or keypoints, which would not follow a variant's structure.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    _transformed_types = (Image.Image, tv_tensors.Image, _is_plain_tensor)

    def __init__(
        self,
        start_scale: int = 0,
        *,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
    ) -> None:
        super().__init__()
        folder = None if store is None else os.fspath(store)
        self._source = VariantSource(start_scale, store=folder, config=config, on_miss=on_miss)
        self.start_scale = start_scale
        self.store = self._source.location
        self.on_miss = on_miss
        self.config_digest = None if config is None else config.digest()  # shown by repr, as the others are

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse what a variant would falsify."""
        for value in flat_inputs:
            if isinstance(value, _GEOMETRY):
                raise TypeError(
                    f"{type(self).__name__}() expected images and labels, got {type(value).__name__}: a variant moves "
                    "structure, and masks, boxes and keypoints would not follow"
                )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """One seed from torch's global generator, which a DataLoader seeds for each worker and epoch."""
        del flat_inputs
        return {"seed": int(torch.randint(2**63 - 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """A pure function of the image and the seed."""
        seed = params["seed"]
        if isinstance(inpt, Image.Image) or inpt.ndim < 4:
            return self._one(inpt, seed)
        batch = inpt.flatten(0, -4).as_subclass(torch.Tensor)
        drawn = [self._one(image, derive_seed(seed, i)) for i, image in enumerate(batch)]
        return _wrapped(torch.stack(drawn).reshape(inpt.shape), inpt)

    def _one(self, image: Any, seed: int) -> Any:
        variant = self._source.variant(image, seed)
        if variant is None:
            return image
        if isinstance(image, Image.Image):
            return like(variant, image)
        return _wrapped(like(variant, image.as_subclass(torch.Tensor)), image)


def _wrapped(tensor: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return tv_tensors.wrap(tensor, like=image) if isinstance(image, tv_tensors.TVTensor) else tensor
