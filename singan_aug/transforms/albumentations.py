"""SinGANAugment for Albumentations 2: the last MIT release (2.0.8) and its successor of the same import name."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from singan_aug.config import FitConfig
from singan_aug.images import like
from singan_aug.pyramid.noise import derive_seed
from singan_aug.transforms._source import OnMiss, Settings, VariantSource

try:
    # One asks a server for its newest version when it is imported, the other reports on the first Compose.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("ALBUMENTATIONS_NO_TELEMETRY", "1")
    import albumentations as A
    from albumentations.core import transforms_interface
except ModuleNotFoundError as error:
    raise ImportError(
        f'SinGANAugment for Albumentations needs {error.name}: pip install "singan-aug[albumentations]"'
    ) from error

__all__ = ["SinGANAugment"]

_REFUSED = ("mask", "masks", "bboxes", "keypoints", "volume", "volumes", "mask3d", "masks3d")
_IS_SUCCESSOR = hasattr(A.BasicTransform, "sample_parameters")


class SinGANAugment(A.ImageOnlyTransform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Images are found by their pixels, so this belongs first in a pipeline, right after decoding, and takes RGB (what
    `cv2.imread` gives is BGR). They come out in the shape and dtype they came in: uint8 or float ([0, 1]) arrays
    [H, W], [H, W, 1 or 3] or [H, W, 4], whose fourth channel is kept. Each of `images` is a draw of its own. Labels
    pass untouched. It never fits: run `singan-aug fit` first.

    The seed of a draw comes from `A.Compose(seed=)`, and in a DataLoader's worker from the worker's seed too. `A.load`
    needs this module imported.

    Args:
        start_scale: 0 (coarsest: new global structure) up to the finest scale (texture alone); negative ones count
            from the finest.
        store: the store's folder; by default $SINGAN_AUG_CACHE, else the user's cache folder. `A.save` keeps what was
            given.
        config: take pyramids fitted with exactly this config; by default the one fitted last.
        on_miss: "error" raises `MissingPyramidError` for an image without a pyramid, "pass" leaves it as it is.
        p: how often it is applied, as anywhere in Albumentations.

    Raises:
        ConfigError: an argument is not one of these. (ValueError for `config` and `p`, which Albumentations checks.)
        TypeError: when applied beside masks, bounding boxes, keypoints or volumes, which would not follow a variant's
            structure.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when applied.
    """

    class InitSchema(transforms_interface.BaseTransformInitSchema):
        """What Albumentations checks and converts; the rest is checked by `VariantSource`, with errors of ours."""

        start_scale: Any
        strength: Any
        store: str | os.PathLike[str] | None
        config: FitConfig | None
        on_miss: Any
        device: Any

    def __init__(
        self,
        start_scale: Any = None,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | dict[str, Any] | None = None,
        on_miss: OnMiss = "error",
        strength: float | None = None,
        device: str = "cpu",
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        wanted = None if config is None else FitConfig(**dict(config))
        # to_dict, hence A.save, reads the attributes named like arguments, and JSON must hold them.
        self.start_scale = start_scale
        self.strength = strength
        self.store = None if store is None else os.fspath(store)
        self.config = None if wanted is None else wanted.model_dump(mode="json")
        self.on_miss = on_miss
        self.device = device
        self._source = VariantSource(Settings(start_scale, strength, self.store, wanted, on_miss, device=device))
        self._worker_seed: int | None = None

    if _IS_SUCCESSOR:  # it refuses a class that defines get_params

        def sample_parameters(self, params: Any, data: Any, targets: Any, sampling: Any) -> Any:
            """One seed from the call's generator, which the successor seeds for each worker and epoch.

            It adds the worker's seed to Compose's, so that worker 1 of seed 1 would repeat worker 0 of seed 2.
            """
            del params, data, targets
            seed, worker = _seed(sampling.random_generator), get_worker_info()
            if worker is not None:
                seed = derive_seed(seed, worker.seed)
            return transforms_interface.SampledParams(params={"seed": seed})

    else:

        def should_apply(self, force_apply: bool = False) -> bool:
            """Decide, in a DataLoader's worker from generators of its own: 2.0.8 hands the same ones to each."""
            worker = get_worker_info()
            if worker is not None and worker.seed != self._worker_seed:
                self.set_random_seed(derive_seed(_seed(self.random_generator), worker.seed))
                self._worker_seed = worker.seed
            return bool(super().should_apply(force_apply=force_apply))

        def get_params(self) -> dict[str, Any]:
            """One seed from the generator that Compose hands out, or the worker's."""
            return {"seed": _seed(self.random_generator)}

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, and how many had no pyramid."""
        return self._source.stats()

    def scales(self, image: NDArray[Any]) -> int:
        """How many scales the pyramid of this image has. Raises `MissingPyramidError`, `ImageError`."""
        return self._source.scales(image)

    @property
    def targets(self) -> dict[str, Any]:
        """What is drawn, and what is refused, under these names and those of `additional_targets`."""
        refused = {name: partial(self._refuse, name) for name in _REFUSED}
        return {"image": self.apply, "images": self.apply_to_images, **refused}

    def apply_with_params(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse what a variant would falsify before anything is drawn."""
        for name, value in kwargs.items():
            if value is not None and self._additional_targets.get(name, name) in _REFUSED:
                self._refuse(name)
        return super().apply_with_params(*args, **kwargs)

    def _refuse(self, name: str, *args: Any, **params: Any) -> None:
        del args, params
        raise TypeError(
            f"{type(self).__name__}() expected images and labels, got {name}: a variant moves structure, and masks, "
            "boxes and keypoints would not follow"
        )

    def apply(self, img: NDArray[Any], seed: int, **params: Any) -> NDArray[Any]:
        """A pure function of the image and the seed."""
        del params
        planes = img[None] if img.ndim == 2 else np.moveaxis(img, -1, 0)
        image = torch.from_numpy(planes.copy())
        variant = self._source.variant(image, seed)
        if variant is None:
            return img
        drawn: NDArray[Any] = like(variant, image).numpy()
        return np.ascontiguousarray(np.moveaxis(drawn, 0, -1)).reshape(img.shape)

    def apply_to_images(self, images: Any, seed: int, **params: Any) -> Any:
        """Each with a seed of its own, as the torchvision adapter draws a batch."""
        if len(images) == 0:
            return images
        return np.stack([self.apply(image, derive_seed(seed, i), **params) for i, image in enumerate(images)])


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**63 - 1))
