"""style(): the layout of one image in the patches and colours of another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.region import Imitation
from singan_aug.pyramid.sizes import StartScale
from singan_aug.tasks._entering import entering_scale, redrawn
from singan_aug.tasks._inputs import fitting_layout, pictures, source_of

__all__ = ["style"]

START = 0.4  # of the way to the finest scale
HOW = Imitation(passes=(4, 2, 1), completeness=5e-3)
LEAST_VARIANCE = 1e-4  # of colours in [-1, 1], along any axis of theirs


def style(
    pyramid: Pyramid,  # of the image that lends its patches
    layout: Any,
    *,
    start_scale: StartScale | None = None,
    match_colours: bool = True,
    seed: int = 0,
) -> Tensor:
    """The layout of one image, drawn by the pyramid of another: float [n, C, H, W] in [0, 1].

    Args:
        pyramid: of the image that lends its patches, of any preset.
        layout: the image whose layout is kept, as `fit` takes it, of any size and aspect; or a list, one picture for
            each. Long sides over the config's `finest_px` are shrunk to it.
        start_scale: the first scale that redraws, as `draw` takes it; finer ones keep more of the layout. By default
            two fifths of the way to the finest.
        match_colours: whether colours are first mapped to those of the pyramid's image, so that what is bright in one
            becomes what is bright in the other (Pitié & Kokaram 2007).
        seed: of the noise, where scales generate; scales that copy take none.

    Raises `ImageError`: no image, or a list of different sizes; `StartScaleError`: no such scale.
    """
    start = entering_scale(pyramid, start_scale, START)

    def made(one: Any) -> Tensor:
        wanted = fitting_layout(pyramid, one)
        if match_colours:
            wanted = recoloured(wanted, source_of(pyramid))
        return redrawn(pyramid, wanted, start, HOW, seed)

    with torch.no_grad():
        return pictures(made, layout)


def recoloured(image: Tensor, like: Tensor) -> Tensor:
    """The image, [1, C, H, W], with mean and covariance of the colours of another, by the linear map that moves them
    least: Pitié & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping"."""
    own, other = (each[0].flatten(1).double() for each in (image, like))
    a, b = (torch.cov(each).reshape(len(each), len(each)) for each in (own, other))
    a = a + LEAST_VARIANCE * torch.eye(len(a), dtype=a.dtype, device=a.device)
    root = _root(a)
    inverse = torch.linalg.inv(root)
    moved = inverse @ _root(root @ b @ root) @ inverse
    mapped = moved @ (own - own.mean(1, keepdim=True)) + other.mean(1, keepdim=True)
    made: Tensor = mapped.view_as(image[0])[None].to(image.dtype).clamp(-1, 1)
    return made


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    return root
