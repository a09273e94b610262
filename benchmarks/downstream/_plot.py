"""What variants add, as plots: the findings in one, and a panel for each result, a colour for each base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks._plots import STYLE
from benchmarks.downstream.summary import FINDINGS, Finding, Gain, gain_row
from singan_aug.pyramid.sizes import DEFAULT_START
from singan_aug.trial.protocol import PASTES, parse_arm
from singan_aug.trial.statistics import cells_of, deciding, differences

__all__ = ["draw", "draw_summary"]


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the plot: a panel for each result, what the default start scale adds to each arm, with 95 % intervals."""
    panels = {name: _by_base(result) for name, result in results.items()}
    panels = {name: bases for name, bases in panels.items() if bases}
    if not panels:
        return
    with matplotlib.rc_context({**STYLE, "font.size": 8}):
        columns = min(3, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(3.4 * columns, 2.4 * lines), layout="constrained")
        grid = list(figure.subplots(lines, columns, squeeze=False).flat)
        for spare in grid[len(panels) :]:
            spare.set_visible(False)
        for axes, (name, bases) in zip(grid, panels.items(), strict=False):
            counts = sorted({row["images"] for rows in bases.values() for row in rows})
            for i, (base, rows) in enumerate(bases.items()):
                aside = 0.12 * (i - (len(bases) - 1) / 2)  # so that intervals do not hide one another
                at = [counts.index(row["images"]) + aside for row in rows]
                middles = [row["difference"] for row in rows]
                reach = np.array([[row["difference"] - row["low"], row["high"] - row["difference"]] for row in rows]).T
                axes.errorbar(at, middles, yerr=reach, fmt="o", markersize=3, linewidth=1, label=base)
            axes.axhline(0, color="black", linewidth=0.8)
            axes.set_xticks(range(len(counts)), [str(count) for count in counts])
            axes.set_xlim(-0.6, len(counts) - 0.4)
            axes.set_title(name)
            axes.legend(fontsize=6, ncols=2)
        figure.supxlabel("images of a class")
        figure.supylabel(f"points that variants ({DEFAULT_START}, half of the images) add")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def draw_summary(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the plot of the findings: a line for each gain of variants, with its 95 % interval."""
    lines = [
        (_line_text(finding, gain), gain_row(gain, results))
        for finding in FINDINGS
        for gain in finding.gains
        if gain.result in results and parse_arm(gain.arm).source
    ]
    if not lines:
        return
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.32 * len(lines) + 0.8), layout="constrained")
        axes = figure.subplots()
        for place, (_, row) in enumerate(lines):
            colour = "tab:green" if row["low"] > 0 else "tab:red" if row["high"] < 0 else "tab:grey"
            reach = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
            axes.errorbar(row["difference"], place, xerr=reach, fmt="o", color=colour)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(lines)), [text for text, _ in lines])
        axes.invert_yaxis()
        axes.set_xlabel("points that variants add, with 95 % interval")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _line_text(finding: Finding, gain: Gain) -> str:
    pasted = "pastes " if parse_arm(gain.arm).source in PASTES else ""
    return f"{finding.task.partition(':')[0]}, {finding.images}: {pasted}over {gain.over}"


def _by_base(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Differences by what variants came on top of; of the rare class where there is one."""
    bases: dict[str, list[dict[str, Any]]] = {}
    for row in deciding(differences(cells_of(result))):
        strong = parse_arm(row["arm"]).strong
        if row["arm"] == f"{strong}+{DEFAULT_START}":
            bases.setdefault(strong, []).append(row)
    return bases
