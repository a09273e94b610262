"""SinGANAugment for Albumentations 2: the last MIT release (2.0.8) and its successor of the same import name."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from singan_aug.config import FitConfig
from singan_aug.errors import LabelError
from singan_aug.images import to_pixels
from singan_aug.pyramid.confine import Confine
from singan_aug.store import open_store
from singan_aug.transforms._albumentations import SeededTransform, transforms_interface
from singan_aug.transforms._labels import LOST_PX, boxes_of, carry_boxes, carry_keypoints, carry_mask, object_of_masks
from singan_aug.transforms._miss import looks_like_labels
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant, follow

__all__ = ["SinGANAugment"]

_CARRIED = ("mask", "masks", "bboxes", "keypoints")
_REFUSED = ("volume", "volumes", "mask3d", "masks3d")


class SinGANAugment(SeededTransform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Images are found by their pixels, so this belongs first in a pipeline, right after decoding, and takes RGB (what
    `cv2.imread` gives is BGR). They come out in the shape and dtype they came in: uint8 or float ([0, 1]) arrays
    [H, W], [H, W, 1 or 3] or [H, W, 4], whose fourth channel is kept. `images` are the frames of one clip: the first is
    drawn, and all move as it does. Class labels pass untouched. It never fits: run `singan-aug fit` first.

    Masks, boxes and keypoints beside one image or one clip follow its pixels where its pyramid was fitted with a mask,
    or the start scale keeps the layout, or `labels="carry"`; elsewhere they are refused. Boxes are those of the
    instance masks in `masks`, one for each; without such, they are refused where things move. What a draw leaves out
    loses its row, but for keypoints with `remove_invisible=False`, which then lie far outside the image.

    `image_path=` beside `image=` says which file it is (beside `images=`, the first one or a list), and is preferred to
    the pixels.

    The seed of a draw comes from `A.Compose(seed=)`, and in a DataLoader's worker from the worker's seed too. `A.load`
    needs this module imported.

    Args:
        start_scale, strength, store, config, on_miss, device, labels, bank, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`. `A.save` keeps the store that was given, by its absolute path.
        p: how often it is applied, as anywhere in Albumentations.

    Raises:
        ConfigError: an argument is not one of these. (ValueError for `config`, `bank` and `p`, which Albumentations
            checks.)
        LabelError: when applied beside labels that would not follow, or volumes.
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
        labels: Any
        bank: bool
        confine: Any
        confine_margin_px: Any

    def __init__(
        self,
        start_scale: Any = None,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | dict[str, Any] | None = None,
        on_miss: OnMiss = "error",
        strength: float | None = None,
        device: str = "cpu",
        labels: Labels = "refuse",
        bank: bool = True,
        confine: Confine | None = None,
        confine_margin_px: float = 8.0,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        wanted = None if config is None else FitConfig(**dict(config))
        # to_dict, hence A.save, reads the attributes named like arguments, and JSON must hold them.
        self.start_scale = start_scale
        self.strength = strength
        self.store = None if store is None else open_store(store).location
        self.config = None if wanted is None else wanted.model_dump(mode="json")
        self.on_miss = on_miss
        self.device = device
        self.labels = labels
        self.bank = bank
        self.confine = confine
        self.confine_margin_px = confine_margin_px
        settings = Settings(
            start_scale,
            strength,
            self.store,
            wanted,
            on_miss,
            p=1.0,
            device=device,
            labels=labels,
            bank=bank,
            confine=confine,
            confine_margin_px=confine_margin_px,
        )
        self._source = VariantSource(settings)

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, and how many had no pyramid."""
        return self._source.stats()

    def scales(self, image: NDArray[Any]) -> int:
        """How many scales the pyramid of this image has. Raises `MissingPyramidError`, `ImageError`."""
        return self._source.scales(image)

    @property
    def targets(self) -> dict[str, Any]:
        """What is drawn, carried, refused or read, under these names and those of `additional_targets`."""
        carried = dict.fromkeys((*_CARRIED, *_REFUSED, "image_path"), self._untouched)
        return {"image": self.apply, "images": self.apply_to_images, **carried}

    def apply_with_params(self, sampled: Any, *args: Any, **kwargs: Any) -> Any:
        """Draw what is an image; let labels follow, or refuse what a variant would falsify before anything is drawn."""
        del args
        seed = self.seed_of(sampled)
        kwargs = {name: _contiguous(value) for name, value in kwargs.items()}
        names = {name: self._additional_targets.get(name, name) for name, value in kwargs.items() if value is not None}
        images = [name for name, target in names.items() if target in ("image", "images")]
        wanted = ("mask", "masks") if self.confine else ()  # an empty list of masks says that there is no object
        labels = [n for n, target in names.items() if target in _CARRIED and (target in wanted or len(kwargs[n]))]
        for name, target in names.items():
            if target in _REFUSED:
                raise LabelError(
                    f"expected images and their labels, got {name}: slices of a volume are not drawn alike"
                )
        if not labels:
            path = kwargs.get("image_path")
            drawn = self._each({name: kwargs[name] for name in images if names[name] == "image"}, seed, path)
            for name in images:
                if names[name] == "images":
                    drawn[name] = self.apply_to_images(kwargs[name], seed=seed, image_path=path)
            return {**kwargs, **drawn}
        if len(images) != 1:
            raise LabelError(f"expected one image beside {', '.join(labels)}, got {', '.join(images) or 'none'}")
        return {**kwargs, **self._labelled(kwargs, images[0], labels, names, seed)}

    def _each(self, images: dict[str, NDArray[Any]], seed: int, image_path: Any) -> dict[str, NDArray[Any]]:
        """Several images, each drawn by itself. Raises `LabelError` where what looks like a mask would stay behind."""
        variants = {
            name: self._source.variant(_planes(image), seed, sample_key=image_path) for name, image in images.items()
        }
        moved = {images[name].shape[:2] for name, found in variants.items() if found and not found.keeps_layout}
        for name, image in images.items():
            stays = variants[name] is None and image.shape[:2] in moved
            if stays and looks_like_labels(to_pixels(_planes(image))):
                raise LabelError(
                    f"expected labels as masks, got {name}, an image that looks like a mask, beside an image of that "
                    "size: it would stay where it is while things in the image move; with "
                    f'additional_targets={{"{name}": "mask"}} it follows'
                )
        return {n: images[n] if found is None else _as_array(found, images[n]) for n, found in variants.items()}

    def _labelled(
        self, data: dict[str, Any], image: str, labels: list[str], names: dict[str, str], seed: int
    ) -> dict[str, Any]:
        is_clip = names[image] == "images"
        if is_clip and not len(data[image]):
            raise LabelError(f"expected images beside {', '.join(labels)}, got none")
        first = data[image][0] if is_clip else data[image]
        path = _first(data.get("image_path")) if is_clip else data.get("image_path")
        region = _object_of({name: data[name] for name in labels if "mask" in names[name]}, names, first.shape[:2])
        variant = self._source.variant(
            _planes(first), seed, index=0 if is_clip else None, sample_key=path, labelled=True, region=region
        )
        if variant is None:
            return {}
        changed = {image: self._clip(data[image], variant, seed) if is_clip else _as_array(variant, first)}
        if variant.field is None:  # the layout is kept, by a pyramid that copies no pixels
            return changed
        field = variant.field.cpu()
        carried = {name: _carried_masks(data[name], names[name], field) for name in labels if "mask" in names[name]}
        instances = [masks for name, masks in carried.items() if names[name] == "masks"]
        for name in labels:
            if names[name] == "bboxes":
                carried[name] = _carried_boxes(data[name], field, instances, variant.keeps_layout)
            elif names[name] == "keypoints":
                carried[name] = _carried_points(data[name], field, drops=self._drops_points())
        return {**changed, **carried}

    def _untouched(self, value: Any, **params: Any) -> Any:
        del params
        return value

    def apply(self, img: NDArray[Any], seed: int, image_path: Any = None, **params: Any) -> NDArray[Any]:
        """A pure function of the image and the seed."""
        del params
        variant = self._source.variant(_planes(img), seed, sample_key=image_path)
        return img if variant is None else _as_array(variant, img)

    def apply_to_images(self, images: Any, seed: int, image_path: Any = None, **params: Any) -> Any:
        """The frames of a clip, moved as the first one is."""
        del params
        if len(images) == 0:
            return images
        live = len(images) > 1
        variant = self._source.variant(_planes(images[0]), seed, index=0, sample_key=_first(image_path), live=live)
        return images if variant is None else self._clip(images, variant, seed)

    def _clip(self, images: Any, variant: Variant, seed: int) -> Any:
        """Frames, moved as the first is; each drawn alike where it is not known how that one moves."""
        if variant.field is None:
            changed = [_as_array(variant, images[0]), *(self.apply(image, seed) for image in images[1:])]
        else:
            frames = torch.stack([_planes(image) for image in images])
            changed = [_as_layout(frame, image) for frame, image in zip(follow(frames, variant), images, strict=True)]
        return np.stack(changed) if isinstance(images, np.ndarray) else changed

    def _drops_points(self) -> bool:
        """Whether the pipeline wants no keypoints that are not to be seen."""
        processor = self.get_processor("keypoints")
        return processor is not None and bool(processor.params.remove_invisible)


def _planes(array: NDArray[Any]) -> torch.Tensor:
    """[H, W] or [H, W, C] as a tensor [C, H, W]."""
    return torch.from_numpy((array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)).copy())


def _contiguous(value: Any) -> Any:
    """As any transform of Albumentations hands on its targets; the very object where it is so already."""
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) and value.ndim else value


def _first(image_path: Any) -> Any:
    return next(iter(image_path), None) if isinstance(image_path, list | tuple) else image_path


def _as_array(variant: Variant, array: NDArray[Any]) -> NDArray[Any]:
    return _as_layout(variant.held_as(_planes(array)), array)


def _as_layout(planes: torch.Tensor, array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(planes.cpu().numpy(), 0, -1)).reshape(array.shape)


def _object_of(masks: dict[str, Any], names: dict[str, str], size: tuple[int, ...]) -> torch.Tensor | None:
    """bool [H, W]: where any mask is above 0; None without masks."""
    each = [_planes(mask) for name, value in masks.items() for mask in (value if names[name] == "masks" else [value])]
    return object_of_masks(each or [torch.zeros(*size, dtype=torch.bool, device="cpu")]) if masks else None


def _carried_masks(masks: Any, target: str, field: torch.Tensor) -> Any:
    """A mask [H, W] or [H, W, C]; for the target "masks" a list or array of such."""
    if target == "masks":
        if not len(masks):
            return masks
        carried = [_carried_masks(mask, "mask", field) for mask in masks]
        return np.stack(carried) if isinstance(masks, np.ndarray) else carried
    taken: NDArray[Any] = np.asarray(carry_mask(_planes(masks), field))
    return np.ascontiguousarray(np.moveaxis(taken, 0, -1)).reshape(masks.shape)


def _carried_boxes(boxes: NDArray[Any], field: torch.Tensor, instances: list[Any], keeps_layout: bool) -> NDArray[Any]:
    """Boxes [N, 4 and more] in shares of the image: those of N carried instance masks, lost ones left out."""
    height, width = field.shape[-2:]
    for masks in instances:
        if len(masks) == len(boxes):
            found, survives = boxes_of(torch.stack([(_planes(mask) != 0).any(0) for mask in masks]))
            shares = found.numpy() / np.array([width, height, width, height])
            carried = np.concatenate([shares, boxes[:, 4:]], axis=1)[survives.numpy()]
            return np.asarray(carried, boxes.dtype)
    carry_boxes(torch.from_numpy(boxes[:, :4].copy()), keeps_layout=keeps_layout)
    return boxes


def _carried_points(points: NDArray[Any], field: torch.Tensor, *, drops: bool) -> NDArray[Any]:
    """Points [N, x, y and more], counted from the middle of the first pixel; lost ones dropped or moved far away."""
    moved, visible = carry_keypoints(torch.from_numpy(points[:, :2] + 0.5), field)
    places = torch.where(visible[:, None], moved - 0.5, LOST_PX).numpy()
    carried = np.concatenate([places, points[:, 2:]], axis=1)
    return np.asarray(carried[visible.numpy()] if drops else carried, points.dtype)
