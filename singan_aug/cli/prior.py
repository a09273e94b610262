"""`singan-aug prior`: learning the weights from which trained generators start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from singan_aug import dataset
from singan_aug.cli._app import Device, Seed, app, check_device, reported
from singan_aug.config import preset
from singan_aug.display import Display, duration, file_size, say
from singan_aug.errors import ConfigError, ImageError
from singan_aug.images import load_image, quiet_decoding

prior = typer.Typer(no_args_is_help=True, help="Learn the weights from which generators start (docs/prior.md).")
app.add_typer(prior, name="prior")


@prior.command()
@reported
def train(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Photos, and folders of them at any depth.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    photos: Annotated[int, typer.Option(min=1, help="Learn from this many at most.")] = dataset.PRIOR_IMAGES,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="About how long, on one core: --steps by what a few of them take here.", show_default=False
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps at each depth. The same steps give the same file.")] = 2000,
    preset_name: Annotated[
        str, typer.Option("--preset", help="The recipe whose fits are to start from it.")
    ] = "trained",
    max_size: Annotated[int, typer.Option(min=25, help="Long side in pixels to which photos are shrunk.")] = 250,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Learn a prior from photos: `singan-aug fit --preset trained --prior FILE` starts from it."""
    from singan_aug.fitting import steps_within, train_prior

    for path in paths:
        if not path.exists():
            raise ConfigError(f"expected photos or folders, got {path}: there is no such file or folder")
    check_device(device)
    config = preset(preset_name, finest_px=max_size, seed=seed, prior=None)
    if config.kind != "convolutional":
        raise ConfigError(f"expected a preset that trains generators, got {preset_name!r}: it has none to start")
    chosen = dataset.prior_images(paths, config)[:photos]
    if not chosen:
        raise ImageError(f"no image that could be fitted in {', '.join(map(str, paths))}")
    with quiet_decoding():
        images = [load_image(path).pixels for path in chosen]
    if minutes is not None:
        steps = steps_within(minutes * 60, images, config)
    started_sec = time.process_time()
    with Display() as display:
        learned = train_prior(
            images, config, steps=steps, device=device, on_event=lambda e: display.show(dataset.Progress(out, e))
        )
    learned.save(out)
    spent, size = duration(time.process_time() - started_sec), file_size(out.stat().st_size)
    say(f"{len(images)} photos, {steps} steps at each depth, {spent}: {out}, {size}")
