"""fit(): from one image and a config to a pyramid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from singan_aug._checks import check_config, check_device
from singan_aug._version import __version__
from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, FitDivergedError, ImageError
from singan_aug.fitting.checkpoint import Checkpoint, UnfitStateError, identity_of
from singan_aug.fitting.copied import copied_work, fit_copied
from singan_aug.fitting.events import FitEvent, Report, ScaleWork
from singan_aug.fitting.generated.fitter import fit_generated, generated_work
from singan_aug.fitting.visible import visible_px
from singan_aug.images import Mask, image_and_mask, refuse_constant, resize_mask, resize_pixels, to_signed
from singan_aug.presets import fast
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.copied.displacement import measure_displacement
from singan_aug.pyramid.generated.scale import GeneratedScale, with_milder_start
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import Scale
from singan_aug.pyramid.sizes import Size, stack_sizes, working_size
from singan_aug.pyramid.threads import one_thread

__all__ = ["fit", "fit_batch", "fit_load", "fit_work"]

MASK_VALUES = 256  # that one byte a pixel can tell apart
ATTEMPTS = 2  # a fit that diverges is tried once more, from another seed


def fit(
    image: Any,
    config: FitConfig | None = None,
    *,
    mask: Any = None,
    on_event: Callable[[FitEvent], None] | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | str | None = None,
) -> Pyramid:
    """Fit a pyramid to one image, and to the mask that rides along.

    The result depends on (image, config, mask) alone, the seed being part of the config: not on global generators, not
    on how many fits run beside this one. A fit on the CPU uses one thread.

    Args:
        image: PIL image, uint8 array [H, W] or [H, W, C], or tensor [C, H, W] (uint8, or float in [0, 1]);
            C is 1 (grey), 3 (RGB) or 4 (RGB and a mask). Shrunk to `finest_px` on its long side.
        config: how; the `fast` preset by default.
        mask: of classes or instances: an integer array or tensor [H, W] of the image's size, or a PIL image of mode
            "L", "P" or "1"; at most 256 different values, of which one may mean "void". It is carried with the pixels
            and does not change a draw's image. Shrunk by nearest neighbour, so its values stay what they are.
        on_event: called every few steps with a `FitEvent`.
        device: where to fit; the pyramid is returned on the CPU.
        checkpoint: a file for the state of training, written every few seconds at first, later after each 2 % of the
            time so far. If it is there, the fit goes on from it; on the CPU the pyramid is bit for bit what it would
            have been. The state of another image, config or version counts as none. Delete it when the pyramid is kept.

    Raises:
        ImageError: not an image, too small, too elongated, or constant; not a mask of that image.
        ConfigError: the config names a part that is not registered, its networks are too deep for its sizes, or it
            copies no scale and cannot carry a mask.
        FitDivergedError: training went non-finite or collapsed, and again from another seed.
    """
    with one_thread():
        path = None if checkpoint is None else Path(checkpoint)
        return _fitted(image, mask, config or fast(), device, on_event or (lambda _: None), path)()


def fit_batch(
    images: Sequence[Any],
    config: FitConfig | None = None,
    *,
    masks: Sequence[Any] | None = None,
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
        masks: for each image its mask, as `fit` takes it, or None.
        device: where to fit; the pyramids are returned on the CPU.
        batch_images: how many at once, at least 1.
        on_event: called every few steps with the place of an image and a `FitEvent`.

    Returns:
        For each image its pyramid, or the `ImageError` or `FitDivergedError` why there is none: one image that cannot
        be fitted does not stop the others.

    Raises:
        ConfigError: as `fit` does.
        ValueError: `batch_images` is not positive, or there are not as many masks as images.
    """
    if batch_images < 1:
        raise ValueError(f"expected batch_images of at least 1, got {batch_images}")
    if masks is not None and len(masks) != len(images):
        raise ValueError(f"expected a mask or None for each of {len(images)} images, got {len(masks)}")
    config = config or fast()
    notify = on_event or (lambda _place, _event: None)
    results: list[Pyramid | ImageError | FitDivergedError] = []
    with one_thread():
        for first in range(0, len(images), batch_images):
            queued: list[Callable[[], Pyramid] | ImageError | FitDivergedError] = []
            for place in range(first, min(first + batch_images, len(images))):
                mask = None if masks is None else masks[place]
                try:
                    queued.append(_fitted(images[place], mask, config, device, partial(notify, place)))
                except (ImageError, FitDivergedError) as error:
                    queued.append(error)
            results += [finish if isinstance(finish, Exception) else finish() for finish in queued]
    return results


def _fitted(
    image: Any,
    mask: Any,
    config: FitConfig,
    device: torch.device | str,
    on_event: Callable[[FitEvent], None],
    path: Path | None = None,  # of a checkpoint
) -> Callable[[], Pyramid]:
    """A function that waits for the pyramid; its work is queued on the device, from another seed where it diverged."""
    if isinstance(image, ImageError):  # of whoever decoded
        raise image
    check_config(config)
    check_device(device)
    pixels, classes = image_and_mask(image, mask)
    size = working_size((pixels.shape[0], pixels.shape[1]), config)
    refuse_constant(pixels)
    real = to_signed(resize_pixels(pixels, size)).to(device, non_blocking=True)
    levels, values = (None, ()) if classes is None else _indexed(classes, size, config)
    sizes = stack_sizes((real.shape[2], real.shape[3]), config, visible_px(real, levels, config))
    checkpoint = Checkpoint(path, identity_of(real, sizes, config)) if path and config.generated else None
    attempt = checkpoint.attempt if checkpoint and checkpoint.attempt in range(ATTEMPTS) else 0
    while True:
        try:
            finish = _fit_once(real, sizes, config, attempt, on_event, checkpoint)
            return lambda: replace(finish(), mask=levels, mask_values=values)
        except UnfitStateError:
            attempt = 0
        except FitDivergedError:
            attempt += 1
            if attempt >= ATTEMPTS:
                raise
        if checkpoint:
            checkpoint.forget()


def _indexed(mask: Mask, size: Size, config: FitConfig) -> tuple[Tensor, tuple[int, ...]]:
    """The mask at another size as uint8 indices into its values, and these, ascending."""
    if not config.carries_masks:
        raise ConfigError(
            "expected a config that copies the finer scales for an image with a mask, got one that generates all: a "
            "mask can only follow pixels that are copied; use the preset fast(), or leave the mask (or alpha channel) "
            "out"
        )
    values = np.unique(mask)
    if len(values) > MASK_VALUES:
        raise ImageError(f"expected a mask of at most {MASK_VALUES} different values, got {len(values)}")
    levels = np.searchsorted(values, resize_mask(mask, size)).astype(np.uint8)
    return torch.from_numpy(levels), tuple(values.tolist())


def _fit_once(
    real: Tensor,
    sizes: tuple[Sequence[Size], Sequence[Size]],  # of the generated and of the copied scales
    config: FitConfig,
    attempt: int,
    on_event: Callable[[FitEvent], None],
    checkpoint: Checkpoint | None,
) -> Callable[[], Pyramid]:
    """A function that waits for the pyramid and brings it to the CPU; its work is queued on the device."""
    started_sec = time.process_time() - (checkpoint.spent_sec if checkpoint else 0.0)
    work = _work(sizes, real.shape[1], config)
    total = sum(scale.load for scale in work)

    def report(k: int, step: int, losses: Mapping[str, float]) -> None:
        done = sum(scale.load for scale in work[:k]) + work[k].load * step / work[k].steps
        on_event(FitEvent(k, len(work), step, work[k].steps, attempt, done / total, losses))

    scales = _scales(real, sizes, config, attempt, report, checkpoint)
    with torch.no_grad():
        remembered = [scale.reconstruct() - resize(real, scale.size, config.sizes.resample) for scale in scales]
        displacement_px = measure_displacement(scales, config.seed)
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
        pyramid = Pyramid(config, real.shape[1], scales, provenance, displacement_px)
        return pyramid if real.device.type == "cpu" else pyramid.to("cpu")

    return finish


def _scales(
    real: Tensor,
    sizes: tuple[Sequence[Size], Sequence[Size]],  # of the generated and of the copied ones
    config: FitConfig,
    attempt: int,
    report: Report,
    checkpoint: Checkpoint | None,
) -> tuple[Scale, ...]:
    """All scales, fitted: the generated ones, then the copied ones above them."""
    generated, copied = sizes
    resample, seeds = config.sizes.resample, (config.seed, attempt)
    scales: tuple[Scale, ...] = ()
    if config.generated is not None:
        made = fit_generated(real, generated, config.generated, resample, seeds, report, checkpoint)
        # What is copied for a generated image jumps as it changes: so it is what half precision keeps, from the start.
        if config.copied is not None:
            made = tuple(map(_in_half_precision, made))
        scales += with_milder_start(made, config.generated)
    if config.copied is not None:

        def report_above(k: int, step: int, losses: Mapping[str, float]) -> None:
            report(len(generated) + k, step, losses)

        scales += fit_copied(real, copied, config.copied, resample, seeds, report_above, searched=bool(scales))
    return scales


def _in_half_precision(scale: GeneratedScale) -> GeneratedScale:
    """The scale with numbers that half precision holds exactly. Its generator is changed in place."""

    def rounded(tensor: Tensor) -> Tensor:
        return tensor.half().float()

    state = {name: rounded(t) if t.is_floating_point() else t for name, t in scale.generator.state_dict().items()}
    scale.generator.load_state_dict(state)
    z_star = None if scale.z_star is None else rounded(scale.z_star)
    return replace(scale, amplitude=rounded(scale.amplitude), entering=rounded(scale.entering), z_star=z_star)


def fit_work(size: Size, channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
    """What a fit to an image of this working size takes, for each scale, coarsest first."""
    return _work(stack_sizes(size, config), channels, config)


def _work(sizes: tuple[Sequence[Size], Sequence[Size]], channels: int, config: FitConfig) -> tuple[ScaleWork, ...]:
    generated, copied = sizes
    work: tuple[ScaleWork, ...] = ()
    if config.generated is not None:
        work += generated_work(generated, channels, config.generated)
    if config.copied is not None:
        work += copied_work(copied, channels, config.copied, searched=config.generated is not None)
    return work


def fit_load(size: Size, channels: int, config: FitConfig) -> float:
    """The same as one number, for forecasts: all its steps, weighted by what each costs."""
    return sum(scale.load for scale in fit_work(size, channels, config))
