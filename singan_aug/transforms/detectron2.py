"""SinGANAugment for Detectron2: masks, polygons and keypoints go where the pixels of a variant come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from singan_aug.annotations import Shape, added_polygons
from singan_aug.config import FitConfig
from singan_aug.errors import LabelError
from singan_aug.pyramid.confine import Confine
from singan_aug.transforms._labels import carry_keypoints, carry_mask
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant

try:
    from detectron2.data.transforms import Augmentation, NoOpTransform, Transform
except ModuleNotFoundError as error:
    raise ImportError(
        f"SinGANAugment for Detectron2 needs {error.name}: see detectron2's own installation guide"
    ) from error

__all__ = ["SinGANAugment", "VariantTransform"]

_LOST_PX = -10_000.0  # x and y of a point that is not to be seen: padding will not bring it back into the image


class SinGANAugment(Augmentation):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Images are found by their pixels, so this belongs first in `DatasetMapper(augmentations=[...])`, before
    `ResizeShortestEdge`; they come in as `cfg.INPUT.FORMAT` says ("BGR" by default). It never fits: run
    `singan-aug fit` first.

    Labels follow the pixels where the pyramid was fitted with a mask, or the start scale keeps the layout, or
    `labels="carry"`; elsewhere they are refused: full-image segmentations, polygons, bit masks and keypoints. Boxes
    alone cannot follow where things move: let the mapper make them from the masks.

    Args:
        recompute_boxes: say that the mapper makes boxes from masks, as `DatasetMapper(recompute_boxes=True)` does:
            they then pass unchanged. Otherwise they are refused where things move.
        start_scale, strength, p, store, config, on_miss, device, labels, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`. Seeds come from NumPy's global generator, which Detectron2 seeds for each
            worker. Draws are live: no bank knows where its pixels come from.

    Raises:
        ConfigError: an argument is not one of these.
        LabelError: when labels would not follow.
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
        confine: Confine | None = None,
        confine_margin_px: float = 8.0,
        recompute_boxes: bool = False,
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
                confine=confine,
                confine_margin_px=confine_margin_px,
            )
        )
        self._recompute_boxes = recompute_boxes

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()

    def get_transform(self, image: NDArray[Any]) -> Transform:
        """The variant's transform, or none; `image` is [H, W] or [H, W, C]."""
        seed = int(np.random.randint(2**63 - 1, dtype=np.int64))
        planes = _planes(image)
        variant = self._source.variant(planes, seed, labelled=True)
        if variant is None:
            return NoOpTransform()
        drawn = variant.held_as(planes).numpy()
        return VariantTransform(_as_held(drawn, image), variant, self._recompute_boxes)


class VariantTransform(Transform):
    """Takes an image to one variant of it, and its labels with it. A pure function of what it is given."""

    def __init__(self, image: NDArray[Any], variant: Variant, recompute_boxes: bool) -> None:
        super().__init__()
        self._image, self._variant, self._recompute_boxes = image, variant, recompute_boxes

    def apply_image(self, img: NDArray[Any]) -> NDArray[Any]:
        """The variant, [H, W] or [H, W, C]. `img` is the image that it was drawn for."""
        if img.shape != self._image.shape:
            raise LabelError(f"expected the image {list(self._image.shape)} that was drawn, got {list(img.shape)}")
        return self._image

    def apply_segmentation(self, segmentation: NDArray[Any]) -> NDArray[Any]:
        """A mask [H, W], where the pixels went."""
        if self._field is None:  # the layout is kept
            return segmentation
        planes = torch.from_numpy(np.ascontiguousarray(segmentation))
        carried: NDArray[Any] = carry_mask(planes, self._field).numpy()
        return carried

    def apply_polygons(self, polygons: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """One object's polygons, each [K, 2] of x, y, around what is left of it, pixel by pixel; none if nothing is."""
        if self._field is None:
            return list(polygons)
        size = (self._field.shape[1], self._field.shape[2])
        outline = Shape(0, polygons=tuple(tuple(np.ravel(polygon).tolist()) for polygon in polygons)).outline(size)
        if outline is None:
            return []
        return [polygon.astype(np.float64) for polygon in added_polygons(self.apply_segmentation(outline))]

    def apply_coords(self, coords: NDArray[Any]) -> NDArray[Any]:
        """Keypoints [N, 2] of x, y; those that the draw leaves out lie far outside the image."""
        if self._field is None:
            return coords
        moved, visible = carry_keypoints(torch.from_numpy(np.asarray(coords, np.float64)), self._field)
        moved[~visible] = _LOST_PX
        return np.asarray(moved.numpy(), coords.dtype)

    def apply_box(self, box: NDArray[Any]) -> NDArray[Any]:
        """Boxes [N, 4] as they are, where the layout is kept or they will be made anew."""
        if len(box) and not (self._variant.keeps_layout or self._recompute_boxes):
            raise LabelError(
                "expected boxes that are made from masks, got boxes alone at a start scale that moves things: give the "
                "dataset masks, and recompute_boxes=True both to DatasetMapper and to SinGANAugment; or take a start "
                "scale that keeps the layout (see `displacement_px` in `singan-aug show`)"
            )
        return np.asarray(box, dtype=np.float64).reshape(-1, 4)

    @property
    def _field(self) -> torch.Tensor | None:
        field = self._variant.field
        return None if field is None else field.cpu()


def _planes(image: NDArray[Any]) -> torch.Tensor:
    """[C, H, W], in RGB if the image is BGR. RGB for BGR is found too, but only by what it looks like."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return torch.from_numpy(_reversed(planes).copy())


def _as_held(planes: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(_reversed(planes), 0, -1)).reshape(image.shape)


def _reversed(planes: NDArray[Any]) -> NDArray[Any]:
    return planes[::-1] if len(planes) == 3 else planes
