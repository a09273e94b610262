"""fit(): from one image and a config to a pyramid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from singan_aug._version import __version__
from singan_aug.config import FitConfig, fast
from singan_aug.errors import FitDivergedError, ImageError

# Imported for their registration in FITTERS.
from singan_aug.fitting import convolutional as convolutional
from singan_aug.fitting import patches as patches
from singan_aug.fitting.fitter import FITTERS, FitEvent, fit_work
from singan_aug.images import refuse_constant, resize_pixels, to_pixels, to_signed
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scales import working_size
from singan_aug.pyramid.threads import one_thread

__all__ = ["fit", "fit_batch"]

ATTEMPTS = 2  # a fit that diverges is tried once more, from another seed


def fit(
    image: Any,
    config: FitConfig | None = None,
    *,
    on_event: Callable[[FitEvent], None] | None = None,
    device: torch.device | str = "cpu",
) -> Pyramid:
    """Fit a pyramid to one image.

    The result depends on (image, config) alone, the seed being part of the config: not on the global generators, not
    on how many fits run beside this one. A fit on the CPU uses one thread.

    Args:
        image: PIL image, uint8 array [H, W] or [H, W, C], or tensor [C, H, W] (uint8, or float in [0, 1]);
            C is 1 (grey), 3 (RGB) or 4 (RGB and a mask). Shrunk to `config.finest_px` on its long side.
        config: how; the `fast` preset by default.
        on_event: called every few steps with a `FitEvent`.
        device: where to fit; the pyramid is returned on the CPU.

    Raises:
        ImageError: not an image, too small, too elongated, or constant.
        ConfigError: the config names a part that is not registered, or its networks are too deep for its sizes.
        FitDivergedError: training went non-finite or collapsed, and again from another seed.
    """
    config = config or fast()
    with one_thread():
        return _fitted(_signed(image, config), config, device, on_event or (lambda _: None))().to("cpu")


def fit_batch(
    images: Sequence[Any],
    config: FitConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    batch_images: int = 16,
    on_event: Callable[[int, FitEvent], None] | None = None,
) -> list[Pyramid | ImageError | FitDivergedError]:
    """Fit a pyramid to each of many images on one device; each is what `fit` gives.

    Of `batch_images` images at a time, one after the other is decoded and its work queued, and only then are results
    waited for: a GPU has the next image's work while the last one's is under way, and holds that many pyramids at once.

    Args:
        images: anything that `fit` takes, of any sizes; a sequence that loads what is indexed keeps memory bounded.
        config: how; the `fast` preset by default.
        device: where to fit; the pyramids are returned on the CPU.
        batch_images: how many at once, at least 1.
        on_event: called every few steps with the place of an image and a `FitEvent`.

    Returns:
        For each image its pyramid, or the `ImageError` or `FitDivergedError` why there is none: one image that cannot
        be fitted does not stop the others.

    Raises:
        ConfigError: as `fit` does.
        ValueError: `batch_images` is not positive.
    """
    if batch_images < 1:
        raise ValueError(f"expected batch_images of at least 1, got {batch_images}")
    config = config or fast()
    notify = on_event or (lambda _place, _event: None)
    results: list[Pyramid | ImageError | FitDivergedError] = []
    with one_thread():
        for first in range(0, len(images), batch_images):
            places = range(first, min(first + batch_images, len(images)))
            results += _fit_together(images, places, config, device, notify)
    return results


def _fit_together(
    images: Sequence[Any],
    places: range,
    config: FitConfig,
    device: torch.device | str,
    notify: Callable[[int, FitEvent], None],
) -> list[Pyramid | ImageError | FitDivergedError]:
    queued: list[Callable[[], Pyramid] | ImageError | FitDivergedError] = []
    for place in places:
        try:
            if isinstance(images[place], ImageError):  # of whoever decoded
                raise images[place]
            real = _signed(images[place], config)
            queued.append(_fitted(real, config, device, partial(notify, place)))
        except (ImageError, FitDivergedError) as error:
            queued.append(error)
    return [finish if isinstance(finish, Exception) else finish().to("cpu") for finish in queued]


def _signed(image: Any, config: FitConfig) -> Tensor:
    """[1, C, H, W] in [-1, 1] at the working size."""
    pixels = to_pixels(image)
    size = working_size((pixels.shape[0], pixels.shape[1]), config)
    refuse_constant(pixels)
    return to_signed(resize_pixels(pixels, size))


def _fitted(
    real: Tensor, config: FitConfig, device: torch.device | str, on_event: Callable[[FitEvent], None]
) -> Callable[[], Pyramid]:
    """What `_fit_once` gives, from another seed where the first one's training diverged."""
    for attempt in range(ATTEMPTS):
        try:
            return _fit_once(real.to(device, non_blocking=True), config, attempt, on_event)
        except FitDivergedError:
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _fit_once(
    real: Tensor, config: FitConfig, attempt: int, on_event: Callable[[FitEvent], None]
) -> Callable[[], Pyramid]:
    """A function that waits for the pyramid, on the device; its work is queued there."""
    started_sec = time.process_time()
    work = fit_work((real.shape[2], real.shape[3]), real.shape[1], config)
    total = sum(scale.load for scale in work)

    def report(k: int, step: int, losses: Mapping[str, float]) -> None:
        done = sum(scale.load for scale in work[:k]) + work[k].load * step / work[k].steps
        on_event(FitEvent(k, len(work), step, work[k].steps, attempt, done / total, losses))

    scales = FITTERS[config.kind].fit(real, config, attempt, report)
    with torch.no_grad():
        remembered = [scale.reconstruct(config) - resize(real, scale.size, config.resample) for scale in scales]
    spent_sec = time.process_time() - started_sec

    def finish() -> Pyramid:
        errors = [float(error.square().mean().sqrt()) / 2 for error in remembered]
        provenance = {
            "package": __version__,
            "torch": torch.__version__,
            "device": real.device.type,
            "attempt": attempt,
            "process_sec": round(spent_sec, 3),
            "reconstruction_rmse": [round(error, 5) for error in errors],  # of the range, coarsest scale first
        }
        return Pyramid(config.portable(), real.shape[1], scales, provenance)

    return finish
