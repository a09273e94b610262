"""`singan-aug study` and `singan-aug study score`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from singan_aug.cli._app import AsJson, Seed, app, reported
from singan_aug.cli._output import Force, refuse_existing, write_new
from singan_aug.display import complain, file_size, say, show_json, show_table
from singan_aug.errors import ConfigError


class _PageFirst(TyperGroup):
    """`study REAL FAKE` is `study page REAL FAKE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["page", *args]
        return super().parse_args(ctx, args)


study = typer.Typer(cls=_PageFirst, no_args_is_help=True)
app.add_typer(
    study, name="study", help="Ask people which images are fake: `study REAL FAKE`, then `study score FILES`."
)


@study.command()
@reported
def page(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="A source image, or a folder of them.")],
    fake: Annotated[Path, typer.Argument(metavar="FAKE", help="A fake, or a folder of them, named as for `score`.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("study.html"),
    trials: Annotated[int, typer.Option(help="Pairs that each participant sees.")] = 50,
    exposure_sec: Annotated[float, typer.Option("--exposure-sec", help="Seconds for which each image is shown.")] = 1.0,
    max_size: Annotated[int, typer.Option(help="Long side in pixels to which larger images are shrunk.")] = 512,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write one HTML file that asks people which images are fake. It needs no network and no server."""
    for path in (real, fake):
        if not path.exists():
            raise ConfigError(f"expected an image or a folder of them, got {path}: there is no such file or folder")
    refuse_existing(out, force=force)
    from singan_aug.metrics.pairing import pair_files
    from singan_aug.study import make_study

    pairs, alone = pair_files(real, fake)
    for path in alone:
        complain(f"{path} belongs to no image of {real}: left out")
    made = make_study(pairs, trials=trials, exposure_sec=exposure_sec, max_size=max_size, seed=seed)
    write_new({out: made.html.encode()}, force=force)
    if made.paired_trials < trials or made.unpaired_trials < 2 * trials:
        complain(
            f"{len(pairs)} real images have fakes: fewer trials than asked for. Two images: {made.paired_trials} of "
            f"{trials}; one image, {made.unpaired_trials} of {2 * trials}, which would take {2 * trials} real images"
        )
    say(f"wrote {out} ({file_size(out.stat().st_size)}): open it in a browser, or send it to your participants")


@study.command()
@reported
def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV files that participants saved.")],
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """How often people were wrong, with a 95 % interval; 50 % is what guessing gives."""
    from singan_aug.study import read_answers, score_answers

    found = score_answers(read_answers(files), seed=seed)
    for each in found:
        for participant in each.left_out:
            complain(f"participant {participant} failed the attention checks of the {each.protocol} protocol: left out")
        if each.too_long:
            complain(f"{each.too_long} answers of the {each.protocol} protocol saw the image too long: left out")
    if as_json:
        show_json([asdict(each) for each in found])
        return
    columns = ["protocol", "confusion", "95 % interval", "made by", "answers", "participants"]
    columns += ["fakes as real", "reals as fake"]
    rows = []
    for each in found:
        rates = (each.fakes_taken_for_real, each.reals_taken_for_fake)
        shares = ["-" if rate is None else f"{rate:.1%}" for rate in rates]
        interval = f"{each.low:.1%} to {each.high:.1%}"
        counts = [str(each.answers), str(each.participants)]
        rows.append([each.protocol, f"{each.rate:.1%}", interval, each.interval, *counts, *shares])
    show_table(columns, rows)
