"""VariantSource: which pyramid belongs to an image, and a pure draw from it. Every adapter reduces to this."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import context, current_process
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, ImageError, MissingPyramidError, UnchangedWarning
from singan_aug.images import Pixels, load_image, quiet_decoding, to_pixels, turn_between
from singan_aug.pyramid import draw
from singan_aug.pyramid.noise import derive_seed
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import MemoryStore, default_location, fingerprint, open_store
from singan_aug.transforms._start_scale import StartScale
from singan_aug.transforms._tally import Tally

__all__ = ["OnMiss", "Settings", "VariantSource"]

OnMiss = Literal["error", "pass"]

DRAWN, LEFT, MISSED = "drawn", "left by p", "no pyramid"
SEEDS = 2**63  # how many a draw can have

_KEY = re.compile(r"[0-9a-f]{32}(-[0-9a-f]{16})?")


@dataclass(frozen=True)
class Settings:
    """What every adapter lets its user choose, under the same names."""

    start_scale: Any = None  # as `StartScale` takes it; "medium" where neither it nor a strength is given
    strength: float | None = None  # 0 to 10, in place of a start scale
    store: str | None = None  # folder; the default store for None
    config: FitConfig | None = None  # pyramids of this config alone; the one fitted last for None
    on_miss: OnMiss = "error"
    p: float = 1.0  # how likely an image is replaced
    seed: int | None = None  # fixes every draw, whatever the number of workers
    device: str = "cpu"  # where to draw


@dataclass(frozen=True)
class Relation:
    """The pyramid that an image belongs to, and how the image is held."""

    key: str
    turn_code: int  # images.turn(image, turn_code) is the orientation that was fingerprinted


class VariantSource:
    """Finds the pyramid of an image and draws from it. Never fits.

    It pickles: what it has loaded stays behind, and each process loads for itself.
    """

    def __init__(self, settings: Settings) -> None:
        _check(settings)
        self.settings = settings
        self.location = str(default_location()) if settings.store is None else settings.store
        by_default = "medium" if settings.strength is None else None
        chosen = by_default if settings.start_scale is None else settings.start_scale
        self._start_scale = StartScale(chosen, settings.strength)
        self._tally = Tally((DRAWN, LEFT, MISSED))
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        self._open()

    def _open(self) -> None:
        self._store = MemoryStore(open_store(self.location), device=self.settings.device)
        self._warned: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_store", "_warned")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def stats(self) -> dict[str, int]:
        """What became of the images in all processes of a loader: how many were drawn, left by p, had no pyramid."""
        return self._tally.total()

    def set_epoch(self, epoch: int) -> None:
        """Tell draws that `seed` fixes which epoch it is, in all processes of a loader."""
        self._epoch.fill_(epoch)

    def scales(self, image: Any, sample_key: str | None = None) -> int:
        """How many scales the pyramid of an image has. Raises `MissingPyramidError`, `ImageError`."""
        pixels = to_pixels(image)
        relation = self._relate(pixels, sample_key)
        if relation is None:
            raise MissingPyramidError(self._explain_miss(pixels, sample_key))
        return len(self._store.manifest(relation.key).scale_sizes)

    @one_thread()
    def variant(
        self, image: Any, seed: int, *, index: int | None = None, sample_key: str | None = None
    ) -> Tensor | None:
        """A variant of one image, [C, H, W] in [0, 1], with the image's own height, width and orientation.

        Args:
            image: anything `images.to_pixels` takes.
            seed: of the call that the image is part of; where the settings have one, that one counts in its place.
            index: which image of the call it is; None where a call has one only.
            sample_key: a `SampleKey`, or None to find the pyramid by the image's pixels.

        None where the image stays as it is: by chance (`p`), or on a miss with on_miss="pass".
        Raises `MissingPyramidError` on a miss otherwise, `ImageError`, `StartScaleError`, and what `Store.load` raises.
        """
        pixels = to_pixels(image)
        relation = self._relate(pixels, sample_key)
        if relation is None:
            self._missed(pixels, sample_key)
            return None
        seed = self._seed_of_draw(seed, index, relation.key)
        if derive_seed(seed, "p") >= self.settings.p * SEEDS:
            self._tally.add(LEFT)
            return None
        _refuse_cuda_in_fork(self.settings.device)
        pyramid, manifest = self._store.load(relation.key), self._store.manifest(relation.key)
        start_scale = self._start_scale.choose(len(pyramid), derive_seed(seed, "start scale"))
        drawn = draw(pyramid, start_scale=start_scale, seed=seed)
        self._tally.add(DRAWN)
        turned = turn_between(drawn, manifest.turn_code, relation.turn_code)
        return resize(turned, (pixels.shape[0], pixels.shape[1]), pyramid.config.resample)[0].clamp(0.0, 1.0)

    def _seed_of_draw(self, seed: int, index: int | None, key: str) -> int:
        if self.settings.seed is not None:
            return derive_seed(self.settings.seed, int(self._epoch), key, index or 0)
        return seed if index is None else derive_seed(seed, index)

    def _relate(self, pixels: Pixels, sample_key: str | None) -> Relation | None:
        identity = fingerprint(pixels)
        if sample_key is None or _digest_of(sample_key) == identity.digest:
            key = self._store.latest(identity.digest, self.settings.config)
            if sample_key is not None and sample_key in self._store:
                key = str(sample_key)
            return None if key is None else Relation(key, identity.turn_code)
        return None

    def _missed(self, pixels: Pixels, sample_key: str | None) -> None:
        self._tally.add(MISSED)
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
        found = f"fingerprint {fingerprint(pixels).digest}, {width}x{height}, {channels} channel(s)"
        return (
            f"no pyramid{fitted} for this image ({found}{named}) in the store {self.location}: images are found by "
            "their pixels, so put SinGANAugment first, before any resize or crop; fit the image with "
            f"`singan-aug fit PATH --cache {self.location}`, or pass on_miss='pass' to leave such images as they are"
        )


def _digest_of(sample_key: str) -> str | None:
    """The fingerprint that a `SampleKey` names; None for a file that is none."""
    if _KEY.fullmatch(sample_key):
        return sample_key[:32]
    with suppress(OSError, ImageError):
        written = Path(sample_key).stat()
        return _digest_of_file(str(sample_key), written.st_mtime_ns, written.st_size)
    return None


@lru_cache(maxsize=100_000)
def _digest_of_file(path: str, *written: int) -> str:
    del written  # tells a file that was replaced from the one before
    with quiet_decoding():
        return fingerprint(load_image(path).pixels).digest


def _check(settings: Settings) -> None:
    if settings.on_miss not in get_args(OnMiss):
        raise ConfigError(f"expected on_miss to be 'error' or 'pass', got {settings.on_miss!r}")
    if not isinstance(settings.p, int | float) or not 0 <= settings.p <= 1:
        raise ConfigError(f"expected p in 0..1, got {settings.p!r}")
    if settings.seed is not None and (not isinstance(settings.seed, int) or isinstance(settings.seed, bool)):
        raise ConfigError(f"expected seed to be an int or None, got {settings.seed!r}")
    try:
        torch.device(settings.device)
    except (RuntimeError, TypeError):
        raise ConfigError(f"expected a device such as 'cpu' or 'cuda', got {settings.device!r}") from None


def _refuse_cuda_in_fork(device: str) -> None:
    if torch.device(device).type == "cuda" and isinstance(current_process(), context.ForkProcess):
        raise ConfigError(
            f"cannot draw on {device} in a forked worker, where CUDA cannot be used: give the DataLoader "
            "multiprocessing_context='spawn', or draw in the main process, on whole batches after collation"
        )
