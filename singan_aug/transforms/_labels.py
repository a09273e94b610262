"""Labels that follow a draw: masks, boxes and points, carried by the field that says where each pixel comes from.

A *field* is int64 [2, H, W]: row and column in the sample's source image, of the same H and W, for every pixel of a
variant. Boxes are x1, y1, x2, y2 between pixels: the box of one pixel at (0, 0) is 0, 0, 1, 1. Points are x, y with the
middle of that pixel at 0.5, 0.5. Pure functions, on whatever device their tensors are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from singan_aug.errors import LabelError
from singan_aug.images import turn_between
from singan_aug.pyramid.sizes import Size

__all__ = [
    "LOST_PX",
    "boxes_of",
    "carry_boxes",
    "carry_keypoints",
    "carry_mask",
    "object_of_masks",
    "sample_field",
    "turned_origins",
]

LOST_PX = -10_000.0  # x and y of a point that is not to be seen: padding will not bring it back into the image
POINT_TOLERANCE_PX = 3.0  # further from a keypoint no pixel stands for it
COMPARED_AT_ONCE = 20_000_000  # points times pixels: each is compared with every one


def sample_field(
    origins: Tensor,  # int64 [2, h, w]: rows and columns in the pyramid's source, of any size
    source_size: Size,  # (height, width) of that source
    size: Size,  # (H, W) of the sample
    own_code: int = 0,  # the turn code of the image that was fitted
    wanted_code: int = 0,  # the turn code of the sample
) -> Tensor:
    """The field, int64 [2, *size], of a variant that is turned and resized to be like the sample.

    Where the sample has more pixels than the draw, pieces stay pieces, and their edges run aslant, not in steps.
    """
    turned, own_size = turned_origins(origins, source_size, own_code, wanted_code)
    if size != tuple(turned.shape[1:]) and size[0] >= turned.shape[1] and size[1] >= turned.shape[2]:
        from singan_aug.pyramid.copied.enlarging_numba import enlarged  # numba is not imported before it is needed

        return enlarged(turned, own_size, size)
    return torch.stack([_spread(turned[axis], axis, own_size[axis], size) for axis in (0, 1)])


def turned_origins(origins: Tensor, source_size: Size, own_code: int, wanted_code: int) -> tuple[Tensor, Size]:
    """Origins as `sample_field` takes them, turned as the sample is, and the size of the source that is turned so."""
    if own_code == wanted_code:
        return origins, source_size
    height, width = source_size
    places = torch.arange(height * width, device=origins.device).reshape(height, width)
    turned_places = turn_between(places, own_code, wanted_code)
    moved_to = torch.empty_like(places.flatten())
    moved_to[turned_places.flatten()] = torch.arange(height * width, device=origins.device)
    turned = moved_to[turn_between(origins[0] * width + origins[1], own_code, wanted_code)]
    own_height, own_width = turned_places.shape
    return torch.stack([turned // own_width, turned % own_width]), (own_height, own_width)


def _spread(
    coordinates: Tensor,  # int64 [h, w], in 0..extent-1
    axis: int,  # the one along which the coordinates run
    extent: int,
    size: Size,
) -> Tensor:
    """Coordinates in a source of `extent` pixels at each pixel of a draw [h, w], at each pixel of one of `size`."""
    near, within = [], coordinates.new_zeros(1)
    for side, (own, wanted) in enumerate(zip(coordinates.shape, size, strict=True)):
        middle = (torch.arange(wanted, dtype=torch.float32, device=coordinates.device) + 0.5) * own / wanted
        near.append(middle.long())
        if side == axis:  # how far beside the middle of its pixel of the draw, in pixels of the sample
            within = (middle - middle.long() - 0.5) * wanted / own
    taken = (coordinates[near[0][:, None], near[1]].float() + 0.5) * size[axis] / extent
    moved = taken + (within[:, None] if axis == 0 else within[None])
    return moved.floor().long().clamp(0, size[axis] - 1)


def carry_mask(mask: Tensor, field: Tensor) -> Tensor:
    """Masks [..., H, W] of any dtype, where the field takes them. Values are copied, none is made up.

    Raises `LabelError` where mask and field differ in size.
    """
    if mask.shape[-2:] != field.shape[-2:]:
        raise LabelError(f"expected masks of {list(field.shape[-2:])}, the image's size, got {list(mask.shape[-2:])}")
    return mask[..., field[0], field[1]]


def object_of_masks(masks: Sequence[Tensor]) -> Tensor | None:
    """bool [H, W]: where any of these masks [..., H, W] is above 0, of classes or instances; None without masks.

    Raises `LabelError` where they differ in size.
    """
    regions = [(mask > 0).flatten(0, -3).any(0) if mask.ndim > 2 else mask > 0 for mask in masks]
    if len({tuple(region.shape) for region in regions}) > 1:
        raise LabelError(f"expected masks of one size, got {', '.join(str(list(each.shape)) for each in regions)}")
    return torch.stack([region.cpu() for region in regions]).any(0) if regions else None


def boxes_of(masks: Tensor) -> tuple[Tensor, Tensor]:
    """(boxes, survives) of instance masks, bool [N, H, W]: int64 [N, 4], zeros where a mask is empty, and bool [N]."""
    across, down = masks.any(dim=1), masks.any(dim=2)  # [N, W], [N, H]
    survives = across.any(dim=1)
    edges = []
    for line in (across, down):
        first = line.int().argmax(dim=1)
        last = line.shape[1] - line.int().flip(1).argmax(dim=1)
        edges.append((first, last))
    boxes = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=1)
    return boxes * survives[:, None], survives


def carry_boxes(
    boxes: Tensor,  # [N, 4]
    *,
    keeps_layout: bool,  # as pyramid.keeps_layout says of the draw's start scale
) -> Tensor:
    """Boxes without instance masks: the same ones, where the draw leaves the layout as it is.

    Raises `LabelError` elsewhere: where the object is within its box is not known, so the box cannot follow it.
    """
    if len(boxes) and not keeps_layout:
        raise LabelError(
            "expected instance masks or polygons beside the boxes, got boxes alone at a start scale that moves things: "
            "give outlines, or take a start scale that keeps the layout (see `displacement_px` in `singan-aug show`)"
        )
    return boxes


def carry_keypoints(
    points: Tensor,  # [N, 2]: x, y
    field: Tensor,
    tolerance_px: float = POINT_TOLERANCE_PX,
) -> tuple[Tensor, Tensor]:
    """(points, visible): [N, 2] and bool [N]. A point goes where the pixel it lies in was copied to.

    Of several copies the one nearest to where it was counts; without one, the pixel whose origin is nearest, up to
    `tolerance_px`. A point of which not even that was copied is not visible and stays where it was.
    """
    height, width = field.shape[-2:]
    rows, columns = field.flatten(1).float() + 0.5
    across = (torch.arange(width, dtype=torch.float32, device=field.device) + 0.5).expand(height, width).flatten()
    down = (
        (torch.arange(height, dtype=torch.float32, device=field.device) + 0.5)[:, None].expand(height, width).flatten()
    )
    far = float(height**2 + width**2)
    carried, visible = [points[:0].float()], [points.new_zeros(0, dtype=torch.bool)]
    for some in points.float().split(max(1, COMPARED_AT_ONCE // (height * width))):
        x, y = some[:, :1], some[:, 1:]
        # Whole pixels of distance decide, then the way it moved.
        off = ((columns - x).square() + (rows - y).square()).sqrt()
        moved = ((across - x).square() + (down - y).square()) / far
        best = ((off - 0.5).clamp_min(0).ceil() + 0.999 * moved).argmin(dim=1)
        shift = torch.stack([across[best] - columns[best], down[best] - rows[best]], dim=1)
        seen = off.gather(1, best[:, None])[:, 0] <= tolerance_px
        carried.append(torch.where(seen[:, None], some + shift, some))
        visible.append(seen)
    return torch.cat(carried).to(points.dtype if points.is_floating_point() else torch.float32), torch.cat(visible)
