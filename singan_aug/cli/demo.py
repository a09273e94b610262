"""`singan-aug demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import Jobs, Location, Quiet, app, reported
from singan_aug.cli._output import Force, as_png, write_new
from singan_aug.cli.fit import summarise
from singan_aug.config import MOST_PX
from singan_aug.display import Display, say
from singan_aug.presets import preset
from singan_aug.store import open_store


@app.command()
@reported
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures, and for the store unless --store names one.")
    ] = Path("singan-aug-demo"),
    location: Location = None,
    max_size: Annotated[
        int, typer.Option(min=64, max=MOST_PX, help="Long side in pixels at which the photos are fitted.")
    ] = 250,
    force: Force = False,
    jobs: Jobs = None,
    quiet: Quiet = False,  # noqa: ARG001 (`reported` looks at it)
) -> None:
    """Fit six photos that come with the package, draw variants in a DataLoader, and write a contact sheet."""
    from singan_aug.demo import run_demo

    out.mkdir(parents=True, exist_ok=True)
    store = open_store(location or out / "store")
    started_sec = time.monotonic()
    with Display() as display:
        result = run_demo(store, preset("fast", finest_px=max_size), jobs=jobs, on_event=display.show)
    summarise(result.report, store, time.monotonic() - started_sec, as_json=False)
    sheet, batch = out / "contact-sheet.png", out / "batch.png"
    write_new({sheet: as_png(result.sheet), batch: as_png(result.batch)}, force=force)
    say(f"contact sheet: {sheet}\na batch of a training pipeline: {batch}")
