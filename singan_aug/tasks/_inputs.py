"""Images and masks of a task as tensors of its pyramid, and pictures back; what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from singan_aug.errors import ImageError
from singan_aug.images import Mask, Pixels, resize_mask, resize_pixels, to_grey, to_mask, to_pixels, to_signed, to_unit
from singan_aug.pyramid import Pyramid, reconstruct
from singan_aug.pyramid.copied.region import grown
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.resample import blur
from singan_aug.pyramid.sizes import working_size

__all__ = ["altered", "every", "fitting_layout", "laid_over", "like_source", "pictures", "region_of", "source_of"]

BETWEEN = (0.2, 0.8)  # of the largest value: neither dark nor bright
MOST_BETWEEN = 0.25  # share of a mask's pixels: soft edges and JPEG give a hundredth, photos a half
ALTERED = 0.1  # difference in [-1, 1] from the source from which on a pixel counts as altered: JPEG changes less


def every(given: Any) -> list[Any]:
    """A list of inputs as it is, one input as a list."""
    if isinstance(given, list | tuple):
        if not given:
            raise ImageError("expected one image or a list of them, got an empty list")
        return list(given)
    return [given]


def pictures(make: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """[n, C, H, W] in [0, 1]: what `make` gives, [1, C, H, W] in [-1, 1], of each input of lists side by side.

    Raises `ImageError` for lists of different lengths, and for results of different sizes.
    """
    count = len(every(inputs[0]))
    lists = [[None] * count if each is None else every(each) for each in inputs]
    lengths = {len(each) for each in lists}
    if len(lengths) > 1:
        raise ImageError(f"expected as many of one as of the other, got {' and '.join(map(str, map(len, lists)))}")
    made = [make(*each) for each in zip(*lists, strict=True)]
    sizes = sorted({tuple(each.shape[2:]) for each in made})
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for height, width in sizes)
        raise ImageError(f"expected a list of inputs of one size, got results of {shown}: pass them one by one")
    return to_unit(torch.cat(made))


def source_of(pyramid: Pyramid) -> Tensor:
    """[1, C, H, W] in [-1, 1]: the image that was fitted; where all scales generate, as the pyramid remembers it."""
    finest = pyramid.scales[-1]
    return finest.source if isinstance(finest, CopiedScale) else reconstruct(pyramid) * 2 - 1


def like_source(pyramid: Pyramid, image: Any, what: str) -> Tensor:
    """[1, C, *pyramid.size] in [-1, 1] of an image that has the size of the fitted one, or the pyramid's.

    Raises `ImageError` for other sizes.
    """
    signed = _signed(pyramid, image)
    size = signed.shape[2], signed.shape[3]
    if size != pyramid.size and working_size(size, pyramid.config) != pyramid.size:
        height, width = pyramid.size
        raise ImageError(
            f"expected {what} of the size of the image that was fitted, or of its pyramid, {width}x{height}, "
            f"got {size[1]}x{size[0]}"
        )
    return signed if size == pyramid.size else _signed(pyramid, resize_pixels(to_pixels(image), pyramid.size))


def fitting_layout(pyramid: Pyramid, image: Any) -> Tensor:
    """[1, C, H, W] in [-1, 1] of an image of any size, shrunk as a fit would shrink it."""
    pixels = to_pixels(image)
    return _signed(pyramid, resize_pixels(pixels, working_size((pixels.shape[0], pixels.shape[1]), pyramid.config)))


def _signed(pyramid: Pyramid, image: Any) -> Tensor:
    pixels = to_pixels(image)
    signed = to_signed(pixels[..., :3])
    if pyramid.channels == 1 and signed.shape[1] == 3:
        signed = to_grey(signed[0])[None]
    return signed.expand(-1, pyramid.channels, -1, -1).to(pyramid.device).contiguous()


def region_of(pyramid: Pyramid, mask: Any, of: Any) -> Tensor:
    """bool [*pyramid.size] of a mask: what is over half of its largest value.

    `of`: the image it belongs to, whose size it has. Where a mask is transparent it marks nothing. Raises `ImageError`
    for another size, where nothing is marked, and for what is no mask but a photo.
    """
    whole = isinstance(mask, np.ndarray | torch.Tensor) and mask.ndim == 2
    values = to_mask(mask) if whole else _brightness(to_pixels(mask))
    size = to_pixels(of).shape[:2]
    if values.shape not in (size, pyramid.size):
        sizes = [f"{width}x{height}" for height, width in (size, values.shape)]
        raise ImageError(f"expected a mask of its image's size, {sizes[0]}, got {sizes[1]}")
    if not (values > 0).any():
        raise ImageError("expected a mask that marks something by values above 0, got one that is empty")
    marked = resize_mask((2 * values.astype(np.int64) > int(values.max())).astype(np.int32), pyramid.size) > 0
    if not marked.any():
        raise ImageError("expected a mask that marks something, got one whose parts vanish at the pyramid's size")
    return torch.from_numpy(marked).to(pyramid.device)


def _brightness(pixels: Pixels) -> Mask:
    values: Mask = pixels[..., :3].max(-1).astype(np.int32)
    if pixels.shape[-1] == 4:
        values = values * pixels[..., 3] // 255
    low, high = (share * int(values.max()) for share in BETWEEN)
    between = float(((values > low) & (values < high)).mean())
    if between > MOST_BETWEEN:
        raise ImageError(
            f"expected a mask, bright on dark, got an image with {between:.0%} of its pixels in between: is it a photo?"
        )
    return values


def altered(pyramid: Pyramid, image: Tensor) -> Tensor:
    """bool [H, W]: where an image, [1, C, H, W] in [-1, 1], is not the fitted one. Raises `ImageError` where it is."""
    difference = blur((image - source_of(pyramid)).abs().amax(1, keepdim=True), 1.0)[0, 0]
    found = difference > ALTERED
    if not found.any():
        raise ImageError("expected an altered copy of the fitted image, got one without a difference: pass a mask")
    closed = ~grown(~grown(found, 2), 2)
    return closed | found


def laid_over(
    image: Tensor,  # [1, C, H, W]
    redrawn: Tensor,  # [1, C, H, W]
    mask: Tensor,  # bool [H, W]
    edge_px: int,
) -> Tensor:
    """The redrawn image in the mask, softly the other one up to `edge_px` from it; beyond, that one to the bit."""
    weight = mask[None, None].to(image)
    if edge_px:
        half = edge_px / 2
        weight = torch.maximum(weight, blur(dilated(mask, half)[None, None].to(image), half / 2))
        weight = weight * dilated(mask, edge_px)
    return torch.where(weight > 0, torch.lerp(image, redrawn, weight), image)


def dilated(mask: Tensor, radius_px: float) -> Tensor:
    """bool [H, W]: the mask and what is within a radius of it."""
    reach = int(radius_px)
    offsets = torch.arange(-reach, reach + 1, device=mask.device)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius_px**2).float()
    return torch.nn.functional.conv2d(mask[None, None].float(), disk[None, None], padding=reach)[0, 0] > 0.5
