"""What variants change, as a plot: one panel for each set, one line for each start scale and base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.downstream.statistics import cells_of, differences

__all__ = ["draw"]

STYLE = {"svg.hashsalt": "singan-aug", "svg.fonttype": "none", "font.size": 8, "axes.grid": True, "grid.alpha": 0.3}


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the plot: differences in points with their 95 % intervals, arms with variants to the same without."""
    panels = [(name, count) for name, result in results.items() for count in _counts(result)]
    if not panels:
        return
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(3.4 * columns, 2.6 * lines), layout="constrained")
        grid = list(figure.subplots(lines, columns, squeeze=False).flat)
        for spare in grid[len(panels) :]:
            spare.set_visible(False)
        for axes, (name, count) in zip(grid, panels, strict=False):
            rows = [row for row in _differences(results[name]) if row["images"] == count]
            middles = [row["difference"] for row in rows]
            reach = np.array([[row["difference"] - row["low"], row["high"] - row["difference"]] for row in rows]).T
            axes.errorbar(middles, range(len(rows)), xerr=reach, fmt="o", markersize=3)
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_yticks(range(len(rows)), [row["arm"] for row in rows])
            axes.set_title(f"{name}, {count} images")
        figure.supxlabel("points, with variants against without")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _differences(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the rare class where there is one."""
    rows = [row for row in differences(cells_of(result)) if "+" in row["arm"]]
    rare = [row for row in rows if row["measure"] == "rare_class"]
    return rare or rows


def _counts(result: Mapping[str, Any]) -> list[int]:
    return sorted({row["images"] for row in _differences(result)})
