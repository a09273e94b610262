"""super_resolution(): an image enlarged, with detail of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.generated.scale import GeneratedScale, run_scale
from singan_aug.pyramid.noise import generator_for, noise_maps
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size
from singan_aug.pyramid.threads import one_thread
from singan_aug.tasks._inputs import like_source, pictures, source_of

__all__ = ["super_resolution"]

STEP = 2 ** (1 / 3)  # enlargement in one step, about: Shaham et al. 2019, section 4
MOST_FACTOR = 16.0
MOST_PX = 2**25
AT_ONCE_PX = 2**16  # pixels whose patches are held at once
PATCH_PX = 5
REACH_PX = 1  # from where a patch lies, in the source, that patches like it are looked for
DOUBT = 0.03  # mean squared difference in [-1, 1] of a patch from its like at which its detail counts little
ROUNDS = 4  # of corrections towards the source


def super_resolution(pyramid: Pyramid, factor: float = 2.0, image: Any = None, *, seed: int = 0) -> Tensor:
    """The fitted image, or one of its size, `factor` times as large: float [n, C, H, W] in [0, 1].

    In k steps of about 2^(1/3), as in Shaham et al. 2019, section 4. Where the finest scale generates, its network
    refines each step. Where it copies, each patch gets the detail that a patch like it has in the source, one step up
    (Freedman & Fattal 2011, "Image and video upscaling from local self-examples"). After each step the picture is
    corrected until, made small again, it is the image it came from (Irani & Peleg 1991).

    Args:
        pyramid: of any preset.
        factor: 1.1 to 16; the result has at most 2^25 pixels.
        image: what is enlarged, of the size of the fitted one, or a list; the fitted one by default, as the pyramid
            holds it.
        seed: of the noise, where the finest scale generates.

    Raises `ImageError`: an image of another size; `ConfigError`: `factor` is out of range.
    """
    size = tuple(round(side * factor) for side in pyramid.size)
    if not 1.1 <= factor <= MOST_FACTOR or math.prod(size) > MOST_PX:
        raise ConfigError(f"expected a factor of 1.1 to {MOST_FACTOR:g}, at most {MOST_PX} pixels, got {factor!r}")

    def made(one: Any) -> Tensor:
        small = source_of(pyramid) if one is None else like_source(pyramid, one, "an image")
        return _enlarged(pyramid, small, (size[0], size[1]), seed)

    with torch.no_grad(), one_thread():
        return pictures(made, [None] if image is None else image)


def _enlarged(pyramid: Pyramid, small: Tensor, size: Size, seed: int) -> Tensor:
    """[1, C, *size] in [-1, 1] of [1, C, h, w]."""
    own, how = (small.shape[2], small.shape[3]), pyramid.config.sizes.resample
    factor = max(a / b for a, b in zip(size, own, strict=True))
    steps = max(1, round(math.log(factor) / math.log(STEP)))
    finest, generator = pyramid.scales[-1], generator_for(seed, "detail")
    grows = [to / of for to, of in zip(size, own, strict=True)]
    image = small
    for step in range(1, steps + 1):
        share = step / steps
        target = size if step == steps else (round(own[0] * grows[0] ** share), round(own[1] * grows[1] ** share))
        if isinstance(finest, GeneratedScale):
            noise = noise_maps([generator], small.shape[1], target, shared=False).to(small.device)
            image = run_scale(finest, image, noise, target)
        else:
            image = _detailed(resize(image, target, how), small, factor ** (1 / steps))
        image = _corrected(image, small, how)
    return image


def _detailed(image: Tensor, source: Tensor, step: float) -> Tensor:
    """An image that was enlarged, [1, C, H, W], with the detail that patches like its own have in the source."""
    own = (source.shape[2], source.shape[3])
    coarser = (max(1, round(own[0] / step)), max(1, round(own[1] / step)))
    blurred = resize(resize(source, coarser), own)  # the source as if it had been enlarged by one step
    places, distance = _likes(image, blurred)
    detail = (source - blurred)[0]
    total, weight = torch.zeros_like(image[0]), torch.full_like(image[0, :1], 1e-6)  # of the patches over each pixel
    certain = torch.exp(-distance / DOUBT)
    radius = PATCH_PX // 2
    height, width = image.shape[2:]
    padded = F.pad(torch.stack([places[0].float(), places[1].float(), certain])[None], (radius,) * 4)[0]
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            row, column, trust = padded[:, radius - down :, radius - right :][:, :height, :width]
            row = (row.long() + down).clamp_(0, own[0] - 1)
            column = (column.long() + right).clamp_(0, own[1] - 1)
            total += detail[:, row, column] * trust
            weight += trust > 0
    return image + (total / weight)[None]


def _likes(image: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor]:
    """Where near its own place in the source the patch is that looks most like each of an image's, int64 [2, H, W], and
    the mean squared difference, [H, W]. Some rows after others."""
    height, width = image.shape[2:]
    own = (blurred.shape[2], blurred.shape[3])
    known = _patches(blurred, 0, own[0])
    rows, columns = (
        ((torch.arange(side, device=image.device) + 0.5) * (of / side)).long()
        for side, of in zip((height, width), own, strict=True)
    )
    count = max(1, AT_ONCE_PX // width)
    parts = [
        _nearest(_patches(image, top, min(top + count, height)), known, rows[top : top + count], columns)
        for top in range(0, height, count)
    ]
    return torch.cat([places for places, _ in parts], 1), torch.cat([apart for _, apart in parts])


def _nearest(wanted: Tensor, known: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Of patches [D, a, b], which lie over these rows and columns of the known ones, [D, h, w]."""
    best = wanted.new_full(wanted.shape[1:], torch.inf)
    places = torch.zeros(2, *best.shape, dtype=torch.int64, device=best.device)
    for down in range(-REACH_PX, REACH_PX + 1):
        for right in range(-REACH_PX, REACH_PX + 1):
            y = (rows + down).clamp(0, known.shape[1] - 1)
            x = (columns + right).clamp(0, known.shape[2] - 1)
            apart = (known[:, y][:, :, x] - wanted).square_().mean(0)
            better = apart < best
            best = torch.where(better, apart, best)
            places = torch.where(better, torch.stack(torch.meshgrid(y, x, indexing="ij")), places)
    return places, best


def _patches(image: Tensor, top: int, bottom: int) -> Tensor:
    """[C * PATCH_PX^2, bottom - top, W]: the patch around each pixel of these rows of [1, C, H, W]; edges repeat."""
    padded = F.pad(image, (PATCH_PX // 2,) * 4, mode="replicate")[:, :, top : bottom + PATCH_PX - 1]
    return F.unfold(padded, PATCH_PX).view(-1, bottom - top, image.shape[3])


def _corrected(image: Tensor, small: Tensor, how: str) -> Tensor:
    """The image as near to itself as may be whose small copy is the given one."""
    for _ in range(ROUNDS):
        error = small - resize(image, (small.shape[2], small.shape[3]), how)
        image = image + resize(error, (image.shape[2], image.shape[3]), how)
    return image
