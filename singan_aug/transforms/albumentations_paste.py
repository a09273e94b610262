"""SinGANPaste for Albumentations 2: objects pasted into images, masks and boxes brought up to date."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import LabelError
from singan_aug.images import like
from singan_aug.transforms._albumentations import SeededTransform, transforms_interface
from singan_aug.transforms._paste import Cutout, Pasted, PasteSettings, PasteSource, Where, cut_out
from singan_aug.transforms._paste_labels import boxes_beside, kept_boxes, kept_instances
from singan_aug.transforms._source import OnMiss, Settings

__all__ = ["Cutout", "SinGANPaste", "cut_out"]

_UPDATED = ("mask", "masks", "bboxes")
_REFUSED = ("images", "keypoints", "volume", "volumes", "mask3d", "masks3d")


class SinGANPaste(SeededTransform):
    """Paste an object, cut out of some image by its mask, into an image whose pyramid then redraws the object's edge.

    Beside one `image`, [H, W] or [H, W, 1 or 3], there must be a `mask` of classes, `masks` of one object each, or
    `bboxes`, and they come out up to date: the object's pixels take its value in `mask`; to `masks` and `bboxes` it is
    appended; what it hides is taken out of the others, and an object of which less than a tenth is left goes. Boxes may
    carry one field of numbers, their label. Images are found by their pixels, so this belongs first in a pipeline. It
    never fits: run `singan-aug fit` first. `A.save` does not keep objects.

    Args:
        objects: what is pasted, each as likely; `cut_out(image, mask)` gives those of an image.
        where, allowed, zoom, mirror, light, edge_px, start_scale, store, config, on_miss: as for
            `singan_aug.transforms.torchvision_paste.SinGANPaste`.
        p: how often it is applied, as anywhere in Albumentations.

    Raises:
        ConfigError: an argument is not one of these.
        LabelError: when applied without labels, or with some that cannot be brought up to date; or to a crop.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when applied.
    """

    class InitSchema(transforms_interface.BaseTransformInitSchema):
        """What Albumentations checks; the rest is checked by `PasteSource`, with errors of ours."""

        objects: Any
        where: Any
        allowed: Any
        zoom: Any
        mirror: bool
        light: Any
        edge_px: Any
        start_scale: Any
        store: str | os.PathLike[str] | None
        config: Any
        on_miss: Any

    def __init__(
        self,
        objects: Sequence[Cutout],
        where: Where = "anywhere",
        allowed: int | None = None,
        zoom: tuple[float, float] = (0.8, 1.25),
        mirror: bool = True,
        light: float = 0.5,
        edge_px: float = 2.0,
        start_scale: Any = "medium",
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        settings = Settings(start_scale, store=store, config=config, on_miss=on_miss, p=1.0)
        self._source = PasteSource(settings, objects, PasteSettings(where, allowed, zoom, mirror, light, edge_px))

    @classmethod
    def is_serializable(cls) -> bool:
        """No: objects are images."""
        return False

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, had no place or pyramid."""
        return self._source.stats()

    @property
    def targets(self) -> dict[str, Any]:
        """What is pasted into, brought up to date, refused or read."""
        return dict.fromkeys(("image", *_UPDATED, *_REFUSED, "image_path"), self._untouched)

    def _untouched(self, value: Any, **params: Any) -> Any:
        del params
        return value

    def apply(self, img: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """Never called: a paste changes image and labels together, in `apply_with_params`."""
        raise NotImplementedError

    def apply_with_params(self, sampled: Any, *args: Any, **kwargs: Any) -> Any:
        """The sample with an object in it."""
        del args
        data = {name: value for name, value in kwargs.items() if value is not None}
        names = {name: self._additional_targets.get(name, name) for name in data}
        refused = [name for name, target in names.items() if target in _REFUSED and len(data[name])]
        doubled = [name for name, target in names.items() if name != target and target in ("image", *_UPDATED)]
        if refused or doubled:
            raise LabelError(f"expected one image with mask, masks or bboxes, got {', '.join(refused + doubled)}")
        if not any(name in data for name in _UPDATED):
            raise LabelError("expected mask, masks or bboxes beside the image, got none: an object would have no label")
        if len(data.get("bboxes", "-")) == 0 and any(
            _is_empty(data[name]) for name in data if name not in self.targets
        ):
            raise LabelError(
                "expected boxes, or no label fields, got label fields without a box: Albumentations drops such fields, "
                "so the object's label would be lost; give masks instead of boxes"
            )
        planes = _planes(data["image"])
        classes = data["mask"].reshape(planes.shape[1:]) if "mask" in data else None
        pasted = self._source.paste(planes, self.seed_of(sampled), classes=classes, sample_key=data.get("image_path"))
        if pasted is None:
            return kwargs
        image = np.moveaxis(like(pasted.image, planes).numpy(), 0, -1).reshape(data["image"].shape)
        changed = {"image": np.ascontiguousarray(image), **_updated(data, pasted)}
        return {**kwargs, **changed}


def _is_empty(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 0


def _planes(array: NDArray[Any]) -> torch.Tensor:
    """[H, W] or [H, W, C] as a tensor [C, H, W]."""
    return torch.from_numpy((array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)).copy())


def _updated(data: dict[str, Any], pasted: Pasted) -> dict[str, Any]:
    own, changed = pasted.mask.numpy(), {}
    if "mask" in data:
        mask = data["mask"]
        changed["mask"] = np.where(own.reshape(mask.shape), np.asarray(pasted.value, mask.dtype), mask)
    masks, instances = data.get("masks", ()), None
    if len(masks):
        instances = torch.stack([torch.from_numpy(np.asarray(mask).reshape(own.shape) != 0) for mask in masks])
    kept = (
        torch.zeros(0, dtype=torch.bool, device="cpu") if instances is None else kept_instances(instances, pasted.mask)
    )
    if "masks" in data:
        changed["masks"] = _masks(masks, own, kept)
    if "bboxes" in data:
        boxes = data["bboxes"]
        paired = instances is not None and len(kept) == len(boxes)
        changed["bboxes"] = _boxes(boxes, instances if paired else None, kept if paired else None, pasted)
    return changed


def _boxes(boxes: NDArray[Any], instances: Tensor | None, kept: Tensor | None, pasted: Pasted) -> NDArray[Any]:
    """Boxes [N, 4 and perhaps a label] in shares of the image, and that of the object."""
    if boxes.shape[1] > 5:
        raise LabelError(f"expected boxes with one label field at most, got {boxes.shape[1] - 4}: an object has one")
    height, width = pasted.mask.shape
    corners = torch.from_numpy(boxes[:, :4].astype(np.float64))
    shares = corners.new_tensor([width, height, width, height])
    corners = corners * shares
    if kept is None:
        kept = kept_boxes(corners, pasted.mask)
    stays = torch.cat([kept, kept.new_ones(1)])
    after = boxes_beside(corners, instances, pasted.mask)[stays] / shares
    labels = np.concatenate([boxes[:, 4:], np.full((1, boxes.shape[1] - 4), pasted.value)])[stays.numpy()]
    return np.concatenate([after.numpy(), labels], 1).astype(boxes.dtype)


def _masks(masks: Any, own: NDArray[np.bool_], kept: Tensor) -> Any:
    """Masks of one object each, [H, W] or [H, W, 1], in the array or list that they came in."""
    left = [
        np.where(own.reshape(mask.shape), np.zeros((), mask.dtype), mask)
        for mask, stays in zip(masks, kept.tolist(), strict=True)
        if stays
    ]
    like_others = masks[0] if len(masks) else np.empty(own.shape, getattr(masks, "dtype", np.uint8))
    left.append(own.reshape(like_others.shape).astype(like_others.dtype))
    return np.stack(left) if isinstance(masks, np.ndarray) else left
