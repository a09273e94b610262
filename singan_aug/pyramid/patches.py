"""Pyramids that copy patches: no weights, no training; a draw is a field of coordinates into the source.

A draw starts by shifting regions of the source at the start scale, then finds for every pixel the place in the source
whose surroundings fit best, and copies that. Each finer scale takes the coordinates over, improves them where they do
not fit (a few candidates: the neighbours' coordinates, continued), and copies again, so that the finest
scale is made of true pixels in coherent pieces. Where two pieces meet, their low frequencies are blended.

Sources: patch nearest neighbours in place of a GAN at every scale, and the normalisation of distances that makes a draw
use all of the source, Granot et al. 2022 (GPNN), eq. 2; search by propagation, Barnes et al. 2009 (PatchMatch); copying
in coherent pieces, Ashikhmin 2001; blending low frequencies wider than high ones, Burt & Adelson 1983.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.images import bytes_to_signed, signed_to_bytes
from singan_aug.pyramid.resample import blur, resize
from singan_aug.pyramid.scale import KINDS, Canvas, Scale
from singan_aug.pyramid.scales import Size, scale_sizes
from singan_aug.pyramid.shifts import random_shift, settled_seams

__all__ = ["PatchScale", "descriptor_basis", "patch_scales"]

COMPLETENESS = 5e-3  # GPNN's alpha: smaller makes a draw use more of the source
EXHAUSTIVE = 1_400_000  # pairs of places up to which every one is compared with every other
STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2))  # whose coordinates are taken over
MARGIN = 2  # of places that resemble nothing around the source, so that no candidate needs clamping
FAR = 1e3  # a descriptor that resembles nothing: those of images are of the order of 1
GLANCE_PX = 16  # short side at which shifts are compared
SETTLED = 7_000  # pixels of a canvas up to which seams are settled before a draw starts
SEAM_LIMIT = 0.15  # steps in brightness (in [-1, 1]) well above this are edges, not seams
SAMPLED = 2000  # patches from which the descriptors' basis is made


@dataclass(frozen=True, eq=False)
class PatchScale(Scale):
    """The source at one scale, and the basis in which its patches are compared."""

    size: Size
    source: Tensor  # [1, C, h, w] in [-1, 1]: what is copied
    entering: Tensor  # [1, C, h', w'] the source at the scale below; at scale 0 the source itself
    basis: Tensor  # [D, C, p, p] orthonormal filters: the principal components of this scale's patches
    index: int  # which scale this is, 0 the coarsest
    resample: str  # how images are resized between scales
    blend_px: float  # how far low frequencies are blended over seams: at the finest scale alone, elsewhere 0

    @cached_property
    def described(self) -> Tensor:
        """[h + 2 MARGIN, w + 2 MARGIN, D], half precision: what every place of the source looks like from the scale
        below, which a draw is compared with."""
        described = self._describe(resize(self.entering, self.size, self.resample))[0]
        return F.pad(described, (0, 0, MARGIN, MARGIN, MARGIN, 3 * MARGIN + 1), value=FAR).half()

    @cached_property
    def low(self) -> Tensor:
        """[1, C, h, w], C = 3 at most: the low frequencies of the source's colours."""
        return blur(self.source[:, :3], self.blend_px)

    @cached_property
    def lower(self) -> Tensor:
        """The same, blurred once more."""
        return blur(self.low, self.blend_px)

    def draw(
        self, below: Canvas | None, size: Size, generators: Sequence[torch.Generator], config: FitConfig
    ) -> Canvas:
        """Shift regions of the source where the draw starts; elsewhere follow the coordinates from below."""
        if below is None:
            origin = self._begin(size, generators, config)
        else:
            assert below.origin is not None
            seen = resize(below.image, size, self.resample)
            origin = self._improve(seen, self._upsampled(below.origin, size), config)
        return Canvas(self._blended(_copied(self.source, origin), origin), origin)

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
        """The source, what enters, the basis, and what is made of them."""
        named = {"source": self.source, "entering": self.entering, "basis": self.basis, "described": self.described}
        return {**named, "low": self.low, "lower": self.lower} if self.blend_px else named

    def _begin(self, size: Size, generators: Sequence[torch.Generator], config: FitConfig) -> Tensor:
        identity = self._identity(size)
        shift = torch.cat([random_shift(size, generator, self.index, config) for generator in generators])
        shift = shift.to(self.source.device)
        if config.seam_passes and size[0] * size[1] <= SETTLED:
            pitch = (self.size[0] / size[0], self.size[1] / size[1])
            shift = settled_seams(shift, identity, pitch, self._inside, self._described_at, config)
        origin = identity + shift
        if size[0] * size[1] * self.size[0] * self.size[1] <= EXHAUSTIVE:
            origin = self._clamped(origin)
            return self._best_of_all(_copied(self.source, origin), origin)
        # Nothing would mend the streaks that coordinates clamped at an edge make.
        origin = self._clamped(_mirrored(origin, self.size))
        return self._improve(_copied(self.source, origin), origin, config)

    def _identity(self, size: Size) -> Tensor:
        """[2, *size]: where each pixel of a canvas lies in the source when one is spread over the other."""
        device = self.source.device
        rows = (torch.arange(size[0], device=device) + 0.5) * (self.size[0] / size[0]) - 0.5
        columns = (torch.arange(size[1], device=device) + 0.5) * (self.size[1] / size[1]) - 0.5
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))

    def _upsampled(self, origin: Tensor, size: Size) -> Tensor:
        """Coordinates at the scale below, [N, 2, h', w'], as coordinates here, [N, 2, *size]: pieces stay pieces."""
        finer = F.interpolate(origin.float(), size, mode="nearest-exact")
        for axis in (0, 1):
            grow = self.size[axis] / self.entering.shape[2 + axis]
            # Inside the coarse pixel a canvas pixel came from, it keeps its place: that is what copies detail.
            inside = _inside(origin.shape[2 + axis], size[axis], origin.device) + (0.5 * grow - 0.5)
            finer[:, axis].mul_(grow).add_(inside[:, None] if axis == 0 else inside)
        return self._clamped(finer)

    def _clamped(self, origin: Tensor) -> Tensor:
        return self._inside(origin.round_()).long()

    def _inside(self, origin: Tensor) -> Tensor:
        """Coordinates, [N, 2, ...], with those outside the source at its edge."""
        return torch.stack([origin[:, axis].clamp(0, self.size[axis] - 1) for axis in (0, 1)], dim=1)

    def _described_at(self, origin: Tensor) -> Tensor:
        """[N, ..., D]: what the places look like that are nearest to coordinates, [N, 2, ...]."""
        rows, columns = (origin.round().long() + MARGIN).unbind(1)
        places = rows * (self.size[1] + 2 * MARGIN) + columns
        return self.described.flatten(0, 1).index_select(0, places.flatten()).float().view(*places.shape, -1)

    def _blended(self, image: Tensor, origin: Tensor) -> Tensor:
        """The image, [1, C, h, w], with the low frequencies of neighbouring pieces blended; a mask is left as it is.

        Inside a piece both terms of the step are the same and nothing changes. Across the edge of an object the step is
        large and meant to be: it is kept.
        """
        if not self.blend_px:
            return image
        step = blur(_copied(self.low, origin), self.blend_px) - _copied(self.lower, origin)
        step = step * torch.exp(-((step.abs().amax(1, keepdim=True) / SEAM_LIMIT) ** 2))
        return torch.cat([image[:, :3] + step, image[:, 3:]], dim=1)

    def _describe(self, image: Tensor, margin: int = 0) -> Tensor:
        """[N, h, w, D]: the patch around every pixel of [N, C, h, w], in the basis; edges are repeated."""
        patch_px = self.basis.shape[-1]
        padded = F.pad(image, (patch_px // 2 + margin,) * 4, mode="replicate").contiguous(
            memory_format=torch.channels_last
        )
        return F.conv2d(padded, self.basis / patch_px).permute(0, 2, 3, 1)

    def _distance(self, wanted: Tensor, places: Tensor) -> Tensor:
        """[K, A]: the squared distance of A descriptors, [A, D], from those of K candidates for each, [K, A]."""
        found = self.described.flatten(0, 1).index_select(0, places.flatten()).float()
        return found.view(*places.shape, wanted.shape[1]).sub_(wanted).square_().sum(-1)

    def _best_of_all(self, image: Tensor, origin: Tensor) -> Tensor:
        """The best places for pixels at seams, all compared with all; those in demand elsewhere count as less good."""
        known = self.described[MARGIN : MARGIN + self.size[0], MARGIN:-MARGIN].flatten(0, 1).float()
        known = torch.cat([known, known.square().sum(1, keepdim=True), torch.ones_like(known[:, :1])], dim=1)
        places = origin[:, 0] * self.size[1] + origin[:, 1]
        seams = _seams(origin).flatten(1)
        for own, wanted, seam in zip(places.flatten(1), self._describe(image).flatten(1, 2), seams, strict=True):
            active = seam.nonzero()[:, 0]
            if not len(active):
                continue
            seen = wanted.index_select(0, active)
            seen = torch.cat([-2 * seen, torch.ones_like(seen[:, :1]), seen.square().sum(1, keepdim=True)], dim=1)
            distance = (seen @ known.T).clamp_(min=0)  # |a - b|^2 as one product
            nearest = distance.amin(dim=0).index_fill_(0, own[~seam], 0.0)
            own.index_copy_(0, active, _argmin(distance.mul_(1 / (COMPLETENESS + nearest))))
        return torch.stack([places // self.size[1], places % self.size[1]], dim=1)

    def _improve(self, image: Tensor, origin: Tensor, config: FitConfig) -> Tensor:
        """Better places for the pixels of `image`, [N, C, h, w], whose own, `origin` [N, 2, h, w], do not fit.

        Where all neighbours lead to the same place there is nothing to choose from, so only seams are looked at.
        """
        stride, canvas_stride = self.size[1] + 2 * MARGIN, image.shape[3] + 2 * MARGIN
        nowhere = (self.size[0] + 3 * MARGIN) * stride + MARGIN  # no step leads from there to the source
        places = (origin[:, 0] + MARGIN) * stride + (origin[:, 1] + MARGIN)
        canvas = F.pad(places, (MARGIN,) * 4, value=nowhere)
        active = F.pad(_seams(origin), (MARGIN,) * 4).flatten().nonzero()[:, 0]
        own = canvas.flatten().index_select(0, active)
        wanted = self._describe(image, MARGIN).flatten(0, 2).index_select(0, active)
        distance = self._distance(wanted, own[None])[0]
        unfit = (distance > config.match_tolerance).nonzero()[:, 0]
        if not len(unfit):
            return origin
        active, own, wanted, distance = (kept.index_select(0, unfit) for kept in (active, own, wanted, distance))
        back = torch.tensor([[-down * canvas_stride - right] for down, right in STEPS], device=origin.device)
        onward = torch.tensor([[down * stride + right] for down, right in STEPS], device=origin.device)
        near = active + back
        candidates = canvas.flatten().index_select(0, near.flatten()).view_as(near).add_(onward)
        best, which = self._distance(wanted, candidates).min(0)
        better = torch.where(best < distance, candidates.gather(0, which[None])[0], own)
        places = canvas.flatten().index_copy_(0, active, better).view_as(canvas)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return torch.stack([places // stride - MARGIN, places % stride - MARGIN], dim=1)


def _copied(source: Tensor, origin: Tensor) -> Tensor:
    """[N, C, h, w]: the pixels of a source, [1, C, h', w'], at `origin`, [N, 2, h, w]."""
    places = origin[:, 0] * source.shape[3] + origin[:, 1]
    pixels = source[0].flatten(1).index_select(1, places.flatten())
    return pixels.view(-1, *places.shape).transpose(0, 1)


def _seams(origin: Tensor) -> Tensor:
    """[N, h, w]: where coordinates, [N, 2, h, w], do not continue those of the pixels MARGIN away."""
    height, width = origin.shape[2:]
    pieces = (origin[:, 0] << 32) + origin[:, 1] - _unmoved(height, width, origin.device)
    seams = torch.zeros_like(pieces, dtype=torch.bool)
    for dim in (1, 2):
        n = pieces.shape[dim] - MARGIN
        if n > 0:
            apart = pieces.narrow(dim, 0, n) != pieces.narrow(dim, MARGIN, n)
            seams.narrow(dim, 0, n).logical_or_(apart)
            seams.narrow(dim, MARGIN, n).logical_or_(apart)
    return seams


@lru_cache(maxsize=64)
def _unmoved(height: int, width: int, device: torch.device) -> Tensor:
    """[h, w]: row and column of each pixel as one number."""
    return (torch.arange(height, device=device)[:, None] << 32) + torch.arange(width, device=device)


@lru_cache(maxsize=256)
def _inside(coarse: int, side: int, device: torch.device) -> Tensor:
    """[side]: how far from the middle of the coarse pixel it lies in a pixel lies, in pixels."""
    place = (torch.arange(side, device=device) + 0.5) * (coarse / side)
    return (place - place.long().clamp_(max=coarse - 1) - 0.5) * (side / coarse)


def _argmin(distance: Tensor) -> Tensor:
    """[A]: the column of the least of each row of [A, B], none negative; about, to some 12 bits.

    Floats that are not negative are ordered as integers are. With its column in the lowest bits of each, one minimum
    finds both, several times as fast as argmin.
    """
    columns = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)
    low = (1 << (distance.shape[1] - 1).bit_length()) - 1
    return distance.view(torch.int32).bitwise_and_(~low).bitwise_or_(columns).amin(1).bitwise_and_(low).long()


def _mirrored(origin: Tensor, size: Size) -> Tensor:
    """Coordinates [N, 2, h, w] beyond an edge, mirrored at it."""
    last = torch.tensor([side - 1.0 for side in size], device=origin.device)[:, None, None]
    return last - (last - origin.abs()).abs()


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


def patch_scales(source: Tensor, bases: Sequence[Tensor], config: FitConfig) -> tuple[PatchScale, ...]:
    """The scales of a source, [1, C, H, W] in [-1, 1], given the basis of each."""
    sizes = scale_sizes((source.shape[2], source.shape[3]), config)
    images = [resize(source, size, config.resample) for size in sizes]
    blends = [0.0] * (len(sizes) - 1) + [config.seam_blend_px]
    return tuple(
        PatchScale(size, images[k], images[max(0, k - 1)], basis, k, config.resample, blend)
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
        return patch_scales(source, bases, config)

    def stored_bytes(self, config: FitConfig, channels: int, size: Size) -> int:
        basis = 2 * config.descriptor_dims * channels * config.patch_px**2
        return channels * size[0] * size[1] + basis * len(scale_sizes(size, config))


KINDS.register("patches")(_Patches())
