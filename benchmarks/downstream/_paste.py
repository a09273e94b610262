"""Objects of the other training images pasted into an image: plain copy-paste, and SinGANPaste at the same places."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from singan_aug import SinGANPaste, cut_out, fast, fit, make_key, open_store
from singan_aug.images import Pixels
from singan_aug.trial.views import Views

__all__ = ["plain", "redrawn"]

SMALLEST_PX = 64  # area of an object: smaller parts are crumbs of a mask


def plain(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """[count, H, W, 4]: the image, [H, W, 4], its mask the fourth channel, with an object of one of the others."""
    return _pasted(image, others, count, seed, light=0.0, rim_px=0.0)


def redrawn(image: Pixels, others: list[Pixels], count: int, seed: int) -> Views:
    """The same, its light taken over from where it lies, its rim redrawn by the image's pyramid."""
    return _pasted(image, others, count, seed, light=0.5, rim_px=2.0)


def _pasted(image: Pixels, others: list[Pixels], count: int, seed: int, *, light: float, rim_px: float) -> Views:
    objects = [
        each
        for other in others
        for each in cut_out(other[..., :3], other[..., 3] > 127, value=1, smallest_px=SMALLEST_PX)
    ]
    if not objects:
        return np.repeat(image[None], count, 0)
    colours, mask = np.ascontiguousarray(image[..., :3]), torch.from_numpy((image[..., 3] > 127).astype(np.uint8))
    made = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        open_store(folder).save(make_key(colours, fast()), fit(colours, fast()))
        paste = SinGANPaste(objects, p=1.0, light=light, rim_px=rim_px, store=folder)
        torch.manual_seed(seed)
        for _ in range(count):
            picture, figure = paste(Image.fromarray(colours), tv_tensors.Mask(mask))
            made.append(np.concatenate([np.asarray(picture), 255 * figure.numpy()[..., None]], -1))
    return np.stack(made)
