"""`singan-aug bank`."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from singan_aug.bank import Bank, BankPlan
from singan_aug.cli._app import (
    CONFINE_HELP,
    FAILED,
    AsJson,
    ConfineTo,
    DryRun,
    Jobs,
    Location,
    Quiet,
    Yes,
    app,
    confirm_loss,
    existing_store,
    reported,
    several_start_scales,
)
from singan_aug.display import ProgressBar, complain, duration, file_size, say, show_json
from singan_aug.errors import ConfigError, StoreError
from singan_aug.pyramid.sizes import read_start_scale
from singan_aug.store import Store
from singan_aug.workers import end_with_parent


@app.command()
@reported
def bank(
    location: Location = None,
    variants: Annotated[
        int | None,
        typer.Option(
            "--variants",
            "-n",
            help="Variants of each image at each start scale. Default: as many as the bank has, or 8.",
            show_default=False,
        ),
    ] = None,
    start_scale: Annotated[list[str] | None, several_start_scales("Default: those that the bank has, or fine.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The variants derive from it. Default: the bank's own, or 0.", show_default=False),
    ] = None,
    confine: Annotated[
        ConfineTo | None, typer.Option(help=f"{CONFINE_HELP} Default: as the bank has it, or none.", show_default=False)
    ] = None,
    confine_margin_px: Annotated[
        float | None,
        typer.Option(
            help="How far around the object, 0 to 256, it may grow. Default: as the bank has it, or 8.",
            show_default=False,
        ),
    ] = None,
    refresh: Annotated[
        float | None,
        typer.Option(help="Draw this share of the bank anew, oldest first: 0.25 for a quarter.", show_default=False),
    ] = None,
    jobs: Jobs = None,
    dry_run: DryRun = False,
    remove: Annotated[bool, typer.Option("--rm", help="Delete the bank. The pyramids stay.")] = False,
    yes: Yes = False,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End with this process, which began it.")] = None,
    quiet: Quiet = False,  # noqa: ARG001 (`reported` looks at it)
    as_json: AsJson = False,
) -> None:
    """Draw variants beforehand into one file, from which pipelines take them at once instead of drawing live.

    Run it again after an interruption, or when pyramids were added: what is drawn is kept.
    """
    from singan_aug.bank import draw_bank, plan_bank

    if parent is not None:
        end_with_parent(parent)
    store = existing_store(location)
    if remove:
        if any(option is not None for option in (variants, start_scale, seed, confine, confine_margin_px, refresh)):
            raise ConfigError("expected --rm alone: beside it only --store, --dry-run and --yes mean something")
        _remove(store, dry_run=dry_run, yes=yes)
        return
    asked: dict[str, Any] = {
        "variants": variants,
        "start_scale": None if start_scale is None else [read_start_scale(text) for text in start_scale],
        "seed": seed,
        "confine": None if confine is None else confine.value,
        "confine_margin_px": confine_margin_px,
        "refresh": refresh,
        "jobs": jobs,
    }
    if dry_run or not yes:
        plan = plan_bank(store, **asked, timed=dry_run)
        if dry_run:
            _show_plan(store, plan, as_json)
            return
        confirm_loss(plan.dropped, f"drop {plan.dropped:,} variants of the bank of {store.location}", yes=yes)
    started_sec = time.monotonic()
    with ProgressBar("drawing variants") as bar:
        report = draw_bank(
            store,
            **asked,
            drop=True,
            on_event=lambda event: bar.show(event.drawn, event.total),
        )
    _complain(report.failed)
    if as_json:
        show_json({"variants": report.variants, "drawn": report.drawn, "failed": dict(report.failed)})
    else:
        spent = duration(time.monotonic() - started_sec)
        say(f"{report.drawn} variants drawn in {spent}; the bank of {store.location} holds {report.variants}")
    if report.failed:
        raise typer.Exit(FAILED)


def _remove(store: Store, *, dry_run: bool, yes: bool) -> None:
    from singan_aug.bank import remove_bank

    held = "a bank that cannot be read"
    count = 2  # of what cannot be counted there may be many
    with suppress(StoreError):
        count = sum(Bank(store).check()[::2])
        held = f"the bank of {count:,} variants"
    if dry_run:
        say(f"{held} in {store.location} would be removed")
        return
    confirm_loss(count if store.bank_path and store.bank_path.exists() else 0, f"delete {held}", yes=yes)
    remove_bank(store)
    say(f"removed {held} of {store.location}")


def _show_plan(store: Store, plan: BankPlan, as_json: bool) -> None:
    _complain(plan.failed)
    if as_json:
        show_json(
            {
                "pyramids": len({entry.key for entry in plan.entries}),
                "variants": len(plan.entries) * plan.spec.variants,
                "to_draw": plan.to_draw,
                "dropped": plan.dropped,
                "bytes": plan.stored_bytes,
                "wall_sec": round(plan.wall_sec, 1),
                "jobs": plan.jobs,
                "failed": dict(plan.failed),
            }
        )
    else:
        scales = ", ".join(map(str, plan.spec.start_scales))
        say(
            f"{len({entry.key for entry in plan.entries})} pyramids, {plan.spec.variants} variants of each from start "
            f"scale {scales}: {plan.to_draw} to draw"
            + (f"; {plan.dropped:,} that are drawn would be dropped" if plan.dropped else "")
        )
        say(
            f"about {duration(plan.wall_sec)} with {plan.jobs} side by side, "
            f"{file_size(plan.stored_bytes)} in {store.location}"
        )
    if plan.failed:
        raise typer.Exit(FAILED)


def _complain(failed: tuple[tuple[str, str], ...]) -> None:
    for key, message in failed:
        complain(f"{key}: {message}")
