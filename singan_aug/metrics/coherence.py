"""Incoherence: the share of a draw's small patches that its source has nowhere, such as a cut edge or a seam.

SIFID compares statistics over the whole image and hardly sees a few wrong edges; this counts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.metrics._inputs import checked
from singan_aug.metrics.patches import COPIED, large_enough, nearest_patches

__all__ = ["KnownPatches", "incoherence"]

APART_PX = 12  # rows or columns between two patches of the source that are compared: nearer ones overlap or continue
QUANTILE = 0.95  # of the distances between the source's own patches: farther than this is nowhere in the source
SAMPLED = 1500  # patches of an image that are looked at: the standard error of a share of 2 % is then 0.4 %
LEADING = 24  # principal components that decide most patches
COMPARED = 2**22  # distances held at once


@dataclass(frozen=True, eq=False)
class KnownPatches:
    """Every patch of a source, and how far its own patches are from one another. Made once, used for all its draws."""

    rotated: Tensor  # [L, D]: the patches in the basis of their principal components, the largest first
    leading: Tensor  # [LEADING + 1, L]: their first components, and the length of what is left
    squares: Tensor  # [L]: of `leading`, summed
    basis: Tensor  # [D, D] orthonormal
    limit: float  # squared distance, summed over D values in [0, 1], beyond which a patch is nowhere in the source
    patch_px: int
    sampled: int  # patches of an image that are looked at

    @classmethod
    def of(
        cls,
        source: Tensor,  # [1, 1 or 3, H, W] in [0, 1]
        *,
        patch_px: int = 7,
        sampled: int = SAMPLED,
        seed: int = 0,
    ) -> KnownPatches:
        """Take all patches of `source`, and compare `sampled` of them with all that lie `APART_PX` away or farther.

        Raises `ImageError` for another shape or range, more than one source, or one whose long side is too short to
        hold patches so far apart.
        """
        if len(checked(source, "source")) != 1:
            raise ImageError(f"expected one source, got {len(source)}")
        source = large_enough(source, "source", patch_px)
        height, width = (side - patch_px + 1 for side in source.shape[-2:])
        if max(height, width) <= 2 * APART_PX:
            least_px = 2 * APART_PX + patch_px
            raise ImageError(
                f"expected source with a side of at least {least_px} px, got {list(source.shape[-2:])}: enlarge it"
            )
        patches = _patches(source, patch_px)
        basis = torch.linalg.eigh((patches.T @ patches).double()).eigenvectors.flip(1).float()
        rotated = patches @ basis
        picked = _picked(len(rotated), sampled, seed)
        own = []
        for some in picked.split(max(1, COMPARED // len(rotated))):
            distances = (rotated.square().sum(1) - 2 * rotated[some] @ rotated.T).view(-1, height, width)
            for distance, place in zip(distances, some.tolist(), strict=True):
                row, column = divmod(place, width)
                rows = slice(max(0, row - APART_PX + 1), row + APART_PX)
                distance[rows, max(0, column - APART_PX + 1) : column + APART_PX] = torch.inf
            own.append((rotated[some] - rotated[distances.flatten(1).argmin(1)]).square().sum(1))
        limit = max(float(torch.cat(own).quantile(QUANTILE)), COPIED**2 * rotated.shape[1])
        leading = _leading(rotated)
        return cls(rotated, leading.T.contiguous(), leading.square().sum(1), basis, limit, patch_px, sampled)


def incoherence(
    source: Tensor | KnownPatches,  # [1, 1 or 3, H, W] in [0, 1], or what is known of it
    draws: Tensor,  # [N, 1 or 3, H', W'] in [0, 1]
    *,
    seed: int = 0,
) -> Tensor:
    """The share of each draw's patches that its source has nowhere, float64 [N] on the CPU; 0: all could be its own.

    A patch of 7 x 7 px is nowhere in the source if it is farther, in squared difference, from all of the source's
    patches than 95 % of these are from their nearest that lies 12 px away or farther, and farther than an 8-bit step.
    The source itself scores 0 and so does every copy: read it beside diversity. 1,500 patches of a draw at random
    places are looked at, or all where there are fewer; each is decided exactly.

    Raises `ImageError` for another shape or range, more than one source, or images that are too small.
    """
    known = source if isinstance(source, KnownPatches) else KnownPatches.of(source, seed=seed)
    return torch.tensor(
        [
            _share_nowhere(known, _patches(draw[None], known.patch_px), seed)
            for draw in large_enough(draws, "draws", known.patch_px)
        ],
        dtype=torch.float64,
        device="cpu",
    )


def _share_nowhere(known: KnownPatches, patches: Tensor, seed: int) -> float:
    """Most patches are decided by their leading components: these bound the distance from below, a match from above."""
    wanted = patches[_picked(len(patches), known.sampled, seed)] @ known.basis
    leading = _leading(wanted)
    least, candidates = [], []
    for some in leading.split(max(1, COMPARED // len(known.rotated))):
        bounds = torch.addmm(known.squares, some, known.leading, alpha=-2)
        found = bounds.min(1)
        least.append(found.values + some.square().sum(1))
        candidates.append(found.indices)
    matched = (wanted - known.rotated[torch.cat(candidates)]).square().sum(1) <= known.limit
    open_ = (~matched & (torch.cat(least) <= known.limit * 1.001)).nonzero()[:, 0]  # rounding: what is close stays open
    matched[open_] = nearest_patches(wanted[open_], known.rotated)[0] <= known.limit
    return float((~matched).double().mean())


def _patches(image: Tensor, patch_px: int) -> Tensor:
    """[L, D]: all patches of [1, 3, H, W] in [0, 1], centred, which rounds less."""
    return functional.unfold(image - 0.5, patch_px)[0].T.contiguous()


def _leading(rotated: Tensor) -> Tensor:
    """[L, LEADING + 1]: distances between these are at most the distances between the whole (Cauchy-Schwarz)."""
    return torch.cat([rotated[:, :LEADING], rotated[:, LEADING:].norm(dim=1, keepdim=True)], 1)


def _picked(count: int, sampled: int, seed: int) -> Tensor:
    if count <= sampled:
        return torch.arange(count, device="cpu")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed), device="cpu")[:sampled]
