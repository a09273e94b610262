"""`singan-aug sample`, `super-resolution`, `interpolate` and `animate`: what a pyramid draws by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singan_aug.cli._app import AsJson, Location, Seed, Target, app, reported
from singan_aug.cli._output import Force, write_new
from singan_aug.cli._pictures import (
    FitFirst,
    MaxSize,
    Out,
    PresetName,
    Subject,
    start_of,
    subject_of,
    write_pictures,
)
from singan_aug.cli.draw import parse_size
from singan_aug.display import file_size, say, show_json
from singan_aug.pyramid.sizes import read_start_scale

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path("pictures")
StartOfDraw = Annotated[str, typer.Option("--start-scale", help="As for `draw`.")]
StartOfLoop = Annotated[
    str | None,
    typer.Option("--start-scale", help="As for `draw`. Default: 1, where there are two or more.", show_default=False),
]
Clip = Annotated[Path, typer.Option("--out", help="The file to write: .gif, .webp, or .mp4 (extra `video`).")]
Fps = Annotated[float, typer.Option(min=1, max=50, help="Pictures a second.")]


@app.command()
@reported
def sample(
    target: Target,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT. Default: the pyramid's own.", show_default=False)
    ] = None,
    variants: Annotated[int, typer.Option("--variants", "-n", min=1, help="How many.")] = 1,
    start_scale: StartOfDraw = "coarse",
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Variants of any size and aspect, panoramas too: things stay as large as they are in IMAGE."""
    from singan_aug import tasks

    start, wanted = read_start_scale(start_scale), parse_size(size)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    made = tasks.sample(subject.pyramid, variants, subject.size(wanted), start_scale=start, seed=seed)
    shape = size or "own"
    names = [f"{subject.stem}_sample_{shape}_scale{start_scale}_seed{seed}_{i}" for i in range(variants)]
    write_pictures(subject, made, names, out, force=force, as_json=as_json)


@app.command("super-resolution")
@reported
def super_resolution(
    target: Target,
    factor: Annotated[float, typer.Option(min=1.1, max=16, help="How many times as large.")] = 2.0,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    out: Out = FOLDER,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Super-resolution: IMAGE, as its pyramid holds it, larger and with detail of its own."""
    from singan_aug import tasks

    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    made = tasks.super_resolution(subject.pyramid, factor, seed=seed)
    write_pictures(subject, made, [f"{subject.stem}_x{factor:g}"], out, force=force, as_json=as_json)


@app.command()
@reported
def animate(
    target: Target,
    out: Clip = Path("animation.gif"),
    frames: Annotated[int, typer.Option(min=2, max=2000, help="How many pictures the loop has.")] = 60,
    fps: Fps = 15,
    alpha: Annotated[
        float, typer.Option(help="How strongly it is drawn to IMAGE, 0.01 to 1; smaller is slower.")
    ] = 0.05,
    beta: Annotated[float, typer.Option(help="How smoothly it moves, 0 to 0.99.")] = 0.9,
    start_scale: StartOfLoop = None,
    seed: Seed = 0,
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Bring IMAGE to life: a loop without a jump."""
    from singan_aug import tasks

    start = start_of(start_scale)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    made = tasks.animate(subject.pyramid, frames=frames, alpha=alpha, beta=beta, start_scale=start, seed=seed)
    _write_clip(subject, made, out, fps, loop=True, force=force, as_json=as_json)


@app.command()
@reported
def interpolate(
    target: Target,
    seed_from: Annotated[int, typer.Option("--seed-from", min=0, help="Seed of the first picture.")] = 0,
    seed_to: Annotated[int, typer.Option("--seed-to", min=0, help="Seed of the last picture.")] = 1,
    out: Clip = Path("interpolation.gif"),
    frames: Annotated[int, typer.Option(min=2, max=2000, help="How many pictures.")] = 30,
    fps: Fps = 15,
    start_scale: StartOfDraw = "coarse",
    fit_first: FitFirst = False,
    preset_name: PresetName = None,
    max_size: MaxSize = None,
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """The way from one draw to another."""
    from singan_aug import tasks

    start = read_start_scale(start_scale)
    subject = subject_of(target, location, preset_name, max_size, fit_first=fit_first)
    made = tasks.interpolate(subject.pyramid, seed_from, seed_to, frames=frames, start_scale=start)
    _write_clip(subject, made, out, fps, loop=False, force=force, as_json=as_json)


def _write_clip(
    subject: Subject, frames: Tensor, out: Path, fps: float, *, loop: bool, force: bool, as_json: bool
) -> None:
    from tempfile import TemporaryDirectory

    from singan_aug.tasks import save_clip

    with TemporaryDirectory() as place:
        made = Path(place) / out.name
        save_clip(subject.back(frames), made, fps=fps, loop=loop)
        data = made.read_bytes()
    write_new({out: data}, force=force)
    if as_json:
        show_json({"path": str(out), "frames": len(frames), "bytes": len(data)})
    else:
        say(f"{out}: {len(frames)} pictures, {len(frames) / fps:.1f} s, {file_size(len(data))}")
