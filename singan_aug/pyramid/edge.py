"""redraw_edge(): an image with something pasted into it, whose edge the pyramid of that image redraws.

The composite enters below a middle scale, and the scales from there on redraw it (Shaham et al. 2019, section 4). A
pyramid that copies patches knows nothing but its own source, so it would redraw the object away, and its label would be
false: only a strip along the edge of what was pasted is taken from it, and the rest of the composite stays to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.copied.steps_torch import describe, packed_basis
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.pyramid import Pyramid
from singan_aug.pyramid.resample import blur, resize
from singan_aug.pyramid.scale import Canvas, draw_upwards
from singan_aug.pyramid.sizes import StartScale, resolve_start_scale
from singan_aug.pyramid.threads import one_thread

__all__ = ["edge_weight", "redraw_edge"]

COMPARED_AT_ONCE = 4_000_000  # pairs of places
FAINT = 0.02  # share of the redrawn image below which a pixel is left as it is
WITHIN = 0.5  # share of it in what was pasted, at most: thin parts, such as legs, would be redrawn away


def redraw_edge(
    pyramid: Pyramid,  # of the image into which was pasted
    composite: Tensor,  # [1, C, H, W] in [-1, 1], of the pyramid's size
    pasted: Tensor,  # bool [H, W]: what is not of that image
    start_scale: StartScale = "medium",
    edge_px: float = 2.0,
    seed: int = 0,
) -> Tensor:
    """The composite with its edge redrawn, [1, C, H, W]; it is the composite itself where the pyramid has one scale.

    Args:
        pyramid: as `fit` gives it, with or without a mask.
        composite: the image with something pasted into it.
        pasted: where. Beyond about `edge_px` from its edge nothing changes.
        start_scale: the first scale that redraws, at least 1.
        edge_px: how far from the edge pixels are redrawn, about; 0: nowhere.
        seed: of the noise, where scales generate; scales that copy take none.

    Raises `StartScaleError`, and ValueError where sizes differ.
    """
    if tuple(composite.shape[-2:]) != pyramid.size or tuple(pasted.shape) != pyramid.size:
        raise ValueError(
            f"expected {pyramid.size}, the pyramid's size, got {tuple(composite.shape)}, {tuple(pasted.shape)}"
        )
    start = max(1, resolve_start_scale(start_scale, len(pyramid)))
    weight = edge_weight(pasted, edge_px)
    if len(pyramid) == 1 or not weight.any():
        return composite
    with torch.inference_mode(), one_thread():
        below = pyramid.scales[start - 1]
        small = resize(composite, below.size, pyramid.config.sizes.resample)
        region = resize(pasted[None, None].float(), below.size, "bilinear")[0, 0] > 0
        origin = _origins(below, small, region) if isinstance(below, CopiedScale) else None
        above = pyramid.scales[start:]
        canvas = draw_upwards(above, [each.size for each in above], [generator_for(seed, 0)], Canvas(small, origin))
        redrawn = composite + weight * (canvas.image[:, : composite.shape[1]] - composite)
    return redrawn.clone()


def edge_weight(pasted: Tensor, edge_px: float) -> Tensor:
    """Float [H, W]: the share that is redrawn; 1 beside a region's edge, bool [H, W], 0 from some `edge_px` of it."""
    if edge_px <= 0:
        return torch.zeros(pasted.shape, dtype=torch.float32, device=pasted.device)
    soft = blur(pasted[None, None].float(), edge_px / 2)[0, 0]
    weight = 4 * soft * (1 - soft) * soft.new_tensor([1.0, WITHIN])[pasted.long()]
    return torch.where(weight < FAINT, 0.0, weight)


def _origins(
    scale: CopiedScale,
    image: Tensor,  # [1, C, h, w], of its size
    region: Tensor,  # bool [h, w]
) -> Tensor:
    """int64 [1, 2, h, w]: each pixel's own place, and in the region the place of the source that looks most like it."""
    places = torch.stack(
        torch.meshgrid(*(torch.arange(side, device=image.device) for side in scale.size), indexing="ij")
    )
    basis = packed_basis(scale.basis)
    wanted, known = (describe(each, basis)[0] for each in (image, scale.source))
    seen = wanted[region].float()
    nearest = [
        torch.cdist(some, known.flatten(0, 1).float()).argmin(1)
        for some in seen.split(max(1, COMPARED_AT_ONCE // (known.shape[0] * known.shape[1])))
    ]
    if nearest:
        found = torch.cat(nearest)
        places[:, region] = torch.stack([found // scale.size[1], found % scale.size[1]])
    return places[None]
