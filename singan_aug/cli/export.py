"""`singan-aug export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singan_aug.cli._app import (
    CONFINE_HELP,
    FAILED,
    AsJson,
    ConfineMarginPx,
    ConfineTo,
    Jobs,
    Location,
    Quiet,
    Seed,
    app,
    existing_store,
    reported,
    several_start_scales,
)
from singan_aug.display import complain, say, show_json
from singan_aug.pyramid.confine import MARGIN_PX
from singan_aug.pyramid.sizes import DEFAULT_START, read_start_scale

if TYPE_CHECKING:
    from singan_aug.export import ExportReport


class Originals(StrEnum):
    """What becomes of the images that variants are drawn of."""

    copy = "copy"
    link = "link"
    none = "none"


@app.command()
@reported
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The dataset, its images fitted.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where to; a new or empty folder.")],
    variants: Annotated[int, typer.Option("--variants", "-n", min=0, help="How many of each image.")] = 4,
    start_scale: Annotated[list[str] | None, several_start_scales("Variants take turns. Default: fine.")] = None,
    layout: Annotated[
        str, typer.Option(help="imagefolder, coco, yolo, masks (images/ and masks/); auto looks at the folder.")
    ] = "auto",
    annotations: Annotated[
        Path | None, typer.Option(help="The COCO file, where the folder has several.", show_default=False)
    ] = None,
    originals: Annotated[
        Originals, typer.Option(help="Copy them beside their variants, link them (hard links), or leave them out.")
    ] = Originals.copy,
    seed: Seed = 0,
    confine: Annotated[ConfineTo, typer.Option(help=CONFINE_HELP)] = ConfineTo.none,
    confine_margin_px: ConfineMarginPx = MARGIN_PX,
    force: Annotated[bool, typer.Option("--force", help="Write over what is in OUT.")] = False,
    jobs: Jobs = None,
    location: Location = None,
    quiet: Quiet = False,  # noqa: ARG001 (`reported` looks at it)
    as_json: AsJson = False,
) -> None:
    """Write an augmented copy of a dataset folder, its labels carried along, for tools that take no transform.

    Run it again after an interruption, or when images were added and fitted: what is there is kept.
    """
    from singan_aug.export import export_dataset  # imports torch

    starts = tuple(read_start_scale(text) for text in start_scale or [DEFAULT_START])
    report = export_dataset(
        folder,
        out,
        existing_store(location),
        layout=layout,
        variants=variants,
        start_scale=starts,
        originals=originals.value,
        annotations=annotations,
        seed=seed,
        confine=confine.wanted,
        confine_margin_px=confine_margin_px,
        jobs=jobs,
        force=force,
        on_event=lambda outcome: complain(f"{outcome.path}: {outcome.message}") if outcome.message else None,
    )
    _summarise(report, out, as_json)
    if report.with_status("failed"):
        raise typer.Exit(FAILED)


def _summarise(report: ExportReport, out: Path, as_json: bool) -> None:
    """Say what became of the images, for people or for scripts."""
    counts = {status: len(report.with_status(status)) for status in ("exported", "present", "copied", "failed")}
    if as_json:
        rows = [{"path": str(o.path), "status": o.status, "message": o.message} for o in report.outcomes]
        extra = {"variants": report.variants, "notes": list(report.notes), "out": str(out)}
        show_json({"layout": report.layout, **counts, **extra, "images": rows})
        return
    parts = [f"{counts['exported']} images exported"]
    parts += [f"{counts['present']} already there"] if counts["present"] else []
    parts += [f"{counts['copied']} copied, nothing in their folders being fitted"] if counts["copied"] else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    say(f"{', '.join(parts)}; {report.variants} variants in {out} (layout {report.layout})")
    for note in report.notes:
        say(note)
    for outcome in report.with_status("failed"):
        say(f"failed: {outcome.path}: {outcome.message}")
