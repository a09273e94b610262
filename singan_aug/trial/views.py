"""Sets of views: every image of the pool, or variants of it, through a strong augmentation. Made once, then shared."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torchvision import tv_tensors
from torchvision.transforms import v2

from singan_aug.config import FitConfig
from singan_aug.fitting import fit
from singan_aug.images import Pixels, pixels_to_pil, to_signed, to_unit
from singan_aug.presets import preset
from singan_aug.pyramid import Pyramid, reconstruct
from singan_aug.pyramid.confine import Confinement, draw_confined
from singan_aug.pyramid.drawing import trace
from singan_aug.pyramid.sizes import start_scale_at
from singan_aug.store import DirectoryStore, make_key
from singan_aug.trial.protocol import CONFINED, MILDER, MIXED, OTHER_PRESETS, TURNS, Protocol

__all__ = ["PASTERS", "SAMPLERS", "Cost", "bank", "strengthened"]

SHARES = {
    "coarse": 0.0,
    "medium": 0.5,
    "fine": 1.0,
    "fine_apart": 1.0,
}  # of the way from the coarsest start scale to the finest
CROP_SCALE = (0.5, 1.0)
Cost = dict[str, list[float]]
SAMPLERS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {}  # sources that others bring
Views = NDArray[np.uint8]  # [images, views, H, W, C]
PASTERS: dict[str, Callable[[Pixels, list[Pixels], int, int], Views]] = {}
# The same with masks: into an image objects of others, so many views, a seed


class Fits:
    """Pyramids of a pool, each fitted once; those that were trained are kept in a store.

    Args:
        folder: of the store.
        cost: where to what a fit took goes.
    """

    def __init__(self, protocol: Protocol, folder: Path, cost: Cost) -> None:
        self._protocol, self._cost = protocol, cost
        self._store = DirectoryStore(folder)
        self._held: dict[tuple[str, int], Pyramid] = {}

    def of(self, image: Pixels, index: int, name: str) -> Pyramid:
        """The pyramid of one image of the pool, by the preset of that name."""
        if (name, index) not in self._held:
            config = preset(name, **self._protocol.fit)
            self._held[name, index] = self._fitted(image, name, config)
        return self._held[name, index]

    def _fitted(self, image: Pixels, name: str, config: FitConfig) -> Pyramid:
        key = make_key(image, config)
        if config.generated is not None and str(key) in self._store:
            return self._store.load(str(key))
        started_sec = time.process_time()
        pyramid = fit(image, config)
        suffix = "" if name == "fast" else f"_{name}"
        self._cost.setdefault(f"fit_sec{suffix}", []).append(time.process_time() - started_sec)
        size_bytes = float(sum(t.numel() * t.element_size() for t in pyramid.tensors().values()))
        self._cost.setdefault(f"pyramid_bytes{suffix}", []).append(size_bytes)
        if config.generated is None:
            return pyramid
        self._store.save(key, pyramid)
        return self._store.load(str(key))  # what a run that is taken up again gets


def bank(image: Pixels, index: int, source: str, protocol: Protocol, cost: Cost, fits: Fits) -> Views:
    """Variants of one image of the pool, [views, H, W, C], a mask its fourth channel.

    What they took goes to `cost`.
    """
    if source == "duplicates":
        return np.repeat(image[None], protocol.views, 0)
    if source in SAMPLERS:
        started_sec = time.process_time()
        numbers = torch.Generator().manual_seed(index)
        count = protocol.views
        made = torch.cat([to_unit(SAMPLERS[source](to_signed(image[..., :3]), numbers)) for _ in range(count)])
        cost.setdefault(f"{source}_ms", []).append((time.process_time() - started_sec) * 1000 / count)
        return _bytes(made, np.repeat(image[..., 3:][None], count, 0))
    first, _, rest = source.partition("_")
    name, start = (first, rest) if first in OTHER_PRESETS else ("fast", source)
    pyramid = fits.of(image, index, name)
    if source == "reconstruction":
        return np.repeat(_bytes(reconstruct(pyramid), image[..., 3:][None]), protocol.views, 0)
    started_sec = time.process_time()
    views = _drawn(pyramid, image, start, protocol.views, index)
    cost.setdefault(f"draw_ms_{source}", []).append((time.process_time() - started_sec) * 1000 / protocol.views)
    return views


def _drawn(pyramid: Pyramid, image: Pixels, start: str, count: int, seed: int) -> Views:
    """`count` variants from a start scale; mixed: from every one in turn, so that any first few of them hold all."""
    if start == MIXED:
        starts = range(len(pyramid))
        each = [_traced(pyramid, image, scale, -(-count // len(starts)), seed, masked=True) for scale in starts]
        return np.stack(each, 1).reshape(-1, *image.shape)[:count]
    part, _, rest = start.partition("_")
    if part in CONFINED:
        scale = start_scale_at(SHARES[rest], len(pyramid))
        return _confined(pyramid, image, scale, count, seed, Confinement("mask" if part == "mask" else "background"))
    scale = 1 if start == MILDER else start_scale_at(SHARES[start], len(pyramid))
    return _traced(pyramid, image, scale, count, seed, masked=start != "fine_apart")


def _traced(pyramid: Pyramid, image: Pixels, scale: int, count: int, seed: int, *, masked: bool) -> Views:
    traced = trace(pyramid, count, scale, seed=seed)
    masks = np.repeat(image[..., 3:][None], count, 0)  # of no width where there is no mask
    if traced.masks is not None and masked:
        masks = traced.masks[..., None].to(torch.uint8).numpy()
    return _bytes(traced.images, masks)


def _confined(pyramid: Pyramid, image: Pixels, scale: int, count: int, seed: int, how: Confinement) -> Views:
    mask = torch.from_numpy(image[..., 3:])
    made = draw_confined(pyramid, count, scale, seed, how)
    masks = torch.stack([mask[each.field[0], each.field[1]] for each in made])
    return _bytes(torch.stack([each.image for each in made]), masks.numpy())


def strengthened(images: Views, strong: str, protocol: Protocol, seeds: tuple[Any, ...]) -> Views:
    """[N, H, W, C], each through the augmentation once; a pure function of its arguments."""
    if strong == "none":
        return images
    transform = _transform(strong, images.shape[1:3], protocol)
    made = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(xxhash.xxh3_64_intdigest(repr((strong, seeds)).encode()) >> 1)
        for image in images:
            if image.shape[-1] == 4:
                colours, mask = transform(pixels_to_pil(image[..., :3]), tv_tensors.Mask(image[..., 3]))
                view = np.concatenate([np.asarray(colours), mask.numpy()[..., None]], -1)
            else:
                view = np.asarray(transform(pixels_to_pil(image)))
            made.append(view if view.ndim == 3 else view[..., None])
    return np.stack(made)


def _transform(strong: str, size: tuple[int, ...], protocol: Protocol) -> Callable[..., Any]:
    if strong in TURNS:
        return _turned(strong, size, protocol)
    if strong == "elastic":
        moved = v2.RandomAffine(
            10, translate=(0.08, 0.08), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR
        )
        elastic: Callable[..., Any] = v2.Compose([moved, v2.ElasticTransform(alpha=30.0, sigma=4.0)])
        return elastic
    steps: list[Any] = [v2.RandomHorizontalFlip()] if protocol.flips else []
    if strong != "flip":
        steps.append(v2.RandomResizedCrop(size, scale=CROP_SCALE, antialias=True))
    then: dict[str, list[Any]] = {"trivial": [v2.TrivialAugmentWide()], "rand": [v2.RandAugment()]}
    steps += (then | {"flip": [], "flip_crop": [], "colour": [v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]})[strong]
    composed: Callable[..., Any] = v2.Compose(steps)
    return composed


def _turned(strong: str, size: tuple[int, ...], protocol: Protocol) -> Callable[..., Any]:
    """What moves pixels far finds the image mirrored around it, not black."""
    steps: list[Any] = [v2.RandomHorizontalFlip()] if protocol.flips else []
    if protocol.quarter_turns:
        steps += [v2.RandomChoice([v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)])]
    moved = {
        "turns_elastic": _Elastic(*protocol.elastic),
        "turns_affine": v2.RandomAffine(20, scale=(0.8, 1.25), shear=8, interpolation=v2.InterpolationMode.BILINEAR),
    }
    if strong in moved:
        steps += [v2.Pad(min(size) // 4, padding_mode="reflect"), moved[strong], v2.CenterCrop(size)]
    if strong == "turns_affine":
        steps.append(v2.ColorJitter(0.4, 0.4, 0.4, 0.1))
    composed: Callable[..., Any] = v2.Compose(steps)
    return composed


class _Elastic(v2.ElasticTransform):
    """The same, blurred along one axis after the other: a wide `sigma` takes the original seconds an image."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        (sigma, _), (alpha, _) = self.sigma, self.alpha
        side = int(8 * sigma + 1) | 1
        blurred = v2.functional.gaussian_blur(torch.rand(2, height, width) * 2 - 1, [side, 1], [sigma, sigma])
        blurred = v2.functional.gaussian_blur(blurred, [1, side], [sigma, sigma])
        shares = blurred * torch.tensor([alpha / width, alpha / height])[:, None, None]
        return {"displacement": shares.movedim(0, -1)[None]}


def _bytes(unit: torch.Tensor, masks: Views) -> Views:
    """[N, C, H, W] in [0, 1] as [N, H, W, C], and the masks, [N, H, W, 0 or 1], as another channel."""
    return np.concatenate([(unit * 255).round().byte().movedim(1, -1).numpy(), masks], -1)
