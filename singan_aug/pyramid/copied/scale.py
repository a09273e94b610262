"""Copied scales: no weights, no training; a draw is a field of coordinates into the source.

Above a generated scale, the first copied one finds for every pixel that it is shown the place in the source that looks
most like it (search.py). A draw that starts at a copied scale shifts regions of the source (shifts.py), then finds for
every pixel at a seam the place whose surroundings fit best. Each finer scale takes the coordinates over, improves them
where they do not fit (a few candidates: the neighbours' coordinates, continued), and copies, so that the finest scale
is made of true pixels in coherent pieces. Where two pieces meet, their low frequencies are blended.

The steps that all scales share are in steps_torch.py (torch) and steps_numba.py (compiled).

Sources: patch nearest neighbours in place of a GAN at every scale, and the normalisation of distances that makes a draw
use all of the source, Granot et al. 2022 (GPNN), eq. 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.config import Copied
from singan_aug.images import signed_to_bytes
from singan_aug.pyramid.copied.coordinates import FAR, MARGIN
from singan_aug.pyramid.copied.drift import drifted
from singan_aug.pyramid.copied.search import nearest_nearby, nearest_places, prepared
from singan_aug.pyramid.copied.shifts import random_shift, settled_seams
from singan_aug.pyramid.copied.steps import steps_for
from singan_aug.pyramid.copied.steps_torch import describe, packed_basis, seams
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import Canvas, Scale
from singan_aug.pyramid.sizes import Size

__all__ = ["CopiedScale", "copied_bytes", "copied_scales", "descriptor_basis"]

AROUND_SEAMS_PX = 2  # pixels so close to a seam are compared with all places
EXHAUSTIVE = 1_400_000  # pairs of places up to which every one is compared with every other
REACH_RATIO = 0.15  # of the short side: how far away a place is searched for beyond that
GLANCE_PX = 16  # short side at which shifts are compared
SETTLED = 7_000  # pixels of a canvas up to which seams are settled before a draw starts
SAMPLED = 2000  # patches from which the descriptors' basis is made


class SourceLevels:
    """A source at the size of each copied scale, resized when it is first asked for: most draws start at the finest."""

    def __init__(self, source: Tensor, sizes: Sequence[Size], resample: str) -> None:
        self._source, self._sizes, self._resample = source, sizes, resample
        self._made: dict[int, Tensor] = {}

    def at(self, index: int) -> Tensor:
        """[1, C, h, w] in [-1, 1]."""
        if index not in self._made:
            self._made[index] = resize(self._source, self._sizes[index], self._resample)
        return self._made[index]


class CopiedCanvas(Canvas):
    """A canvas that copies from the source of a scale; its image is made when it is asked for."""

    origin: Tensor

    def __init__(self, scale: CopiedScale, origin: Tensor) -> None:
        self._scale, self.origin = scale, origin

    @cached_property
    def image(self) -> Tensor:  # type: ignore[override]
        """As the scale copies it."""
        return self._scale.image_at(self.origin)

    @cached_property
    def levels(self) -> Tensor:
        """The same to 8 bits."""
        return self._scale.levels_at(self.origin)

    @cached_property
    def change(self) -> Tensor:  # type: ignore[override]
        """What blending over seams adds to the pixels of the source."""
        return self._scale.change_at(self.origin)


@dataclass(frozen=True, eq=False)
class CopiedScale(Scale):
    """The source at one scale, and the basis in which its patches are compared."""

    size: Size
    levels: SourceLevels  # the source at each copied scale
    basis: Tensor  # [D, C, p, p] orthonormal filters: the principal components of this scale's patches
    index: int  # which of the copied scales this is, 0 the coarsest
    above: int  # how many scales there are above it
    resample: str  # how images are resized between scales
    how: Copied

    @property
    def source(self) -> Tensor:
        """[1, C, h, w] in [-1, 1]: what is copied."""
        return self.levels.at(self.index)

    @property
    def entering(self) -> Tensor:  # type: ignore[override]
        """[1, C, h', w']: the source at the scale below; at scale 0 the source itself."""
        return self.levels.at(max(0, self.index - 1))

    @property
    def is_finest(self) -> bool:
        """Whether what it copies is the variant."""
        return self.above == 0

    @property
    def drift_px(self) -> float:
        """How far what it takes over drifts: at the finest scale alone, elsewhere 0."""
        return self.how.drift_px if self.is_finest else 0.0

    @property
    def blend_px(self) -> float:
        """How far low frequencies are blended over seams: at the finest scale alone, elsewhere 0."""
        return self.how.seam_blend_px if self.is_finest else 0.0

    @cached_property
    def _steps(self) -> Any:
        """The module that computes the steps of a draw where this scale is."""
        return steps_for(self.source.device)

    @cached_property
    def _packed_basis(self) -> Tensor:
        packed: Tensor = self._steps.packed_basis(self.basis)
        return packed

    @cached_property
    def described(self) -> Tensor:
        """bfloat16 [h + 4 MARGIN + 1, w + 2 MARGIN, D]: what every place of the source looks like from the scale below,
        which a draw is compared with."""
        seen = self._steps.resized(self.entering, self.size, self.resample)
        described = describe(seen, packed_basis(self.basis))[0]
        return F.pad(described, (0, 0, MARGIN, MARGIN, MARGIN, 3 * MARGIN + 1), value=FAR).bfloat16()

    @cached_property
    def _pixels(self) -> Any:
        """The source, as it is copied."""
        return self._steps.packed_pixels(self.source)

    @cached_property
    def _blendable(self) -> Any:
        """The source, as it is copied where seams are blended."""
        return self._steps.blendable(self.source, self.blend_px)

    def draw(self, below: Canvas | None, size: Size, generators: Sequence[torch.Generator]) -> Canvas:
        """Shift regions of the source where the draw starts; elsewhere follow the coordinates from below.

        What was generated below has no coordinates: they are searched for. The drift is this sort's noise at the finest
        scale: it keeps regions from moving as one.
        """
        if below is None:
            origin = self._begin(size, generators)
        else:
            seen = self._steps.resized(below.image, size, self.resample)
            if below.origin is None:
                origin = self._found(seen)
            else:
                below_px = (self.entering.shape[2], self.entering.shape[3])
                origin = self._steps.followed(below.origin, below_px, self.size, size)
                if self.drift_px:
                    drift_px = self.drift_px * min(size) / min(self.size)
                    origin = drifted(origin, self.size, drift_px, generators)
                    seen = self._copied(origin)
                origin = self.improved(seen, origin)
        return CopiedCanvas(self, origin)

    def typical_origin(self, generators: Sequence[torch.Generator]) -> Tensor:
        """int64 [2, *self.size]: of a draw that starts here and moves pixels as far as most do.

        That of the generator whose shift is the median one; a shift is nearly the same field at a small size.
        """
        small = (round(GLANCE_PX * self.size[0] / min(self.size)), round(GLANCE_PX * self.size[1] / min(self.size)))

        def moved_px(generator: torch.Generator) -> float:
            shift = random_shift(small, generator.clone_state(), self.index, self.how)
            return float(shift.square().sum(1).sqrt().mean())

        typical = sorted(generators, key=moved_px)[len(generators) // 2]
        return self._begin(self.size, [typical])[0]

    def reconstruct(self) -> Tensor:
        """The source: unshifted, every place is its own best match."""
        return self.source

    def stored(self) -> dict[str, Tensor]:
        """The basis; the source is kept at the finest size alone."""
        return {"basis": self.basis}

    @property
    def memory_bytes(self) -> int:
        """With what draws make of its tensors; what enters is the source of the scale below."""
        pixels = self.size[0] * self.size[1]
        floats = (3 if self.blend_px else 2) * self.source.shape[1] + (6 if self.blend_px else 0)
        if self.index == 0:  # where all places are compared with all
            floats += self.basis.shape[0] + 2
        return 4 * floats * pixels + 2 * self.basis.shape[0] * pixels + 4 * self.basis.numel()

    def _begin(self, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shift = torch.cat([random_shift(size, generator, self.index, self.how) for generator in generators])
        shift = shift.to(self.source.device)
        if self.how.seam_passes and size[0] * size[1] <= SETTLED:
            shift = settled_seams(shift, self.size, self._described_at, self.how)
        if size[0] * size[1] * self.size[0] * self.size[1] <= EXHAUSTIVE:
            origin = self._steps.placed(shift, self.size, mirrored=False)
            return self._best_of_all(self._copied(origin), origin)
        # Nothing would mend the streaks that coordinates clamped at an edge make.
        origin = self._steps.placed(shift, self.size, mirrored=True)
        # Elsewhere it would gain little: the next scale improves what it is handed.
        return self.improved(self._copied(origin), origin) if self.is_finest else origin

    def _described_at(self, origin: Tensor) -> Tensor:
        """[N, ..., D]: what the places look like that are nearest to coordinates, [N, 2, ...]."""
        rows, columns = (origin.round().long() + MARGIN).unbind(1)
        places = rows * (self.size[1] + 2 * MARGIN) + columns
        return self.described.flatten(0, 1).index_select(0, places.flatten()).float().view(*places.shape, -1)

    def _copied(self, origin: Tensor) -> Tensor:
        pixels: Tensor = self._steps.copied(origin, self._pixels)
        return pixels

    def image_at(self, origin: Tensor) -> Tensor:
        """[N, C, h, w] in about [-1, 1]: what is copied from these coordinates, seams blended."""
        pixels: Tensor = self._steps.blended(origin, self._blendable) if self.blend_px else self._copied(origin)
        return pixels

    def change_at(self, origin: Tensor) -> Tensor:
        """[N, C', h, w], C' = 3 at most: what blending over seams adds to what is copied from these coordinates."""
        if not self.blend_px:
            return self.source.new_zeros(len(origin), min(3, self.source.shape[1]), *origin.shape[2:])
        change: Tensor = self._steps.blending(origin, self._blendable)
        return change

    def levels_at(self, origin: Tensor) -> Tensor:
        """uint8 [N, C, h, w]: the same to 8 bits."""
        if not self.blend_px:
            return signed_to_bytes(self._copied(origin))
        levels: Tensor = self._steps.blended_levels(origin, self._blendable)
        return levels

    def improved(
        self,
        seen: Tensor,  # [N, C, h, w] in [-1, 1]: what the canvas looks like
        origin: Tensor,  # int64 [N, 2, h, w]
    ) -> Tensor:
        """Better coordinates for pixels at seams that do not fit, of those that their neighbours lead to."""
        found: Tensor = self._steps.improved(seen, origin, self.described, self._packed_basis, self.how.match_tolerance)
        return found

    @cached_property
    def _known_in_place(self) -> Tensor:
        """The same with where each place lies, for searches that keep near."""
        seen = self.described[MARGIN : MARGIN + self.size[0], MARGIN:-MARGIN].flatten(0, 1).float()
        return prepared(torch.cat([seen, self._whereabouts(self.size)], dim=1))

    def _whereabouts(self, size: Size) -> Tensor:
        """[h * w, 2]: where each pixel lies, such that a side of the image is worth `search_nearness`."""
        sides = [(torch.arange(side, device=self.source.device, dtype=torch.float32) + 0.5) / side for side in size]
        places = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).flatten(0, 1)
        return places * math.sqrt(self.how.search_nearness)

    @cached_property
    def _known(self) -> Tensor:
        """What all places look like, in the order of the rows, for search.py."""
        return prepared(self.described[MARGIN : MARGIN + self.size[0], MARGIN:-MARGIN].flatten(0, 1))

    def _found(self, image: Tensor) -> Tensor:
        """Coordinates for images, [N, C, h, w], that have none: of the best places, all compared with all, or where
        these are many with those near.

        What the first search copies is searched for again: it has colours of the source alone. In the end a place gives
        way where a neighbour's, continued, fits better.
        """
        size, seen = (image.shape[2], image.shape[3]), image
        whereabouts = self._whereabouts(size)
        for _ in range(self.how.search_passes):
            described = describe(seen, packed_basis(self.basis)).flatten(1, 2)
            places = [self._searched(torch.cat([each, whereabouts], dim=1), size) for each in described]
            origin = self._coordinates(torch.stack(places).view(len(image), *size))
            seen = self._copied(origin)
        return self.improved(image, origin)

    def _searched(self, wanted: Tensor, size: Size) -> Tensor:
        """int64 [h * w]: the best place for each pixel of a canvas."""
        known, completeness = self._known_in_place, self.how.completeness
        if len(wanted) * len(known) <= EXHAUSTIVE:
            return nearest_places(wanted, known, completeness)
        return nearest_nearby(wanted, size, known, self.size, completeness, math.ceil(REACH_RATIO * min(self.size)))

    def _best_of_all(self, image: Tensor, origin: Tensor) -> Tensor:
        """The best places for pixels at seams, all compared with all; those in demand elsewhere count as less good."""
        places = origin[:, 0] * self.size[1] + origin[:, 1]
        at_seams = seams(origin, AROUND_SEAMS_PX).flatten(1)
        described = describe(image, packed_basis(self.basis)).flatten(1, 2)
        for own, wanted, seam in zip(places.flatten(1), described, at_seams, strict=True):
            active = seam.nonzero()[:, 0]
            if len(active):
                found = nearest_places(
                    wanted.index_select(0, active), self._known, self.how.completeness, used=own[~seam]
                )
                own.index_copy_(0, active, found)
        return self._coordinates(places)

    def _coordinates(self, places: Tensor) -> Tensor:
        return torch.stack([places // self.size[1], places % self.size[1]], dim=1)


def descriptor_basis(image: Tensor, patch_px: int, dims: int, generator: torch.Generator) -> Tensor:
    """The principal components of an image's patches, [D, C, p, p], D = `dims` at most; exact in half precision."""
    padded = F.pad(image, (patch_px // 2,) * 4, mode="replicate")
    windows = padded[0].unfold(1, patch_px, 1).unfold(2, patch_px, 1).movedim(0, 2)  # a view, [h, w, C, p, p]
    places = torch.arange(image.shape[2] * image.shape[3], device=image.device)
    if len(places) > SAMPLED:
        places = torch.randperm(len(places), generator=generator, device="cpu")[:SAMPLED].to(image.device)
    patches = windows[places // image.shape[3], places % image.shape[3]].flatten(1)
    patches = (patches - patches.mean(0)).double()
    axes: Tensor = torch.linalg.eigh(patches.T @ patches).eigenvectors[:, -dims:].flip(1)
    return axes.T.reshape(-1, image.shape[1], patch_px, patch_px).half().float()


def copied_scales(
    source: Tensor,  # [1, C, H, W] in [-1, 1]
    bases: Sequence[Tensor],  # of each scale
    sizes: Sequence[Size],
    copied: Copied,
    resample: str,
) -> tuple[CopiedScale, ...]:
    """The copied scales of a source, coarsest first."""
    levels, last = SourceLevels(source, sizes, resample), len(sizes) - 1
    return tuple(
        CopiedScale(size, levels, basis, k, last - k, resample, copied)
        for k, (size, basis) in enumerate(zip(sizes, bases, strict=True))
    )


def copied_bytes(sizes: Sequence[Size], copied: Copied, channels: int, *, searched: bool) -> int:
    """About how much copied scales of these sizes take in a store: the source, 8 bits a value, and the bases."""
    filters = copied.descriptor_dims * sum(side**2 for side in copied.patch_sides(len(sizes), searched=searched))
    return channels * (sizes[-1][0] * sizes[-1][1] + 2 * filters)
