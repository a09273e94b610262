"""How far draws move pixels from where they are in the source, at each start scale; and which keep the layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.scale import Scale, draw_upwards
from singan_aug.pyramid.sizes import Size, resolve_start_scale

__all__ = ["LAYOUT_TOLERANCE_RATIO", "keeps_layout", "layout_start_scale", "measure_displacement", "nearest_origins"]

LAYOUT_TOLERANCE_RATIO = 0.03  # mean displacement as a share of the short side: docs/labels.md shows what it admits

CANDIDATES = 9  # draws' means vary by a quarter: one that is typical is measured
GRID = 16  # places along the short side at which origins are estimated
PATCH_PX = 7  # side of the patches by which they are estimated
FAR = 0.02  # what the whole short side costs there, in squared difference: of equal patches the nearest counts


def keeps_layout(
    displacement_px: Sequence[float],  # of a pyramid or a manifest, coarsest scale first
    size: Size,  # (height, width) of its finest scale
    start_scale: int,
    tolerance_ratio: float = LAYOUT_TOLERANCE_RATIO,
) -> bool:
    """Whether draws from this start scale move pixels, on average, by at most this share of the short side.

    False where nothing was measured. Raises `StartScaleError`.
    """
    if not displacement_px:
        return False
    start = resolve_start_scale(start_scale, len(displacement_px))
    return displacement_px[start] <= tolerance_ratio * min(size)


def layout_start_scale(
    displacement_px: Sequence[float], size: Size, tolerance_ratio: float = LAYOUT_TOLERANCE_RATIO
) -> int | None:
    """The coarsest start scale from which on all keep the layout; None where even the finest does not."""
    kept = None
    for start in reversed(range(len(displacement_px))):
        if not keeps_layout(displacement_px, size, start, tolerance_ratio):
            break
        kept = start
    return kept


@torch.no_grad()
def measure_displacement(scales: Sequence[Scale], seed: int) -> tuple[float, ...]:
    """Mean distance in pixels of the finest scale between a draw's pixels and their origins, at each start scale.

    Measured on a typical draw of the scale where it starts, or of the first copied one above: the finer ones carry its
    arrangement on. Exact where pixels are copied; where none are, estimated by `nearest_origins`. The seed decides the
    draw.
    """
    return tuple(round(_mean_displacement(k, scales, seed), 2) for k in range(len(scales)))


def _mean_displacement(start: int, scales: Sequence[Scale], seed: int) -> float:
    generators = [generator_for(seed, "displacement", start, i) for i in range(CANDIDATES)]
    lowest = scales[start]
    above = next((k for k in range(start, len(scales)) if isinstance(scales[k], CopiedScale)), None)
    finest = scales[-1].size
    if above is None:
        places = _places(lowest.size, max(1, min(lowest.size) // GRID), lowest.entering.device)
        drawn = lowest.draw(None, lowest.size, generators[:1]).image
        return float(_moved_px(nearest_origins(drawn, lowest.reconstruct(), places), places, lowest.size, finest)[0])
    first = scales[above]
    places = _places(first.size, 1, first.entering.device)
    if isinstance(lowest, CopiedScale):
        origins = lowest.typical_origin(generators)[None]
    else:
        through = scales[start : above + 1]
        drawn_origins = draw_upwards(through, [scale.size for scale in through], generators).origin
        assert drawn_origins is not None
        origins = drawn_origins
    return float(_moved_px(origins, places, first.size, finest).median())


def _moved_px(origins: Tensor, places: Tensor, size: Size, finest: Size) -> Tensor:
    """[N]: the mean distance of origins, [N, 2, h, w], from the places that they moved to, in pixels of the finest."""
    grow = places.new_tensor([to / own for own, to in zip(size, finest, strict=True)], dtype=torch.float32)
    moved = (origins - places).float() * grow[:, None, None]
    return moved.square().sum(1).sqrt().mean((1, 2))


def _places(size: Size, step: int, device: torch.device) -> Tensor:
    """int64 [2, h, w]: rows and columns of every `step`-th pixel."""
    sides = [torch.arange(min(step // 2, side - 1), side, step, device=device) for side in size]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"))


def nearest_origins(
    drawn: Tensor,  # [N, C, H, W] in [-1, 1]
    source: Tensor,  # [1, C, H, W]
    places: Tensor,  # int64 [2, h, w]: rows and columns in `drawn`
) -> Tensor:
    """int64 [N, 2, h, w]: where in the source the patch is that looks most like the one at each place of a draw.

    The mean squared difference of the patches decides, and between equal ones the distance.
    """
    height, width = source.shape[-2:]
    known = _patches(source)[0]  # [H * W, D]
    rows, columns = places.flatten(1)
    everywhere = _places((height, width), 1, source.device).flatten(1).T.float()
    distance = torch.cdist(places.flatten(1).T.float(), everywhere) / min(height, width)
    found = []
    for patches in _patches(drawn):
        difference = torch.cdist(patches[rows * width + columns], known).square() / known.shape[1]
        best = (difference + FAR * distance.square()).argmin(1)
        found.append(torch.stack([best // width, best % width]).reshape(places.shape))
    return torch.stack(found)


def _patches(image: Tensor) -> Tensor:
    """[N, H * W, D]: the patch around every pixel of [N, C, H, W], edges repeated."""
    padded = F.pad(image, (PATCH_PX // 2,) * 4, mode="replicate")
    return F.unfold(padded, PATCH_PX).transpose(1, 2)
