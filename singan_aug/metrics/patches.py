"""Two scores of small patches that need no network: how alike two images' sets of them are, and how many are copies."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from singan_aug.errors import ConfigError, ImageError
from singan_aug.metrics._inputs import checked, paired

__all__ = ["COPIED", "large_enough", "nearest_copy", "nearest_patches", "patch_distance"]

COPIED = 1 / 255  # root mean square difference of two patches up to which one is a copy of the other: an 8-bit step
COMPARED = 2**24  # distances held at once


def patch_distance(
    real: Tensor,  # [1 or N, 1 or 3, H, W] in [0, 1]
    fake: Tensor,  # [1 or N, 1 or 3, H', W'] in [0, 1]
    *,
    patch_px: int = 7,
    projections: int = 128,
    seed: int = 0,
) -> Tensor:
    """Sliced Wasserstein distance between all patches of each pair, float64 [N] on the CPU; 0 for equal sets.

    Every patch of `patch_px` x `patch_px` x 3 values (stride 1, none beyond the edges) is projected on `projections`
    random directions of length 1; of each the Wasserstein-1 distance between the two sets of projections, exact for
    sets of any two sizes; of these the mean. Elnekave, Weiss (GPDM, CVPR 2022), equation 3, there for sets of one size;
    Rabin, Peyre, Delon, Bernot 2011. A pair's value depends on `seed` by a few per cent.

    Raises `ImageError` for another shape or range, or an image smaller than a patch.
    """
    count = paired(real, fake, "real and fake")
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(projections, 3, patch_px, patch_px, generator=rng, dtype=torch.float32, device="cpu")
    directions /= directions.flatten(1).norm(dim=1)[:, None, None, None]
    ours, theirs = (
        [functional.conv2d(image[None], directions)[0].flatten(1) for image in large_enough(images, name, patch_px)]
        for images, name in ((real, "real"), (fake, "fake"))
    )
    pairs = [(ours[i % len(ours)], theirs[i % len(theirs)]) for i in range(count)]
    return torch.stack([_wasserstein(*pair).mean() for pair in pairs])


def nearest_copy(
    source: Tensor,  # [1, 1 or 3, H, W] in [0, 1]
    draws: Tensor,  # [N, 1 or 3, H', W'] in [0, 1]
    *,
    patch_px: int = 7,
) -> tuple[Tensor, Tensor]:
    """How far each draw's patches are from their nearest in the source, and what share of them is a copy.

    A draw is cut into patches of `patch_px` x `patch_px` side by side; each is compared with the source's patches at
    every place, by the root mean square of the differences of their values, exactly. 0 and 1 say that the draw is made
    of pieces of its source, wherever they lie: what a draw by patches should be, and what a network that has learnt
    its source by heart also is; a reference for how new a draw is comes from another photo of the same thing.

    Returns:
        distance: float64 [N], the mean of the patches' least differences, of the range; 0: all are copies.
        copied_ratio: float64 [N], the share of patches whose least difference is at most one 8-bit step.

    Raises `ImageError` for another shape or range, more than one source, or an image smaller than a patch.
    """
    if len(source) != 1:
        raise ImageError(f"expected one source, got {len(source)}")
    keys = functional.unfold(large_enough(source, "source", patch_px) - 0.5, patch_px)[0].T  # centred: rounds less
    distances, ratios = [], []
    for draw in large_enough(draws, "draws", patch_px):
        patches = functional.unfold(draw[None] - 0.5, patch_px, stride=patch_px)[0].T
        least = (nearest_patches(patches, keys)[0] / keys.shape[1]).sqrt()
        distances.append(least.mean())
        ratios.append((least <= COPIED).double().mean())
    return torch.stack(distances), torch.stack(ratios)


def nearest_patches(
    patches: Tensor,  # [Q, D]
    keys: Tensor,  # [L, D]
) -> tuple[Tensor, Tensor]:
    """Of each patch the squared distance to its nearest key, summed over D, float64 [Q], and which that is, int64 [Q].

    Found by |k|^2 - 2 p k, which is one product of matrices; the distance is then taken of the differences, which
    rounds less.
    """
    squares = keys.square().sum(1)
    rows = max(1, COMPARED // len(keys))
    nearest = torch.cat([(squares - 2 * some @ keys.T).argmin(1) for some in patches.split(rows)])
    return (patches - keys[nearest]).double().square().sum(1), nearest


def large_enough(images: Tensor, name: str, patch_px: int) -> Tensor:
    """[N, 3, H, W] in [0, 1], float32 on the CPU, no side shorter than a patch."""
    if patch_px < 1:
        raise ConfigError(f"expected patch_px of at least 1, got {patch_px}")
    images = checked(images, name)
    if min(images.shape[-2:]) < patch_px:
        raise ImageError(f"expected {name} of at least {patch_px} px a side, got {list(images.shape[-2:])}: enlarge it")
    return images.to("cpu", torch.float32)


def _wasserstein(one: Tensor, other: Tensor) -> Tensor:
    """Wasserstein-1 between rows of [D, n] and [D, m], [D]: the area between their distribution functions."""
    values, order = torch.cat([one, other], 1).double().sort(dim=1)
    own = [sign / rows.shape[1] for sign, rows in ((1, one), (-1, other))]
    weights = torch.cat([one.new_full((one.shape[1],), own[0]), one.new_full((other.shape[1],), own[1])])
    apart = weights.double()[order].cumsum(1)[:, :-1].abs()
    return (apart * values.diff(dim=1)).sum(1)
