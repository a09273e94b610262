"""`singan-aug harmonize`, `edit`, `inpaint`, `paint` and `style`: an image enters the pyramid of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import AsJson, Location, Seed, Target, app, reported
from singan_aug.cli._output import Force
from singan_aug.cli._pictures import (
    FitFirst,
    MaxSize,
    Out,
    PresetName,
    Start,
    Subject,
    start_of,
    subject_of,
    write_pictures,
)
from singan_aug.errors import ConfigError

FOLDER = Path("pictures")
Masks = Annotated[
    list[Path] | None,
    typer.Option("--mask", help="Where, as an image: bright on dark; one beside each input, in their order."),
]


def _masks(subject: Subject, inputs: list[Path], masks: list[Path] | None) -> list[object] | None:
    """The pixels of all masks. Raises `ConfigError` where there are not as many as inputs."""
    if not masks:
        return None
    if len(masks) != len(inputs):
        raise ConfigError(f"expected a --mask for each of {len(inputs)} images, in their order, got {len(masks)}")
    return [subject.opened(path) for path in masks]


@app.command()
@reported
def harmonize(
    target: Target,
    paste: Annotated[
        list[Path],
        typer.Option(help="IMAGE with the object pasted into it, of the same size; may be given several times."),
    ],
    masks: Masks = None,
    own_colours: Annotated[
        float, typer.Option(min=0, max=1, help="Share of its own colours that the object keeps.")
    ] = 0.6,
    edge_px: Annotated[int, typer.Option(min=0, max=64, help="How far from the mask pixels may change.")] = 7,
    start_scale: Start = None,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Redraw pasted objects in the texture of IMAGE. Without --mask they are what differs from it."""
    from singan_aug import tasks

    start = start_of(start_scale)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    images, where = [subject.opened(path) for path in paste], _masks(subject, paste, masks)
    made = tasks.harmonize(
        subject.pyramid, images, where, start_scale=start, own_colours=own_colours, edge_px=edge_px, seed=seed
    )
    names = [f"{path.stem}_harmonized" for path in paste]
    write_pictures(subject, made, names, out, force=force, as_json=as_json)


@app.command()
@reported
def edit(
    target: Target,
    edited: Annotated[
        list[Path],
        typer.Option(help="IMAGE with parts moved or painted, of the same size; may be given several times."),
    ],
    masks: Masks = None,
    edge_px: Annotated[int, typer.Option(min=0, max=64, help="How far from the mask pixels may change.")] = 10,
    start_scale: Start = None,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Redraw an edited copy of IMAGE where the cuts show. Without --mask it is where it differs from IMAGE."""
    from singan_aug import tasks

    start = start_of(start_scale)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    images, where = [subject.opened(path) for path in edited], _masks(subject, edited, masks)
    made = tasks.edit(subject.pyramid, images, where, start_scale=start, edge_px=edge_px, seed=seed)
    write_pictures(subject, made, [f"{path.stem}_edited" for path in edited], out, force=force, as_json=as_json)


@app.command()
@reported
def inpaint(
    target: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file that was fitted, or --fit.")],
    masks: Annotated[
        list[Path],
        typer.Option("--mask", help="What to fill, as an image: bright on dark; may be given several times."),
    ],
    start_scale: Start = None,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Fill a region of IMAGE by what is around it."""
    from singan_aug import tasks

    start = start_of(start_scale)
    if not target.exists():
        raise ConfigError(f"expected an image file, got {target}: there is no such file")
    subject = subject_of(str(target), location, preset_name, max_size, fit_first=fit_first)
    image, where = subject.opened(target), [subject.opened(path) for path in masks]
    made = tasks.inpaint(subject.pyramid, [image] * len(where), where, start_scale=start, seed=seed)
    write_pictures(subject, made, [f"{path.stem}_inpainted" for path in masks], out, force=force, as_json=as_json)


@app.command()
@reported
def paint(
    target: Target,
    painting: Annotated[list[Path], typer.Option(help="A rough painting of any size; may be given several times.")],
    colours: Annotated[
        int | None,
        typer.Option(min=2, max=64, help="First replace its colours by so many of IMAGE's.", show_default=False),
    ] = None,
    start_scale: Start = None,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Make a picture out of a rough painting, in the patches of IMAGE."""
    from singan_aug import tasks

    start = start_of(start_scale)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    paintings = [subject.opened(path) for path in painting]
    made = tasks.paint(subject.pyramid, paintings, colours=colours, start_scale=start, seed=seed)
    write_pictures(subject, made, [f"{path.stem}_painted" for path in painting], out, force=force, as_json=as_json)


@app.command()
@reported
def style(
    target: Target,
    layout: Annotated[
        list[Path], typer.Option(help="The image whose layout is kept, of any size; may be given several times.")
    ],
    match_colours: Annotated[bool, typer.Option(help="First map its colours to those of IMAGE.")] = True,
    start_scale: Start = None,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Draw the layout of another image in the patches and colours of IMAGE."""
    from singan_aug import tasks

    start = start_of(start_scale)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    layouts = [subject.opened(path) for path in layout]
    made = tasks.style(subject.pyramid, layouts, match_colours=match_colours, start_scale=start, seed=seed)
    write_pictures(subject, made, [f"{path.stem}_styled" for path in layout], out, force=force, as_json=as_json)
