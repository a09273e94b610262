"""Pyramids that copy patches: no weights, no training; a draw is a field of coordinates into the source.

A draw starts by shifting regions of the source at the start scale (shifts.py), then finds for every pixel at a seam the
place in the source whose surroundings fit best, and copies that. Each finer scale takes the coordinates over, improves
them where they do not fit (a few candidates: the neighbours' coordinates, continued), and copies again, so that the
finest scale is made of true pixels in coherent pieces. Where two pieces meet, their low frequencies are blended.

The steps that all scales share are in steps_torch.py (torch) and steps_numba.py (compiled).

Sources: patch nearest neighbours in place of a GAN at every scale, and the normalisation of distances that makes a draw
use all of the source, Granot et al. 2022 (GPNN), eq. 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.images import bytes_to_signed, signed_to_bytes
from singan_aug.pyramid.copied.coordinates import FAR, MARGIN
from singan_aug.pyramid.copied.shifts import random_shift, settled_seams
from singan_aug.pyramid.copied.steps_torch import describe, packed_basis, seams
from singan_aug.pyramid.resample import blur, resize
from singan_aug.pyramid.scale import KINDS, Canvas, Scale
from singan_aug.pyramid.sizes import Size, scale_sizes

__all__ = ["CopiedScale", "copied_scales", "descriptor_basis"]

COMPLETENESS = 5e-3  # GPNN's alpha: smaller makes a draw use more of the source
AROUND_SEAMS_PX = 2  # pixels so close to a seam are compared with all places
EXHAUSTIVE = 1_400_000  # pairs of places up to which every one is compared with every other
GLANCE_PX = 16  # short side at which shifts are compared
SETTLED = 7_000  # pixels of a canvas up to which seams are settled before a draw starts
SAMPLED = 2000  # patches from which the descriptors' basis is made


@dataclass(frozen=True, eq=False)
class CopiedScale(Scale):
    """The source at one scale, and the basis in which its patches are compared."""

    size: Size
    source: Tensor  # [1, C, h, w] in [-1, 1]: what is copied
    entering: Tensor  # [1, C, h', w'] the source at the scale below; at scale 0 the source itself
    basis: Tensor  # [D, C, p, p] orthonormal filters: the principal components of this scale's patches
    index: int  # which scale this is, 0 the coarsest
    resample: str  # how images are resized between scales
    is_finest: bool
    blend_px: float  # how far low frequencies are blended over seams: at the finest scale alone, elsewhere 0

    @cached_property
    def _steps(self) -> Any:
        """The module that computes the steps of a draw where this scale is."""
        compiled = self.source.device.type == "cpu"
        return import_module(f"singan_aug.pyramid.copied.{'steps_numba' if compiled else 'steps_torch'}")

    @cached_property
    def _packed_basis(self) -> Tensor:
        packed: Tensor = self._steps.packed_basis(self.basis)
        return packed

    @cached_property
    def described(self) -> Tensor:
        """bfloat16 [h + 4 MARGIN + 1, w + 2 MARGIN, D]: what every place of the source looks like from the scale below,
        which a draw is compared with."""
        described = describe(resize(self.entering, self.size, self.resample), packed_basis(self.basis))[0]
        return F.pad(described, (0, 0, MARGIN, MARGIN, MARGIN, 3 * MARGIN + 1), value=FAR).bfloat16()

    @cached_property
    def _colours(self) -> Tensor:
        """All that is copied: the source, and where seams are blended its low frequencies and those of these."""
        blent = self.source[:, : 3 if self.blend_px else 0]
        low = blur(blent, self.blend_px)
        packed: Tensor = self._steps.packed_colours(self.source, low, blur(low, self.blend_px))
        return packed

    def draw(
        self, below: Canvas | None, size: Size, generators: Sequence[torch.Generator], config: FitConfig
    ) -> Canvas:
        """Shift regions of the source where the draw starts; elsewhere follow the coordinates from below."""
        if below is None:
            origin = self._begin(size, generators, config)
        else:
            assert below.origin is not None
            seen = self._steps.resized(below.image, size, self.resample)
            below_px = (self.entering.shape[2], self.entering.shape[3])
            origin = self._improve(seen, self._steps.followed(below.origin, below_px, self.size, size), config)
        return Canvas(self._image(origin), origin)

    def typical_origin(self, generators: Sequence[torch.Generator], config: FitConfig) -> Tensor:
        """That of the generator whose shift is the median one; a shift is nearly the same field at a small size."""
        small = (round(GLANCE_PX * self.size[0] / min(self.size)), round(GLANCE_PX * self.size[1] / min(self.size)))

        def moved_px(generator: torch.Generator) -> float:
            return float(random_shift(small, generator.clone_state(), self.index, config).square().sum(1).sqrt().mean())

        typical = sorted(generators, key=moved_px)[len(generators) // 2]
        return self._begin(self.size, [typical], config)[0]

    def reconstruct(self, config: FitConfig) -> Tensor:
        """The source: unshifted, every place is its own best match."""
        del config
        return self.source

    def tensors(self) -> dict[str, Tensor]:
        """The source, what enters, and the basis."""
        return {"source": self.source, "entering": self.entering, "basis": self.basis}

    @property
    def memory_bytes(self) -> int:
        """With what draws make of its tensors; what enters is the source of the scale below."""
        pixels = self.size[0] * self.size[1]
        floats = 2 * self.source.shape[1] + (6 if self.blend_px else 0)
        return 4 * floats * pixels + 2 * self.basis.shape[0] * pixels + 4 * self.basis.numel()

    def _begin(self, size: Size, generators: Sequence[torch.Generator], config: FitConfig) -> Tensor:
        shift = torch.cat([random_shift(size, generator, self.index, config) for generator in generators])
        shift = shift.to(self.source.device)
        if config.seam_passes and size[0] * size[1] <= SETTLED:
            shift = settled_seams(shift, self.size, self._described_at, config)
        if size[0] * size[1] * self.size[0] * self.size[1] <= EXHAUSTIVE:
            origin = self._steps.placed(shift, self.size, mirrored=False)
            return self._best_of_all(self._copied(origin), origin)
        # Nothing would mend the streaks that coordinates clamped at an edge make.
        origin = self._steps.placed(shift, self.size, mirrored=True)
        # Elsewhere it would gain little: the next scale improves what it is handed.
        return self._improve(self._copied(origin), origin, config) if self.is_finest else origin

    def _described_at(self, origin: Tensor) -> Tensor:
        """[N, ..., D]: what the places look like that are nearest to coordinates, [N, 2, ...]."""
        rows, columns = (origin.round().long() + MARGIN).unbind(1)
        places = rows * (self.size[1] + 2 * MARGIN) + columns
        return self.described.flatten(0, 1).index_select(0, places.flatten()).float().view(*places.shape, -1)

    def _copied(self, origin: Tensor) -> Tensor:
        pixels: Tensor = self._steps.copied(origin, self._colours, self.source.shape[1])
        return pixels

    def _image(self, origin: Tensor) -> Tensor:
        if not self.blend_px:
            return self._copied(origin)
        pixels: Tensor = self._steps.blended(origin, self._colours, self.source.shape[1], self.blend_px)
        return pixels

    def _improve(self, seen: Tensor, origin: Tensor, config: FitConfig) -> Tensor:
        found: Tensor = self._steps.improved(seen, origin, self.described, self._packed_basis, config.match_tolerance)
        return found

    def _best_of_all(self, image: Tensor, origin: Tensor) -> Tensor:
        """The best places for pixels at seams, all compared with all; those in demand elsewhere count as less good."""
        known = self.described[MARGIN : MARGIN + self.size[0], MARGIN:-MARGIN].flatten(0, 1).float()
        known = torch.cat([known, known.square().sum(1, keepdim=True), torch.ones_like(known[:, :1])], dim=1)
        places = origin[:, 0] * self.size[1] + origin[:, 1]
        at_seams = seams(origin, AROUND_SEAMS_PX).flatten(1)
        described = describe(image, packed_basis(self.basis)).flatten(1, 2)
        for own, wanted, seam in zip(places.flatten(1), described, at_seams, strict=True):
            active = seam.nonzero()[:, 0]
            if not len(active):
                continue
            seen = wanted.index_select(0, active)
            seen = torch.cat([-2 * seen, torch.ones_like(seen[:, :1]), seen.square().sum(1, keepdim=True)], dim=1)
            distance = (seen @ known.T).clamp_(min=0)  # |a - b|^2 as one product
            nearest = distance.amin(dim=0).index_fill_(0, own[~seam], 0.0)
            own.index_copy_(0, active, _argmin(distance.mul_(1 / (COMPLETENESS + nearest))))
        return torch.stack([places // self.size[1], places % self.size[1]], dim=1)


def _argmin(distance: Tensor) -> Tensor:
    """[A]: the column of the least of each row of [A, B], none negative; about, to some 12 bits.

    Floats that are not negative are ordered as integers are. With its column in the lowest bits of each, one minimum
    finds both, several times as fast as argmin.
    """
    columns = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)
    low = (1 << (distance.shape[1] - 1).bit_length()) - 1
    return distance.view(torch.int32).bitwise_and_(~low).bitwise_or_(columns).amin(1).bitwise_and_(low).long()


def descriptor_basis(image: Tensor, patch_px: int, dims: int, generator: torch.Generator) -> Tensor:
    """The principal components of an image's patches, [D, C, p, p], D = `dims` at most; exact in half precision."""
    padded = F.pad(image, (patch_px // 2,) * 4, mode="replicate")
    windows = padded[0].unfold(1, patch_px, 1).unfold(2, patch_px, 1).movedim(0, 2)  # a view, [h, w, C, p, p]
    places = torch.arange(image.shape[2] * image.shape[3], device=image.device)
    if len(places) > SAMPLED:
        places = torch.randperm(len(places), generator=generator)[:SAMPLED].to(image.device)
    patches = windows[places // image.shape[3], places % image.shape[3]].flatten(1)
    patches = (patches - patches.mean(0)).double()
    axes: Tensor = torch.linalg.eigh(patches.T @ patches).eigenvectors[:, -dims:].flip(1)
    return axes.T.reshape(-1, image.shape[1], patch_px, patch_px).half().float()


def copied_scales(source: Tensor, bases: Sequence[Tensor], config: FitConfig) -> tuple[CopiedScale, ...]:
    """The scales of a source, [1, C, H, W] in [-1, 1], given the basis of each."""
    sizes = scale_sizes((source.shape[2], source.shape[3]), config)
    images = [resize(source, size, config.resample) for size in sizes]
    blends = [0.0] * (len(sizes) - 1) + [config.seam_blend_px]
    last = len(sizes) - 1
    return tuple(
        CopiedScale(size, images[k], images[max(0, k - 1)], basis, k, config.resample, k == last, blend)
        for k, (size, basis, blend) in enumerate(zip(sizes, bases, blends, strict=True))
    )


class _Patches:
    """Kept are the source at the finest scale, 8 bits a value, and the basis of each scale."""

    def pack(self, scales: Sequence[Scale]) -> dict[str, Tensor]:
        packed = {f"scales.{k}.basis": scale.tensors()["basis"] for k, scale in enumerate(scales)}
        return {**packed, "source": signed_to_bytes(scales[-1].tensors()["source"])}

    def unpack(self, tensors: Mapping[str, Tensor], config: FitConfig, channels: int, size: Size) -> tuple[Scale, ...]:
        source = bytes_to_signed(tensors["source"])
        if tuple(source.shape) != (1, channels, *size):
            raise RuntimeError(f"source: expected {(1, channels, *size)}, got {tuple(source.shape)}")
        bases = [tensors[f"scales.{k}.basis"] for k in range(len(scale_sizes(size, config)))]
        return copied_scales(source, bases, config)

    def stored_bytes(self, config: FitConfig, channels: int, size: Size) -> int:
        basis = 2 * config.descriptor_dims * channels * config.patch_px**2
        return channels * size[0] * size[1] + basis * len(scale_sizes(size, config))


KINDS.register("patches")(_Patches())
