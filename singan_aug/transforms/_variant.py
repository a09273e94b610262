"""A variant: what a draw gives, held as the pipeline's image is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from singan_aug.errors import LabelError
from singan_aug.images import Pixels, kept_where, like, pixels_to_unit, to_grey, to_unit_channels, turn_between
from singan_aug.pyramid import Pyramid, trace
from singan_aug.pyramid.confine import Confined, Confinement, confined, object_of
from singan_aug.pyramid.drawing import Traced
from singan_aug.pyramid.resample import resize
from singan_aug.store import Manifest
from singan_aug.transforms._finder import Relation
from singan_aug.transforms._labels import carry_mask, sample_field, turned_origins

__all__ = ["Variant", "as_held", "drawn", "drawn_confined", "follow", "object_in"]


@dataclass(frozen=True, eq=False)
class Variant:
    """A variant, held as the image is."""

    image: Tensor  # [C, H, W] in [0, 1], or uint8 out of the bank
    find_keeps_layout: Callable[[], bool]
    find_field: Callable[[], Tensor | None]
    refuse_to_falsify: Callable[[], None]  # raises `LabelError` where labels beside the image could not follow
    stays: Tensor | None = None  # bool [H, W]: where a draw that is confined leaves the image's own pixels

    def held_as(self, image: Any) -> Any:
        """The variant as the same kind of thing as the pipeline's image, whose own values stay where they do."""
        made = like(self.image, image)
        return made if self.stays is None else kept_where(self.stays, made, image)

    @cached_property
    def keeps_layout(self) -> bool:
        """Whether draws from its start scale leave things where they are."""
        return self.find_keeps_layout()

    @cached_property
    def field(self) -> Tensor | None:
        """int64 [2, H, W]: row and column in the image that each pixel comes from; None if not known."""
        return self.find_field()


def drawn(
    pixels: Pixels,
    pyramid: Pyramid,
    manifest: Manifest,
    start_scale: int,
    seed: int,
    relation: Relation,
    *,
    exact: bool,  # not to 8 bits
) -> tuple[Tensor, Callable[[], Tensor | None]]:
    """A live draw, and what finds its field. An image larger than its pyramid is copied from at its own size, so that
    the variant is as sharp.
    """
    traced, own_code = trace(pyramid, start_scale=start_scale, seed=seed), manifest.turn_code
    as_drawn = relation.is_whole and sorted(pixels.shape[:2]) == sorted(pyramid.size)
    known, size = traced.origins is not None and relation.is_whole, (pixels.shape[0], pixels.shape[1])

    def find_field() -> Tensor:
        assert traced.origins is not None
        return sample_field(traced.origins[0], pyramid.size, size, own_code, relation.match.turn_code)

    if not known or size[0] * size[1] <= pyramid.size[0] * pyramid.size[1]:
        held = as_held(traced.images[0] if exact or not as_drawn else traced.levels[0], own_code, relation, pixels)
        return held, find_field if known else lambda: None
    if not exact:
        sharp_levels = _redrawn(traced, pyramid, own_code, relation, pixels)
        if sharp_levels is not None:
            return sharp_levels, find_field
    field = find_field()
    sharp = carry_mask(pixels_to_unit(pixels).to(field.device), field)
    return (sharp[:3] + _blended(traced, own_code, relation, pixels)).clamp(0.0, 1.0), lambda: field


def _redrawn(traced: Traced, pyramid: Pyramid, own_code: int, relation: Relation, pixels: Pixels) -> Tensor | None:
    """uint8 [C, H, W]: a draw at an image's own size; None unless that is larger both ways, or equal."""
    from singan_aug.pyramid.copied.enlarging_numba import redrawn  # numba is not imported before it is needed

    assert traced.origins is not None
    assert traced.change is not None
    origins, source_size = turned_origins(traced.origins[0], pyramid.size, own_code, relation.match.turn_code)
    if pixels.shape[0] < origins.shape[1] or pixels.shape[1] < origins.shape[2]:
        return None
    change = turn_between(traced.change[0], own_code, relation.match.turn_code)
    return redrawn(origins, source_size, pixels, _recoloured(change, relation)[: min(3, pixels.shape[2])])


def _blended(traced: Traced, own_code: int, relation: Relation, pixels: Pixels) -> Tensor:
    """[C, H, W]: what blending over seams has changed, which is smooth, at the size of `pixels`."""
    assert traced.change is not None
    return as_held((1.0 + traced.change[0]) / 2, own_code, relation, pixels)[:3] * 2 - 1.0


def drawn_confined(
    pixels: Pixels,
    pyramid: Pyramid,
    manifest: Manifest,
    start_scale: int,
    seed: int,
    relation: Relation,
    region: Tensor,  # bool [H, W]: where the object is in `pixels`
    how: Confinement,
) -> Confined:
    """A live draw of `pixels`, confined, copied from them at their own size. Raises `LabelError`."""
    traced, own_code = trace(pyramid, start_scale=start_scale, seed=seed), manifest.turn_code
    if traced.origins is None:
        raise LabelError(
            f"expected a pyramid that copies pixels to confine its draws, got {manifest.name or manifest.key}, which "
            "generates them: fit it with the preset `fast`"
        )
    if tuple(region.shape) != pixels.shape[:2]:
        raise LabelError(f"expected masks of {list(pixels.shape[:2])}, the image's size, got {list(region.shape)}")
    origins, size = traced.origins[0], (pixels.shape[0], pixels.shape[1])
    field = sample_field(origins, pyramid.size, size, own_code, relation.match.turn_code)
    source = pixels_to_unit(pixels)[:3].to(field.device)
    draw = carry_mask(source, field) + _blended(traced, own_code, relation, pixels)
    return confined(draw, source, field, region.to(field.device), how)


def object_in(pixels: Pixels, pyramid: Pyramid, manifest: Manifest, relation: Relation) -> Tensor:
    """bool [H, W]: the object of the mask that a pyramid was fitted with, in the pipeline's image of it.

    Raises `LabelError` without a mask.
    """
    size = (pixels.shape[0], pixels.shape[1])
    turned = turn_between(object_of(pyramid), manifest.turn_code, relation.match.turn_code)
    rows, columns = (
        ((torch.arange(to, dtype=torch.float32, device=turned.device) + 0.5) * own / to).long()
        for own, to in zip(turned.shape, size, strict=True)
    )
    return turned[rows[:, None], columns]


def as_held(drawn: Tensor, own_code: int, relation: Relation, pixels: Pixels) -> Tensor:
    """[C, h, w], held as the fitted image was, held as the pipeline's image is: turned, cut, resized, recoloured."""
    match = relation.match
    image = turn_between(drawn, own_code, match.turn_code)
    height, width = image.shape[-2:]
    top, left, bottom, right = match.box
    rows = slice(round(top * height), max(round(top * height) + 1, round(bottom * height)))
    columns = slice(round(left * width), max(round(left * width) + 1, round(right * width)))
    image, size = image[..., rows, columns], (pixels.shape[0], pixels.shape[1])
    if image.shape[-2:] != size:
        image = resize(to_unit_channels(image)[None], size, "bicubic")[0].clamp(0.0, 1.0)
    return _recoloured(image, relation)


def _recoloured(image: Tensor, relation: Relation) -> Tensor:
    """[C, H, W] in the colours of the pipeline's image."""
    if relation.match.colours == "rgb" or len(image) < 3:
        return image
    if relation.match.colours == "grey":
        return to_grey(to_unit_channels(image)[:3])
    return image[[2, 1, 0, *range(3, len(image))]]


def follow(
    frames: Tensor,  # [T, C, H, W], uint8 or float in [0, 1]
    variant: Variant,  # of the first, its field known
) -> Tensor:
    """All frames, moved as the first one is."""
    assert variant.field is not None
    moved = carry_mask(to_unit_channels(frames), variant.field.to(frames.device))
    drawn = to_unit_channels(like(variant.image, frames[0]))[:3]
    blended = drawn - moved[0, :3]  # over seams, which all frames have alike
    changed = (moved[:, :3] + blended).clamp(0.0, 1.0)
    made = torch.stack([like(frame, before) for frame, before in zip(changed, frames, strict=True)])
    return made if variant.stays is None else kept_where(variant.stays, made, frames)
