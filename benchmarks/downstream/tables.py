"""Writes docs/downstream.md and the table of docs/when-it-helps.md: `python -m benchmarks.downstream.tables`.

Both from `benchmarks/results/downstream/` alone; no figure is typed by hand. With matplotlib it draws the plots too.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks._result import RESULTS, Row, say
from benchmarks.downstream.summary import summary
from benchmarks.report import PAGE
from singan_aug.pyramid.sizes import DEFAULT_START
from singan_aug.trial.protocol import MIXED, OTHER_PRESETS, SINGAN, parse_arm
from singan_aug.trial.statistics import (
    Cells,
    accuracies,
    cells_of,
    deciding,
    differences,
    from_best,
    holm,
)

__all__ = ["DECISIONS", "FIGURES", "decisions", "figures", "section"]

FIGURES, DECISIONS = PAGE.parent / "downstream.md", PAGE.parent / "when-it-helps.md"
PLOT, SUMMARY_PLOT = (PAGE.parent / "images" / name for name in ("downstream.svg", "when-it-helps.svg"))
MARKS = ("<!-- table: python -m benchmarks.downstream.tables -->", "<!-- /table -->")
STARTS = ("coarse", "medium", "fine", "fine@1")

INTRODUCTION = """# Does it help? The figures

Made by `python -m benchmarks.downstream.tables` from the files in `benchmarks/results/downstream/`, which hold every
cell. What follows from them: [when-it-helps.md](when-it-helps.md). How they are made:
[benchmarks/README.md](../benchmarks/README.md).

An arm `flip_crop+fine@0.25` replaces a quarter of the images by variants from the finest start scale, before flips and
crops; without a number it is half of them. `none+fine#8` sees eight variants of an image, as of a bank that holds so
many; without a number they are the same share of the views as of the images. Accuracies are in per cent, for masks the
mean intersection over union; in brackets the standard deviation over splits. A difference is in points: of an arm with
variants to the same with copies in their place (`+duplicates`) where that was measured, else to the same without; of an
arm without to `none`. It is paired over splits (each the mean over its seeds), with the 95 % interval of Student's t. p
is Holm's, over the sets in which the same arm was measured at the same number of images. "Worst class" is the change of
the class that lost most. Where Dice was measured too, its difference is also given from the best classic arm, without
variants or with plain pastes, at the same number of images, which was chosen by these same figures: that flatters it.
"""
GLANCE = """
## At a glance

What variants from the default start scale, "fine", add to each arm where they replace half of the images, in points of
accuracy (of a rare class its own; for masks Dice, else intersection over union), at the same number of steps and of
views. **Bold** where the 95 % interval over splits leaves zero out: with so many cells some do by chance, and the
sections below have p-values corrected over sets, and the class that lost most.
"""
EXPLANATION = """
## By start scale

With intervals: variants from each start scale in place of half of the images (`fine@1`: of all). The last column is
what the arm without variants gains from more real images instead, to weigh labelling against.
"""
COMPOSITION = {
    "scenes6_64": ("landscapes and streets", "loose"),
    "flowers5_160": ("flowers", "one object"),
    "neu_surface_defects": ("steel surfaces", "texture"),
    "cifar10_small": ("animals and vehicles", "one object"),
    "digits28": ("handwritten digits", "fixed"),
    "weizmann_horses": ("horses, masks", "one object"),
    "em_membranes": ("cell membranes, masks", "thin structures"),
    "drive_vessels": ("vessels of the eye, masks", "thin structures"),
}
MEASURES = {"rare_class": "rare class", "dice": "Dice"}  # beside accuracy, and what they are called
TASK = {"frozen": "classes, frozen features", "scratch": "classes, from scratch", "masks": "masks, from scratch"}
Results = Mapping[str, Mapping[str, Any]]


def main() -> None:
    """Write the pages, and the plot where matplotlib is there."""
    argparse.ArgumentParser(prog="python -m benchmarks.downstream.tables", description=__doc__).parse_args()
    results = _results()
    try:
        from benchmarks.downstream._plot import draw, draw_summary
    except ImportError:
        say("matplotlib is not installed: the plot stays as it is")
    else:
        draw(results, PLOT)
        draw_summary(results, SUMMARY_PLOT)
        say(f"wrote {PLOT} and {SUMMARY_PLOT}")
    FIGURES.write_text(figures(results))
    DECISIONS.write_text(decisions(results, DECISIONS.read_text()))
    say(f"wrote {FIGURES} and {DECISIONS}")


def figures(results: Results) -> str:
    """The page of all figures."""
    adjusted = _adjusted(results)
    measured = [_measured(name, result) for name, result in results.items()]
    plot = f"\n![Differences that variants make]({PLOT.parent.name}/{PLOT.name})\n" if PLOT.exists() else ""
    glance = f"{GLANCE}\n{_table(_glance(measured))}\n{EXPLANATION}\n{_table(_all_decisions(measured))}\n"
    return INTRODUCTION + plot + glance + "".join(section(name, result, adjusted) for name, result in results.items())


def decisions(results: Results, page: str) -> str:
    """The page of advice with its table made anew."""
    text = _table(summary(results))
    return re.sub(
        f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", lambda _: f"{MARKS[0]}\n{text}\n{MARKS[1]}", page, flags=re.S
    )


def _table(lines: list[list[str]]) -> str:
    """Markdown of a head and what is under it."""
    head, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))


def _results() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((RESULTS / "downstream").glob("*.json"))}


def _of(result: Mapping[str, Any], what: str) -> list[Row]:
    return [row for row in result["rows"] if row["what"] == what]


def _adjusted(results: Results) -> dict[tuple[str, str, int, str], float]:
    """Holm's p of every difference, by set, arm, images and measure; the families are over sets."""
    families: dict[tuple[str, int, str], dict[str, float]] = {}
    for name, result in results.items():
        for row in differences(cells_of(result)):
            families.setdefault((row["arm"], row["images"], row["measure"]), {})[name] = row["p_value"]
    return {
        (name, *family): p
        for family, members in families.items()
        for name, p in zip(members, holm(list(members.values())), strict=True)
    }


def section(name: str, result: Mapping[str, Any], adjusted: Mapping[tuple[str, str, int, str], float]) -> str:
    """Of one result: how it was made, accuracies, differences, cost. Without an adjusted p the p of the pair."""
    (declared,) = _of(result, "protocol")
    protocol = json.loads(declared["protocol"])
    fit = f" with {_changes(protocol)}" if protocol["fit"] else ""
    clean = "" if result["clean_checkout"] else ", with changes that were not committed"
    text = f"\n## {name}\n\n`{result['command']}`\n\n{result['date']}, commit {result['commit']}{clean}. "
    text += f"{TASK[protocol['model']].capitalize()}, preset `fast`{fit}: {protocol['splits']} splits x "
    text += f"{protocol['seeds']} seeds, {protocol['steps']} steps of {protocol['batch']} images, rate "
    text += f"{protocol['learning_rate']}, decay {protocol['weight_decay']}, {protocol['views']} views of each image"
    text += f"; every other class has {protocol['majority']} images.\n" if protocol["rare"] else ".\n"
    return f"{text}\n{_table(_lines(name, cells_of(result), adjusted))}\n{_cost_line(result)}"


def _lines(name: str, cells: Cells, adjusted: Mapping[tuple[str, str, int, str], float]) -> list[list[str]]:
    """A head and a line for each cell: accuracy, and what else was measured."""
    changes = {(row["arm"], row["images"], row["measure"]): row for row in differences(cells)}
    reached = sorted(accuracies(cells), key=lambda row: int(row["images"]))
    lines = [["images", "arm", "accuracy", "difference (95 %)", "p", "worst class"]]
    others = [measure for measure in MEASURES if measure in reached[0]]
    for measure in others:
        lines[0] += [MEASURES[measure], "difference (95 %)", "p"]
    best = {(row["arm"], row["images"]): row for row in from_best(cells, "dice")} if "dice" in others else {}
    if best:
        lines[0] += ["Dice from the best classic (95 %)"]
    for row in reached:
        key = row["arm"], row["images"]
        line = [str(row["images"]), f"`{row['arm']}`", f"{row['accuracy']:.1f} ({row['deviation']:.1f})"]
        found = changes.get((*key, "accuracy"))
        line += _difference(found, adjusted.get((name, *key, "accuracy")))
        line.append(f"{found['worst_class']:+.1f}" if found else "")
        for measure in others:
            change = changes.get((*key, measure))
            line += [f"{row[measure]:.1f}", *_difference(change, adjusted.get((name, *key, measure)))]
        if best:
            line.append(f"{_interval(best[key])} `{best[key]['base']}`" if key in best else "")
        lines.append(line)
    return lines


def _changes(protocol: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name} = {value}`" for name, value in protocol["fit"].items())


def _cost_line(result: Mapping[str, Any]) -> str:
    """Of each preset that was fitted: seconds, bytes, and milliseconds of a draw from each start scale."""
    cost = {row["of"]: row["spread"]["median"] for row in _of(result, "cost")}
    told = []
    for name in ("fast", *OTHER_PRESETS):
        suffix = "" if name == "fast" else f"_{name}"
        if f"fit_sec{suffix}" not in cost:
            continue
        draws = {start: cost.get(f"draw_ms{suffix}_{start}") for start in (*SINGAN, MIXED, "fine_apart")}
        draws |= {"gpnn": cost.get("gpnn_ms")} if name == "fast" else {}
        listed = ", ".join(f"{ms:.1f} ({start}, {1000 / ms:.0f} a second)" for start, ms in draws.items() if ms)
        which = "" if name == "fast" else f"with `{name}` "
        told.append(
            f"{which}a fit {cost[f'fit_sec{suffix}']:.3f} process-seconds, a pyramid "
            f"{cost[f'pyramid_bytes{suffix}'] / 1000:.0f} KB"
            + (f", a draw in milliseconds: {listed}" if listed else "")
        )
    return f"\nMedian cost of an image: {'; '.join(told)}.\n" if told else ""


def _difference(row: Row | None, p: float | None) -> list[str]:
    if row is None:
        return ["", ""]
    return [_interval(row), f"{row['p_value'] if p is None else p:.2g}"]


def _interval(row: Row) -> str:
    return f"{row['difference']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"


@dataclass(frozen=True)
class _Measured:
    """Of one result what a decision needs."""

    what: str  # the set, a link to its figures
    composition: str
    task: str
    images: str  # of what the counts are
    changes: dict[tuple[str, int], Row]  # of an arm and a count: its difference
    reached: dict[tuple[str, int], float]  # of the same: its accuracy

    @property
    def counts(self) -> list[int]:
        return sorted({count for _, count in self.reached})

    @property
    def strong(self) -> list[str]:
        """What variants came on top of."""
        return sorted({parse_arm(arm).strong for arm, _ in self.reached})


def _measured(name: str, result: Mapping[str, Any]) -> _Measured:
    (declared,) = _of(result, "protocol")
    protocol = json.loads(declared["protocol"])
    what, composition = COMPOSITION.get(protocol["data"], (protocol["data"], ""))
    cells = cells_of(result)
    changes = deciding(differences(cells))
    measure = changes[0]["measure"] if changes else "accuracy"
    task = TASK[protocol["model"]] + (f", {protocol['steps']} steps" if protocol["model"] != "frozen" else "")
    task += f", {protocol['views']} views"
    return _Measured(
        f"[{what}](#{name})" + (f" ({_changes(protocol)})" if protocol["fit"] else ""),
        composition,
        f"a rare class among {task}" if protocol["rare"] else task,
        f"of a rare class, the others {protocol['majority']}" if protocol["rare"] else "a class",
        {(row["arm"], row["images"]): row for row in changes},
        {(row["arm"], row["images"]): row[measure] for row in accuracies(cells)},
    )


def _glance(measured: list[_Measured]) -> list[list[str]]:
    """A line for each result, a column for each number of images: what the default start scale adds to each arm."""
    default = f"+{DEFAULT_START}"
    counts = sorted({count for each in measured for arm, count in each.changes if arm.endswith(default)})
    lines = [["set", "composition", "task", *(f"{count} image{'s' if count > 1 else ''}" for count in counts)]]
    for each in measured:
        cells = []
        for count in counts:
            found = [(base, each.changes.get((base + default, count))) for base in each.strong]
            texts = [f"`{base}` " + _marked(row, f"{row['difference']:+.1f}") for base, row in found if row]
            cells.append("<br>".join(texts))
        if any(cells):
            lines.append([each.what, each.composition, each.task, *cells])
    return lines


def _all_decisions(measured: list[_Measured]) -> list[list[str]]:
    """One line for each number of images and each strong augmentation on whose top variants were measured."""
    lines = [["set", "task", "images", "on top of", *STARTS, "more images instead"]]
    for each in measured:
        following = dict(pairwise(each.counts))
        for count in each.counts:
            for base in each.strong:
                cells = [_cell(each.changes.get((f"{base}+{start}", count))) for start in STARTS]
                if any(cells):
                    more = following.get(count)
                    instead = ""
                    if more and (base, more) in each.reached:
                        instead = f"{more}: {each.reached[base, more] - each.reached[base, count]:+.1f}"
                    lines.append([each.what, each.task, f"{count} {each.images}", f"`{base}`", *cells, instead])
    return lines


def _cell(row: Row | None) -> str:
    return "" if row is None else _marked(row, _interval(row))


def _marked(row: Row, text: str) -> str:
    """Bold where the interval leaves zero out."""
    return f"**{text}**" if row["low"] > 0 or row["high"] < 0 else text


if __name__ == "__main__":
    main()
