"""What is left of the objects of an image when another is pasted over them. Boxes are x1, y1, x2, y2."""

from __future__ import annotations

import torch
from torch import Tensor

from singan_aug.transforms._labels import boxes_of

__all__ = ["boxes_beside", "kept_boxes", "kept_instances"]

LEAST_LEFT = 0.1  # share of an object that is still seen, under which it counts as hidden


def kept_instances(
    instances: Tensor,  # bool [N, H, W]
    pasted: Tensor,  # bool [H, W]
) -> Tensor:
    """bool [N]: those of which a tenth at least is still seen; those that were empty before stay."""
    before = instances.flatten(1).sum(1)
    left = (instances & ~pasted.to(instances.device)).flatten(1).sum(1)
    return (left >= LEAST_LEFT * before).cpu()


def kept_boxes(
    boxes: Tensor,  # [N, 4]
    pasted: Tensor,  # bool [H, W]
) -> Tensor:
    """bool [N], as `kept_instances`, where nothing but boxes is known: by the pixels in them that were not pasted."""
    hidden, nothing = [], torch.zeros((), dtype=torch.float32, device=pasted.device)
    for left, top, right, bottom in boxes.round().long().clamp_min(0).tolist():
        inside = pasted[top : max(bottom, top + 1), left : max(right, left + 1)]
        hidden.append(inside.float().mean() if inside.numel() else nothing)
    return torch.stack([*hidden, nothing])[:-1] <= 1 - LEAST_LEFT


def boxes_beside(
    boxes: Tensor,  # [N, 4]
    instances: Tensor | None,  # bool [N, H, W]
    pasted: Tensor,  # bool [H, W]
) -> Tensor:
    """[N + 1, 4]: as they were; around what is left of instances that lost pixels; last, that of what was pasted."""
    own, _ = boxes_of(pasted[None])
    if instances is not None and len(instances):
        left = instances & ~pasted.to(instances.device)
        hit = (left != instances).flatten(1).any(1)
        boxes = torch.where(hit[:, None].to(boxes.device), boxes_of(left)[0].to(boxes), boxes)
    return torch.cat([boxes, own.to(boxes)])
