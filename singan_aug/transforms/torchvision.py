"""SinGANAugment for torchvision's transforms v2 (and, on PIL images, v1's Compose)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from numpy import ndarray
from PIL import Image
from torch.utils._pytree import tree_flatten  # as torchvision's own transforms do
from torchvision import tv_tensors
from torchvision.transforms import v2

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, LabelError
from singan_aug.images import to_pixels
from singan_aug.pyramid.confine import Confine
from singan_aug.transforms._labels import LOST_PX, boxes_of, carry_boxes, carry_keypoints, carry_mask, object_of_masks
from singan_aug.transforms._miss import looks_like_labels
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant, follow
from singan_aug.transforms.keys import SampleKey

__all__ = ["SinGANAugment"]

_KEYPOINTS = getattr(tv_tensors, "KeyPoints", None)  # since torchvision 0.23
_UPRIGHT = ("XYXY", "XYWH", "CXCYWH")
_LABELS = tuple(kind for kind in (tv_tensors.Mask, tv_tensors.BoundingBoxes, _KEYPOINTS) if kind is not None)


@dataclass(frozen=True)
class _Beside:
    """What of a sample torchvision passes on untouched, although it may be as large as the image."""

    values: list[Any]


def _is_plain_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, tv_tensors.TVTensor)


def _is_batch(image: Any) -> bool:
    return isinstance(image, torch.Tensor) and image.ndim > 3


class SinGANAugment(v2.Transform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Images are found by their pixels, so this belongs first in a pipeline, right after decoding. They come out in the
    type, dtype, size, mode and device they came in: PIL images, `tv_tensors.Image` and `Video`, and uint8 or float
    ([0, 1]) tensors [..., C, H, W]. Each element of a batch is a draw of its own, the frames of a video share one.
    Class labels pass untouched. It never fits: run `singan-aug fit` first. After `.eval()` it is the identity.

    Masks, bounding boxes and keypoints beside one image follow its pixels where its pyramid was fitted with a mask, or
    the start scale keeps the layout, or `labels="carry"`; elsewhere they are refused. Boxes are those of the instance
    masks [N, H, W] beside them; without such, they are refused where things move. An instance that a draw leaves out
    has a box without area (`v2.SanitizeBoundingBoxes` removes it), a point that it leaves out lies outside the image.

    Args:
        start_scale: 0 (coarsest: new global structure) up to the finest scale (texture alone), negative ones counted
            from the finest; "coarse", "medium" or "fine" of whatever scales an image has; a range (first, last) of
            these; or weights {scale: weight}. "fine" by default.
        strength: in place of a start scale, 0 (texture alone) to 10 (new structure), as RandAugment's magnitude.
        p: how likely an image is replaced; with all replaced networks learn less (docs/when-it-helps.md).
        store: the store's folder; by default $SINGAN_AUG_STORE, else the user's cache folder.
        config: take pyramids fitted with exactly this config; by default the one fitted last.
        on_miss: "error" raises `MissingPyramidError` for an image without a pyramid, "pass" leaves it as it is,
            counts it in `stats()` and warns once.
        seed: fixes every draw: it then depends on this, the image, the epoch (`set_epoch`) and the image's index in
            the call alone, for any number of workers. By default torch's global generator decides.
        device: where to draw: "cpu", or "cuda" for whole batches after collation.
        labels: "carry" moves masks with the pixels even where things move; "refuse" raises there.
        bank: take variants from the store's bank (`singan-aug bank`) where it has any.
        confine: "mask" changes the object alone and leaves all else as it is to the pixel, "background" the reverse.
            The object is where masks beside the image are above 0; without such, where the mask is that the pyramid
            was fitted with. Labels follow (docs/confine.md).
        confine_margin_px: how far around the object, 0 to 256, the displacement falls to nothing.

    Raises:
        ConfigError: an argument is not one of these; CUDA in a forked worker; keys that do not match the images.
        LabelError: when called with labels that would not follow the variant.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    _transformed_types = (
        Image.Image,
        tv_tensors.Image,
        tv_tensors.Video,
        *_LABELS,
        SampleKey,
        _is_plain_tensor,
        _Beside,
    )

    def __init__(
        self,
        start_scale: Any = None,
        *,
        strength: float | None = None,
        p: float = 0.5,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        seed: int | None = None,
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
                p,
                seed,
                device,
                labels,
                bank,
                confine,
                confine_margin_px,
            )
        )

    def extra_repr(self) -> str:
        """The arguments that were given, and where the store is."""
        return self._source.described()

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()

    def set_epoch(self, epoch: int) -> None:
        """With `seed=`, begin another epoch, in all workers: call it before iterating over the loader."""
        self._source.set_epoch(epoch)

    def scales(self, image: Any) -> int:
        """How many scales the pyramid of this image has. Raises `MissingPyramidError`, `ImageError`."""
        return self._source.scales(image)

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]  # drawing is no part of a graph
    def forward(self, *inputs: Any) -> Any:
        """As any transform of v2; but what would silently stay where the image moves is refused."""
        beside = _beside(tree_flatten(inputs)[0])
        if not beside.values:
            return super().forward(*inputs)
        *changed, _ = super().forward(*inputs, beside)
        return tuple(changed) if len(inputs) > 1 else changed[0]

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """One seed from torch's global generator, which a DataLoader seeds for each worker and epoch.

        And the keys of each image where the sample has any, by the image's identity in memory. Where labels ride along,
        the variant is made here, for the labels to follow it.
        """
        labels = [value for value in flat_inputs if isinstance(value, _LABELS)]
        keys = [value for value in flat_inputs if isinstance(value, SampleKey)]
        images = [value for value in flat_inputs if not isinstance(value, (*_LABELS, SampleKey, _Beside))]
        if keys and len(images) > 1 and len(keys) != len(images):
            raise ConfigError(f"expected a SampleKey for each of {len(images)} images or none, got {len(keys)}")
        each = [keys] if len(images) == 1 else [[key] for key in keys]
        params: dict[str, Any] = {
            "seed": int(torch.randint(2**63 - 1, (), device="cpu")),
            "keys": {id(image): found for image, found in zip(images, each, strict=False)},
            "beside": [each for value in flat_inputs if isinstance(value, _Beside) for each in value.values],
        }
        if not self.training:
            return params
        if len(images) > 1:
            params["beside"] += self._masks_among(images, params["keys"])
        if labels:
            params["variant"] = self._labelled_variant(images, params["seed"], keys, labels)
            params["instances"] = [label for label in labels if isinstance(label, tv_tensors.Mask) and label.ndim == 3]
            _refuse_to_leave(params["beside"], images[0], params["variant"])
        return params

    def _masks_among(self, images: list[Any], keys: dict[int, Any]) -> list[Any]:
        """Those of several images that look like masks. Warns of others that stay beside images that move."""
        single = [image for image in images if not _is_batch(image)]
        masks = [image for image in single if looks_like_labels(to_pixels(image))]
        if len(masks) == len(single):
            masks = []  # these are images of few colours
        if self._source.settings.on_miss == "pass":
            known = [self._source.knows(image, (keys.get(id(image)) or [None])[0]) for image in single]
            if any(known) and not all(known):
                self._source.warn_once("some of a sample", _some_stay)
        return masks

    def _vary(self, image: Any, params: dict[str, Any], **given: Any) -> Variant | None:
        variant = self._source.variant(image, params["seed"], **given)
        _refuse_to_leave(params.get("beside", []), image, variant)
        return variant

    def _labelled_variant(
        self, images: list[Any], seed: int, keys: list[SampleKey], labels: list[Any]
    ) -> Variant | None:
        if len(images) != 1 or _is_batch(images[0]):
            got = "a batch" if len(images) == 1 else f"{len(images)} images"
            raise LabelError(
                f"expected one image beside masks, boxes or keypoints, got {got}: "
                "which of them the labels belong to is not known; augment sample by sample, before collation"
            )
        masks = [label.as_subclass(torch.Tensor) for label in labels if isinstance(label, tv_tensors.Mask)]
        return self._source.variant(
            images[0], seed, sample_key=keys[0] if keys else None, labelled=True, region=object_of_masks(masks)
        )

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """A pure function of the image, the seed and, where there is one, the key."""
        if isinstance(inpt, SampleKey) or not self.training:
            return inpt
        if "variant" in params:
            return self._labelled(inpt, params["variant"], params["instances"])
        if isinstance(inpt, torch.Tensor) and inpt.ndim > 3 and 0 in inpt.shape[:-3]:
            return inpt  # no image at all
        keys = params.get("keys", {}).get(id(inpt)) or [None]
        if not _is_batch(inpt):
            return _like(inpt, self._vary(inpt, params, sample_key=keys[0]))
        if isinstance(inpt, tv_tensors.Video):
            clips = (
                inpt.flatten(0, -5).as_subclass(torch.Tensor) if inpt.ndim > 4 else inpt.as_subclass(torch.Tensor)[None]
            )
            changed = [self._clip(clip, params, i, key) for i, (clip, key) in enumerate(_with_keys(clips, keys))]
        else:
            images = inpt.as_subclass(torch.Tensor).reshape(-1, *inpt.shape[-3:])
            changed = [
                _like(image, self._vary(image, params, index=i, sample_key=key))
                for i, (image, key) in enumerate(_with_keys(images, keys))
            ]
        return _wrapped(torch.stack(changed).reshape(inpt.shape), inpt)

    def _clip(self, frames: torch.Tensor, params: dict[str, Any], index: int, key: SampleKey | None) -> torch.Tensor:
        """Frames [T, C, H, W], moved as the first is; each drawn alike where it is not known how that one moves."""
        variant = self._vary(frames[0], params, index=index, sample_key=key, live=len(frames) > 1)
        if variant is None:
            return frames
        if variant.field is None:
            rest = [self._vary(frame, params, index=index) for frame in frames[1:]]
            return torch.stack([_like(frame, each) for frame, each in zip(frames, [variant, *rest], strict=True)])
        return follow(frames, variant)

    def _labelled(self, inpt: Any, variant: Variant | None, instances: list[torch.Tensor]) -> Any:
        if variant is None:
            return inpt
        if not isinstance(inpt, _LABELS):
            return _like(inpt, variant)
        if variant.field is None:  # the layout is kept, by a pyramid that copies no pixels
            return inpt
        field = variant.field.to(inpt.device)
        if isinstance(inpt, tv_tensors.Mask):
            return _wrapped(carry_mask(inpt.as_subclass(torch.Tensor), field), inpt)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return _carried_boxes(inpt, field, instances, variant.keeps_layout)
        # Keypoints count from the middle of the first pixel.
        points, visible = carry_keypoints(inpt.as_subclass(torch.Tensor).reshape(-1, 2) + 0.5, field)
        points = torch.where(visible[:, None], points - 0.5, LOST_PX)
        return _wrapped(points.reshape(inpt.shape).to(inpt.dtype), inpt)


def _beside(flat_inputs: list[Any]) -> _Beside:
    """The plain tensors and arrays that are not taken for the image, by torchvision's rule, and may be masks."""
    plain = [value for value in flat_inputs if _is_plain_tensor(value)]
    if not any(isinstance(value, (Image.Image, tv_tensors.Image, tv_tensors.Video)) for value in flat_inputs):
        plain = plain[1:]
    plain += [value for value in flat_inputs if isinstance(value, ndarray)]
    return _Beside([value for value in plain if value.ndim > 1])


def _refuse_to_leave(beside: list[Any], image: Any, variant: Variant | None) -> None:
    """Raise `LabelError` where something of the image's size would stay while things in the image move."""
    if variant is None or not beside:
        return
    size = tuple(variant.image.shape[-2:])
    for other in beside:
        if other is image or size not in _sizes_of(other) or variant.keeps_layout:
            continue
        is_image = isinstance(other, (Image.Image, tv_tensors.TVTensor))
        what = "an image that looks like a mask" if is_image else f"a {type(other).__name__} {list(other.shape)}"
        raise LabelError(
            f"expected labels as tv_tensors, got {what} beside an image of that size, which would stay where it is "
            "while things in the image move: make it a tv_tensors.Mask, and it follows; an image of its own is a "
            "tv_tensors.Image, or another call; or take a start scale that keeps the layout (see `displacement_px` in "
            "`singan-aug show`)"
        )


def _some_stay() -> str:
    return (
        "of several images in one call those without a pyramid stay, while the others change. If they belong together "
        "(an image and its mask, depth or target), give what has to follow as tv_tensors.Mask; if they do not, call "
        "the transform for each"
    )


def _sizes_of(value: Any) -> list[tuple[int, ...]]:
    """(height, width) of an image, a mask or an array, which may have its channels last."""
    if isinstance(value, Image.Image):
        return [value.size[::-1]]
    ends = [tuple(value.shape[-2:])]
    return [*ends, tuple(value.shape[-3:-1])] if isinstance(value, ndarray) else ends


def _carried_boxes(
    boxes: tv_tensors.BoundingBoxes, field: torch.Tensor, instances: list[torch.Tensor], keeps_layout: bool
) -> torch.Tensor:
    """Boxes [N, 4] of any upright format: those of the N carried instance masks, if there are such."""
    if boxes.format.name not in _UPRIGHT:
        if len(boxes) and not keeps_layout:
            raise LabelError(
                f"expected upright boxes ({', '.join(_UPRIGHT)}) where things move, got {boxes.format.name}: convert "
                "them, or take a start scale that keeps the layout (see `displacement_px` in `singan-aug show`)"
            )
        return carry_boxes(boxes, keeps_layout=True)
    for masks in instances:
        if len(masks) == len(boxes):
            found, _ = boxes_of(carry_mask(masks.as_subclass(torch.Tensor), field) != 0)
            corners = tv_tensors.BoundingBoxes(found.float(), format="XYXY", canvas_size=boxes.canvas_size)
            wanted = v2.functional.convert_bounding_box_format(corners, new_format=boxes.format)
            return _wrapped(wanted.as_subclass(torch.Tensor).to(boxes.dtype), boxes)
    return carry_boxes(boxes, keeps_layout=keeps_layout)


def _with_keys(images: torch.Tensor, keys: list[Any]) -> list[tuple[torch.Tensor, Any]]:
    """Each image of a batch with its key; one for all of them will do."""
    each = keys * len(images) if len(keys) == 1 else keys
    if len(each) != len(images):
        raise ConfigError(f"expected a SampleKey for each of {len(images)} images, one, or none, got {len(keys)}")
    return list(zip(images, each, strict=True))


def _like(image: Any, variant: Variant | None) -> Any:
    if variant is None:
        return image
    if isinstance(image, Image.Image):
        return variant.held_as(image)
    return _wrapped(variant.held_as(image.as_subclass(torch.Tensor)), image)


def _wrapped(tensor: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return tv_tensors.wrap(tensor, like=image) if isinstance(image, tv_tensors.TVTensor) else tensor
