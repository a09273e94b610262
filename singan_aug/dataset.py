"""fit_dataset(): walk folders, fit what is missing side by side, report progress, resume after any interruption."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import joblib

from singan_aug.annotations import Masks, MaskSource, find_masks
from singan_aug.config import FitConfig, fast
from singan_aug.errors import ConfigError, FitDivergedError, ImageError, LabelError, StoreWriteError, is_out_of_memory
from singan_aug.images import (
    IMAGE_SUFFIXES,
    LoadedImage,
    Mask,
    Pixels,
    load_image,
    map_images,
    quiet_decoding,
    refuse_constant,
)
from singan_aug.pyramid.scales import Size, working_size
from singan_aug.store import Store, fingerprint, make_key, open_store
from singan_aug.workers import interrupts_ignored, side_by_side

if TYPE_CHECKING:
    from singan_aug.fitting import FitEvent

__all__ = [
    "FitReport",
    "Found",
    "Outcome",
    "Plan",
    "Progress",
    "Todo",
    "choose_jobs",
    "find_images",
    "fit_dataset",
    "plan_dataset",
    "prior_images",
]

DEVICE_BATCH = 16  # images at once on a GPU
PRIOR_IMAGES = 32  # that a dataset's own prior is learned from
WORKER_LOAD = 4e10  # multiply-adds that take longer than starting a worker process and importing torch in it

Status = Literal["fitted", "present", "duplicate", "failed"]


@dataclass(frozen=True)
class Found:
    """What a walk found."""

    images: tuple[Path, ...]  # sorted, each once
    unreadable: tuple[tuple[Path, str], ...]  # folders that could not be listed, and why
    ignored: int  # files that no image suffix marks


@dataclass(frozen=True)
class Todo:
    """An image that has no pyramid yet."""

    path: Path
    key: str
    size: Size  # (height, width) at which it is fitted
    channels: int
    notes: tuple[str, ...]
    mask: MaskSource | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one image."""

    path: Path
    status: Status
    key: str = ""
    message: str = ""  # why it failed, or which image it equals
    notes: tuple[str, ...] = ()  # what decoding had to convert
    process_sec: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a run would do: the images to fit, and the outcomes known without fitting."""

    todo: tuple[Todo, ...]
    known: tuple[Outcome, ...]
    ignored: int
    without_mask: int | None = None  # images that have none where others have; None where there are no masks at all


@dataclass(frozen=True)
class Progress:
    """A fit under way."""

    path: Path
    event: FitEvent


@dataclass(frozen=True)
class FitReport:
    """What became of every image, sorted by path."""

    outcomes: tuple[Outcome, ...]
    ignored: int
    without_mask: int | None = None  # images fitted without one where others have one; None without any masks

    def with_status(self, status: Status) -> list[Outcome]:
        """The outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def failed(self) -> list[Outcome]:
        """The images that could not be fitted."""
        return self.with_status("failed")


Event = Plan | Progress | Outcome
OnEvent = Callable[[Event], None]


def find_images(paths: Iterable[Path | str]) -> Found:
    """Files named outright, whatever their suffix, and those with an image suffix in folders of any depth.

    Links are followed, each folder is entered once, names that start with a dot are left out.
    """
    images: dict[Path, None] = {}
    unreadable: list[tuple[Path, str]] = []
    ignored = 0
    for path in map(Path, paths):
        if not path.is_dir():
            images[path] = None
            continue
        for folder, names in _walk(path, unreadable):
            for name in names:
                if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                    images[folder / name] = None
                else:
                    ignored += 1
    return Found(tuple(images), tuple(unreadable), ignored)


def _walk(top: Path, unreadable: list[tuple[Path, str]]) -> Iterator[tuple[Path, list[str]]]:
    def refuse(error: OSError) -> None:
        unreadable.append((Path(error.filename or top), f"cannot list this folder: {error.strerror}"))

    entered = {os.path.realpath(top)}
    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=refuse):
        kept = []
        for name in sorted(subfolders):
            real = os.path.realpath(Path(folder) / name)
            if not name.startswith(".") and real not in entered:
                entered.add(real)
                kept.append(name)
        subfolders[:] = kept
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def plan_dataset(
    paths: Iterable[Path | str],
    store: Store,
    config: FitConfig,
    *,
    masks: Path | str | None = None,
    limit: int | None = None,
) -> Plan:
    """Decode every image, fingerprint it and look it up. Raises as `annotations.find_masks` does.

    `masks` names a folder or an annotation file with the images' masks, as `annotations.find_masks` takes it; by
    default they are looked for beside the images, where pyramids of this config can carry one; "none" takes every file
    for an image. `limit` bounds how many images are looked at.
    """
    config = _with_known_prior(config, store)
    beside = None
    if str(masks) == "none":
        masks, beside = None, Masks({}, frozenset())
    elif masks is not None and not config.carries_masks:
        raise ConfigError(f'expected a preset whose pyramids carry masks, such as "fast", got kind={config.kind!r}')
    roots = [Path(path) for path in paths]
    found = find_images(roots)
    if beside is None:
        beside = find_masks(found.images, roots, None if masks is None else Path(masks))
    of = beside.of if masks is not None or config.carries_masks else {}
    images = [path for path in found.images if path not in beside.not_images][:limit]
    looked = map_images(lambda path, image: _look(path, image, of.get(path), store, config), images)
    todo: dict[str, Todo] = {}
    known = [Outcome(path, "failed", message=reason) for path, reason in found.unreadable]
    for item in looked:
        if isinstance(item, Outcome):
            known.append(item)
        elif item.key in todo:
            known.append(Outcome(item.path, "duplicate", item.key, f"same image as {todo[item.key].path}", item.notes))
        else:
            todo[item.key] = item
    without_mask = sum(path not in of for path in images) if of or masks is not None else None
    return Plan(tuple(todo.values()), tuple(known), found.ignored, without_mask)


def _look(
    path: Path, image: LoadedImage | ImageError, mask: MaskSource | None, store: Store, config: FitConfig
) -> Todo | Outcome:
    if isinstance(image, ImageError):
        return Outcome(path, "failed", message=str(image))
    try:
        height, width, channels = image.pixels.shape
        key = str(make_key(image.pixels, config, mask and mask.read((height, width))))
        if key in store:
            return Outcome(path, "present", key, notes=image.notes)
        size = working_size((height, width), config)
        refuse_constant(image.pixels)
        return Todo(path, key, size, channels, image.notes, mask)
    except (ImageError, LabelError) as error:
        return Outcome(path, "failed", message=str(error))


def fit_dataset(
    paths: Iterable[Path | str],
    store: Store | str | None = None,
    config: FitConfig | None = None,
    *,
    masks: Path | str | None = None,
    jobs: int | None = None,  # fits side by side; by default one for each core that has enough to do
    device: str = "cpu",
    batch_images: int | None = None,  # at once in this process instead; by default DEVICE_BATCH on a GPU
    prior_steps: int = 2000,  # at each depth, where a prior is learned first
    limit: int | None = None,  # look at this many images at most
    on_event: OnEvent | None = None,
) -> FitReport:
    """Fit a pyramid to every image that has none yet, and store it.

    On the CPU they are fitted side by side in `jobs` processes; on another device, or with `batch_images` of more than
    one, so many at once in this one. With `prior="dataset"` a prior is learned from them first, once for a store.

    One image that cannot be fitted never stops the others. Interrupting loses only the fits under way: what is stored
    stays, and the same call continues. Two calls on one store share the work, each image fitted by one of them.

    `masks` is a folder of mask files or of YOLO polygons, or a COCO file: what an image has there is fitted with it. By
    default masks are looked for beside the images (`images/` and `masks/`, or `NAME_mask.png`), with "none" they are
    not; docs/labels.md.

    Raises:
        ConfigError: the config names a part that is not registered, or `masks` holds none.
        LabelError: `masks` is a broken annotation file.
        StoreError: the store cannot be written to begin with, or has another format. One that fills up on the way
            fails the images that it has no room for.
        WorkerLostError: a worker process was killed from outside.
        KeyboardInterrupt: after the workers have stopped.
    """
    config = config or fast()
    store = open_store(store) if not isinstance(store, Store) else store
    notify: OnEvent = on_event or (lambda _: None)
    paths = tuple(paths)
    config = _with_known_prior(config, store)
    if config.prior == "dataset":
        chosen = prior_images(paths, config, limit=limit)[:PRIOR_IMAGES]
        config = _with_learned_prior(config, store, chosen, prior_steps, device, notify)
    plan = plan_dataset(paths, store, config, masks=masks, limit=limit)
    notify(plan)
    outcomes = list(plan.known)
    for outcome in outcomes:
        notify(outcome)
    if plan.todo:
        store.prepare()
        store.sweep()
        batch_images = batch_images or (1 if device == "cpu" else DEVICE_BATCH)
        if batch_images == 1:
            outcomes += _fit_all(plan.todo, store.location, config, device, jobs, notify)
        else:
            outcomes += _fit_batches(plan.todo, store, config, device, batch_images, notify)
    return FitReport(tuple(sorted(outcomes, key=lambda outcome: str(outcome.path))), plan.ignored, plan.without_mask)


def choose_jobs(todo: Sequence[Todo], config: FitConfig, jobs: int | None) -> int:
    """How many fits to run side by side: what is asked for, or one for each core that has enough to do."""
    from singan_aug.fitting import fit_load

    if jobs is None:
        load = sum(fit_load(item.size, item.channels, config) for item in todo)
        jobs = min(joblib.cpu_count(), max(1, round(load / WORKER_LOAD)))
    return max(1, min(jobs, len(todo)))


def _fit_all(
    todo: tuple[Todo, ...], location: str, config: FitConfig, device: str, jobs: int | None, notify: OnEvent
) -> list[Outcome]:
    jobs = choose_jobs(todo, config, jobs)
    outcomes: list[Outcome] = []
    with _channel(jobs, notify) as send:
        for wait in (False, True):  # first whatever no other process is at, then wait for the rest
            arguments = [(item, location, config, device, wait, send) for item in todo]
            busy = []
            for item, outcome in side_by_side(_fit_one, arguments, jobs):
                if outcome is None:
                    busy.append(item)
                else:
                    outcomes.append(outcome)
                    send(outcome)
            todo = tuple(busy)
            if not todo:
                break
    return outcomes


def _fit_one(
    item: Todo, location: str, config: FitConfig, device: str, wait: bool, send: OnEvent
) -> tuple[Todo, Outcome | None]:
    """Claim, fit and store one image. No outcome where another process is at it and `wait` is False."""
    store = open_store(location)
    try:
        store.prepare()  # a full disk is noticed before the fit, not after it
        with store.claim(item.key, wait=wait) as mine:
            if not mine:
                return item, None
            if item.key in store:  # another process finished it since the plan was made
                return item, Outcome(item.path, "present", item.key, notes=item.notes)
            process_sec = _fit_and_save(item, store, config, device, send)
            return item, Outcome(item.path, "fitted", item.key, notes=item.notes, process_sec=process_sec)
    except (ImageError, LabelError, FitDivergedError, StoreWriteError) as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = "out of memory: use a smaller --max-size, or fewer fits side by side (--jobs)"
    return item, Outcome(item.path, "failed", item.key, message, item.notes)


def _fit_and_save(item: Todo, store: Store, config: FitConfig, device: str, send: OnEvent) -> float:
    """The process seconds that it took."""
    from singan_aug.fitting import fit
    from singan_aug.pyramid.threads import one_thread

    started_sec = time.process_time()
    with one_thread(), quiet_decoding():
        pixels = load_image(item.path).pixels
        size = (pixels.shape[0], pixels.shape[1])
        mask = item.mask and item.mask.read(size)
        pyramid = fit(pixels, config, mask=mask, device=device, on_event=lambda e: send(Progress(item.path, e)))
        store.save(make_key(pixels, config, mask), pyramid, name=item.path.name, source_size=size)
    return time.process_time() - started_sec


def _fit_batches(
    todo: tuple[Todo, ...], store: Store, config: FitConfig, device: str, batch_images: int, notify: OnEvent
) -> list[Outcome]:
    """Many at once on one device, in this process; then one by one whatever another process was at."""
    outcomes: list[Outcome] = []
    busy: list[Todo] = []
    for first in range(0, len(todo), batch_images):
        with ExitStack() as claims, quiet_decoding():
            mine: list[Todo] = []
            for item in todo[first : first + batch_images]:
                claimed = claims.enter_context(store.claim(item.key, wait=False)) and item.key not in store
                (mine if claimed else busy).append(item)
            for outcome in _fit_together(mine, store, config, device, notify):
                outcomes.append(outcome)
                notify(outcome)
    for item in busy:
        waited = _fit_one(item, store.location, config, device, True, notify)[1]
        assert waited is not None
        outcomes.append(waited)
        notify(waited)
    return outcomes


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
                yield Outcome(item.path, "failed", item.key, str(result), item.notes)
                continue
            store.save(make_key(pixels, config, mask), result, name=item.path.name, source_size=pixels.shape[:2])
            yield Outcome(item.path, "fitted", item.key, notes=item.notes, process_sec=each_sec)
        except StoreWriteError as error:
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


def prior_images(paths: Iterable[Path | str], config: FitConfig, *, limit: int | None = None) -> list[Path]:
    """The images that a prior can be learned from, sorted by fingerprint, each picture once.

    Whatever they are called and wherever they lie, the same images come in the same order. `limit` bounds how many are
    looked at. Images that could not be fitted are left out.
    """

    def look(path: Path, image: LoadedImage | ImageError) -> tuple[str, Path] | None:
        if isinstance(image, ImageError):
            return None
        try:
            working_size(image.pixels.shape[:2], config)
            refuse_constant(image.pixels)
        except ImageError:
            return None
        return fingerprint(image.pixels).digest, path

    looked = map_images(look, find_images(paths).images[:limit])
    return [path for _, path in sorted(dict(sorted(filter(None, looked), reverse=True)).items())]


def _dataset_prior(config: FitConfig, store: Store) -> Path:
    """Where a store keeps the prior learned from its images, one for each recipe."""
    return Path(store.location) / "priors" / f"{config.digest()}.safetensors"


def _with_known_prior(config: FitConfig, store: Store) -> FitConfig:
    """The config with the store's own prior in place of "dataset", where one was learned."""
    if config.prior == "dataset" and (path := _dataset_prior(config, store)).exists():
        return config.replace(prior=str(path))
    return config


def _with_learned_prior(
    config: FitConfig, store: Store, images: Sequence[Path], steps: int, device: str, notify: OnEvent
) -> FitConfig:
    """The same, learned first: images added later start from it too, so that no key changes."""
    path = _dataset_prior(config, store)
    store.prepare()
    with store.claim(f"prior-{path.stem}", wait=True):
        if images and not path.exists():
            from singan_aug.fitting import train_prior

            def send(event: FitEvent) -> None:
                notify(Progress(path, event))

            with quiet_decoding():
                pixels = [load_image(each).pixels for each in images]
            train_prior(pixels, config, steps=steps, device=device, on_event=send).save(path)
    return _with_known_prior(config, store)


def _end_with_parent() -> None:
    """In the queue's process: end when the parent is killed, and let the workers see that it is gone."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _channel(jobs: int, notify: OnEvent) -> Iterator[OnEvent]:
    """A function by which workers report, in this process or another; `notify` gets one event after the other."""
    if jobs == 1:
        yield notify
        return
    manager = SyncManager()
    with interrupts_ignored():
        manager.start(initializer=_end_with_parent)
    with manager:
        queue = manager.Queue()

        def listen() -> None:
            with suppress(OSError, EOFError):  # the queue's process may be gone first after an interruption
                for event in iter(queue.get, None):
                    notify(event)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield queue.put
        finally:
            with suppress(OSError, EOFError):
                queue.put(None)
            listener.join()
