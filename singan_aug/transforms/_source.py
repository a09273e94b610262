"""VariantSource: a pure draw from the pyramid that an image belongs to. Every adapter reduces to this."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing import context, current_process
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from singan_aug._checks import check_config, check_device, check_seed
from singan_aug.bank import Bank
from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError, UnchangedWarning
from singan_aug.images import Pixels, to_pixels
from singan_aug.pyramid.confine import MARGIN_PX, Confine, Confinement
from singan_aug.pyramid.copied.displacement import keeps_layout, layout_start_scale
from singan_aug.pyramid.noise import derive_seed
from singan_aug.pyramid.sizes import DEFAULT_START
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import MemoryStore, open_store
from singan_aug.transforms._counts import Counts
from singan_aug.transforms._finder import Finder, Relation
from singan_aug.transforms._miss import explain_miss
from singan_aug.transforms._start_scale import StartScaleRule
from singan_aug.transforms._variant import Variant, as_held, drawn, drawn_confined, object_in

__all__ = ["Labels", "OnMiss", "Settings", "VariantSource"]

OnMiss = Literal["error", "pass"]
Labels = Literal["refuse", "carry"]

DRAWN, BANKED, LEFT, MISSED = "drawn", "from the bank", "left by p", "no pyramid"
NOTHING = "nothing to change"  # with `confine` alone
SEEDS = 2**63  # how many a draw can have
LOOKUPS = 8  # of one image, while other processes remove what is found

_OPENED = ("_store", "_finder", "_bank", "_warned")  # of one process


@dataclass(frozen=True)
class Settings:
    """What every adapter lets its user choose, under the same names."""

    start_scale: Any = None  # as `StartScaleRule` takes it; "fine" where neither it nor a strength is given
    strength: float | None = None  # 0 to 10, in place of a start scale
    store: str | os.PathLike[str] | None = None  # folder; the default store for None
    config: FitConfig | None = None  # pyramids of this config alone; the one fitted last for None
    on_miss: OnMiss = "error"
    p: float = 0.5  # how likely an image is replaced
    seed: int | None = None  # fixes every draw, whatever the number of workers
    device: str = "cpu"  # where to draw
    labels: Labels = "refuse"  # what to do where masks, boxes or points ride along and things may move
    bank: bool = True  # take variants from the store's bank where it has any
    confine: Confine | None = None  # "mask": the object alone changes; "background": all but the object
    confine_margin_px: float = MARGIN_PX  # around the object, over which the displacement falls to nothing


class VariantSource:
    """Finds the pyramid of an image and draws from it. Never fits.

    It pickles: what it has loaded stays behind, and each process loads for itself.
    """

    def __init__(self, settings: Settings) -> None:
        _check(settings)
        self.settings = settings
        self.location = open_store(settings.store).location  # absolute: copies of it may wake up in another folder
        by_default = DEFAULT_START if settings.strength is None else None
        chosen = by_default if settings.start_scale is None else settings.start_scale
        self._start_scale = StartScaleRule(chosen, settings.strength)
        self._confinement = Confinement.of(settings.confine, settings.confine_margin_px)
        self._counts = Counts((DRAWN, BANKED, LEFT, MISSED, *([NOTHING] if self._confinement else [])))
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

    def described(self) -> str:
        """The arguments that were given, and where the store is."""
        shown = {field.name: getattr(self.settings, field.name) for field in fields(Settings) if field.name != "config"}
        shown = {name: value for name, value in shown.items() if value != getattr(Settings, name)}
        shown["store"] = self.location
        if self.settings.config is not None:
            shown["config_digest"] = self.settings.config.digest()
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def stats(self) -> dict[str, int]:
        """What became of the images in all processes of a loader."""
        return self._counts.total()

    def set_epoch(self, epoch: int) -> None:
        """Tell draws that `seed` fixes which epoch it is, in all processes of a loader."""
        self._counts.epoch = epoch

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
        live: bool = False,
        region: Tensor | None = None,
    ) -> Variant | None:
        """A variant of one image, with the image's own height, width and orientation.

        Args:
            image: anything `images.to_pixels` takes.
            seed: of the call that the image is part of; where the settings have one, that one counts in its place.
            index: which image of the call it is; None where a call has one only.
            sample_key: a `SampleKey`, or None to find the pyramid by the image's pixels.
            labelled: masks, boxes or points ride along: what could not follow is refused before anything is drawn.
            live: draw it, even where the bank has one.
            region: bool [H, W], where the object is that `confine` means; by default where the mask is above 0 that the
                pyramid was fitted with.

        None where the image stays as it is: by chance (`p`), on a miss with on_miss="pass", or where `confine` leaves
        nothing to change.
        Raises `MissingPyramidError` on a miss otherwise, `LabelError` where labels could not follow, `ImageError`,
        `StartScaleError`, and what `Store.load` raises.
        """
        pixels = to_pixels(image)
        for _ in range(LOOKUPS):  # another process may remove a pyramid between look-up and load
            with suppress(MissingPyramidError):
                relation = self._finder.find(pixels, sample_key)
                if relation is None:
                    break
                drawn_seed = self._seed_of_draw(seed, index, relation.key)
                if derive_seed(drawn_seed, "p") >= self.settings.p * SEEDS:
                    self._counts.add(LEFT)
                    return None
                from_bank = not (labelled or live or region is not None) and self.settings.bank
                banked = self._banked(pixels, relation, drawn_seed) if from_bank else None
                variant = banked or self._drawn(image, pixels, relation, drawn_seed, region, labelled=labelled)
                self._counts.add(BANKED if banked else NOTHING if variant is None else DRAWN)
                return variant
        self._missed(pixels, sample_key)
        return None

    def knows(self, image: Any, sample_key: str | None = None) -> bool:
        """Whether there is a pyramid of an image."""
        return self._finder.find(to_pixels(image), sample_key) is not None

    def _drawn(
        self, image: Any, pixels: Pixels, relation: Relation, seed: int, region: Tensor | None, *, labelled: bool
    ) -> Variant | None:
        _refuse_cuda_in_fork(self.settings.device)
        pyramid, manifest = self._store.load(relation.key), self._store.manifest(relation.key)
        start_scale = self._start_scale_of(seed, len(pyramid))
        if labelled:
            self._refuse_to_falsify(relation, start_scale)
        if self._confinement is not None:
            return self._confined(pixels, relation, start_scale, seed, region)
        with one_thread():
            held, field = drawn(pixels, pyramid, manifest, start_scale, seed, relation, exact=_is_float(image))
        return self._variant(held, relation, start_scale, field)

    def _confined(
        self, pixels: Pixels, relation: Relation, start_scale: int, seed: int, region: Tensor | None
    ) -> Variant | None:
        """A draw that is confined; None where nothing could change."""
        how, pyramid, manifest = self._confinement, self._store.load(relation.key), self._store.manifest(relation.key)
        assert how is not None
        if not relation.is_whole:
            raise LabelError(
                f"expected a whole image to confine a draw in, got a crop of {manifest.name or manifest.key}: put "
                "SinGANAugment before the crop"
            )
        if region is None:
            region = object_in(pixels, pyramid, manifest, relation)
        if how.leaves_all(region):
            return None
        with one_thread():
            made = drawn_confined(pixels, pyramid, manifest, start_scale, seed, relation, region, how)
        return self._variant(made.image, relation, start_scale, lambda: made.field, made.stays)

    def _variant(
        self,
        held: Tensor,
        relation: Relation,
        start_scale: int,
        find_field: Callable[[], Tensor | None],
        stays: Tensor | None = None,
    ) -> Variant:
        def find_keeps_layout() -> bool:
            manifest = self._store.manifest(relation.key)
            return keeps_layout(manifest.displacement_px, manifest.scale_sizes[-1], start_scale)

        return Variant(
            held, find_keeps_layout, find_field, lambda: self._refuse_to_falsify(relation, start_scale), stays
        )

    def _start_scale_of(self, seed: int, scales: int) -> int:
        return self._start_scale.choose(scales, derive_seed(seed, "start scale"))

    def _banked(self, pixels: Pixels, relation: Relation, seed: int) -> Variant | None:
        """A variant out of the bank, without so much as a look at the pyramid's manifest."""
        scales = self._bank.scales(relation.key)
        if scales is None or self._bank.confinement != self._confinement:
            return None
        start_scale = self._start_scale_of(seed, scales)
        found = self._bank.variant(relation.key, start_scale, seed)
        if found is None or (self._confinement and not self._is_its_own(pixels, relation, found.pixels)):
            return None
        planes = torch.from_numpy(found.pixels).movedim(-1, 0)
        held = as_held(planes, found.turn_code, relation, pixels)

        def find_field() -> Tensor | None:  # by drawing it once more
            if self._confinement is not None:
                again = self._confined(pixels, relation, start_scale, found.seed, None)
                return None if again is None else again.field
            pyramid, manifest = self._store.load(relation.key), self._store.manifest(relation.key)
            return drawn(pixels, pyramid, manifest, start_scale, found.seed, relation, exact=False)[1]()

        return self._variant(held, relation, start_scale, find_field)

    def _is_its_own(self, pixels: Pixels, relation: Relation, variant: Pixels) -> bool:
        """Whether an image is the very one that was fitted: what stays in a variant is then the image's to the bit."""
        same_size = sorted(pixels.shape[:2]) == sorted(variant.shape[:2])
        return same_size and self._finder.identity(pixels).digest == relation.match.fingerprint

    def _refuse_to_falsify(self, relation: Relation, start_scale: int) -> None:
        manifest = self._store.manifest(relation.key)
        if not relation.is_whole:
            raise LabelError(
                f"expected labels beside a whole image, got a crop of {manifest.name or manifest.key}: what moves into "
                "it from outside has no labels; put SinGANAugment before the crop"
            )
        size = manifest.scale_sizes[-1]
        if keeps_layout(manifest.displacement_px, size, start_scale):
            return
        followed = manifest.config.carries_masks
        if followed and (manifest.mask_values or self.settings.labels == "carry" or self.settings.confine):
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
            return derive_seed(self.settings.seed, self._counts.epoch, key, index or 0)
        return seed if index is None else derive_seed(seed, index)

    def _missed(self, pixels: Pixels, sample_key: str | None) -> None:
        self._counts.add(MISSED)
        if self.settings.on_miss == "error":
            raise MissingPyramidError(self._explain_miss(pixels, sample_key))
        self.warn_once("no pyramid", lambda: self._explain_miss(pixels, sample_key))

    def warn_once(self, cause: str, message: Callable[[], str]) -> None:
        """Say, once for each cause, that images stay as they are."""
        if cause not in self._warned:
            self._warned.add(cause)
            warnings.warn(f"SinGANAugment leaves images as they are: {message()}", UnchangedWarning, stacklevel=2)

    def _explain_miss(self, pixels: Pixels, sample_key: str | None) -> str:
        digest, any_config = self._finder.identity(pixels).digest, self.settings.config is None
        return explain_miss(pixels, digest, self.location, sample_key=sample_key, any_config=any_config)


def _is_float(image: Any) -> bool:
    """Whether an image holds more than 8 bits a value."""
    return getattr(image, "dtype", torch.uint8) not in (torch.uint8, np.uint8)


def _check(settings: Settings) -> None:
    if settings.on_miss not in get_args(OnMiss):
        raise ConfigError(f"expected on_miss to be 'error' or 'pass', got {settings.on_miss!r}")
    if settings.labels not in get_args(Labels):
        raise ConfigError(f"expected labels to be 'refuse' or 'carry', got {settings.labels!r}")
    if not isinstance(settings.p, int | float) or not 0 <= settings.p <= 1:
        raise ConfigError(f"expected p in 0..1, got {settings.p!r}")
    if settings.seed is not None:
        check_seed(settings.seed)
    if not isinstance(settings.bank, bool):
        raise ConfigError(f"expected bank to be True or False, got {settings.bank!r}")
    if settings.config is not None:
        check_config(settings.config)
    check_device(settings.device)


def _refuse_cuda_in_fork(device: str) -> None:
    if device != "cpu" and torch.device(device).type == "cuda" and isinstance(current_process(), context.ForkProcess):
        raise ConfigError(
            f"cannot draw on {device} in a forked worker, where CUDA cannot be used: give the DataLoader "
            "multiprocessing_context='spawn', or draw in the main process, on whole batches after collation"
        )
