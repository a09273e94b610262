"""SinGANAugment for batchgeneratorsv2: 2-D images and their segmentations. For nnU-Net see `transforms.nnunet`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ImageError, LabelError
from singan_aug.pyramid.confine import Confine
from singan_aug.transforms._labels import carry_mask, object_of_masks
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant

try:
    from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
except ModuleNotFoundError as error:
    raise ImportError(
        f"SinGANAugment for batchgeneratorsv2 needs {error.name}: pip install batchgeneratorsv2"
    ) from error

__all__ = ["SinGANAugment"]

_REFUSED = ("keypoints", "bbox")


class SinGANAugment(BasicTransform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Takes `image` [C, H, W], uint8 or float in [0, 1]. Images are found by their pixels, so this belongs first, before
    crops and changes of intensity. `segmentation` and `regression_target` [C, H, W] follow its pixels where the pyramid
    was fitted with a mask, or the start scale keeps the layout, or `labels="carry"`; elsewhere they are refused. It
    never fits: run `singan-aug fit` first.

    Args:
        start_scale, strength, p, store, config, on_miss, device, labels, bank, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`. Seeds come from NumPy's global generator, which batchgenerators seeds in each of
            its processes.

    Raises:
        ConfigError: an argument is not one of these.
        LabelError: when called with labels that would not follow.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    def __init__(
        self,
        start_scale: Any = None,
        *,
        strength: float | None = None,
        p: float = 0.5,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        device: str = "cpu",
        labels: Labels = "refuse",
        bank: bool = True,
        confine: Confine | None = None,
        confine_margin_px: float = 8.0,
    ) -> None:
        super().__init__()
        self._source = VariantSource(
            Settings(
                start_scale,
                strength,
                store,
                config,
                on_miss,
                p=p,
                device=device,
                labels=labels,
                bank=bank,
                confine=confine,
                confine_margin_px=confine_margin_px,
            )
        )

    def stats(self) -> dict[str, int]:
        """What became of the images so far: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """The variant, made here for labels to follow it."""
        given = {name for name, value in data_dict.items() if value is not None}
        refused = sorted(given.intersection(_REFUSED))
        if refused:
            raise LabelError(f"expected images, segmentations and regression targets, got {', '.join(refused)}")
        image, labelled = data_dict["image"], bool(given & {"segmentation", "regression_target"})
        if image.ndim != 3:
            raise ImageError(f"expected a 2-D image [C, H, W], got {list(image.shape)}: volumes are not drawn")
        seed = int(np.random.randint(2**63 - 1, dtype=np.int64))
        masks = [data_dict["segmentation"]] if "segmentation" in given else []
        return {"variant": self._source.variant(image, seed, labelled=labelled, region=object_of_masks(masks))}

    def _apply_to_image(self, img: Tensor, variant: Variant | None) -> Tensor:
        return img if variant is None else variant.held_as(img)

    def _apply_to_segmentation(self, segmentation: Tensor, variant: Variant | None) -> Tensor:
        if variant is None or variant.field is None:  # the layout is kept
            return segmentation
        return carry_mask(segmentation, variant.field.to(segmentation.device))

    def _apply_to_regr_target(self, regression_target: Tensor, variant: Variant | None) -> Tensor:
        return self._apply_to_segmentation(regression_target, variant)
