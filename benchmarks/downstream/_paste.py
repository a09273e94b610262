"""What is made of an image and others: objects pasted, plainly or by SinGANPaste, and variants with patches of all."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from singan_aug import SinGANPaste, cut_out, fast, fit, learned, make_key, open_store
from singan_aug.images import Pixels
from singan_aug.pyramid import Pyramid, trace
from singan_aug.transforms.torchvision_paste import Cutout
from singan_aug.trial.views import Views

__all__ = ["bent", "kin", "of_variants", "plain", "redrawn"]

SMALLEST_PX = 64  # area of an object: smaller parts are crumbs of a mask
VARIANTS, SMALLEST_SHARE = 8, 0.25  # of an object, and of its area: smaller parts were cut off by a variant


def plain(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """[count, H, W, 4]: the image, [H, W, 4], its mask the fourth channel, with an object of one of the others."""
    return _pasted(image, _objects(others), count, seed, light=0.0, edge_px=0.0)


def redrawn(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """The same, its light taken over from where it lies, its rim redrawn by the image's pyramid."""
    return _pasted(image, _objects(others), count, seed, light=0.5, edge_px=2.0)


def of_variants(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """The same, the objects cut out of variants of the others, from every start scale in turn."""
    objects = []
    for other in others:
        pyramid = fit(other, fast())
        smallest_px = max(SMALLEST_PX, int(SMALLEST_SHARE * (other[..., 3] > 127).sum()))
        for i in range(VARIANTS):
            traced = trace(pyramid, 1, i % len(pyramid), seed=seed * VARIANTS + i)
            assert traced.masks is not None
            objects += cut_out(traced.images[0], traced.masks[0].numpy() > 127, value=1, smallest_px=smallest_px)
    return _pasted(image, objects, count, seed, light=0.5, edge_px=2.0)


def bent(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """A variant of each plain paste, from every start scale in turn."""
    made = plain(image, others, count, seed)
    for i, pasted in enumerate(made):
        pyramid = fit(np.ascontiguousarray(pasted), fast())
        made[i] = _variants(pyramid, 1, i % len(pyramid), seed + i)[0]
    return made


def kin(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """Variants of one canvas of the image between two others, by the preset learned: patches may be of any of them."""
    numbers = np.random.default_rng([seed, 4])
    strangers = [other for other in others if other is not image]
    left, right = (strangers[i] for i in numbers.permutation(np.arange(max(2, len(strangers))) % len(strangers))[:2])
    canvas = np.ascontiguousarray(np.concatenate([left, image, right], 1))
    pyramid = fit(canvas, learned(finest_px=1024, search_nearness=0.0))
    width = image.shape[1]
    return _variants(pyramid, count, 0, seed)[:, :, width : 2 * width]


def _variants(pyramid: Pyramid, count: int, start: int, seed: int) -> Views:
    """[count, H, W, 4], of a pyramid with a mask."""
    traced = trace(pyramid, count, start, seed=seed)
    assert traced.masks is not None
    colours = (traced.images * 255).round().byte().movedim(1, -1)
    return np.concatenate([colours.numpy(), traced.masks[..., None].to(torch.uint8).numpy()], -1)


def _objects(others: list[Pixels]) -> list[Cutout]:
    return [
        each
        for other in others
        for each in cut_out(other[..., :3], other[..., 3] > 127, value=1, smallest_px=SMALLEST_PX)
    ]


def _pasted(image: Pixels, objects: list[Cutout], count: int, seed: int, *, light: float, edge_px: float) -> Views:
    if not objects:
        return np.repeat(image[None], count, 0)
    colours, mask = np.ascontiguousarray(image[..., :3]), torch.from_numpy((image[..., 3] > 127).astype(np.uint8))
    made = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        open_store(folder).save(make_key(colours, fast()), fit(colours, fast()))
        paste = SinGANPaste(objects, p=1.0, light=light, edge_px=edge_px, store=folder)
        torch.manual_seed(seed)
        for _ in range(count):
            picture, figure = paste(Image.fromarray(colours), tv_tensors.Mask(mask))
            made.append(np.concatenate([np.asarray(picture), 255 * figure.numpy()[..., None]], -1))
    return np.stack(made)
