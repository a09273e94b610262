"""fit_dataset(): fit what is missing, report progress, resume after any interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from singan_aug._checks import check_count, check_device, check_number
from singan_aug.clusters import BACKENDS, connected
from singan_aug.config import FitConfig
from singan_aug.dataset._batches import DEVICE_BATCH, fit_in_batches
from singan_aug.dataset._events import DELETED, FitReport, OnEvent, Outcome
from singan_aug.dataset._find import each_path
from singan_aug.dataset._plan import plan_dataset
from singan_aug.dataset._processes import Fits, choose_jobs
from singan_aug.errors import ConfigError
from singan_aug.lookup import PerceptualIndex
from singan_aug.presets import fast
from singan_aug.store import Store, open_store

__all__ = ["WAIT_SEC", "fit_dataset"]

WAIT_SEC = 600.0  # for images that other processes are at


def fit_dataset(
    paths: Path | str | Iterable[Path | str],  # image files, and folders of them
    store: Store | Path | str | None = None,
    config: FitConfig | None = None,
    *,
    masks: Path | str | None = None,
    jobs: int | None = None,  # fits side by side; by default one for each core that has enough to do
    device: str = "cpu",
    batch_images: int | None = None,  # at once in this process instead; by default DEVICE_BATCH on a GPU
    limit: int | None = None,  # look at this many images at most
    choose: Callable[[Sequence[Path]], Sequence[Path]] | None = None,  # those to fit, in order: `Choice(...).of`
    budget_sec: float | None = None,  # begin no further image after so long
    apart: bool = False,  # in a worker process even where one fit at a time will do
    wait_sec: float = WAIT_SEC,  # at most, for images that other processes are at, when all else is done
    shard: tuple[int, int] | None = None,  # (number, count) from (1, count): this part of the images alone
    backend: str | None = None,  # "dask" or "ray": fit on the workers of a cluster
    address: str | None = None,  # of the cluster
    retry_failed: bool = False,  # also fit images that could not be fitted by an earlier call
    on_event: OnEvent | None = None,
) -> FitReport:
    """Fit a pyramid to every image that has none yet, and store it.

    On the CPU they are fitted side by side in `jobs` processes; on another device, or with `batch_images` of more than
    one, so many at once in this one.

    One image that cannot be fitted never stops the others, even one whose fit ends its process (for want of memory): it
    is tried again alone, and then failed. One that ended this process, since nothing was to be `apart`, is fitted apart
    by the next call. Interrupting loses only the fits under way: what is stored stays, and the same call continues. Two
    calls on one store share the work, each image fitted by one of them; an image that another process has claimed, and
    still has after `wait_sec`, is failed, and the process named. What failed by itself (it diverged, there was not
    enough memory) is noted in the store, and not tried again before the image or the config has changed, or with
    `retry_failed`.

    With `budget_sec` what is under way when the time is up is finished, and at least one image is fitted.

    Images are divided into shards by the bytes of their files, so each call for another shard, on whatever machine and
    in whatever order, fits others. Workers of a cluster have to see images and store under the same absolute paths, and
    tell nothing before an image is done (docs/many-machines.md).

    `masks` is a folder of mask files or of YOLO polygons, or a COCO file: what an image has there is fitted with it. By
    default masks are looked for beside the images (`images/` and `masks/`, or `NAME_mask.png`), with "none" they are
    not; docs/labels.md.

    Raises:
        ConfigError: the config names a part that is not registered, `masks` holds none, there is no such shard, or the
            cluster cannot be reached.
        ImageError: there are no images at all.
        LabelError: `masks` is a broken annotation file.
        StoreError: the store cannot be written to begin with, or has another format. One that fills up on the way
            fails the images that it has no room for; one that is deleted on the way those that it had.
        KeyboardInterrupt: after the workers have stopped.
    """
    check_device(device)
    _check(jobs, batch_images, wait_sec, budget_sec, backend, address)
    until_sec = math.inf if budget_sec is None else time.monotonic() + budget_sec
    config = config or fast()
    store = open_store(store)
    notify: OnEvent = on_event or (lambda _: None)
    if backend is not None:  # whose workers have other current folders
        paths = [path.absolute() for path in each_path(paths)]
        masks = masks if masks is None or str(masks) == "none" else Path(masks).absolute()
    plan = plan_dataset(
        paths, store, config, masks=masks, limit=limit, choose=choose, retry_failed=retry_failed, shard=shard
    )
    notify(plan)
    outcomes = list(plan.known)
    for outcome in outcomes:
        notify(outcome)
    if plan.todo or (outcomes and not store.exists()):  # an empty one where every image failed
        store.prepare()
    if plan.todo:
        store.sweep()
        # A kill shall not cost many fits that take long, and their states are kept one by one.
        trained_long = config.copied is None
        batch_images = batch_images or (1 if device == "cpu" or trained_long else DEVICE_BATCH)
        if backend is not None:
            with connected(backend, address) as cluster:
                fits = Fits(store, config, device, notify, cluster=cluster, until_sec=until_sec)
                fits.run(plan.todo, wait_sec)
            outcomes += fits.outcomes
        elif batch_images == 1:
            jobs = choose_jobs(plan.todo, config, jobs if device == "cpu" else jobs or 1)
            fits = Fits(store, config, device, notify, jobs=jobs, apart=apart, until_sec=until_sec)
            fits.run(plan.todo, wait_sec)
            outcomes += fits.outcomes
        else:
            outcomes += fit_in_batches(plan.todo, store, config, device, batch_images, notify, wait_sec, until_sec)
        outcomes = _still_there(outcomes, store)
        PerceptualIndex(store).refresh()  # once here, rather than in every worker of a loader
    ordered = tuple(sorted(outcomes, key=lambda outcome: str(outcome.path)))
    return FitReport(
        ordered,
        plan.ignored,
        plan.without_mask,
        plan.left_out,
        plan.unclaimed,
        plan.of_other_shards,
        not_begun=len(plan.todo) + len(plan.known) - len(outcomes),
    )


def _check(
    jobs: int | None,
    batch_images: int | None,
    wait_sec: float,
    budget_sec: float | None,
    backend: str | None,
    address: str | None,
) -> None:
    for name, value in (("jobs", jobs), ("batch_images", batch_images)):
        if value is not None:
            check_count(name, value)
    check_number("wait_sec", wait_sec, 0)
    if budget_sec is not None:
        check_number("budget_sec", budget_sec, 0)
    if backend not in (None, *BACKENDS):
        raise ConfigError(f"expected backend to be {' or '.join(BACKENDS)}, got {backend!r}")
    if address is not None and backend is None:
        raise ConfigError(f"expected backend={' or '.join(BACKENDS)} beside address, got address={address!r} alone")


def _still_there(outcomes: list[Outcome], store: Store) -> list[Outcome]:
    """The same; what was stored, and is not there when all is done, has failed."""
    stored = [outcome.key for outcome in outcomes if outcome.status in ("fitted", "present")]
    lost = set(stored) - store.among(stored)

    def now(outcome: Outcome) -> Outcome:
        return replace(outcome, status="failed", message=DELETED) if outcome.key in lost else outcome

    return [now(outcome) for outcome in outcomes]
