"""A region of an image, or all of it, made anew out of patches of the source, scale by scale; the rest stays as it is.

Each pass finds for every patch that touches the region the place of the source that looks most like it, and lets all
patches that cover a pixel vote for its colour (Wexler, Shechtman, Irani 2007, "Space-time completion of video"). From
scale to scale coordinates are handed on, as in draws: what lies in one piece stays in one piece, and detail is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.pyramid.copied.coordinates import MARGIN, SEAM_LIMIT
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.copied.search import nearest_places, prepared
from singan_aug.pyramid.copied.steps_torch import followed, packed_basis, seams
from singan_aug.pyramid.resample import blur, resize
from singan_aug.pyramid.sizes import Size, sizes_for

__all__ = ["Imitation", "continued", "filled_smoothly", "grown", "imitated"]

EXHAUSTIVE = 300_000_000  # pairs up to which seams are compared with all places; above, with their neighbours' alone
AT_ONCE_PX = 2**17  # pixels whose patches are held at once
TOUCHED = 0.02  # share of a pixel from which on it counts as part of a region
SMOOTHED_PX = 1.5  # what hides the steps of halvings in a hole that is filled smoothly
CONTINUED_PX = 1024  # pixels of a hole up to which slopes are continued at its own size; larger ones at half of it
CONTINUED_STEPS = 500  # of conjugate gradients, at most
CONTINUED_ERROR = 1e-3  # share of the first error that ends them
AROUND_PX = 16  # of what surrounds a hole that is looked at: its slopes
ALL_PLACES_ALIKE = 1e6  # alpha for which no place gives way to another


@dataclass(frozen=True)
class Imitation:
    """How an image is imitated in patches of the source."""

    passes: tuple[int, ...] = (4, 2, 1)  # at the scale where it enters, the next, and all others
    nearness: tuple[float, float] = (0.0, 0.0)  # what a side, down and across, is worth in squared difference
    completeness: float = ALL_PLACES_ALIKE  # alpha of GPNN; a small one makes use of all of the source
    unrest: float = 0.0  # noise in the first pass, in deviations of the source; it falls to none
    copied: bool = False  # in the end each pixel is copied from one place, in place of a vote: sharper, rougher
    settled: bool = True  # in the end colours of the region are drawn to what surrounds it, smoothly


def imitated(
    scales: Sequence[CopiedScale],  # from the one at which the image enters to the finest
    image: Tensor,  # [1, C, H, W] in [-1, 1]: in the region what is to be imitated
    region: Tensor,  # bool [H, W]; where it is not all, the image is as large as the source
    how: Imitation,
    generator: torch.Generator,  # of the unrest
    known: Tensor | None = None,  # bool, of the source's size: what may be copied; None: all
    shown: Tensor | None = None,  # [1, C, h, w]: what the first scale's source looks like to the first search; None: it
) -> Tensor:
    """The image with its region made of patches of the source, [1, C, H, W]; outside of it nothing changes.

    The first search compares all with all: it takes time with the pixels of the region times those of the source at
    that scale.
    """
    sizes = sizes_for(tuple(scale.size for scale in scales), (image.shape[2], image.shape[3]))
    origin: Tensor | None = None
    made, below = image, scales[0].size
    for k, (scale, size) in enumerate(zip(scales, sizes, strict=True)):
        here, target = _at(region, size), resize(image, size, scale.resample)
        places = _Places(scale, None if known is None else ~_at(~known, scale.size), how)
        unmoved = _unmoved(size, scale.size, image.device)
        origin = unmoved if origin is None else followed(origin[None], below, scale.size, size)[0]
        origin = torch.where(here, origin, unmoved)
        made = _copied(scale, origin, target, here) if k else target
        passes = how.passes[min(k, len(how.passes) - 1)]
        for step in range(passes):
            first = k == 0 and step == 0
            seen = made
            if k == 0 and how.unrest:
                noise = torch.randn(made.shape, generator=generator, dtype=torch.float32, device="cpu").to(made.device)
                seen = made + noise * here * (how.unrest * (1 - step / passes) * scale.source.std())
            active = places.touching(here) & (places.touching(seams(origin[None])[0]) | (k == 0))
            origin = places.found(seen, origin, active, shown if first else None, exact=first)
            made = places.voted(target, origin, here)
        below = scale.size
    assert origin is not None
    made = _copied(scales[-1], origin, image, region) if how.copied else made
    return _settled(places, made, image, origin, region) if how.settled else made


def grown(region: Tensor, radius_px: int) -> Tensor:
    """bool [h, w]: the region and what is at most so many pixels from it, along rows and columns."""
    return F.max_pool2d(region[None, None].float(), 2 * radius_px + 1, 1, radius_px)[0, 0] > 0


def filled_smoothly(image: Tensor, hole: Tensor) -> Tensor:
    """[1, C, H, W] where what surrounds the hole, bool [H, W], has spread into it; zeros where nothing does.

    Pull-push (Gortler et al. 1996, "The Lumigraph"): of each halving what is known, weighted by how much is.
    """
    known = (~hole)[None, None].to(image)
    filled = _pulled(image * known, known)
    return torch.where(hole, blur(filled, SMOOTHED_PX), image)


def continued(image: Tensor, hole: Tensor) -> Tensor:
    """[1, C, H, W] where what surrounds the hole, bool [H, W], goes on into it with its slopes, so that an edge of sky
    that enters on one side leaves on the other: the biharmonic filling, the one with the least Laplacian.

    Colours stay within those around it. In a large hole it is found at half the size, or a quarter.
    """
    top, bottom, left, right = (
        end
        for places, side in zip(hole.nonzero().unbind(1), hole.shape, strict=True)
        for end in (max(0, int(places.min()) - AROUND_PX), min(side, int(places.max()) + 1 + AROUND_PX))
    )
    made = image.clone()
    made[..., top:bottom, left:right] = _continued(image[..., top:bottom, left:right], hole[top:bottom, left:right])
    return made


def _continued(image: Tensor, hole: Tensor) -> Tensor:
    known = (~hole)[None, None].to(image)
    if int(hole.sum()) > CONTINUED_PX or hole.numel() > 16 * CONTINUED_PX:
        half = ((image.shape[2] + 1) // 2, (image.shape[3] + 1) // 2)
        weight = F.adaptive_avg_pool2d(known, half)
        small = F.adaptive_avg_pool2d(image * known, half) / weight.clamp_min(1e-6)
        whole = weight[0, 0] > 1 - 1e-4  # what is known in part lies off its place
        small = _continued(small, ~whole if whole.any() else weight[0, 0] == 0)
        large = F.interpolate(small, image.shape[2:], mode="bilinear", align_corners=False)
        return torch.where(hole, large, image)
    low, high = (torch.where(hole, end, image) for end in (torch.inf, -torch.inf))
    filled = _least_bent(filled_smoothly(image, hole).double(), hole[None, None].double()).to(image)
    bounded = filled.clamp(low.amin((2, 3), keepdim=True), high.amax((2, 3), keepdim=True))
    return torch.where(hole, bounded, image)


def _least_bent(filled: Tensor, free: Tensor) -> Tensor:
    """The image, float64 [1, C, H, W], with what is free, 1 in [1, 1, H, W], such that the squares of its Laplacian sum
    up to least: conjugate gradients."""
    left = -_bent(_bent(filled)) * free
    way, size = left.clone(), left.square().sum((2, 3), keepdim=True)
    enough = size * CONTINUED_ERROR**2
    for _ in range(CONTINUED_STEPS):
        if bool((size <= enough).all()):
            break
        bent = _bent(_bent(way)) * free
        step = size / (way * bent).sum((2, 3), keepdim=True).clamp_min(1e-300)
        filled, left = filled + step * way, left - step * bent
        before, size = size, left.square().sum((2, 3), keepdim=True)
        way = left + size / before.clamp_min(1e-300) * way
    return filled


def _bent(image: Tensor) -> Tensor:
    """The Laplacian; what lies beyond the border is as the border."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    around = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return around - 4 * image


def _pulled(weighted: Tensor, weight: Tensor) -> Tensor:
    height, width = weighted.shape[2:]
    if max(height, width) == 1:
        return weighted / weight.clamp_min(1e-6)
    half = ((height + 1) // 2, (width + 1) // 2)
    coarser = _pulled(F.adaptive_avg_pool2d(weighted, half), F.adaptive_avg_pool2d(weight, half))
    return weighted + (1 - weight) * F.interpolate(coarser, (height, width), mode="bilinear", align_corners=False)


def _at(region: Tensor, size: Size) -> Tensor:
    """bool [*size]: a region at another size, with every pixel that it touches."""
    return resize(region[None, None].float(), size, "bilinear")[0, 0] > TOUCHED


def _unmoved(size: Size, own: Size, device: torch.device) -> Tensor:
    """int64 [2, *size]: the place of the source that lies under each pixel."""
    sides = [((torch.arange(a, device=device) + 0.5) * (b / a)).long() for a, b in zip(size, own, strict=True)]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"))


def _copied(scale: CopiedScale, origin: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """The target with pixels of the source in the region."""
    return torch.where(region, scale.source[:, :, origin[0], origin[1]], target)


def _settled(places: _Places, made: Tensor, target: Tensor, origin: Tensor, region: Tensor) -> Tensor:
    """The region with a smooth change of colour that takes away its step to what surrounds it.

    As in seamless cloning (Pérez, Gangnet, Blake 2003) the step is known where the region's patches reach beyond it,
    and spreads inwards. Large steps are edges of things, and stay.
    """
    rim = places.touching(region) & ~region
    if not rim.any():
        return made
    step = target - places.voted(target, origin, rim)
    step = step * torch.exp(-((step.abs().amax(1, keepdim=True) / SEAM_LIMIT) ** 2))
    return torch.where(region, made + filled_smoothly(step, ~rim), made)


class _Places:
    """The places of a source that may be copied, and what they look like."""

    def __init__(self, scale: CopiedScale, known: Tensor | None, how: Imitation) -> None:
        self.scale, self.how = scale, how
        self.radius = scale.basis.shape[-1] // 2
        self.basis = packed_basis(scale.basis)
        whole = torch.ones(scale.size, dtype=torch.bool, device=scale.source.device)
        if known is not None and known.any():
            inner = ~grown(~known, self.radius)
            whole = inner if inner.any() else known
        self.allowed = whole.flatten().nonzero()[:, 0]
        self.keys = self._prepared(scale.source)

    def touching(self, region: Tensor) -> Tensor:
        """bool [h, w]: the middles of all patches that touch a region."""
        return grown(region, self.radius)

    def found(self, image: Tensor, origin: Tensor, active: Tensor, shown: Tensor | None, *, exact: bool) -> Tensor:
        """Origins, int64 [2, h, w], with the best places for the active pixels of an image; `shown` in place of the
        source is what they are compared with."""
        if not exact and int(active.sum()) * len(self.allowed) > EXHAUSTIVE:
            return torch.where(active, self._improved(image, origin), origin)
        keys = self.keys if shown is None else self._prepared(shown)
        wanted = self._described(image, active.flatten().nonzero()[:, 0])
        if not len(wanted):
            return origin
        found = self.allowed[nearest_places(wanted, keys, self.how.completeness)]
        origin = origin.clone()
        origin[:, active] = torch.stack([found // self.scale.size[1], found % self.scale.size[1]])
        return origin

    def _improved(self, image: Tensor, origin: Tensor) -> Tensor:
        """The best of the places that neighbours lead to, some rows at a time: they see a few rows around theirs."""
        height, width = image.shape[2:]
        rows, around = max(1, AT_ONCE_PX // width), MARGIN + self.radius + 1
        made = []
        for top in range(0, height, rows):
            first, last = max(0, top - around), min(height, top + rows + around)
            strip = self.scale.improved(image[:, :, first:last], origin[None, :, first:last])[0]
            made.append(strip[:, top - first : min(top + rows, height) - first])
        return made[0] if len(made) == 1 else torch.cat(made, 1)

    def voted(self, target: Tensor, origin: Tensor, region: Tensor) -> Tensor:
        """The target where each pixel of a region is the mean of what the patches over it show there."""
        made = target.clone()
        for rows, columns in (part.unbind(1) for part in region.nonzero().split(AT_ONCE_PX)):
            made[0, :, rows, columns] = self._vote(origin, rows, columns)
        return made

    def _vote(self, origin: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[C, A]: of each of these pixels."""
        source, sides = self.scale.source[0], self.scale.size
        total = source.new_zeros(len(source), len(rows))
        count = source.new_zeros(len(rows))
        for down in range(-self.radius, self.radius + 1):
            for right in range(-self.radius, self.radius + 1):
                y, x = (rows - down).clamp(0, origin.shape[1] - 1), (columns - right).clamp(0, origin.shape[2] - 1)
                row, column = origin[0, y, x] + rows - y, origin[1, y, x] + columns - x
                inside = (row >= 0) & (row < sides[0]) & (column >= 0) & (column < sides[1])
                total += source[:, row.clamp(0, sides[0] - 1), column.clamp(0, sides[1] - 1)] * inside
                count += inside
        return total / count.clamp_min(1)

    def _prepared(self, image: Tensor) -> Tensor:
        return prepared(self._described(image, self.allowed))

    def _described(self, image: Tensor, places: Tensor) -> Tensor:
        """[A, D + 2]: what surrounds these pixels, rows after rows, and where they lie."""
        height, width = image.shape[2:]
        padded = F.pad(image, (self.radius,) * 4, mode="replicate")[0]
        windows = padded.unfold(1, 2 * self.radius + 1, 1).unfold(2, 2 * self.radius + 1, 1)  # a view
        nearness = image.new_tensor(self.how.nearness).sqrt()
        found = []
        for some in places.split(AT_ONCE_PX):
            rows, columns = some // width, some % width
            patches = windows[:, rows, columns].transpose(0, 1).flatten(1)
            where = torch.stack([(rows + 0.5) / height, (columns + 0.5) / width], 1) * nearness
            found.append(torch.cat([patches @ self.basis.flatten(1).T, where], 1))
        return torch.cat(found) if found else image.new_zeros(0, len(self.basis) + 2)
