"""`singan-aug report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import FAILED, Jobs, Location, Seed, app, existing_store, reported
from singan_aug.cli._output import Force, refuse_existing, write_new
from singan_aug.cli.score import weights_folder
from singan_aug.display import ProgressBar, complain, file_size, say
from singan_aug.errors import ConfigError


@app.command()
@reported
def report(
    named: Annotated[
        Path | None, typer.Argument(metavar="STORE", help="The same as --store STORE.", show_default=False)
    ] = None,
    location: Location = None,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the source images: shown beside the variants, their subfolders as classes. Default: every "
            "pyramid of the store, without its source.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Also write the measures to this CSV file.", show_default=False)
    ] = None,
    variants: Annotated[
        int | None,
        typer.Option(help="From each start scale. Default: 4, of more than 200 pyramids 2.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of the weights of SIFID, as for `score`.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Pyramids at most.", show_default=False)] = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    force: Force = False,
) -> None:
    """Write one HTML file of a store: every image with variants and measures at each start scale, failures on top."""
    if named is not None and location is not None:
        raise ConfigError(f"expected one store, got {named} and --store {location}")
    store = existing_store(named if named is not None else location)
    refuse_existing(out, table, force=force)
    from singan_aug.dataset import find_images
    from singan_aug.report import make_report

    classes = None
    if images is not None:
        if not images.is_dir():
            raise ConfigError(f"expected a folder of images, got {images}: there is no such folder")
        found = find_images([images]).images
        classes = {path: path.parent.relative_to(images).as_posix().removeprefix(".") for path in found}
    with ProgressBar("drawing and measuring") as bar:
        made = make_report(
            store,
            images=classes,
            variants=variants,
            weights=weights_folder(weights),
            limit=limit,
            seed=seed,
            jobs=jobs,
            on_entry=bar.show,
        )
    write_new({out: made.html.encode()}, force=force)
    if table is not None:
        made.write_table(table)
    for what, why in made.failed:
        complain(f"{what}: {why}")
    if not made.has_plots:
        complain("without plots, which need matplotlib: pip install singan-aug[report]")
    say(f"wrote {out} ({file_size(out.stat().st_size)}): {len(made.entries)} pyramids; open it in a browser")
    if made.failed:
        raise typer.Exit(FAILED)
