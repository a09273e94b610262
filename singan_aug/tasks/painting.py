"""paint(): a rough painting made into a picture."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.images import bytes_to_signed, signed_to_bytes, unit_to_pil
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.region import Imitation
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import StartScale
from singan_aug.tasks._entering import entering_scale, redrawn
from singan_aug.tasks._inputs import fitting_layout, pictures, source_of

__all__ = ["paint"]

START = 0.25  # of the way to the finest scale
HOW = Imitation(passes=(4, 2, 1), completeness=2e-2)  # less makes white peaks into clouds of rock
ROUNDS = 20  # of k-means
MOST_COLOURS = 64


def paint(
    pyramid: Pyramid,
    painting: Any,
    *,
    colours: int | None = None,
    start_scale: StartScale | None = None,
    seed: int = 0,
) -> Tensor:
    """A picture with the layout of a painting, in the pyramid's patches: float [n, C, H, W] in [0, 1].

    Args:
        pyramid: of a photo of such things, of any preset.
        painting: flat areas in about the photo's colours, as `fit` takes images, of any size and aspect; or a list, one
            picture for each. Long sides over the config's `finest_px` are shrunk to it.
        colours: 2 to 64: so many colours of the photo are chosen by k-means, and the painting's are replaced by the
            nearest of them (the paper's quantisation, with 5). Where the first scale copies, the photo is compared in
            these colours too; the paper refits a generated scale on them, which is not done here.
        start_scale: the first scale that redraws, as `draw` takes it; finer ones keep more of the painting. By default
            a quarter of the way to the finest.
        seed: of the noise, where scales generate; scales that copy take none.

    Raises `ImageError`: no image, or a list of different sizes; `StartScaleError`: no such scale; `ConfigError`:
    `colours` is out of range.
    """
    if colours is not None and not 2 <= colours <= MOST_COLOURS:
        raise ConfigError(f"expected colours in 2..{MOST_COLOURS}, or None, got {colours!r}")
    start = entering_scale(pyramid, start_scale, START)
    first = pyramid.scales[start]
    source = resize(source_of(pyramid), first.size, pyramid.config.sizes.resample)

    def made(one: Any) -> Tensor:
        wanted = fitting_layout(pyramid, one)
        if colours is None:
            return redrawn(pyramid, wanted, start, HOW, seed)
        palette = _palette(source, colours)
        generates = any(isinstance(scale, GeneratedScale) for scale in pyramid.scales[start:])
        shown = None if generates else _snapped(source, palette)
        return redrawn(pyramid, _snapped(wanted, palette), start, HOW, seed, shown=shown)

    with torch.no_grad():
        return pictures(made, painting)


def _palette(image: Tensor, colours: int) -> Tensor:
    """[colours, C] in [-1, 1]: the centres of an image's colours, by Pillow's median cut and k-means."""
    picture = unit_to_pil(signed_to_bytes(image)[0]).convert("RGB")
    quantised = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=ROUNDS)
    found = torch.tensor(quantised.getpalette(), dtype=torch.uint8, device="cpu").view(-1, 3)[
        :colours, : image.shape[1]
    ]
    return bytes_to_signed(found).to(image.device)


def _snapped(image: Tensor, palette: Tensor) -> Tensor:
    """The image, [1, C, H, W], with each colour replaced by the nearest of a palette."""
    nearest = torch.cdist(image[0].flatten(1).T, palette).argmin(1)
    return palette[nearest].T.reshape(image.shape).contiguous()
