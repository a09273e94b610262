"""`singan-aug preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from singan_aug.cli._app import FAILED, Seed, app, reported
from singan_aug.cli._output import Force, as_png, refuse_existing, write_new
from singan_aug.config import MOST_PX
from singan_aug.display import complain, say
from singan_aug.errors import ConfigError
from singan_aug.presets import PRESETS, preset
from singan_aug.pyramid.sizes import read_start_scale


@app.command()
@reported
def preview(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of images, or one image.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("preview.png"),
    preset_name: Annotated[str, typer.Option("--preset", help=f"How to fit: {' or '.join(sorted(PRESETS))}.")] = "fast",
    start_scale: Annotated[
        str | None,
        typer.Option(help="As for `draw`. Default: fine, as in training.", show_default=False),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="In place of a start scale: 0, least, to 10, most.", show_default=False)
    ] = None,
    p: Annotated[float, typer.Option("--p", help="How likely training replaces an image.")] = 0.5,
    limit: Annotated[int, typer.Option(help="Show this many images at most.")] = 4,
    max_size: Annotated[
        int | None,
        typer.Option(
            min=25, max=MOST_PX, help="Long side in pixels at which to fit. Default: the preset's.", show_default=False
        ),
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Show what training would get of a few of your images, before you fit all of them. Nothing is stored."""
    if not folder.exists():
        raise ConfigError(f"expected a folder of images, got {folder}: there is no such folder")
    refuse_existing(out, force=force)
    from singan_aug.preview import make_preview

    changes: dict[str, Any] = {"seed": seed} | ({"finest_px": max_size} if max_size is not None else {})
    made = make_preview(
        folder,
        preset(preset_name, **changes),
        start_scale=None if start_scale is None else read_start_scale(start_scale),
        strength=strength,
        p=p,
        limit=limit,
        seed=seed,
    )
    for path, why in made.failed:
        complain(f"{path}: {why}")
    write_new({out: as_png(made.picture)}, force=force)
    say(str(out))
    if made.failed:
        raise typer.Exit(FAILED)
