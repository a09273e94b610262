"""A trainer for nnU-Net v2's 2-D configuration, some of whose cases are variants, found by their case identifiers.

nnU-Net has cropped, resampled and normalised its images before any transform sees them, so no image can be found by its
pixels there. This reads the raw image of a case, draws from its pyramid, and moves the preprocessed pixels, of every
channel, and their segmentation as the draw says where each pixel comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.errors import ConfigError, LabelError
from singan_aug.images import load_image
from singan_aug.pyramid.sizes import Size
from singan_aug.transforms._labels import carry_mask, sample_field
from singan_aug.transforms._source import Settings, VariantSource

try:
    from nnunetv2.paths import nnUNet_raw
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
except ModuleNotFoundError as error:
    raise ImportError(f"nnUNetTrainerSinGAN needs {error.name}: pip install nnunetv2") from error

__all__ = ["VariantCases", "nnUNetTrainerSinGAN"]


class nnUNetTrainerSinGAN(nnUNetTrainer):
    """nnU-Net's trainer, with variants in place of a share of its training cases. Validation cases stay as they are.

    Import it in a file of a folder that `nnUNet_extTrainer` names, and train with `-tr nnUNetTrainerSinGAN`.

    Raises:
        ConfigError: when training starts, of another configuration than a 2-D one.
    """

    augment: ClassVar[Mapping[str, Any]] = {}
    """Start_scale, strength, p, store, config, on_miss, seed, device, labels: as for `singan_aug.SinGANAugment`."""

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """The cases to train with, as variants or as they are, and the cases to validate with."""
        if len(self.configuration_manager.patch_size) != 2:
            raise ConfigError(
                f"expected the configuration 2d, got {self.configuration_name}: pyramids are fitted to 2-D images"
            )
        train, validate = super().get_tr_and_val_datasets()
        raw = f"{nnUNet_raw}/{self.plans_manager.dataset_name}"
        files = get_filenames_of_train_images_and_targets(raw, self.dataset_json)
        return VariantCases(train, {name: case["images"][0] for name, case in files.items()}, self.augment), validate


class VariantCases:
    """An nnU-Net dataset, a share of whose cases come as variants.

    Args:
        cases: the dataset, of preprocessed cases: data [C, 1, H, W], segmentation [1, 1, H, W].
        files: the raw image of each case that pyramids were fitted to; of several channels, one.
        augment: as `nnUNetTrainerSinGAN.augment`.

    Raises:
        ConfigError: `augment` has an unknown name or value.
    """

    def __init__(self, cases: Any, files: Mapping[str, str], augment: Mapping[str, Any]) -> None:
        unknown = sorted(set(augment) - set(Settings.__annotations__))
        if unknown:
            raise ConfigError(f"expected augment with {', '.join(Settings.__annotations__)}, got {', '.join(unknown)}")
        self._cases, self._files = cases, files
        self._source = VariantSource(Settings(**augment))
        self.identifiers = cases.identifiers

    def stats(self) -> dict[str, int]:
        """What became of the cases in this process: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()

    def __getitem__(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        return self.load_case(identifier)

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        """(data, segmentation, segmentation of the stage before or None, properties) of a case or of a variant of it.

        Raises `MissingPyramidError`, `LabelError`, `ImageError`, and what nnU-Net's own raises.
        """
        data, seg, before, properties = self._cases.load_case(identifier)
        pixels = load_image(self._files[identifier]).pixels
        seed = int(np.random.randint(2**63 - 1, dtype=np.int64))  # of the process's generator, as nnU-Net's own
        variant = self._source.variant(pixels, seed, labelled=True)
        if variant is None:
            return data, seg, before, properties
        if variant.field is None:
            raise LabelError(
                f"expected pyramids that copy pixels, as the preset `fast` fits, got another for case {identifier}: "
                "preprocessed pixels cannot follow it"
            )
        box = properties["bbox_used_for_cropping"]
        whole = tuple(properties["shape_before_cropping"])
        if whole != (1, *pixels.shape[:2]):
            raise LabelError(
                f"expected case {identifier} to be a 2-D image of {list(pixels.shape[:2])}, as its file is, "
                f"got {list(whole)} from nnU-Net"
            )
        field = field_of_crop(variant.field.cpu(), (box[1], box[2]), (data.shape[-2], data.shape[-1]))
        seg = _moved(seg, field)
        places = {label: np.argwhere(np.isin(seg, label)) for label in properties["class_locations"]}
        changed = {**properties, "class_locations": places}
        return _moved(data, field), seg, None if before is None else _moved(before, field), changed


def field_of_crop(
    field: Tensor,  # int64 [2, H, W]: row and column in the raw image that each pixel of a variant comes from
    box: tuple[tuple[int, int], tuple[int, int]],  # (top, bottom), (left, right) of the crop: bounds, half open
    size: Size,  # (h, w) that the crop was resampled to
) -> Tensor:
    """The field, int64 [2, h, w], of the crop. Pixels that would come from outside it stay as they are, labels too."""
    (top, bottom), (left, right) = box
    height, width = bottom - top, right - left
    rows, columns = field[0, top:bottom, left:right] - top, field[1, top:bottom, left:right] - left
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    own_rows, own_columns = torch.meshgrid(
        *(torch.arange(side, device=field.device) for side in (height, width)), indexing="ij"
    )
    origins = torch.stack([torch.where(inside, rows, own_rows), torch.where(inside, columns, own_columns)])
    return sample_field(origins, (height, width), size)


def _moved(planes: Any, field: Tensor) -> NDArray[Any]:
    moved: NDArray[Any] = carry_mask(torch.from_numpy(np.ascontiguousarray(planes[:])), field).numpy()
    return moved
