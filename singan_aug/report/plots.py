"""Plots of a report, as SVG that takes the colour of the text around it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["plotted"]

TEXT, LINE = "#010203", "#1f77b4"  # the first is replaced by the colour of the page's text
STYLE: Any = {
    "svg.hashsalt": "singan-aug",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": TEXT,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": TEXT,
    "axes.grid": True,
    "grid.alpha": 0.2,
}


def plotted(measured: Mapping[str, Sequence[Sequence[float]]]) -> list[str] | None:
    """One plot for each measure: the median over images at each start scale, between the quartiles.

    `measured` holds by the measure's title, for each start scale, the values of all images. None without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return None
    plots = []
    with matplotlib.rc_context(STYLE):
        for title, columns in measured.items():
            starts = [start for start, values in enumerate(columns) if values]
            low, middle, high = np.array([np.percentile(columns[start], [25, 50, 75]) for start in starts]).T
            figure = Figure(figsize=(3.2, 2.2), layout="constrained")
            axes = figure.subplots()
            axes.fill_between(starts, low, high, color=LINE, alpha=0.25, linewidth=0)
            axes.plot(starts, middle, "o-", color=LINE)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("start scale")
            axes.set_xticks(starts)
            axes.set_ylim(bottom=0)
            plots.append(_as_svg(figure))
    return plots


def _as_svg(figure: Any) -> str:
    """From the tag <svg> on."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(TEXT, "currentColor")
