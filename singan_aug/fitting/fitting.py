"""fit(): from one image and a config to a pyramid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from singan_aug._version import __version__
from singan_aug.config import FitConfig, fast
from singan_aug.errors import ConfigError, FitDivergedError, ImageError

# Imported for their registration in FITTERS.
from singan_aug.fitting import convolutional as convolutional
from singan_aug.fitting import patches as patches
from singan_aug.fitting.fitter import FITTERS, FitEvent, fit_work
from singan_aug.images import Mask, image_and_mask, refuse_constant, resize_mask, resize_pixels, to_signed
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.displacement import measure_displacement
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scales import Size, working_size
from singan_aug.pyramid.threads import one_thread

__all__ = ["fit"]

MASK_VALUES = 256  # that one byte a pixel can tell apart
ATTEMPTS = 2  # a fit that diverges is tried once more, from another seed


def fit(
    image: Any,
    config: FitConfig | None = None,
    *,
    mask: Any = None,
    on_event: Callable[[FitEvent], None] | None = None,
    device: torch.device | str = "cpu",
) -> Pyramid:
    """Fit a pyramid to one image, and to the mask that rides along.

    The result depends on (image, config, mask) alone, the seed being part of the config: not on global generators, not
    on how many fits run beside this one. A fit on the CPU uses one thread.

    Args:
        image: PIL image, uint8 array [H, W] or [H, W, C], or tensor [C, H, W] (uint8, or float in [0, 1]);
            C is 1 (grey), 3 (RGB) or 4 (RGB and a mask). Shrunk to `config.finest_px` on its long side.
        config: how; the `fast` preset by default.
        mask: of classes or instances: an integer array or tensor [H, W] of the image's size, or a PIL image of mode
            "L", "P" or "1"; at most 256 different values, of which one may mean "void". It is carried with the pixels
            and does not change a draw's image. Shrunk by nearest neighbour, so its values stay what they are.
        on_event: called every few steps with a `FitEvent`.
        device: where to fit; the pyramid is returned on the CPU.

    Raises:
        ImageError: not an image, too small, too elongated, or constant; not a mask of that image.
        ConfigError: the config names a part that is not registered, its networks are too deep for its sizes, or its
            kind of pyramid generates pixels and cannot carry a mask.
        FitDivergedError: training went non-finite or collapsed, and again from another seed.
    """
    config = config or fast()
    pixels, classes = image_and_mask(image, mask)
    size = working_size((pixels.shape[0], pixels.shape[1]), config)
    refuse_constant(pixels)
    real = to_signed(resize_pixels(pixels, size))
    levels, values = (None, ()) if classes is None else _indexed(classes, size, config)
    with one_thread():
        for attempt in range(ATTEMPTS):
            try:
                pyramid = _fit_once(real.to(device), config, attempt, on_event or (lambda _: None))
                return replace(pyramid, mask=levels, mask_values=values)
            except FitDivergedError:
                if attempt + 1 == ATTEMPTS:
                    raise
    raise AssertionError("unreachable")


def _indexed(mask: Mask, size: Size, config: FitConfig) -> tuple[Tensor, tuple[int, ...]]:
    """The mask at another size as uint8 indices into its values, and these, ascending."""
    if not config.carries_masks:
        raise ConfigError(
            f'expected kind="patches" for an image with a mask, got {config.kind!r}, which generates pixels: a mask '
            "can only follow pixels that are copied; use the preset fast(), or leave the mask (or alpha channel) out"
        )
    values = np.unique(mask)
    if len(values) > MASK_VALUES:
        raise ImageError(f"expected a mask of at most {MASK_VALUES} different values, got {len(values)}")
    levels = np.searchsorted(values, resize_mask(mask, size)).astype(np.uint8)
    return torch.from_numpy(levels), tuple(values.tolist())


def _fit_once(real: Tensor, config: FitConfig, attempt: int, on_event: Callable[[FitEvent], None]) -> Pyramid:
    started_sec = time.process_time()
    work = fit_work((real.shape[2], real.shape[3]), real.shape[1], config)
    total = sum(scale.load for scale in work)

    def report(k: int, step: int, losses: Mapping[str, float]) -> None:
        done = sum(scale.load for scale in work[:k]) + work[k].load * step / work[k].steps
        on_event(FitEvent(k, len(work), step, work[k].steps, attempt, done / total, losses))

    scales = FITTERS[config.kind].fit(real, config, attempt, report)
    with torch.no_grad():
        remembered = [scale.reconstruct(config) - resize(real, scale.size, config.resample) for scale in scales]
        displacement_px = measure_displacement(scales, config)
    return (
        Pyramid(config, real.shape[1], scales, displacement_px=displacement_px)
        .to("cpu")
        .with_provenance(
            {
                "package": __version__,
                "torch": torch.__version__,
                "device": real.device.type,
                "attempt": attempt,
                "process_sec": round(time.process_time() - started_sec, 3),
                # Of the range, coarsest scale first.
                "reconstruction_rmse": [round(float(error.square().mean().sqrt()) / 2, 5) for error in remembered],
            }
        )
    )
