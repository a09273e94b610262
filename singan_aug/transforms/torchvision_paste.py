"""SinGANPaste for torchvision's transforms v2: objects pasted into images, labels brought up to date."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree
from torchvision import tv_tensors
from torchvision.transforms import v2

from singan_aug.config import FitConfig
from singan_aug.errors import LabelError
from singan_aug.images import like
from singan_aug.transforms._paste import Cutout, Pasted, PasteSettings, PasteSource, Where, cut_out
from singan_aug.transforms._paste_labels import boxes_beside, kept_boxes, kept_instances
from singan_aug.transforms._source import OnMiss, Settings
from singan_aug.transforms.keys import SampleKey

__all__ = ["Cutout", "SinGANPaste", "cut_out"]

_KEYPOINTS = getattr(tv_tensors, "KeyPoints", None)  # since torchvision 0.23
_APPENDED: dict[str, Callable[[Pasted], Any]] = {  # what an object adds to what is kept of each, by its key
    "labels": lambda pasted: pasted.value,
    "label": lambda pasted: pasted.value,
    "area": lambda pasted: int(pasted.mask.sum()),
    "iscrowd": lambda _: 0,
}


class SinGANPaste(v2.Transform):
    """Paste an object, cut out of some image by its mask, into an image whose pyramid then redraws the object's edge.

    A sample is an image with its labels, as a tuple or dict of them: a PIL image, `tv_tensors.Image` or uint8 or float
    tensor [C, H, W], C 1 or 3, and masks, boxes or both. They come out up to date: the object's pixels take its value
    in a `Mask` of classes [H, W] or [1, H, W]; to instance masks [N, H, W] and boxes [N, 4] the object is appended, and
    with them to `labels`, `area` and `iscrowd` of the same N; what it hides is taken out of the others' masks and
    boxes, and an object of which less than a tenth is left goes. Images are found by their pixels, so this belongs
    first in a pipeline. It never fits: run `singan-aug fit` first. After `.eval()` it is the identity.

    Args:
        objects: what is pasted, each as likely; `cut_out(image, mask)` gives those of an image.
        p: how likely an image is pasted into.
        where: "anywhere", or "near": about where the object lay in its own image.
        allowed: value of the sample's mask of classes in which the whole object must lie, such as 0, the background.
        zoom: least and most size of an object, of its own; none is larger than 0.8 of a side.
        mirror: whether objects may be mirrored.
        light: share (0 to 1) of the difference between its old and new surroundings that an object takes over.
        edge_px: how far along its edge the pyramid redraws; 0: plain copy-paste.
        start_scale: the first scale that redraws, "medium" by default.
        store, config, on_miss, seed: as for `SinGANAugment`.

    Raises:
        ConfigError: an argument is not one of these.
        LabelError: when called without masks and boxes, or with labels that cannot be brought up to date: keypoints,
            rotated boxes, unknown fields of as many entries as there are objects; or with a crop.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    def __init__(
        self,
        objects: Sequence[Cutout],
        *,
        p: float = 0.5,
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
        seed: int | None = None,
    ) -> None:
        super().__init__()
        settings = Settings(start_scale, store=store, config=config, on_miss=on_miss, p=p, seed=seed)
        self._source = PasteSource(settings, objects, PasteSettings(where, allowed, zoom, mirror, light, edge_px))

    def extra_repr(self) -> str:
        """How many objects there are, how they are pasted, and where the store is."""
        source = self._source
        return f"objects={len(source.objects)}, p={source.settings.p}, {source.choice}, store={source.location!r}"

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, left by p, had no place or pyramid."""
        return self._source.stats()

    def set_epoch(self, epoch: int) -> None:
        """With `seed=`, begin another epoch, in all workers: call it before iterating over the loader."""
        self._source.set_epoch(epoch)

    def forward(self, *inputs: Any) -> Any:
        """The sample with an object in it, in the structure it came in."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        leaves, structure = pytree.tree_flatten_with_path(sample)
        if not self.training:
            return sample
        image = _the_image([value for _, value in leaves])
        labels = [value for _, value in leaves if isinstance(value, tv_tensors.Mask | tv_tensors.BoundingBoxes)]
        _refuse(leaves, labels)
        boxes = next((each for each in labels if isinstance(each, tv_tensors.BoundingBoxes)), None)
        masks = [each for each in labels if isinstance(each, tv_tensors.Mask)]
        classes = next((each for each in masks if _is_of_classes(each, boxes)), None)
        instances = next((each for each in masks if not _is_of_classes(each, boxes)), None)
        key = next((value for _, value in leaves if isinstance(value, SampleKey)), None)
        pasted = self._source.paste(
            image,
            int(torch.randint(2**63 - 1, (), device="cpu")),
            classes=None if classes is None else classes.reshape(classes.shape[-2:]).cpu().numpy(),
            sample_key=key,
        )
        if pasted is None:
            return sample
        objects = _Objects(boxes, instances, pasted)
        changed = [
            like(pasted.image, image) if value is image else objects.updated(path, value) for path, value in leaves
        ]
        wrapped = [
            tv_tensors.wrap(new, like=old) if isinstance(old, tv_tensors.TVTensor) else new
            for new, (_, old) in zip(changed, leaves, strict=True)
        ]
        return pytree.tree_unflatten(wrapped, structure)


def _the_image(values: list[Any]) -> Any:
    images = [value for value in values if isinstance(value, Image.Image | tv_tensors.Image)]
    images = images or [value for value in values if type(value) is Tensor and value.ndim == 3]
    if len(images) != 1:
        raise LabelError(f"expected one image beside its masks or boxes, got {len(images)}: paste sample by sample")
    return images[0]


def _refuse(leaves: list[tuple[Any, Any]], labels: list[Any]) -> None:
    if not labels:
        raise LabelError("expected masks or boxes beside the image, got none: what is pasted would have no label")
    if _KEYPOINTS is not None and any(isinstance(value, _KEYPOINTS) for _, value in leaves):
        raise LabelError("expected masks and boxes, got keypoints: those of a pasted object are not known")
    for boxes in labels:
        if isinstance(boxes, tv_tensors.BoundingBoxes) and boxes.format.name not in ("XYXY", "XYWH", "CXCYWH"):
            raise LabelError(f"expected upright boxes, got {boxes.format.name}: convert them before SinGANPaste")


def _is_of_classes(mask: Tensor, boxes: Tensor | None) -> bool:
    """Whether a mask is one of classes, [H, W] or [1, H, W], and not one for each of N objects."""
    return mask.ndim == 2 or (len(mask) == 1 and boxes is None)


class _Objects:
    """The objects of a sample, if they are told apart, once another is pasted over them."""

    def __init__(self, boxes: Any, instances: Any, pasted: Pasted) -> None:
        self._pasted = pasted
        self._corners = None if boxes is None else _converted(boxes, "XYXY").as_subclass(Tensor)
        self._instances = None if instances is None else instances.as_subclass(Tensor) != 0
        self._kept: Tensor | None = None  # bool [N]
        if self._instances is not None:
            self._kept = kept_instances(self._instances, pasted.mask)
        elif self._corners is not None:
            self._kept = kept_boxes(self._corners, pasted.mask)

    def updated(self, path: Any, value: Any) -> Any:
        """A leaf of the sample, which `path` leads to."""
        if isinstance(value, tv_tensors.Mask):
            return self._mask(value.as_subclass(Tensor))
        if isinstance(value, tv_tensors.BoundingBoxes):
            return self._boxes(value)
        if self._kept is None or type(value) is not Tensor or value.ndim != 1 or len(value) != len(self._kept):
            return value
        name = str(getattr(path[-1], "key", "")) if path else ""
        if name not in _APPENDED:
            raise LabelError(
                f"expected {', '.join(_APPENDED)} beside {len(self._kept)} objects, got {name or 'a tensor'} of as "
                "many entries: what a pasted object has there is not known; leave it out, or name it"
            )
        return torch.cat([value[self._kept], value.new_tensor([_APPENDED[name](self._pasted)])])

    def _mask(self, mask: Tensor) -> Tensor:
        pasted = self._pasted.mask.to(mask.device)
        if self._instances is None or mask.ndim == 2:
            return torch.where(pasted, mask.new_tensor(self._pasted.value), mask)
        assert self._kept is not None
        return torch.cat([mask[self._kept] * ~pasted, pasted[None].to(mask.dtype)])

    def _boxes(self, boxes: Any) -> Tensor:
        assert self._corners is not None
        assert self._kept is not None
        corners = boxes_beside(self._corners, self._instances, self._pasted.mask)
        corners = corners[torch.cat([self._kept, self._kept.new_ones(1)])]
        wanted = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=boxes.canvas_size)
        made: Tensor = _converted(wanted, boxes.format).as_subclass(Tensor).to(boxes.dtype)
        return made


def _converted(boxes: Any, wanted: Any) -> Any:
    return v2.functional.convert_bounding_box_format(boxes, new_format=wanted)
