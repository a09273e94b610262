"""VariantSource: a pure draw from the pyramid that an image belongs to. Every adapter reduces to this."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import context, current_process
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from singan_aug.bank import Bank
from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError, UnchangedWarning
from singan_aug.images import Pixels, pixels_to_unit, to_grey, to_pixels, to_unit_channels, turn_between
from singan_aug.pyramid import Pyramid, reconstruct, trace
from singan_aug.pyramid.copied.displacement import keeps_layout, layout_start_scale
from singan_aug.pyramid.noise import derive_seed
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import DEFAULT_START
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import Manifest, MemoryStore, default_location, open_store
from singan_aug.transforms._counts import Counts
from singan_aug.transforms._finder import Finder, Relation
from singan_aug.transforms._labels import carry_mask, sample_field
from singan_aug.transforms._start_scale import StartScaleRule

__all__ = ["Labels", "OnMiss", "Settings", "Variant", "VariantSource"]

OnMiss = Literal["error", "pass"]
Labels = Literal["refuse", "carry"]

DRAWN, BANKED, LEFT, MISSED = "drawn", "from the bank", "left by p", "no pyramid"
SEEDS = 2**63  # how many a draw can have

_OPENED = ("_store", "_finder", "_bank", "_warned")  # of one process


@dataclass(frozen=True)
class Settings:
    """What every adapter lets its user choose, under the same names."""

    start_scale: Any = None  # as `StartScaleRule` takes it; "fine" where neither it nor a strength is given
    strength: float | None = None  # 0 to 10, in place of a start scale
    store: str | None = None  # folder; the default store for None
    config: FitConfig | None = None  # pyramids of this config alone; the one fitted last for None
    on_miss: OnMiss = "error"
    p: float = 0.5  # how likely an image is replaced
    seed: int | None = None  # fixes every draw, whatever the number of workers
    device: str = "cpu"  # where to draw
    labels: Labels = "refuse"  # what to do where masks, boxes or points ride along and things may move
    bank: bool = True  # take variants from the store's bank where it has any


@dataclass(frozen=True, eq=False)
class Variant:
    """A variant, held as the image is."""

    image: Tensor  # [C, H, W] in [0, 1], or uint8 out of the bank
    keeps_layout: bool  # whether draws from its start scale leave things where they are
    find_field: Callable[[], Tensor] | None = None

    @cached_property
    def field(self) -> Tensor | None:
        """int64 [2, H, W]: row and column in the image that each pixel comes from; None if not known."""
        return self.find_field() if self.find_field else None


class VariantSource:
    """Finds the pyramid of an image and draws from it. Never fits.

    It pickles: what it has loaded stays behind, and each process loads for itself.
    """

    def __init__(self, settings: Settings) -> None:
        _check(settings)
        self.settings = settings
        self.location = str(default_location()) if settings.store is None else settings.store
        by_default = DEFAULT_START if settings.strength is None else None
        chosen = by_default if settings.start_scale is None else settings.start_scale
        self._start_scale = StartScaleRule(chosen, settings.strength)
        self._counts = Counts((DRAWN, BANKED, LEFT, MISSED))
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        self._open()

    def _open(self) -> None:
        self._store = MemoryStore(open_store(self.location), device=self.settings.device)
        self._finder = Finder(self._store, self.settings.config)
        self._bank = Bank(self._store)
        self._warned: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OPENED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def stats(self) -> dict[str, int]:
        """What became of the images in all processes of a loader."""
        return self._counts.total()

    def set_epoch(self, epoch: int) -> None:
        """Tell draws that `seed` fixes which epoch it is, in all processes of a loader."""
        self._epoch.fill_(epoch)

    def scales(self, image: Any, sample_key: str | None = None) -> int:
        """How many scales the pyramid of an image has. Raises `MissingPyramidError`, `ImageError`."""
        pixels = to_pixels(image)
        relation = self._finder.find(pixels, sample_key)
        if relation is None:
            raise MissingPyramidError(self._explain_miss(pixels, sample_key))
        return len(self._store.manifest(relation.key).scale_sizes)

    def variant(
        self,
        image: Any,
        seed: int,
        *,
        index: int | None = None,
        sample_key: str | None = None,
        labelled: bool = False,
    ) -> Variant | None:
        """A variant of one image, with the image's own height, width and orientation.

        Args:
            image: anything `images.to_pixels` takes.
            seed: of the call that the image is part of; where the settings have one, that one counts in its place.
            index: which image of the call it is; None where a call has one only.
            sample_key: a `SampleKey`, or None to find the pyramid by the image's pixels.
            labelled: masks, boxes or points ride along: where each pixel comes from is wanted too.

        None where the image stays as it is: by chance (`p`), or on a miss with on_miss="pass".
        Raises `MissingPyramidError` on a miss otherwise, `LabelError` where labels could not follow, `ImageError`,
        `StartScaleError`, and what `Store.load` raises.
        """
        pixels = to_pixels(image)
        relation = self._finder.find(pixels, sample_key)
        if relation is None:
            self._missed(pixels, sample_key)
            return None
        seed = self._seed_of_draw(seed, index, relation.key)
        if derive_seed(seed, "p") >= self.settings.p * SEEDS:
            self._counts.add(LEFT)
            return None
        variant = None if labelled or not self.settings.bank else self._banked(pixels, relation, seed)
        if variant is not None:
            self._counts.add(BANKED)
            return variant
        _refuse_cuda_in_fork(self.settings.device)
        pyramid, manifest = self._store.load(relation.key), self._store.manifest(relation.key)
        start_scale = self._start_scale_of(seed, len(pyramid))
        if labelled:
            self._refuse_to_falsify(manifest, start_scale, relation)
        with one_thread():
            variant = _drawn(pixels, pyramid, manifest, start_scale, seed, relation, exact=_is_float(image))
        self._counts.add(DRAWN)
        return variant

    def _start_scale_of(self, seed: int, scales: int) -> int:
        return self._start_scale.choose(scales, derive_seed(seed, "start scale"))

    def _banked(self, pixels: Pixels, relation: Relation, seed: int) -> Variant | None:
        """A variant out of the bank, without so much as a look at the pyramid's manifest."""
        scales = self._bank.scales(relation.key)
        if scales is None:
            return None
        found = self._bank.variant(relation.key, self._start_scale_of(seed, scales), seed)
        if found is None:
            return None
        planes = torch.from_numpy(found.pixels).movedim(-1, 0)
        return Variant(_as_held(planes, found.turn_code, relation, pixels), False)

    def _refuse_to_falsify(self, manifest: Manifest, start_scale: int, relation: Relation) -> None:
        if not relation.is_whole:
            raise LabelError(
                f"expected labels beside a whole image, got a crop of {manifest.name or manifest.key}: what moves into "
                "it from outside has no labels; put SinGANAugment before the crop"
            )
        size = manifest.scale_sizes[-1]
        if keeps_layout(manifest.displacement_px, size, start_scale):
            return
        followed = manifest.config.carries_masks
        if followed and (manifest.mask_values or self.settings.labels == "carry"):
            return
        moves = [f"by {px:.1f} px on average" for px in manifest.displacement_px[start_scale : start_scale + 1]]
        kept = layout_start_scale(manifest.displacement_px, size)
        ways = [f"start_scale={kept} or finer, which keeps the layout"] if kept is not None else []
        ways += ["labels='carry', which moves masks with the pixels"] if followed else []
        ways += ["pyramids fitted with the masks (`singan-aug fit --masks`)"]
        raise LabelError(
            f"expected images and class labels, got masks, boxes or keypoints where things move: draws of "
            f"{manifest.name or manifest.key} from start scale {start_scale} move pixels{' '.join(['', *moves])}; "
            f"take {'; or '.join(ways)}"
        )

    def _seed_of_draw(self, seed: int, index: int | None, key: str) -> int:
        if self.settings.seed is not None:
            return derive_seed(self.settings.seed, int(self._epoch), key, index or 0)
        return seed if index is None else derive_seed(seed, index)

    def _missed(self, pixels: Pixels, sample_key: str | None) -> None:
        self._counts.add(MISSED)
        if self.settings.on_miss == "error":
            raise MissingPyramidError(self._explain_miss(pixels, sample_key))
        if MISSED not in self._warned:
            self._warned.add(MISSED)
            why = self._explain_miss(pixels, sample_key)
            warnings.warn(f"SinGANAugment leaves images as they are: {why}", UnchangedWarning, stacklevel=2)

    def _explain_miss(self, pixels: Pixels, sample_key: str | None) -> str:
        height, width, channels = pixels.shape
        named = "" if sample_key is None else f", named {str(sample_key)!r}"
        fitted = "" if self.settings.config is None else " with this config"
        found = f"fingerprint {self._finder.identity(pixels).digest}, {width}x{height}, {channels} channel(s)"
        return (
            f"no pyramid{fitted} for this image ({found}{named}) in the store {self.location}: images are found by "
            "their pixels, so put SinGANAugment first, before whatever changes them; fit the image with "
            f"`singan-aug fit PATH --cache {self.location}`, or pass on_miss='pass' to leave such images as they are"
        )


def _is_float(image: Any) -> bool:
    """Whether an image holds more than 8 bits a value."""
    return getattr(image, "dtype", torch.uint8) not in (torch.uint8, np.uint8)


def _drawn(
    pixels: Pixels,
    pyramid: Pyramid,
    manifest: Manifest,
    start_scale: int,
    seed: int,
    relation: Relation,
    *,
    exact: bool,  # not to 8 bits
) -> Variant:
    """A live draw. An image larger than its pyramid is copied from at its own size, so that the variant is as sharp."""
    traced, own_code = trace(pyramid, start_scale=start_scale, seed=seed), manifest.turn_code
    kept = keeps_layout(pyramid.displacement_px, pyramid.size, start_scale)
    as_drawn = relation.is_whole and sorted(pixels.shape[:2]) == sorted(pyramid.size)
    held = _as_held(traced.images[0] if exact or not as_drawn else traced.levels[0], own_code, relation, pixels)
    if traced.origins is None or not relation.is_whole:
        return Variant(held, kept)
    origins, size = traced.origins[0], (pixels.shape[0], pixels.shape[1])

    def find_field() -> Tensor:
        return sample_field(origins, pyramid.size, size, own_code, relation.match.turn_code)

    if size[0] * size[1] <= pyramid.size[0] * pyramid.size[1]:
        return Variant(held, kept, find_field)
    field = find_field()
    copied = _as_held(carry_mask(reconstruct(pyramid)[0], origins), own_code, relation, pixels)
    blended = held[:3] - copied[:3]  # what blending over seams has changed, which is smooth
    sharp = carry_mask(pixels_to_unit(pixels).to(field.device), field)
    return Variant((sharp[:3] + blended).clamp(0.0, 1.0), kept, lambda: field)


def _as_held(drawn: Tensor, own_code: int, relation: Relation, pixels: Pixels) -> Tensor:
    """[C, h, w], held as the fitted image was, held as the pipeline's image is: turned, cut, resized, recoloured."""
    match = relation.match
    image = turn_between(drawn, own_code, match.turn_code)
    height, width = image.shape[-2:]
    top, left, bottom, right = match.box
    rows = slice(round(top * height), max(round(top * height) + 1, round(bottom * height)))
    columns = slice(round(left * width), max(round(left * width) + 1, round(right * width)))
    image, size = image[..., rows, columns], (pixels.shape[0], pixels.shape[1])
    if image.shape[-2:] != size:
        image = resize(to_unit_channels(image)[None], size, "bicubic")[0].clamp(0.0, 1.0)
    if match.colours == "rgb" or len(image) < 3:
        return image
    if match.colours == "grey":
        return to_grey(to_unit_channels(image)[:3])
    return image[[2, 1, 0, *range(3, len(image))]]


def _check(settings: Settings) -> None:
    if settings.on_miss not in get_args(OnMiss):
        raise ConfigError(f"expected on_miss to be 'error' or 'pass', got {settings.on_miss!r}")
    if settings.labels not in get_args(Labels):
        raise ConfigError(f"expected labels to be 'refuse' or 'carry', got {settings.labels!r}")
    if not isinstance(settings.p, int | float) or not 0 <= settings.p <= 1:
        raise ConfigError(f"expected p in 0..1, got {settings.p!r}")
    if settings.seed is not None and (not isinstance(settings.seed, int) or isinstance(settings.seed, bool)):
        raise ConfigError(f"expected seed to be an int or None, got {settings.seed!r}")
    try:
        torch.device(settings.device)
    except (RuntimeError, TypeError):
        raise ConfigError(f"expected a device such as 'cpu' or 'cuda', got {settings.device!r}") from None


def _refuse_cuda_in_fork(device: str) -> None:
    if device != "cpu" and torch.device(device).type == "cuda" and isinstance(current_process(), context.ForkProcess):
        raise ConfigError(
            f"cannot draw on {device} in a forked worker, where CUDA cannot be used: give the DataLoader "
            "multiprocessing_context='spawn', or draw in the main process, on whole batches after collation"
        )
