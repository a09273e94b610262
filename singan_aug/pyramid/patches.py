"""Pyramids that copy patches: no weights, no training; a draw is a field of coordinates into the source.

A draw starts by shifting regions of the source at the start scale, then finds for every pixel the place in the source
whose surroundings fit best, and copies that. Each finer scale takes the coordinates over, improves them where they do
not fit (a few candidates: the neighbours' coordinates, and one pixel around), and copies again, so that the finest
scale is made of true pixels in coherent pieces. Where two pieces meet, their low frequencies are blended.

Sources: patch nearest neighbours in place of a GAN at every scale, and the normalisation of distances that makes a draw
use all of the source, Granot et al. 2022 (GPNN), eq. 2; search by propagation, Barnes et al. 2009 (PatchMatch); copying
in coherent pieces, Ashikhmin 2001; blending low frequencies wider than high ones, Burt & Adelson 1983.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.images import bytes_to_signed, signed_to_bytes
from singan_aug.pyramid.resample import blur, resize
from singan_aug.pyramid.scale import KINDS, Canvas, Scale
from singan_aug.pyramid.scales import Size, scale_sizes

__all__ = ["PatchScale", "descriptor_basis", "patch_scales"]

COMPLETENESS = 5e-3  # GPNN's alpha: smaller makes a draw use more of the source
EXHAUSTIVE = 2_000_000  # pairs of places up to which every one is compared with every other
GLANCE_PX = 16  # short side at which shifts are compared
REACHES = (1, 2)  # pixels from which neighbours' coordinates are taken over
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
        """[h * w, D]: what every place of the source looks like from the scale below, which a draw is compared with."""
        return self._describe(resize(self.entering, self.size, self.resample))

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
        canvases = []
        for i, generator in enumerate(generators):
            if below is None:
                canvases.append(self._begin(size, generator, config))
            else:
                assert below.origin is not None
                canvases.append(self._follow(below.image[i : i + 1], below.origin[i], size, config))
        images, origins = zip(*((self._blended(image, origin), origin) for image, origin in canvases), strict=True)
        return Canvas(torch.cat(images), torch.stack(origins))

    def typical_origin(self, generators: Sequence[torch.Generator], config: FitConfig) -> Tensor:
        """That of the generator whose shift is the median one; a shift is nearly the same field at a small size."""
        small = (round(GLANCE_PX * self.size[0] / min(self.size)), round(GLANCE_PX * self.size[1] / min(self.size)))

        def moved_px(generator: torch.Generator) -> float:
            return float(random_shift(small, generator.clone_state(), self.index, config).square().sum(0).sqrt().mean())

        typical = sorted(generators, key=moved_px)[len(generators) // 2]
        return self._begin(self.size, typical, config)[1]

    def reconstruct(self, config: FitConfig) -> Tensor:
        """The source: unshifted, every place is its own best match."""
        del config
        return self.source

    def tensors(self) -> dict[str, Tensor]:
        """The source, what enters, the basis, and what is made of them."""
        named = {"source": self.source, "entering": self.entering, "basis": self.basis, "described": self.described}
        return {**named, "low": self.low, "lower": self.lower} if self.blend_px else named

    def _begin(self, size: Size, generator: torch.Generator, config: FitConfig) -> tuple[Tensor, Tensor]:
        shift = random_shift(size, generator, self.index, config).to(self.source.device)
        origin = self._identity(size) + shift
        if size[0] * size[1] * self.size[0] * self.size[1] <= EXHAUSTIVE:
            origin = self._best_of_all(self._copy(self._clamped(*origin)))
        else:  # nothing would mend the streaks that coordinates clamped at an edge make
            origin = self._clamped(*_mirrored(origin, self.size))
            origin = self._improve(self._copy(origin), origin, config)
        return self._copy(origin), origin

    def _follow(self, below: Tensor, origin: Tensor, size: Size, config: FitConfig) -> tuple[Tensor, Tensor]:
        finer = self._improve(resize(below, size, self.resample), self._upsampled(origin, size), config)
        return self._copy(finer), finer

    def _identity(self, size: Size) -> Tensor:
        """[2, *size]: where each pixel of a canvas lies in the source when one is spread over the other."""
        device = self.source.device
        rows = (torch.arange(size[0], device=device) + 0.5) * self.size[0] / size[0] - 0.5
        columns = (torch.arange(size[1], device=device) + 0.5) * self.size[1] / size[1] - 0.5
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))

    def _upsampled(self, origin: Tensor, size: Size) -> Tensor:
        """Coordinates at the scale below, [2, h', w'], as coordinates here, [2, *size]: pieces stay pieces."""
        coarse = (self.entering.shape[-2], self.entering.shape[-1])
        height, width = origin.shape[-2:]
        grow = torch.tensor([self.size[0] / coarse[0], self.size[1] / coarse[1]], device=origin.device)
        rows = (torch.arange(size[0], device=origin.device) + 0.5) * height / size[0]
        columns = (torch.arange(size[1], device=origin.device) + 0.5) * width / size[1]
        near_rows, near_columns = rows.long().clamp(max=height - 1), columns.long().clamp(max=width - 1)
        near = origin[:, near_rows][:, :, near_columns].float()
        # Inside the coarse pixel a canvas pixel came from, it keeps its place: that is what copies detail.
        down = (near[0] + 0.5) * grow[0] + (rows - near_rows - 0.5)[:, None] * size[0] / height - 0.5
        right = (near[1] + 0.5) * grow[1] + (columns - near_columns - 0.5)[None] * size[1] / width - 0.5
        return self._clamped(down, right)

    def _clamped(self, rows: Tensor, columns: Tensor) -> Tensor:
        height, width = self.size
        return torch.stack([rows.round().long().clamp(0, height - 1), columns.round().long().clamp(0, width - 1)])

    def _copy(self, origin: Tensor) -> Tensor:
        """[1, C, h, w]: the source's pixels at `origin`, [2, h, w]."""
        return self.source[0][:, origin[0], origin[1]][None]

    def _blended(self, image: Tensor, origin: Tensor) -> Tensor:
        """The image, [1, C, h, w], with the low frequencies of neighbouring pieces blended; a mask is left as it is.

        Inside a piece both terms of the step are the same and nothing changes. Across the edge of an object the step is
        large and meant to be: it is kept.
        """
        if not self.blend_px:
            return image
        rows, columns = origin
        step = blur(self.low[..., rows, columns], self.blend_px) - self.lower[..., rows, columns]
        step = step * torch.exp(-((step.abs().amax(1, keepdim=True) / SEAM_LIMIT) ** 2))
        return torch.cat([image[:, :3] + step, image[:, 3:]], dim=1)

    def _describe(self, image: Tensor) -> Tensor:
        """[h * w, D]: the patch around every pixel of [1, C, h, w], in the basis; edges are repeated."""
        patch_px = self.basis.shape[-1]
        padded = F.pad(image, (patch_px // 2,) * 4, mode="replicate")
        return (F.conv2d(padded, self.basis) / patch_px)[0].flatten(1).T.contiguous()

    def _best_of_all(self, image: Tensor) -> Tensor:
        """The best place for every pixel, all compared with all; places in demand elsewhere count as less good."""
        wanted = self._describe(image)
        distance = torch.cdist(wanted, self.described).square()
        best = (distance / (COMPLETENESS + distance.min(dim=0).values)).argmin(dim=1)
        return torch.stack([best // self.size[1], best % self.size[1]]).reshape(2, *image.shape[-2:])

    def _improve(self, image: Tensor, origin: Tensor, config: FitConfig) -> Tensor:
        """Better places for the pixels of `image`, [1, C, h, w], whose own, `origin` [2, h, w], do not fit."""
        height, width = self.size
        rows, columns = origin.flatten(1)
        wanted = self._describe(image)
        distance = (self.described[rows * width + columns] - wanted).square().sum(1)
        active = (distance > config.match_tolerance).nonzero()[:, 0]
        down, right = active // image.shape[-1], active % image.shape[-1]
        wanted, distance = wanted[active], distance[active]
        rows, columns = rows.clone(), columns.clone()

        def consider(new_rows: Tensor, new_columns: Tensor) -> None:
            new_rows, new_columns = new_rows.clamp(0, height - 1), new_columns.clamp(0, width - 1)
            new = (self.described[new_rows * width + new_columns] - wanted).square().sum(1)
            better = new < distance
            distance[better] = new[better]
            rows[active[better]], columns[active[better]] = new_rows[better], new_columns[better]

        for reach in REACHES:
            for step_down, step_right in ((reach, 0), (-reach, 0), (0, reach), (0, -reach)):
                neighbour = (down - step_down).clamp(0, image.shape[-2] - 1) * image.shape[-1]
                neighbour = neighbour + (right - step_right).clamp(0, image.shape[-1] - 1)
                consider(rows[neighbour] + step_down, columns[neighbour] + step_right)
        for step_down, step_right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            consider(rows[active] + step_down, columns[active] + step_right)
        return torch.stack([rows, columns]).reshape(origin.shape)


def _mirrored(origin: Tensor, size: Size) -> Tensor:
    """Coordinates [2, h, w] beyond an edge, mirrored at it."""
    last = torch.tensor([size[0] - 1.0, size[1] - 1.0], device=origin.device)[:, None, None]
    return last - (last - origin.abs()).abs()


def random_shift(size: Size, generator: torch.Generator, scale: int, config: FitConfig) -> Tensor:
    """How far each pixel of a canvas moves, [2, *size] in pixels: smooth, then rounded so that regions move as one.

    Standard deviation `shift_px * shift_decay^scale`, steps of `shift_step_px`.
    """
    cells = [max(1, round(config.shift_cells * side / min(size))) + 1 for side in size]
    coarse = torch.randn(1, 2, *cells, generator=generator) * config.shift_px * config.shift_decay**scale
    smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=True)[0]
    step = config.shift_step_px
    return (smooth / step).round() * step if step else smooth


def descriptor_basis(image: Tensor, patch_px: int, dims: int, generator: torch.Generator) -> Tensor:
    """The principal components of an image's patches, [D, C, p, p], D = `dims` at most; exact in half precision."""
    padded = F.pad(image, (patch_px // 2,) * 4, mode="replicate")
    patches = F.unfold(padded, patch_px)[0].T
    if len(patches) > SAMPLED:
        patches = patches[torch.randperm(len(patches), generator=generator)[:SAMPLED].to(image.device)]
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
