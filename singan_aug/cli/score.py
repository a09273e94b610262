"""`singan-aug score`."""

from __future__ import annotations

import os
import statistics
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from singan_aug.cli._app import FAILED, AsJson, app, reported
from singan_aug.display import ProgressBar, complain, file_size, say, show_json, show_table
from singan_aug.errors import ConfigError

if TYPE_CHECKING:
    from singan_aug.metrics.scoring import Scored
    from singan_aug.metrics.weights import Published

WEIGHTS = "SINGAN_AUG_METRICS"
OF_ALL_FAKES = {"pixel_diversity": "pixel diversity", "lpips_between": "LPIPS between neighbours"}  # of one source


@app.command()
@reported
def score(
    real: Annotated[
        Path | None, typer.Argument(metavar="REAL", help="A source image, or a folder of them.", show_default=False)
    ] = None,
    fake: Annotated[
        Path | None,
        typer.Argument(
            metavar="FAKE",
            help="An image to score, or a folder of them, subfolders too: named as their sources are, or beginning "
            "with their names.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder of the weights of SIFID and LPIPS. Default: ${WEIGHTS}; without it other measures alone.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Fetch the published weights (340 MB), verify and convert them into this folder. Where there is no "
            "network, put the files of the URLs there yourself and run it.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score images against their sources: SIFID, LPIPS, patch distance, copies, incoherence, pixel diversity."""
    if download is not None:
        _download(download)
        weights = weights or download
        if real is None:
            return
    if real is None or fake is None:
        raise ConfigError("expected REAL and FAKE, files or folders, or --download DIR")
    for path in (real, fake):
        if not path.exists():
            raise ConfigError(f"expected an image or a folder of them, got {path}: there is no such file or folder")
    weights = weights_folder(weights)

    from singan_aug.metrics.pairing import pair_files
    from singan_aug.metrics.scoring import Networks, score_files

    if weights is None:
        complain(
            "without SIFID and LPIPS, which need weights: name their folder by --weights or "
            f"${WEIGHTS}, or fetch them once by `singan-aug score --download DIR`"
        )
    networks = None if weights is None else Networks.load(weights)
    pairs, alone = pair_files(real, fake)
    for path in alone:
        complain(f"{path} belongs to no image of {real}: left out")
    scored, total = [], sum(map(len, pairs.values()))
    with ProgressBar("scoring") as bar:
        done = count(1)
        for one, fakes in pairs.items():
            scored.append(score_files(one, fakes, networks, on_image=lambda: bar.show(next(done), total)))
    for note in dict.fromkeys(note for each in scored for note in each.notes):
        complain(note)
    failed = [message for each in scored for message in each.failed.values()]
    for message in failed:
        complain(message)
    if as_json:
        show_json(_described(scored))
    elif any(each.values for each in scored):
        _show(scored, fake)
    if failed:
        raise typer.Exit(FAILED)


def weights_folder(named: Path | None) -> Path | None:
    """The folder of weights that an option or the environment names."""
    return named or (Path(os.environ[WEIGHTS]) if os.environ.get(WEIGHTS) else None)


def _download(folder: Path) -> None:
    from singan_aug.metrics.weights import fetch_weights

    def on_file(published: Published, present: bool) -> None:
        what = "found" if present else "fetching"
        say(f"{what} {published.url} ({file_size(published.size_bytes)}, SHA-256 {published.sha256})")

    for path in fetch_weights(folder, on_file=on_file):
        say(f"wrote {path}")


def _described(scored: list[Scored]) -> dict[str, Any]:
    images = [
        {"real": str(each.real), "fake": str(path), **values} for each in scored for path, values in each.values.items()
    ]
    sources = [
        {"real": str(each.real), "fakes": len(each.values), **{name: getattr(each, name) for name in OF_ALL_FAKES}}
        for each in scored
    ]
    return {"images": images, "sources": sources, "mean": _over(scored, "mean"), "median": _over(scored, "median")}


def _over(scored: list[Scored], what: str) -> dict[str, float]:
    """Over all images that have the measure, and of what all fakes of a source have together over these sources."""
    columns: dict[str, list[float]] = {}
    for each in scored:
        for values in each.values.values():
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
    for name in OF_ALL_FAKES:
        together = [value for each in scored if (value := getattr(each, name)) is not None]
        columns |= {name: together} if together else {}
    return {name: getattr(statistics, what)(values) for name, values in columns.items()}


def _show(scored: list[Scored], folder: Path) -> None:
    mean, median = _over(scored, "mean"), _over(scored, "median")
    names = [name for name in mean if name not in OF_ALL_FAKES]
    rows = []
    for each in scored:
        for path, values in each.values.items():
            shown = path.relative_to(folder) if folder.is_dir() else path.name
            rows.append([str(shown), *_cells(values, names)])
    rows += [["mean", *_cells(mean, names)], ["median", *_cells(median, names)]]
    show_table(["image", *names], rows)
    for name, words in OF_ALL_FAKES.items():
        if name in mean:
            say(f"{words}, mean over sources with several images of one size: {mean[name]:.4f}")


def _cells(values: Any, names: list[str]) -> list[str]:
    return [f"{values[name]:.4f}" if name in values else "-" for name in names]
