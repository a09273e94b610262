"""How the regions of a source are shifted where a draw from a pyramid of patches starts, and where their seams run."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.config import Copied
from singan_aug.pyramid.copied.steps_torch import inside, spread
from singan_aug.pyramid.fields import random_field
from singan_aug.pyramid.sizes import Size

__all__ = ["random_shift", "settled_seams"]

AROUND = 3  # a pixel chooses among the shifts of AROUND x AROUND pixels around it,
APART_PX = 3  # so far apart
PULL = 0.05  # squared distance of descriptors that a shift one step off the random one is worth
OUTSIDE = 1.0  # the same for a place up to one pixel or more outside the source
DAMPING = 0.5  # how much of the last pass a message keeps, so that passes do not oscillate


def random_shift(size: Size, generator: torch.Generator, scale: int, copied: Copied) -> Tensor:
    """How far each pixel of a canvas moves, [1, 2, *size] in pixels: smooth, then rounded so that regions move as one.

    Standard deviation about `shift_px * shift_decay^scale`, steps of `shift_step_px`.
    """
    deviation_px = copied.shift_px * copied.shift_decay**scale
    return random_field(size, generator, deviation_px, copied.shift_cells, copied.shift_step_px)


def settled_seams(
    shift: Tensor,  # [N, 2, h, w] random, in pixels
    own: Size,  # of the source
    describe: Callable[[Tensor], Tensor],  # the descriptors of the source at coordinates [N, 2, ...]: [N, ..., D]
    copied: Copied,
) -> Tensor:
    """[N, 2, h, w]: shifts taken from pixels around, such that seams run where they show least.

    Minimised is what shift-map editing (Pritch et al. 2009) minimises: each pixel's distance from its random shift,
    and at every seam how unlike the two pieces are on both its sides (Kwatra et al. 2003, eq. 1); by `seam_passes`
    passes of min-sum belief propagation (Felzenszwalb & Huttenlocher 2006), all pixels at once, damped.
    """
    n, _, height, width = shift.shape
    reach_px = APART_PX * (AROUND // 2)
    padded = F.pad(shift, (reach_px,) * 4, mode="replicate")
    candidates = F.unfold(padded, AROUND, dilation=APART_PX).view(n, 2, -1, height, width)
    origin = spread(own, (height, width), shift.device)[:, None] + candidates
    off = ((candidates - shift[:, :, None]) / max(copied.shift_step_px, 1)).square().sum(1)
    outside = (origin - inside(origin, own)).abs().amax(1).clamp(max=1)
    pull = (PULL * off + OUTSIDE * outside).transpose(0, 1)  # [K, N, h, w], as all that follow

    def seen(down: float, right: float) -> Tensor:
        step = torch.tensor([down, right], dtype=shift.dtype, device=shift.device)[:, None, None, None]
        return describe(inside(origin + step, own)).permute(0, 2, 3, 1, 4)

    def unlike(one: Tensor, other: Tensor) -> Tensor:
        return torch.cdist(one, other).square().permute(3, 4, 0, 1, 2)

    unmoved = seen(0, 0)
    edges = []  # along each dimension: what a seam between two neighbours costs, and the messages either way
    for dim, (down, right) in ((1, (own[0] / height, 0.0)), (2, (0.0, own[1] / width))):
        last = unmoved.shape[dim] - 1
        here = unlike(unmoved.narrow(dim, 0, last), seen(-down, -right).narrow(dim, 1, last))
        there = unlike(seen(down, right).narrow(dim, 0, last), unmoved.narrow(dim, 1, last))
        edges.append((dim + 1, last, (here + there).contiguous(), torch.zeros_like(pull), torch.zeros_like(pull)))

    def belief() -> Tensor:
        return pull + edges[0][3] + edges[0][4] + edges[1][3] + edges[1][4]

    for _ in range(copied.seam_passes):
        known = belief()
        for dim, last, cost, onward, back in edges:
            # What a neighbour is told leaves out what it has told itself.
            to_next = ((known - back).narrow(dim, 0, last)[:, None] + cost).amin(0)
            to_previous = ((known - onward).narrow(dim, 1, last) + cost).amin(1)
            for message, told in ((onward.narrow(dim, 1, last), to_next), (back.narrow(dim, 0, last), to_previous)):
                message.lerp_(told - told.amin(0), 1 - DAMPING)
    chosen = belief().argmin(0)[:, None, None].expand(-1, 2, -1, -1, -1)
    return candidates.gather(2, chosen)[:, :, 0]
