"""`singan-aug score`."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from singan_aug.cli._app import AsJson, app, reported
from singan_aug.display import complain, file_size, say, show_json, show_table
from singan_aug.errors import ConfigError

if TYPE_CHECKING:
    from singan_aug.metrics.scoring import Scored
    from singan_aug.metrics.weights import Published

WEIGHTS = "SINGAN_AUG_METRICS"


@app.command()
@reported
def score(
    real: Annotated[
        Path | None, typer.Argument(help="A source image, or a folder of them.", show_default=False)
    ] = None,
    fake: Annotated[
        Path | None,
        typer.Argument(
            help="An image to score, or a folder of them: named as their sources are, or beginning with their names.",
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
    """Score images against their sources: SIFID, LPIPS, patch distance, copies, pixel diversity."""
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
    weights = weights or (Path(os.environ[WEIGHTS]) if os.environ.get(WEIGHTS) else None)

    from singan_aug.metrics.scoring import Networks, pair_files, score_files

    if weights is None:
        complain(
            "without SIFID and LPIPS, which need weights: name their folder by --weights or "
            f"${WEIGHTS}, or fetch them once by `singan-aug score --download DIR`"
        )
    networks = None if weights is None else Networks.load(weights)
    pairs, alone = pair_files(real, fake)
    for path in alone:
        complain(f"{path} belongs to no image of {real}: left out")
    scored = [score_files(one, fakes, networks) for one, fakes in pairs.items()]
    for note in dict.fromkeys(note for each in scored for note in each.notes):
        complain(note)
    if as_json:
        show_json(_described(scored))
    else:
        _show(scored)


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
        {"real": str(each.real), "fakes": len(each.values), "pixel_diversity": each.pixel_diversity} for each in scored
    ]
    return {"images": images, "sources": sources, "mean": _over(scored, "mean"), "median": _over(scored, "median")}


def _over(scored: list[Scored], what: str) -> dict[str, float]:
    """Over all images that have the measure, and of pixel diversity over all sources that have it."""
    columns: dict[str, list[float]] = {}
    for each in scored:
        for values in each.values.values():
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
    diversities = [each.pixel_diversity for each in scored if each.pixel_diversity is not None]
    columns |= {"pixel_diversity": diversities} if diversities else {}
    return {name: getattr(statistics, what)(values) for name, values in columns.items()}


def _show(scored: list[Scored]) -> None:
    mean, median = _over(scored, "mean"), _over(scored, "median")
    names = [name for name in mean if name != "pixel_diversity"]
    rows = [[path.name, *_cells(values, names)] for each in scored for path, values in each.values.items()]
    rows += [["mean", *_cells(mean, names)], ["median", *_cells(median, names)]]
    show_table(["image", *names], rows)
    if "pixel_diversity" in mean:
        say(f"pixel diversity, mean over sources with several images of one size: {mean['pixel_diversity']:.4f}")


def _cells(values: Any, names: list[str]) -> list[str]:
    return [f"{values[name]:.4f}" if name in values else "-" for name in names]
