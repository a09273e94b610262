"""The plots of docs/benchmarks.md, out of the results alone: the same results give the same files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks._questions import NAMES
from benchmarks._result import Row

__all__ = ["STYLE", "draw_all"]

STYLE: Any = {
    "svg.hashsalt": "singan-aug",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
Results = Mapping[str, Mapping[str, Any]]  # of each suite, by its name


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Write every plot that the results suffice for."""
    written = []
    plots: dict[str, Callable[[Results], Figure | None]] = {
        "cost.svg": _cost,
        "frontier.svg": _frontier,
        "gradients.svg": _gradients,
        "unfrozen.svg": _unfrozen,
    }
    with matplotlib.rc_context(STYLE):
        for name, plot in plots.items():
            figure = plot(results)
            if figure is not None:
                folder.mkdir(exist_ok=True)
                figure.savefig(folder / name, metadata={"Date": None})
                written.append(folder / name)
    return written


def _rows(results: Results, suite: str, *fields: str) -> list[Row]:
    """Rows of a suite that have all of these fields."""
    rows = results.get(suite, {}).get("rows", [])
    return [row for row in rows if all(row.get(field) is not None for field in fields)]


def _middle(value: Any) -> float:
    return float(value["median"] if isinstance(value, dict) else value)


def _cost(results: Results) -> Figure | None:
    """Process seconds of a fit, and memory, against pixels; a line in proportion to pixels beside them."""
    rows = _rows(results, "fit", "pixels", "process_sec", "peak_memory_bytes")
    if not rows:
        return None
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    cost, memory = figure.subplots(1, 2)
    for what in dict.fromkeys(row["what"] for row in rows):
        own = [row for row in rows if row["what"] == what]
        pixels, seconds = [row["pixels"] for row in own], [_middle(row["process_sec"]) for row in own]
        cost.loglog(pixels, seconds, "o-", label=what)
        cost.loglog(pixels, [seconds[0] * each / pixels[0] for each in pixels], "k:", label="in proportion to pixels")
        memory.semilogx(pixels, [row["peak_memory_bytes"] / 1e6 for row in own], "o-", label=what)
    _label(cost, "pixels", "process-seconds of a fit")
    _label(memory, "pixels", "peak memory of the process, MB")
    memory.set_ylim(bottom=0)
    return figure


def _frontier(results: Results) -> Figure | None:
    """Left: SIFID from the coarsest scale against the cost of a fit. Right: SIFID against LPIPS along a knob."""
    points = _points(results)
    if not points:
        return None
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (what, (seconds, score)), marker in zip(points.items(), "osD^v<>pPX*hH8d", strict=False):
        left.semilogx([seconds], [score], marker, label=what)
    for what, score in _peers(results).items():
        if what not in points:  # nothing is known of its cost here
            left.axhline(score, color="grey", linestyle=":", label=f"{what} (cost not measured)")
    _label(left, "process-seconds of a fit (GPNN: of a sample)", "SIFID, start scale 0")
    knob = _rows(results, "knob", "sifid_mean", "lpips_to_source_mean")
    for what in dict.fromkeys(row["what"] for row in knob):
        own = [row for row in knob if row["what"] == what]
        x, y = [row["lpips_to_source_mean"] for row in own], [row["sifid_mean"] for row in own]
        right.semilogy(x, y, "o-" if "knob" in own[0] else "*", markersize=4 if "knob" in own[0] else 9, label=what)
    if knob:
        _label(right, "LPIPS to the source", "SIFID, start scale 0")
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=7)  # under the lines
    else:
        right.set_visible(False)
    return figure


def _points(results: Results) -> dict[str, tuple[float, float]]:
    """(process seconds of a fit, SIFID from start scale 0) of everything of which both were measured."""
    points = {}
    for row in _rows(results, "quality", "start_scale", "sifid_mean", "fit_sec"):
        if row["start_scale"] == 0:
            points[row["what"]] = (_middle(row["fit_sec"]), row["sifid_mean"])
    peers = _peers(results)
    for row in _rows(results, "fit", "process_sec_extrapolated"):
        if "SinGAN" in peers:
            points["SinGAN"] = (row["process_sec_extrapolated"], peers["SinGAN"])
    samples = _rows(results, "draw", "sample_sec")
    if samples and "GPNN" in peers:
        points["GPNN"] = (_middle(samples[-1]["sample_sec"]), peers["GPNN"])
    return points


def _peers(results: Results) -> dict[str, float]:
    """SIFID of other programs' samples."""
    rows = _rows(results, "quality", "sifid_mean", "lpips_to_source_mean")
    return {row["what"]: row["sifid_mean"] for row in rows if "start_scale" not in row}


def _gradients(results: Results) -> Figure | None:
    """Of each schedule a panel: the gradient norm of each scale's generator while the finest scale is trained."""
    rows = _rows(results, "ablation", "stage", "scale", "median")
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    if not arms:
        return None
    figure = Figure(figsize=(8, 2.6 * ((len(arms) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(arms) + 1) // 2, 2, sharey=True, squeeze=False)
    for arm, axes in zip(arms, panels.flat, strict=False):
        own = [row for row in rows if row["arm"] == arm]
        for scale in sorted({row["scale"] for row in own}):
            last = [row for row in own if row["scale"] == scale][-1]  # the stage in which it was trained last
            share = [i / len(last["median"]) for i in range(len(last["median"]))]
            (line,) = axes.semilogy(share, last["median"], "o-", markersize=3, label=f"scale {scale}")
            axes.fill_between(share, last["q25"], last["q75"], color=line.get_color(), alpha=0.2)
        axes.set_title(arm, fontsize=9)
        _label(axes, "share of the stage done", "gradient norm")
    for axes in panels.flat[len(arms) :]:
        axes.set_visible(False)
    return figure


def _unfrozen(results: Results) -> Figure | None:
    """SIFID against diversity, for each start scale of each base."""
    rows = [row for row in _rows(results, "ablation", "start_scale", "sifid", "diversity") if row["what"] == "unfrozen"]
    if not rows:
        return None
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for base in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == base]
        x, y = [row["diversity"] for row in own], [row["sifid"] for row in own]
        axes.semilogy(x, y, "o-", label=NAMES[base])
        for row, place in zip(own, zip(x, y, strict=True), strict=True):
            axes.annotate(f"{row['start_scale']}", place, textcoords="offset points", xytext=(4, -9))
    _label(axes, "diversity per pixel", "SIFID, by start scale")
    return figure


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize=7)
