"""SinGANAugment for torchvision's transforms v2 (and, on PIL images, v1's Compose)."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError
from singan_aug.images import like
from singan_aug.transforms._source import OnMiss, Settings, VariantSource
from singan_aug.transforms.keys import SampleKey

__all__ = ["SinGANAugment"]

_GEOMETRY = tuple(
    getattr(tv_tensors, name) for name in ("BoundingBoxes", "KeyPoints", "Mask") if hasattr(tv_tensors, name)
)


def _is_plain_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, tv_tensors.TVTensor)


class SinGANAugment(v2.Transform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Images are found by their pixels, so this belongs first in a pipeline, right after decoding. They come out in the
    type, dtype, size, mode and device they came in: PIL images, `tv_tensors.Image` and `Video`, and uint8 or float
    ([0, 1]) tensors [..., C, H, W]. Each element of a batch is a draw of its own, the frames of a video share one.
    Labels pass untouched. It never fits: run `singan-aug fit` first. After `.eval()` it is the identity.

    Args:
        start_scale: 0 (coarsest: new global structure) up to the finest scale (texture alone), negative ones counted
            from the finest; "coarse", "medium" or "fine" of whatever scales an image has; a range (first, last) of
            these; or weights {scale: weight}. "medium" by default.
        strength: in place of a start scale, 0 (texture alone) to 10 (new structure), as RandAugment's magnitude.
        p: how likely an image is replaced.
        store: the store's folder; by default $SINGAN_AUG_CACHE, else the user's cache folder.
        config: take pyramids fitted with exactly this config; by default the one fitted last.
        on_miss: "error" raises `MissingPyramidError` for an image without a pyramid, "pass" leaves it as it is,
            counts it in `stats()` and warns once.
        seed: fixes every draw: it then depends on this, the image, the epoch (`set_epoch`) and the image's index in
            the call alone, for any number of workers. By default torch's global generator decides.
        device: where to draw: "cpu", or "cuda" for whole batches after collation.

    Raises:
        ConfigError: an argument is not one of these; CUDA in a forked worker; keys that do not match the images.
        TypeError: when called with masks, bounding boxes or keypoints, which would not follow a variant's structure.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    _transformed_types = (Image.Image, tv_tensors.Image, tv_tensors.Video, SampleKey, _is_plain_tensor)

    def __init__(
        self,
        start_scale: Any = None,
        *,
        strength: float | None = None,
        p: float = 1.0,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        seed: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        folder = None if store is None else os.fspath(store)
        self._source = VariantSource(Settings(start_scale, strength, folder, config, on_miss, p, seed, device))

    def extra_repr(self) -> str:
        """The arguments that were given, and where the store is."""
        settings = self._source.settings
        shown = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "config"}
        shown = {name: value for name, value in shown.items() if value != getattr(Settings, name)}
        shown["store"] = self._source.location
        if settings.config is not None:
            shown["config_digest"] = settings.config.digest()
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()

    def set_epoch(self, epoch: int) -> None:
        """With `seed=`, begin another epoch, in all workers: call it before iterating over the loader."""
        self._source.set_epoch(epoch)

    def scales(self, image: Any) -> int:
        """How many scales the pyramid of this image has. Raises `MissingPyramidError`, `ImageError`."""
        return self._source.scales(image)

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse what a variant would falsify."""
        for value in flat_inputs:
            if isinstance(value, _GEOMETRY):
                raise TypeError(
                    f"{type(self).__name__}() expected images and labels, got {type(value).__name__}: a variant moves "
                    "structure, and masks, boxes and keypoints would not follow"
                )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """One seed from torch's global generator, which a DataLoader seeds for each worker and epoch.

        And the keys of each image where the sample has any, by the image's identity in memory.
        """
        images = [value for value in flat_inputs if not isinstance(value, SampleKey)]
        keys = [value for value in flat_inputs if isinstance(value, SampleKey)]
        if keys and len(images) > 1 and len(keys) != len(images):
            raise ConfigError(f"expected a SampleKey for each of {len(images)} images or none, got {len(keys)}")
        each = [keys] if len(images) == 1 else [[key] for key in keys]
        return {
            "seed": int(torch.randint(2**63 - 1, ())),
            "keys": {id(image): found for image, found in zip(images, each, strict=False)},
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """A pure function of the image, the seed and, where there is one, the key."""
        if isinstance(inpt, SampleKey) or not self.training:
            return inpt
        seed, keys = params["seed"], params.get("keys", {}).get(id(inpt)) or [None]
        if isinstance(inpt, Image.Image) or inpt.ndim < 4:
            return self._one(inpt, seed, None, keys[0])
        frames = inpt.shape[-4] if isinstance(inpt, tv_tensors.Video) else 1
        batch = inpt.flatten(0, -4).as_subclass(torch.Tensor)
        keys = keys * (len(batch) // len(keys))
        if len(keys) != len(batch):
            raise ConfigError(f"expected a SampleKey for each of {len(batch)} images, one, or none, got {len(keys)}")
        indices = [i // frames for i in range(len(batch))]
        drawn = [self._one(image, seed, i, key) for image, i, key in zip(batch, indices, keys, strict=True)]
        return _wrapped(torch.stack(drawn).reshape(inpt.shape), inpt)

    def _one(self, image: Any, seed: int, index: int | None, key: str | None) -> Any:
        variant = self._source.variant(image, seed, index=index, sample_key=key)
        if variant is None:
            return image
        if isinstance(image, Image.Image):
            return like(variant, image)
        return _wrapped(like(variant, image.as_subclass(torch.Tensor)), image)


def _wrapped(tensor: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return tv_tensors.wrap(tensor, like=image) if isinstance(image, tv_tensors.TVTensor) else tensor
