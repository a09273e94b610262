"""SinGANAugment for MMDetection, MMSegmentation and whatever else runs pipelines of MMCV 2."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from singan_aug.config import FitConfig
from singan_aug.errors import LabelError
from singan_aug.pyramid.confine import Confine
from singan_aug.transforms._labels import boxes_of, carry_boxes, carry_mask, object_of_masks
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant

try:
    from mmcv.transforms import BaseTransform
    from mmengine.registry import TRANSFORMS
except ModuleNotFoundError as error:
    raise ImportError(f"SinGANAugment for MMDetection and MMSegmentation needs {error.name}") from error

__all__ = ["SinGANAugment"]

_LABELS = ("gt_seg_map", "gt_masks", "gt_bboxes", "gt_depth_map")
_REFUSED = ("gt_keypoints", "proposals")
_OF_INSTANCES = ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags", "gt_instances_ids", "gt_masks")


class SinGANAugment(BaseTransform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Registered in MMEngine's root registry, where those of MMDetection and MMSegmentation look too: name this module in
    `custom_imports` and write `dict(type="SinGANAugment", ...)` after `LoadAnnotations` and before what changes pixels.
    It never fits: run `singan-aug fit` first.

    `gt_seg_map`, `gt_depth_map` and `gt_masks` follow the pixels where the pyramid was fitted with a mask, or the start
    scale keeps the layout, or `labels="carry"`; elsewhere they are refused. `gt_bboxes` are those of the `gt_masks`
    beside them; without such they are refused where things move. Instances that a draw leaves out are removed.

    Args:
        start_scale, strength, p, store, config, on_miss, device, labels, bank, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`. Seeds come from NumPy's global generator, which MMEngine seeds for each worker.

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
        """What became of the images so far, in all workers: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """A sample whose `img`, [H, W] or [H, W, 3] in BGR, is a variant, and whose labels follow it."""
        refused = [name for name in _REFUSED if results.get(name) is not None and len(results[name])]
        if refused:
            raise LabelError(f"expected masks, segmentations and boxes beside the image, got {', '.join(refused)}")
        image, labels = results["img"], [name for name in _LABELS if results.get(name) is not None]
        planes = _planes(image)
        seed = int(np.random.randint(2**63 - 1, dtype=np.int64))
        masks = [results["gt_seg_map"]] if "gt_seg_map" in labels else []
        masks += [results["gt_masks"].to_ndarray()] if "gt_masks" in labels else []
        region = object_of_masks([torch.from_numpy(np.ascontiguousarray(mask)) for mask in masks])
        variant = self._source.variant(planes, seed, labelled=bool(labels), region=region)
        if variant is None:
            return results
        drawn = _reversed(variant.held_as(planes).numpy())
        changed = {**results, "img": np.ascontiguousarray(np.moveaxis(drawn, 0, -1)).reshape(image.shape)}
        if not labels or variant.field is None:  # the layout is kept
            return changed
        field = variant.field.cpu()
        for name in ("gt_seg_map", "gt_depth_map"):
            if name in labels:
                changed[name] = _carried(results[name], field)
        return _with_instances(changed, variant, field)


def _with_instances(results: dict[str, Any], variant: Variant, field: torch.Tensor) -> dict[str, Any]:
    """The sample with its masks moved, the boxes around them, and without the instances of which nothing is left."""
    masks, boxes = results.get("gt_masks"), results.get("gt_bboxes")
    if masks is None:
        if boxes is not None:
            carry_boxes(
                torch.zeros(len(boxes), 4, dtype=torch.float32, device="cpu"), keeps_layout=variant.keeps_layout
            )
        return results
    planes = torch.from_numpy(_carried(masks.to_ndarray(), field))
    found, survives = boxes_of(planes != 0)
    kept = survives.numpy()
    from mmdet.structures.mask import BitmapMasks  # whoever gives gt_masks has it

    moved = {"gt_masks": BitmapMasks(planes.numpy(), *field.shape[1:])}
    if boxes is not None:
        if boxes.shape[-1] != 4:
            raise LabelError(f"expected upright boxes [N, 4], got {list(boxes.shape)}")
        corners: Any = found.numpy().astype(np.float32)
        moved["gt_bboxes"] = corners if isinstance(boxes, np.ndarray) else type(boxes)(corners)
    of_instances = {name: results[name] for name in _OF_INSTANCES if results.get(name) is not None} | moved
    return {**results, **{name: value[kept] for name, value in of_instances.items()}}


def _carried(masks: NDArray[Any], field: torch.Tensor) -> NDArray[Any]:
    carried: NDArray[Any] = carry_mask(torch.from_numpy(np.ascontiguousarray(masks)), field).numpy()
    return carried


def _planes(image: NDArray[Any]) -> torch.Tensor:
    """[C, H, W], in RGB: MMCV loads BGR."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return torch.from_numpy(_reversed(planes).copy())


def _reversed(planes: NDArray[Any]) -> NDArray[Any]:
    return planes[::-1] if len(planes) == 3 else planes


TRANSFORMS.register_module(module=SinGANAugment)
