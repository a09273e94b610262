"""`singan-aug fit`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from singan_aug import dataset
from singan_aug.annotations import counted
from singan_aug.cli._app import FAILED, AsJson, Device, DryRun, Jobs, Location, Quiet, Seed, app, check_device, reported
from singan_aug.cli._choosing import budget_sec, choice_of, tell_budget
from singan_aug.config import MOST_PX, FitConfig
from singan_aug.display import Display, complain, duration, file_size, say, show_json
from singan_aug.errors import ConfigError
from singan_aug.presets import PRESETS, preset
from singan_aug.store import Store, open_store

__all__ = ["summarise"]

MANY = 10  # fitted images of which the extremes are shown
SHOWN = 3


@app.command()
@reported
def fit(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Image files, and folders of them at any depth.", show_default=False),
    ],
    location: Location = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of mask files or YOLO polygons, or COCO file: fitted with the images, so that labels ride "
            "along. Default: masks/ beside images/, or NAME_mask.png beside NAME.jpg; none: every file is an image.",
            show_default=False,
        ),
    ] = None,
    preset_name: Annotated[
        str, typer.Option("--preset", help=f"How to fit: {' or '.join(sorted(PRESETS))}. `paper` takes days on a CPU.")
    ] = "fast",
    max_size: Annotated[
        int | None,
        typer.Option(
            min=25,
            max=MOST_PX,
            help="Long side in pixels at which images are fitted. Default: the preset's 250.",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = None,
    device: Device = "cpu",
    seed: Seed = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at this many images at most.", show_default=False)
    ] = None,
    representatives: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Fit at most so many images of each class (folder): those that stand for the others.",
            show_default=False,
        ),
    ] = None,
    class_balance: Annotated[
        bool, typer.Option("--class-balance", help="Fit of each class (folder) as many as the smallest has.")
    ] = False,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What images are compared by: .npy, a row for each, by sorted path. Default: their colours.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Begin no image after so long, 2h or 90m; the most useful come first.",
            show_default=False,
        ),
    ] = None,
    wait_sec: Annotated[
        float,
        typer.Option(
            "--wait-sec",
            min=0,
            metavar="SECONDS",
            help="How long to wait, at the end, for images that other processes have claimed.",
        ),
    ] = dataset.WAIT_SEC,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Fit part I of N of the images alone: 3/8. For jobs of an array.", show_default=False
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Fit on a cluster: dask or ray. Default: on this machine.", show_default=False)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the cluster, such as tcp://host:8786.", show_default=False)
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try images again that could not be fitted before.")
    ] = False,
    log_json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append what happens to this file as lines of JSON (docs/fit-log.md).",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,  # noqa: ARG001 (`reported` looks at it)
    as_json: AsJson = False,
) -> None:
    """Fit a pyramid to every image that has none yet, and store it.

    Run it again after an interruption, or when images were added: what is fitted is skipped at once.
    """
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise ConfigError(f"expected image files or folders, got {path}: there is no such file or folder")
    changes: dict[str, Any] = {"seed": seed} | ({"finest_px": max_size} if max_size is not None else {})
    config = preset(preset_name, **changes)
    check_device(device)
    part = dataset.read_shard(shard) if shard is not None else None
    if address is not None and backend is None:
        raise ConfigError("expected --backend dask or ray beside --address")
    limit_sec = budget_sec(budget)
    choice = choice_of(representatives, class_balance, embeddings, limit_sec)
    choose = None if choice is None else choice.of
    store = open_store(location)
    if dry_run:
        plan = dataset.plan_dataset(
            paths, store, config, masks=masks, limit=limit, choose=choose, retry_failed=retry_failed, shard=part
        )
        if limit_sec is not None and plan.todo and not as_json:
            tell_budget(plan, limit_sec, config, jobs)
        _forecast(plan, store, config, jobs, as_json)
        return
    started_sec = time.monotonic()

    def tell(event: dataset.Event) -> None:
        if isinstance(event, dataset.Plan) and event.todo and limit_sec is not None and not as_json:
            tell_budget(event, limit_sec, config, jobs)

    with _told(store, log_json, limit_sec, tell) as notify:
        report = dataset.fit_dataset(
            paths,
            store,
            config,
            masks=masks,
            jobs=jobs,
            device=device,
            limit=limit,
            choose=choose,
            budget_sec=limit_sec,
            apart=True,
            wait_sec=wait_sec,
            shard=part,
            backend=backend,
            address=address,
            retry_failed=retry_failed,
            on_event=notify,
        )
        notify.report = report
    summarise(report, store, time.monotonic() - started_sec, as_json)
    if report.deleted:
        kept = f"{counted(len(report.deleted), 'image')} could not be kept: "
        complain(f"{kept}the store {store.location} was deleted meanwhile, or part of it; run the same command again")
    if report.failed:
        raise typer.Exit(FAILED)


class _Told:
    """Every event, to whoever shows or writes it."""

    def __init__(self, *listeners: dataset.OnEvent) -> None:
        self._listeners = listeners
        self.report: dataset.FitReport | None = None

    def __call__(self, event: dataset.Event) -> None:
        for listener in self._listeners:
            listener(event)


@contextmanager
def _told(store: Store, log_json: Path | None, limit_sec: float | None, tell: dataset.OnEvent) -> Iterator[_Told]:
    """Progress, and the log where one is asked for."""
    if log_json is None:
        with Display(limit_sec) as display:
            yield _Told(tell, display.show)
        return
    started_sec = time.monotonic()
    with dataset.JsonLog(log_json, store.location) as log, Display(limit_sec) as display:
        told = _Told(tell, display.show, log)
        try:
            yield told
        finally:
            log.end(told.report, time.monotonic() - started_sec)


def _forecast(plan: dataset.Plan, store: Store, config: FitConfig, jobs: int | None, as_json: bool) -> None:
    from singan_aug.estimate import estimate  # imports torch

    forecast = estimate(plan, config, jobs=jobs)
    sizes = sorted({f"{width}x{height}" for height, width in (item.size for item in plan.todo)})
    failed = [outcome for outcome in plan.known if outcome.status == "failed"]
    if as_json:
        show_json(
            {
                "images": len(plan.todo) + len(plan.known),
                "to_fit": len(plan.todo),
                "present": sum(outcome.status == "present" for outcome in plan.known),
                "failed": [{"path": str(outcome.path), "message": outcome.message} for outcome in failed],
                "without_mask": plan.without_mask,
                "left_out": plan.left_out,
                "unclaimed": list(plan.unclaimed),
                "of_other_shards": plan.of_other_shards,
                "sizes": sizes,
                "process_sec": round(forecast.process_sec, 1),
                "wall_sec": round(forecast.wall_sec, 1),
                "bytes": forecast.stored_bytes,
                "jobs": forecast.jobs,
            }
        )
    else:
        shown = ", ".join(sizes[:6]) + (f" and {len(sizes) - 6} more" if len(sizes) > 6 else "")
        without = f", {plan.without_mask} without a mask" if plan.without_mask else ""
        to_fit = f"{len(plan.todo)} to fit{without}" + (f", at {shown}" if sizes else "")
        say(f"{len(plan.todo) + len(plan.known)} images, {to_fit}")
        for clause in _of_no_image(plan):
            say(clause)
        say(
            f"about {duration(forecast.wall_sec)} with {forecast.jobs} side by side "
            f"({duration(forecast.process_sec)} of processor time), "
            f"{file_size(forecast.stored_bytes)} in {store.location}"
        )
        for outcome in failed:
            complain(f"{outcome.path}: {outcome.message}")
    if failed:
        raise typer.Exit(FAILED)


def _of_no_image(found: dataset.Plan | dataset.FitReport) -> list[str]:
    """What was not taken of masks and annotations, for people."""
    broken = [f"{counted(found.left_out, 'broken object')} left out"] if found.left_out else []
    return [*found.unclaimed, *broken]


def summarise(report: dataset.FitReport, store: Store, wall_sec: float, as_json: bool) -> None:
    """Say what became of the images, for people or for scripts."""
    counts = dataset.counts(report.outcomes)
    if as_json:
        rows = [{**asdict(outcome), "path": str(outcome.path)} for outcome in report.outcomes]
        extra: dict[str, Any] = {
            "ignored": report.ignored,
            "without_mask": report.without_mask,
            "store": store.location,
        }
        extra |= {"left_out": report.left_out, "unclaimed": list(report.unclaimed)}
        extra |= {"of_other_shards": report.of_other_shards, "not_begun": report.not_begun}
        show_json({**counts, **extra, "images": rows})
        return
    if report.of_other_shards and not (report.outcomes or report.not_begun):
        say(f"all {report.of_other_shards} images are of other shards")
        return
    parts = [f"{counts['fitted']} fitted", f"{counts['present']} already there"]
    parts += [f"{counts['duplicate']} equal to another"] if counts["duplicate"] else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    parts += [f"{report.without_mask} without a mask"] if report.without_mask else []
    parts += [f"{report.not_begun} not begun, for want of time"] if report.not_begun else []
    parts += [f"{report.of_other_shards} of other shards"] if report.of_other_shards else []
    parts += [f"{report.ignored} other files ignored"] if report.ignored else []
    say(f"{', '.join(parts)} in {duration(wall_sec)}; store: {store.location}")
    for clause in _of_no_image(report):
        say(clause)
    for clause in _extremes(report):
        say(clause)
    for outcome in report.failed:
        say(f"failed: {outcome.path}: {outcome.message}")


def _extremes(report: dataset.FitReport) -> list[str]:
    """Of a run of many images those that took longest, and those that their pyramids remember worst."""
    fitted = report.with_status("fitted")
    if len(fitted) < MANY:
        return []
    slow = sorted(fitted, key=lambda outcome: -outcome.process_sec)[:SHOWN]
    bad = sorted(fitted, key=lambda outcome: -(outcome.reconstruction_rmse or 0.0))[:SHOWN]
    slowest = ", ".join(f"{outcome.path.name} {duration(outcome.process_sec)}" for outcome in slow)
    worst = ", ".join(f"{outcome.path.name} {outcome.reconstruction_rmse or 0.0:.3f}" for outcome in bad)
    return [f"slowest: {slowest}", f"worst reconstructions (error, of the range): {worst}"]
