"""Fits in this process, many images at once on one device."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from singan_aug.config import FitConfig
from singan_aug.dataset._events import OnEvent, Outcome, Progress, Todo
from singan_aug.dataset._processes import Fits, fitted_outcome, key_of
from singan_aug.errors import FitDivergedError, ImageError, LabelError, StoreWriteError, is_out_of_memory
from singan_aug.images import LoadedImage, Mask, Pixels, map_images, quiet_decoding
from singan_aug.store import Store

if TYPE_CHECKING:
    from singan_aug.fitting import FitEvent

__all__ = ["DEVICE_BATCH", "fit_in_batches"]

DEVICE_BATCH = 16  # images at once on a GPU


def fit_in_batches(
    todo: tuple[Todo, ...],
    store: Store,
    config: FitConfig,
    device: str,
    batch_images: int,
    notify: OnEvent,
    wait_sec: float,
    until_sec: float = math.inf,
) -> list[Outcome]:
    """Many at once on one device, in this process; then one by one whatever another process was at.

    No batch but the first begins after `until_sec`, by the monotonic clock.
    """
    outcomes: list[Outcome] = []
    busy: list[Todo] = []
    suspected = store.abandoned(item.key for item in todo)
    calm = [item for item in todo if item.key not in suspected]
    for first in range(0, len(calm), batch_images):
        if first and time.monotonic() >= until_sec:
            break
        with ExitStack() as claims, quiet_decoding():
            mine: list[Todo] = []
            for item in calm[first : first + batch_images]:
                claimed = claims.enter_context(store.claim(item.key, wait=False)) and item.key not in store
                (mine if claimed else busy).append(item)
            for outcome in _fit_together(mine, store, config, device, notify):
                outcomes.append(outcome)
                notify(outcome)
    fits = Fits(store, config, device, notify, until_sec=until_sec, begun=bool(calm))
    fits.run([item for item in todo if item.key in suspected], wait_sec, busy=busy)
    return outcomes + fits.outcomes


def _fit_together(
    items: Sequence[Todo], store: Store, config: FitConfig, device: str, notify: OnEvent
) -> Iterator[Outcome]:
    from singan_aug.fitting import fit_batch

    started_sec = time.process_time()
    images = map_images(_pixels_or_error, [item.path for item in items])
    masks = [_mask_of(item, pixels) for item, pixels in zip(items, images, strict=True)]

    def send(place: int, event: FitEvent) -> None:
        notify(Progress(items[place].path, event))

    try:
        fitted = fit_batch(
            [mask if isinstance(mask, ImageError) else pixels for pixels, mask in zip(images, masks, strict=True)],
            config,
            masks=[None if isinstance(mask, ImageError) else mask for mask in masks],
            device=device,
            batch_images=max(1, len(items)),
            on_event=send,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = "out of memory: use a smaller --max-size, or fewer images at once (batch_images)"
        yield from (Outcome(item.path, "failed", item.key, message, item.notes) for item in items)
        return
    each_sec = (time.process_time() - started_sec) / max(1, len(items))
    for item, pixels, mask, result in zip(items, images, masks, fitted, strict=True):
        try:
            if isinstance(result, Exception) or isinstance(pixels, ImageError) or isinstance(mask, ImageError):
                if isinstance(result, FitDivergedError):
                    store.failures.note(item.key, str(result))
                yield Outcome(item.path, "failed", item.key, str(result), item.notes)
                continue
            key = key_of(item, pixels, config, mask)
            store.save(key, result, name=item.path.name, source_size=pixels.shape[:2])
            store.failures.forget(item.key)
            yield fitted_outcome(item, result, each_sec)
        except (ImageError, StoreWriteError) as error:
            yield Outcome(item.path, "failed", item.key, str(error), item.notes)


def _mask_of(item: Todo, pixels: Pixels | ImageError) -> Mask | ImageError | None:
    if item.mask is None or isinstance(pixels, ImageError):
        return None
    try:
        return item.mask.read((pixels.shape[0], pixels.shape[1]))
    except (ImageError, LabelError) as error:
        return ImageError(str(error))


def _pixels_or_error(path: Path, image: LoadedImage | ImageError) -> Pixels | ImageError:
    del path
    return image.pixels if isinstance(image, LoadedImage) else image
