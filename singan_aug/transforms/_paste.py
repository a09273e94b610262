"""Objects cut out of images, where they may lie, and the paste itself: every adapter's SinGANPaste reduces to this.

Copy-paste: Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation". What
is added is the edge that the target's pyramid redraws, and light taken over from where the object comes to lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from singan_aug.errors import ConfigError, ImageError, LabelError
from singan_aug.images import (
    Pixels,
    pixels_to_unit,
    resize_mask,
    resize_pixels,
    to_grey,
    to_mask,
    to_pixels,
    turn_between,
)
from singan_aug.pyramid.edge import redraw_edge
from singan_aug.pyramid.noise import derive_seed
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import Size
from singan_aug.transforms._counts import Counts
from singan_aug.transforms._source import DRAWN, LEFT, MISSED, SEEDS, Settings, VariantSource

__all__ = ["Cutout", "PasteSettings", "PasteSource", "Pasted", "Where", "cut_out"]

Where = Literal["anywhere", "near"]
SURROUNDINGS_PX = 6  # around an object, kept with it, to tell its light by
NEAR = 0.1  # of each side: standard deviation from where the object lay
TRIES = 20  # places that are tried
LARGEST = 0.8  # of a side, for an object
NO_ROOM = "no place"


class Cutout:
    """An object, cut out by its mask, with some pixels around it. No dataclass: Albumentations would make it a dict."""

    def __init__(
        self,
        pixels: Pixels,  # uint8 [h, w, C], C 1 or 3
        mask: NDArray[np.bool_],  # [h, w]
        value: int,  # of its pixels in a mask of classes, and its label
        centre: tuple[float, float],  # down and across, where it lay, in shares of its image
    ) -> None:
        self.pixels, self.mask, self.value, self.centre = pixels, mask, value, centre

    @property
    def area_px(self) -> int:
        """Pixels of the object."""
        return int(self.mask.sum())


def cut_out(image: Any, mask: Any, *, value: int | None = None, smallest_px: int = 16) -> list[Cutout]:
    """The objects of an image: each connected part of each value of its mask but 0.

    Args:
        image: anything that `fit` takes, of 1 or 3 channels.
        mask: of classes or instances, as `fit` takes it, of the image's size; 0 is the background.
        value: what objects are called in the masks they are pasted into; by default their value in this mask.
        smallest_px: area under which a part is left out.

    Raises `ImageError`.
    """
    pixels, values = to_pixels(image), to_mask(mask)
    if pixels.shape[-1] not in (1, 3) or values.shape != pixels.shape[:2]:
        raise ImageError(
            f"expected an image of 1 or 3 channels and a mask of its size, got {pixels.shape}, {values.shape}"
        )
    found = []
    for own in (each for each in np.unique(values) if each != 0):
        for part in _parts(values == own):
            if part.sum() >= smallest_px:
                found.append(_cut(pixels, part, int(own) if value is None else value))
    return found


def _cut(pixels: Pixels, part: NDArray[np.bool_], value: int) -> Cutout:
    slices, middles = [], []
    for axis, side in enumerate(part.shape):
        held = np.flatnonzero(part.any(1 - axis))
        slices.append(slice(max(0, held[0] - SURROUNDINGS_PX), min(side, held[-1] + 1 + SURROUNDINGS_PX)))
        middles.append(float(held[0] + held[-1] + 1) / 2 / side)
    box = tuple(slices)
    return Cutout(np.ascontiguousarray(pixels[box]), part[box].copy(), value, (middles[0], middles[1]))


def _parts(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Connected parts (corners too): the greatest number of each part spreads over it."""
    region = torch.from_numpy(np.ascontiguousarray(mask))[None, None]
    numbers = (
        torch.arange(1.0, region.numel() + 1, dtype=torch.float64, device=region.device).reshape(region.shape) * region
    )
    while True:
        spread = F.max_pool2d(numbers, 3, 1, 1) * region
        if torch.equal(spread, numbers):
            break
        numbers = spread
    for number in numbers.unique():
        if number > 0:
            yield (numbers == number)[0, 0].numpy()


@dataclass(frozen=True)
class PasteSettings:
    """What every adapter lets its user choose about a paste, under the same names."""

    where: Where = "anywhere"  # near: about where the object lay in its own image
    allowed: int | None = None  # the mask's value of places where objects may lie; None: everywhere
    zoom: tuple[float, float] = (0.8, 1.25)  # sizes of the object, of its own
    mirror: bool = True  # whether it may be mirrored
    light: float = 0.5  # share of the difference in brightness and colour between its old and new surroundings
    edge_px: float = 2.0  # how far along its edge the pyramid redraws; 0: plain copy-paste

    def __post_init__(self) -> None:
        if self.where not in get_args(Where):
            raise ConfigError(f"expected where to be 'anywhere' or 'near', got {self.where!r}")
        if len(self.zoom) != 2 or not 0 < self.zoom[0] <= self.zoom[1]:
            raise ConfigError(f"expected zoom as (least, most), both above 0, got {self.zoom!r}")
        if not 0 <= self.light <= 1 or not 0 <= self.edge_px <= 64:
            raise ConfigError(f"expected light in 0..1 and edge_px in 0..64, got {self.light!r}, {self.edge_px!r}")


@dataclass(frozen=True, eq=False)
class Pasted:
    """An image into which an object was pasted."""

    image: Tensor  # [C, H, W] in [0, 1]
    naive: Tensor  # the same without a redrawn edge, and without a change of light
    mask: Tensor  # bool [H, W]: the object
    value: int  # of its pixels in a mask of classes, and its label


class PasteSource(VariantSource):
    """Finds the pyramid of an image and pastes one of the objects into it. Never fits."""

    def __init__(self, settings: Settings, objects: Sequence[Cutout], choice: PasteSettings) -> None:
        if not objects or not all(isinstance(each, Cutout) for each in objects):
            raise ConfigError("expected objects, at least one, as cut_out(image, mask) gives them")
        super().__init__(settings)
        self.objects, self.choice = list(objects), choice
        self._counts = Counts((DRAWN, LEFT, MISSED, NO_ROOM))

    def paste(
        self,
        image: Any,  # anything `images.to_pixels` takes, of 1 or 3 channels
        seed: int,
        *,
        classes: NDArray[Any] | None = None,  # [H, W]: where `allowed` is looked up
        sample_key: str | None = None,
    ) -> Pasted | None:
        """A pure function of the image, the seed and the mask. None where the image stays as it is.

        Raises as `variant` does, `LabelError` where `allowed` has no mask to be looked up in.
        """
        pixels = to_pixels(image)
        if pixels.shape[-1] not in (1, 3):
            raise ImageError(f"expected an image of 1 or 3 channels to paste into, got {pixels.shape[-1]}")
        if self.choice.allowed is not None and classes is None:
            raise LabelError(f"expected a mask of classes, to find the value {self.choice.allowed} (allowed), got none")
        relation = self._finder.find(pixels, sample_key)
        if relation is None:
            self._missed(pixels, sample_key)
            return None
        if not relation.is_whole:
            raise LabelError("expected a whole image to paste into, got a crop of it: put SinGANPaste before the crop")
        seed = self._seed_of_draw(seed, None, relation.key)
        if derive_seed(seed, "p") >= self.settings.p * SEEDS:
            self._counts.add(LEFT)
            return None
        rng = np.random.default_rng(derive_seed(seed, "paste"))
        allowed = (
            np.ones(pixels.shape[:2], bool)
            if classes is None or self.choice.allowed is None
            else classes == self.choice.allowed
        )
        placed = _placed(self.objects[rng.integers(len(self.objects))], allowed, self.choice, rng)
        if placed is None:
            self._counts.add(NO_ROOM)
            return None
        cutout, top, left = placed
        unit = pixels_to_unit(pixels)
        naive, mask = _composite(unit, cutout, top, left)
        lit = torch.where(mask, naive + self.choice.light * _light(unit, cutout, top, left), naive).clamp(0, 1)
        pyramid, manifest = self._store.load(relation.key), self._store.manifest(relation.key)
        codes = relation.match.turn_code, manifest.turn_code
        turned = resize(turn_between(lit, *codes)[None], pyramid.size) * 2 - 1
        turned_mask = resize(turn_between(mask[None].float(), *codes)[None], pyramid.size, "bilinear")[0, 0] >= 0.5
        edge_px = self.choice.edge_px * pyramid.size[0] / turn_between(mask[None], *codes).shape[-2]
        start = self._start_scale_of(seed, len(pyramid))
        redrawn = redraw_edge(pyramid, turned.contiguous(), turned_mask, start, edge_px, seed)
        change = turn_between((redrawn - turned)[0] / 2, codes[1], codes[0])[None]
        self._counts.add(DRAWN)
        return Pasted((lit + resize(change, (lit.shape[1], lit.shape[2]))[0]).clamp(0, 1), naive, mask, cutout.value)


def _placed(
    cutout: Cutout, allowed: NDArray[np.bool_], choice: PasteSettings, rng: np.random.Generator
) -> tuple[Cutout, int, int] | None:
    """The object at some size, perhaps mirrored, and its top and left; None where it finds no place."""
    sides, own = allowed.shape, cutout.mask.shape
    zoom = min(rng.uniform(*choice.zoom), *(LARGEST * side / length for side, length in zip(sides, own, strict=True)))
    size = (max(1, round(own[0] * zoom)), max(1, round(own[1] * zoom)))
    made = _resized(cutout, size)
    if choice.mirror and rng.random() < 0.5:
        made = Cutout(np.ascontiguousarray(made.pixels[:, ::-1]), made.mask[:, ::-1].copy(), made.value, made.centre)
    if not made.mask.any():
        return None
    for _ in range(TRIES):
        corner = []
        for side, length, centre in zip(sides, size, cutout.centre, strict=True):
            at = (
                rng.normal(centre, NEAR) * side - length / 2
                if choice.where == "near"
                else rng.uniform(0, side - length)
            )
            corner.append(int(np.clip(round(at), 0, side - length)))
        top, left = corner
        if allowed[top : top + size[0], left : left + size[1]][made.mask].all():
            return made, top, left
    return None


def _resized(cutout: Cutout, size: Size) -> Cutout:
    if cutout.mask.shape == size:
        return cutout
    mask = resize_mask(cutout.mask.astype(np.int32), size) > 0
    return Cutout(resize_pixels(cutout.pixels, size), mask, cutout.value, cutout.centre)


def _composite(unit: Tensor, cutout: Cutout, top: int, left: int) -> tuple[Tensor, Tensor]:
    """The image with the object in it, [C, H, W], and where, bool [H, W]."""
    mask = torch.zeros(unit.shape[1:], dtype=torch.bool, device=unit.device)
    height, width = cutout.mask.shape
    mask[top : top + height, left : left + width] = torch.from_numpy(cutout.mask)
    filled = torch.zeros_like(unit)
    filled[:, top : top + height, left : left + width] = _with_channels(cutout, len(unit))
    return torch.where(mask, filled, unit), mask


def _with_channels(cutout: Cutout, channels: int) -> Tensor:
    unit = pixels_to_unit(cutout.pixels)
    if len(unit) == channels:
        return unit
    return to_grey(unit)[:1] if channels == 1 else unit.expand(channels, -1, -1)


def _light(unit: Tensor, cutout: Cutout, top: int, left: int) -> Tensor:
    """[C, 1, 1]: by how much the surroundings are brighter than those the object was cut from; 0 without any."""
    height, width = cutout.mask.shape
    around = ~torch.from_numpy(cutout.mask)
    if not around.any():
        return unit.new_zeros(len(unit), 1, 1)
    here = unit[:, top : top + height, left : left + width][:, around].mean(1)
    return (here - _with_channels(cutout, len(unit))[:, around].mean(1))[:, None, None]
