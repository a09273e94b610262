"""The steps of a draw from a pyramid of patches, by torch: on any device, all samples at once.

Sources: search by propagation, Barnes et al. 2009 (PatchMatch); copying in coherent pieces, Ashikhmin 2001; blending
low frequencies wider than high ones, Burt & Adelson 1983.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.images import signed_to_bytes
from singan_aug.pyramid.copied.coordinates import MARGIN, SEAM_LIMIT, STEPS
from singan_aug.pyramid.copied.sampling import phases, sampled_places
from singan_aug.pyramid.resample import blur, resize
from singan_aug.pyramid.sizes import Size

__all__ = [
    "Blendable",
    "best_columns",
    "blendable",
    "blended",
    "blended_levels",
    "blending",
    "copied",
    "describe",
    "followed",
    "improved",
    "inside",
    "least_columns",
    "moved",
    "packed_basis",
    "packed_pixels",
    "placed",
    "seams",
    "spread",
]


def placed(
    shift: Tensor,  # [N, 2, h, w]: how far each pixel of a canvas moves, in pixels of the source
    own: Size,  # of the source
    *,
    mirrored: bool,  # what lies beyond an edge is mirrored at it, in place of repeating the edge
) -> Tensor:
    """[N, 2, h, w]: the coordinates to which a canvas that is spread over the source has moved."""
    origin = spread(own, (shift.shape[2], shift.shape[3]), shift.device) + shift
    if mirrored:
        last = shift.new_tensor([side - 1.0 for side in own])[:, None, None]
        origin = last - (last - origin.abs()).abs()
    return inside(origin.round(), own).long()


def followed(
    origin: Tensor,  # [N, 2, h', w'], at the scale below
    below: Size,  # of the source at the scale below
    own: Size,  # of the source here
    size: Size,
) -> Tensor:
    """Coordinates at the scale below as coordinates here, [N, 2, *size]: pieces stay pieces."""
    finer = F.interpolate(origin.float(), size, mode="nearest-exact")
    for axis in (0, 1):
        grow = own[axis] / below[axis]
        # Inside the coarse pixel a canvas pixel came from, it keeps its place: that is what copies detail.
        place = _within(origin.shape[2 + axis], size[axis], origin.device) + (0.5 * grow - 0.5)
        finer[:, axis].mul_(grow).add_(place[:, None] if axis == 0 else place)
    return inside(finer.round_(), own).long()


def packed_basis(basis: Tensor) -> Tensor:
    """[D, C, p, p], such that descriptors are means over a patch."""
    return basis / basis.shape[-1]


def improved(
    seen: Tensor,  # [N, C, h, w] in [-1, 1]: what the canvas looks like
    origin: Tensor,  # [N, 2, h, w]
    described: Tensor,  # [h' + 4 MARGIN + 1, w' + 2 MARGIN, D]: what the source looks like
    basis: Tensor,  # from `packed_basis`
    tolerance: float,  # squared distance of descriptors up to which a place fits
) -> Tensor:
    """Better places for the pixels of `seen` whose own do not fit.

    Where all neighbours lead to the same place there is nothing to choose from, so only seams are looked at.
    """
    stride, canvas_stride = described.shape[1], seen.shape[3] + 2 * MARGIN
    nowhere = (described.shape[0] - MARGIN - 1) * stride + MARGIN  # no step leads from there to the source
    places = (origin[:, 0] + MARGIN) * stride + (origin[:, 1] + MARGIN)
    canvas = F.pad(places, (MARGIN,) * 4, value=nowhere)
    active = F.pad(seams(origin), (MARGIN,) * 4).flatten().nonzero()[:, 0]
    own = canvas.flatten().index_select(0, active)
    wanted = describe(seen, basis, MARGIN).flatten(0, 2).index_select(0, active)
    distance = _distance(described, wanted, own[None])[0]
    unfit = (distance > tolerance).nonzero()[:, 0]
    if not len(unfit):
        return origin
    active, own, wanted, distance = (kept.index_select(0, unfit) for kept in (active, own, wanted, distance))
    back = origin.new_tensor([[-down * canvas_stride - right] for down, right in STEPS])
    onward = origin.new_tensor([[down * stride + right] for down, right in STEPS])
    near = active + back
    candidates = canvas.flatten().index_select(0, near.flatten()).view_as(near).add_(onward)
    best, which = _distance(described, wanted, candidates).min(0)
    better = torch.where(best < distance, candidates.gather(0, which[None])[0], own)
    places = canvas.flatten().index_copy_(0, active, better).view_as(canvas)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return torch.stack([places // stride - MARGIN, places % stride - MARGIN], dim=1)


def moved(
    origin: Tensor,  # int64 [N, 2, h, w]
    moves: Tensor,  # float32 [N, 2, a, b], in pixels, over the same canvas
    own: Size,  # of the source
) -> Tensor:
    """Coordinates, int64 [N, 2, h, w], with moves, interpolated and rounded, added to them."""
    whole = F.interpolate(moves, origin.shape[2:], mode="bilinear", align_corners=False).round().to(origin)
    return inside(origin + whole, own)


def best_columns(
    distance: Tensor,  # [A, B], none negative; it is overwritten
    factors: Tensor,  # [B]
) -> Tensor:
    """int64 [A]: the column of the least product of each row with the factors; to some 12 bits."""
    return least_columns(distance.mul_(factors))


def least_columns(
    distance: Tensor,  # [A, B], none negative; it is overwritten
) -> Tensor:
    """int64 [A]: the column of the least of each row; to some 12 bits.

    Floats that are not negative are ordered as integers are. With its column in the lowest bits of each, one minimum
    finds both, several times as fast as argmin.
    """
    columns = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)
    low = (1 << (distance.shape[1] - 1).bit_length()) - 1
    return distance.view(torch.int32).bitwise_and_(~low).bitwise_or_(columns).amin(1).bitwise_and_(low).long()


def resized(image: Tensor, size: Size, how: str) -> Tensor:
    """[N, C, h, w] to [N, C, *size] by one of RESAMPLERS."""
    return resize(image, size, how)


@dataclass(frozen=True, eq=False)
class Blendable:
    """A source, as `blended` takes it."""

    pixels: Tensor  # [1, C, h', w'] in [-1, 1]
    low: Tensor  # [1, C', h', w'], C' = 3 at most: the low frequencies of its colours
    lower: Tensor  # the same, blurred once more
    blend_px: float


def packed_pixels(source: Tensor) -> Tensor:
    """[1, C, h', w'] as `copied` takes it."""
    return source


def copied(
    origin: Tensor,  # [N, 2, h, w]
    pixels: Tensor,  # from `packed_pixels`
) -> Tensor:
    """[N, C, h, w]: the pixels at `origin`."""
    places = origin[:, 0] * pixels.shape[3] + origin[:, 1]
    found = pixels[0].flatten(1).index_select(1, places.flatten())
    return found.view(-1, *places.shape).transpose(0, 1)


def blendable(source: Tensor, blend_px: float) -> Blendable:
    """Of a source, [1, C, h', w'], all that is blended; over `blend_px`, above 0."""
    low = low_frequencies(source[:, :3], blend_px)
    return Blendable(source, low, low_frequencies(low, blend_px), blend_px)


def blended(origin: Tensor, source: Blendable) -> Tensor:
    """As `copied`, with the low frequencies of neighbouring pieces blended; a mask is left as it is."""
    step, image = blending(origin, source), copied(origin, source.pixels)
    return torch.cat([image[:, : step.shape[1]] + step, image[:, step.shape[1] :]], dim=1)


def blending(origin: Tensor, source: Blendable) -> Tensor:
    """[N, C', h, w]: what `blended` adds to the pixels at `origin`, [N, 2, h, w].

    Inside a piece both terms of the step are about the same and hardly anything changes. Across the edge of an object
    the step is large and meant to be: it is kept. What is blended is smooth already, so it is looked at in steps of
    some pixels.
    """
    down, right = (_blurring(side, source.blend_px, origin.device) for side in origin.shape[2:])
    sampled = copied(origin.index_select(2, down[0]).index_select(3, right[0]), source.low)
    step = down[1] @ sampled @ right[1].T - copied(origin, source.lower)
    return step * torch.exp(-((step.abs().amax(1, keepdim=True) / SEAM_LIMIT) ** 2))


def blended_levels(origin: Tensor, source: Blendable) -> Tensor:
    """The same as uint8."""
    return signed_to_bytes(blended(origin, source))


@lru_cache(maxsize=64)
def _blurring(side: int, sigma_px: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along an axis: the sampled places, [G], and what they are multiplied with, [side, G]."""
    places, weights = sampled_places(side, sigma_px), phases(sigma_px)
    apart, count = weights.shape
    matrix = np.zeros((side, len(places) + 1), np.float32)
    for x in range(side):
        matrix[x, x // apart : x // apart + count] = weights[x % apart, : len(places) + 1 - x // apart]
    return torch.from_numpy(places).to(device), torch.from_numpy(matrix[:, :-1].copy()).to(device)


def low_frequencies(
    image: Tensor,  # [1, C, h, w]
    sigma_px: float,  # 0: none
) -> Tensor:
    """The same blurred: resample.blur."""
    return blur(image, sigma_px)


def describe(image: Tensor, basis: Tensor, margin: int = 0) -> Tensor:
    """[N, h, w, D]: the patch around every pixel of [N, C, h, w], in the basis; edges are repeated."""
    padded = F.pad(image, (basis.shape[-1] // 2 + margin,) * 4, mode="replicate")
    return F.conv2d(padded.contiguous(memory_format=torch.channels_last), basis).permute(0, 2, 3, 1)


def seams(origin: Tensor, apart_px: int = 1) -> Tensor:
    """[N, h, w]: where coordinates, [N, 2, h, w], do not continue those of the pixels so far away."""
    height, width = origin.shape[2:]
    pieces = (origin[:, 0] << 32) + origin[:, 1] - _unmoved(height, width, origin.device)
    found = torch.zeros_like(pieces, dtype=torch.bool)
    for dim in (1, 2):
        n = pieces.shape[dim] - apart_px
        if n > 0:
            apart = pieces.narrow(dim, 0, n) != pieces.narrow(dim, apart_px, n)
            found.narrow(dim, 0, n).logical_or_(apart)
            found.narrow(dim, apart_px, n).logical_or_(apart)
    return found


def spread(own: Size, size: Size, device: torch.device) -> Tensor:
    """[2, *size]: where each pixel of a canvas lies in a source of size `own` when one is spread over the other."""
    sides = [
        (torch.arange(side, dtype=torch.float32, device=device) + 0.5) * (of / side) - 0.5
        for side, of in zip(size, own, strict=True)
    ]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"))


def inside(origin: Tensor, own: Size) -> Tensor:
    """Coordinates, [N, 2, ...], with those outside of a source at its edge."""
    return torch.stack([origin[:, axis].clamp(0, own[axis] - 1) for axis in (0, 1)], dim=1)


def _distance(described: Tensor, wanted: Tensor, places: Tensor) -> Tensor:
    """[K, A]: the squared distance of A descriptors, [A, D], from those of K candidates for each, [K, A]."""
    found = described.flatten(0, 1).index_select(0, places.flatten()).float()
    return found.view(*places.shape, wanted.shape[1]).sub_(wanted).square_().sum(-1)


@lru_cache(maxsize=64)
def _unmoved(height: int, width: int, device: torch.device) -> Tensor:
    """[h, w]: row and column of each pixel as one number."""
    return (torch.arange(height, device=device)[:, None] << 32) + torch.arange(width, device=device)


@lru_cache(maxsize=256)
def _within(coarse: int, side: int, device: torch.device) -> Tensor:
    """[side]: how far from the middle of the coarse pixel it lies in a pixel lies, in pixels."""
    place = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) * (coarse / side)
    return (place - place.long().clamp_(max=coarse - 1) - 0.5) * (side / coarse)
