"""`singan-aug advise`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from singan_aug.cli._app import AsJson, app, reported
from singan_aug.display import complain, say, show_json, show_table
from singan_aug.errors import ConfigError

if TYPE_CHECKING:
    from singan_aug.advise import Outcome


@app.command()
@reported
def advise(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Your images, with their labels.")],
    composition: Annotated[
        str | None,
        typer.Option(
            help="What they show, where the guess is wrong: fixed, surfaces, thin structures, objects.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train networks with and without variants, too.")] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long --train may take, about.")] = 10.0,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="How many images of each class --train trains on.", show_default=False)
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="A model of timm for --train, such as resnet18.", show_default=False)
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder in which --train is taken up again.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether variants are worth while for your images, and which: nothing is stored."""
    from singan_aug.advise import COMPOSITIONS, advise, try_out  # imports torch

    known = {name: name for name in COMPOSITIONS}
    if composition is not None and composition not in known:
        raise ConfigError(f"expected a composition out of {', '.join(known)}, got {composition!r}")
    advice = advise(folder, composition=None if composition is None else known[composition])
    if not as_json:
        say(advice.seen)
        show_table(["", "advice", "because"], [[line.about, line.say, line.because] for line in advice.lines])
    outcome = None
    if train:
        outcome = try_out(folder, minutes=minutes, per_class=per_class, network=network, work=work, say=complain)
    if as_json:
        show_json({**json.loads(advice.to_json()), "trial": None if outcome is None else asdict(outcome)})
    elif outcome is not None:
        _show(outcome)


def _show(outcome: Outcome) -> None:
    say(
        f"trained on {outcome.images} images of each class, {outcome.splits} choices of them, tested on "
        f"{outcome.tested}; "
        f"{outcome.measure} in per cent, differences in points with their 95 % interval; "
        f"{outcome.process_sec:.0f} processor-seconds"
    )
    against = {row["arm"]: row for row in outcome.changes}
    best = {row["arm"]: row for row in outcome.from_best}
    rows = [
        [arm, f"{reached:.1f}", _interval(against.get(arm)), _interval(best.get(arm))]
        for arm, reached in outcome.reached.items()
    ]
    show_table(["arm", outcome.measure, "from the same without variants", "from the best without variants"], rows)


def _interval(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['difference']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
