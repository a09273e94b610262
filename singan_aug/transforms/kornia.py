"""SinGANAugment for Kornia: whole batches of float tensors, on whatever device they are."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import LabelError
from singan_aug.pyramid.confine import Confine
from singan_aug.transforms._labels import LOST_PX, carry_boxes, carry_keypoints, carry_mask
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant

try:
    from kornia.augmentation import RigidAffineAugmentationBase2D
except ModuleNotFoundError as error:
    raise ImportError(f'SinGANAugment for Kornia needs {error.name}: pip install "singan-aug[kornia]"') from error

__all__ = ["SinGANAugment"]


class SinGANAugment(RigidAffineAugmentationBase2D):
    """Replace each image of a batch by a variant drawn from the pyramid that was fitted to it.

    Takes float tensors [B, C, H, W] or [C, H, W] in [0, 1] and keeps their dtype and device. Images are found by their
    pixels, so this belongs first, before anything that changes them; a float image that was uint8 / 255 is found too.
    Each image has a seed of its own in `params`, so `augment(images, params=augment._params)` gives the same again. It
    never fits: run `singan-aug fit` first. After `.eval()` it is the identity.

    In an `AugmentationSequential`, masks and keypoints follow the pixels of the image they belong to where its pyramid
    was fitted with a mask, or the start scale keeps the layout, or `labels="carry"`; elsewhere they are refused. Boxes
    are refused where things move. A keypoint that a draw leaves out lies far outside the image.

    Args:
        start_scale, strength, store, config, on_miss, device, bank, labels, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`.
        p: how likely each image of a batch is replaced.
        same_on_batch: one seed for all images of a batch, each still drawn from its own pyramid.
        keepdim: whether [C, H, W] comes back as such, rather than as a batch of one.

    Raises:
        ConfigError: an argument is not one of these, or CUDA in a forked worker.
        LabelError: when called with labels that would not follow, or without the images they belong to.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    def __init__(
        self,
        start_scale: Any = None,
        *,
        strength: float | None = None,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        device: str = "cpu",
        labels: Labels = "refuse",
        bank: bool = True,
        confine: Confine | None = None,
        confine_margin_px: float = 8.0,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._source = VariantSource(
            Settings(
                start_scale,
                strength,
                store,
                config,
                on_miss,
                p=1.0,
                device=device,
                labels=labels,
                bank=bank,
                confine=confine,
                confine_margin_px=confine_margin_px,
            )
        )
        # Of the last batch, by the seed and the place of each image; the frames of a video have these in common.
        self._drawn: dict[tuple[int, int], list[Variant | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call, unused-ignore]
        return {**state, "_drawn": {}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source.described()}, p={self.p}, same_on_batch={self.same_on_batch})"

    def stats(self) -> dict[str, int]:
        """What became of the images so far: how many were drawn, and how many had no pyramid."""
        return self._source.stats()

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """A seed for each image, from torch's global generator, and its place in the batch."""
        count = 1 if self.same_on_batch else batch_shape[0]
        seeds = torch.randint(2**63 - 1, (count,), device="cpu").expand(batch_shape[0])
        return {"seed": seeds, "place": torch.arange(batch_shape[0], device="cpu")}

    def compute_transformation(self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any]) -> Tensor:
        """Identity matrices [B, 3, 3]: what moves, moves by no such matrix."""
        del params, flags
        matrix: Tensor = self.identity_matrix(input)
        return matrix

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]  # drawing is no part of a graph
    def forward(self, input: Tensor, params: dict[str, Tensor] | None = None, **kwargs: Any) -> Tensor:
        """As any augmentation of Kornia."""
        output: Tensor = super().forward(input, params, **kwargs)
        return output

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """A pure function of the images and their seeds; those that chance leaves out are not looked up.

        Keeps the variants, for the labels that come after the images.
        """
        del flags, transform
        if not self.training:
            return input
        output = input.clone()
        self._drawn = {}
        for i, (name, applies) in enumerate(_images_of(params)):
            variant = self._source.variant(input[i], name[0]) if applies else None
            self._drawn.setdefault(name, []).append(variant)
            if variant is not None:
                output[i] = variant.held_as(input[i])
        return output

    def _variants(self, params: dict[str, Tensor]) -> list[Variant | None]:
        """Those of the images that labels belong to; None for images that stay as they are."""
        if not self.training:
            return [None] * len(params["batch_prob"])
        left = {name: iter(variants) for name, variants in self._drawn.items()}
        found: list[Variant | None] = []
        for name, applies in _images_of(params):
            if applies and name not in left:
                raise LabelError("expected images before their masks, boxes and keypoints, in one call; got none")
            found.append(next(left[name]) if applies else None)
        for variant in found:
            if variant is not None:
                variant.refuse_to_falsify()
        return found

    def apply_non_transform_mask(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Those of images that chance leaves out."""
        del params, flags, transform
        return input

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def apply_transform_mask(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Masks [B, C, H, W], carried by the fields of their images."""
        del flags, transform
        output = input.clone()
        for i, variant in enumerate(self._variants(params)):
            if variant is not None and variant.field is not None:
                output[i] = carry_mask(input[i], variant.field.to(input.device))
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def apply_transform_box(
        self, input: Any, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Any:
        """Boxes stay, where their image's draw keeps the layout."""
        del flags, transform
        for i, variant in enumerate(self._variants(params)):
            if variant is not None:
                carry_boxes(input.data[i].flatten(1), keeps_layout=variant.keeps_layout)
        return input

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def apply_transform_keypoint(
        self, input: Any, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Any:
        """Keypoints [B, N, 2], carried by the fields of their images; they count from the middle of the first pixel."""
        del flags, transform
        output = input.clone()
        for i, variant in enumerate(self._variants(params)):
            if variant is not None and variant.field is not None:
                points, visible = carry_keypoints(input.data[i] + 0.5, variant.field.to(input.data.device))
                output.data[i] = torch.where(visible[:, None], points - 0.5, LOST_PX).to(input.data.dtype)
        return output


def _images_of(params: dict[str, Tensor]) -> list[tuple[tuple[int, int], bool]]:
    """(seed, place) of each image of a batch, and whether it is to be changed."""
    seeds = params["seed"].tolist()
    places = params["place"].tolist() if "place" in params else range(len(seeds))
    return list(zip(zip(seeds, places, strict=True), (params["batch_prob"] > 0.5).tolist(), strict=True))
