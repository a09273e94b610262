"""Confining a draw: to an object, whose surroundings stay as they are to the pixel, or to the surroundings of one.

It is the field of a draw, where each pixel comes from, that is confined; pixels and labels follow the same field, so
that what is true of a draw stays true. An object may grow into its surroundings as far as the margin reaches, with
pixels of its own; where it shrinks, the draw has brought ground there, and ground fills it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from singan_aug.errors import ConfigError, LabelError

if TYPE_CHECKING:
    from torch import Tensor

    from singan_aug.pyramid.pyramid import Pyramid
    from singan_aug.pyramid.sizes import StartScale

__all__ = ["MARGIN_PX", "Confine", "Confined", "Confinement", "confined", "distance_px", "draw_confined", "object_of"]

Confine = Literal["mask", "background"]
"""What changes: the object alone, or all but the object."""

MARGIN_PX = 8.0
"""The default margin: at 250 px a few times as far as draws from the finest scale move things."""

MOST_PX = 256  # a margin is no wider: it is measured pixel by pixel


@dataclass(frozen=True)
class Confinement:
    """What a draw is confined to. Raises `ConfigError`."""

    confine: Confine  # mask: the object changes; background: all but the object does
    margin_px: float = MARGIN_PX  # around the object, over which the displacement falls to nothing

    def __post_init__(self) -> None:
        if self.confine not in get_args(Confine):
            raise ConfigError(f"expected confine to be 'mask' or 'background', got {self.confine!r}")
        is_number = isinstance(self.margin_px, int | float) and not isinstance(self.margin_px, bool)
        if not is_number or not 0 <= self.margin_px <= MOST_PX:
            raise ConfigError(f"expected confine_margin_px in 0..{MOST_PX}, got {self.margin_px!r}")

    @classmethod
    def of(cls, confine: Confine | None, margin_px: float) -> Confinement | None:
        """As options say it: None for a draw that is not confined. Raises `ConfigError` all the same."""
        checked = cls(confine or "mask", margin_px)
        return None if confine is None else checked

    def leaves_all(self, region: Tensor) -> bool:
        """Whether nothing could change with the object there, bool [H, W]."""
        return not bool(region.any()) if self.confine == "mask" else bool(region.all())


@dataclass(frozen=True, eq=False)
class Confined:
    """A draw that is confined."""

    image: Tensor  # [C, H, W] in [0, 1]
    field: Tensor  # int64 [2, H, W]: row and column in the source that each pixel comes from
    stays: Tensor  # bool [H, W]: pixels that are the source's own, where they were


def confined(
    drawn: Tensor,  # [C, H, W] in [0, 1]: the draw
    source: Tensor,  # [C, H, W] in [0, 1]: what it was drawn from, of the same size
    field: Tensor,  # int64 [2, H, W]: row and column in the source that each pixel of the draw comes from
    region: Tensor,  # bool [H, W]: where the object is in the source
    how: Confinement,
) -> Confined:
    """The draw, confined. Pure, on the device of the draw.

    What is not the source's own pixel there has what blending over seams has changed in the draw, by its weight.
    """
    import torch

    rows, columns = (torch.arange(side, device=field.device) for side in field.shape[1:])
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    weight = _weight(region, how)
    moved = places + (weight * (field - places)).round().long()
    outside = ~region
    if how.confine == "mask":
        stays = outside & ~region[moved[0], moved[1]]
    else:
        stays = region | (outside & region[moved[0], moved[1]])
    moved = torch.where(stays, places, moved)
    stays = stays | ((weight == 0) & (moved == places).all(0))
    blended = (drawn - source[:, field[0], field[1]]) * torch.where(stays, 0.0, weight)
    return Confined((source[:, moved[0], moved[1]] + blended).clamp(0.0, 1.0), moved, stays)


def _weight(region: Tensor, how: Confinement) -> Tensor:
    """Float [H, W]: the share of a draw's displacement that is left, 0 to 1, linear over the margin."""
    apart = distance_px(region, int(how.margin_px) + 1)
    share = (apart / how.margin_px).clamp(max=1.0) if how.margin_px > 0 else (apart > 0).float()
    return 1.0 - share if how.confine == "mask" else share


def distance_px(
    region: Tensor,  # bool [H, W]
    most_px: int,
) -> Tensor:
    """Float [H, W]: how far each pixel is from the nearest one of a region, 0 in it, and at most `most_px`."""
    import torch
    import torch.nn.functional as F

    far = float(most_px) ** 2
    squared = torch.where(region, 0.0, far)
    for _ in range(2):  # along columns, then along rows: squares of distances add up
        padded = F.pad(squared, (0, 0, most_px, most_px), value=far)
        for step in range(-most_px, most_px + 1):
            beside = padded[most_px + step : most_px + step + squared.shape[0]]
            squared = torch.minimum(squared, beside + step**2)
        squared = squared.T
    return squared.sqrt().clamp(max=most_px)


def object_of(pyramid: Pyramid) -> Tensor:
    """bool [H, W]: where the mask that a pyramid was fitted with is above 0. Raises `LabelError` without one."""
    import torch

    if pyramid.mask is None:
        raise LabelError(
            "expected a mask to confine to, got none: give it in one call with its image, or fit images with their "
            "masks (`singan-aug fit --masks`)"
        )
    values = torch.tensor(pyramid.mask_values, dtype=torch.int64, device=pyramid.mask.device)
    return values[pyramid.mask.long()] > 0


def draw_confined(
    pyramid: Pyramid, variants: int, start_scale: StartScale, seed: int, how: Confinement
) -> list[Confined]:
    """The variants that `draw` gives for the same arguments, confined by the mask that the pyramid was fitted with.

    Raises as `draw` does, and `LabelError` without a mask.
    """
    from singan_aug.images import signed_to_bytes
    from singan_aug.pyramid.copied.scale import CopiedScale
    from singan_aug.pyramid.drawing import trace

    region = object_of(pyramid)
    traced, finest = trace(pyramid, variants, start_scale, seed=seed), pyramid.scales[-1]
    assert isinstance(finest, CopiedScale)  # others are fitted without masks
    assert traced.origins is not None
    source = signed_to_bytes(finest.source[0]).float() / 255.0
    return [
        confined(image, source, origins, region, how)
        for image, origins in zip(traced.images, traced.origins, strict=True)
    ]
