"""Writes docs/downstream.md and the table of docs/when-it-helps.md: `python -m benchmarks.downstream.tables`.

Both from `benchmarks/results/downstream/` alone; no figure is typed by hand. With matplotlib it draws the plot too.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

from benchmarks._result import RESULTS, Row, say
from benchmarks.downstream.protocol import parse_arm
from benchmarks.downstream.statistics import accuracies, cells_of, differences, holm
from benchmarks.report import PAGE

__all__ = ["DECISIONS", "FIGURES", "decisions", "figures", "section"]

FIGURES, DECISIONS = PAGE.parent / "downstream.md", PAGE.parent / "when-it-helps.md"
PLOT = PAGE.parent / "images" / "downstream.svg"
MARKS = ("<!-- table: python -m benchmarks.downstream.tables -->", "<!-- /table -->")
STARTS = ("coarse", "medium", "fine")

INTRODUCTION = """# Does it help? The figures

Made by `python -m benchmarks.downstream.tables` from the files in `benchmarks/results/downstream/`, which hold every
cell. What follows from them: [when-it-helps.md](when-it-helps.md). How they are made:
[benchmarks/README.md](../benchmarks/README.md).

An arm `flip_crop+fine@0.25` replaces a quarter of the images by variants from the finest start scale, before flips and
crops; without a number it is half of them. Accuracies are in per cent, for masks the mean intersection over union; in
brackets the standard deviation over splits. A difference is in points: of an arm with variants to the same with copies
in their place (`+duplicates`) where that was measured, else to the same without; of an arm without to `none`. It is
paired over splits (each the mean over its seeds), with the 95 % interval of Student's t. p is Holm's, over the sets in
which the same arm was measured at the same number of images. "Worst class" is the change of the class that lost most.
"""
COMPOSITION = {
    "scenes6_64": ("landscapes and streets", "loose"),
    "flowers5_160": ("flowers", "one object"),
    "neu_surface_defects": ("steel surfaces", "texture"),
    "cifar10_small": ("animals and vehicles", "one object"),
    "digits28": ("handwritten digits", "fixed"),
    "weizmann_horses": ("horses, masks", "one object"),
}
TASK = {"frozen": "classes, frozen features", "scratch": "classes, from scratch", "masks": "masks, from scratch"}
Results = Mapping[str, Mapping[str, Any]]


def main() -> None:
    """Write the pages, and the plot where matplotlib is there."""
    argparse.ArgumentParser(prog="python -m benchmarks.downstream.tables", description=__doc__).parse_args()
    results = _results()
    try:
        from benchmarks.downstream._plot import draw
    except ImportError:
        say("matplotlib is not installed: the plot stays as it is")
    else:
        draw(results, PLOT)
        say(f"wrote {PLOT}")
    FIGURES.write_text(figures(results))
    DECISIONS.write_text(decisions(results, DECISIONS.read_text()))
    say(f"wrote {FIGURES} and {DECISIONS}")


def figures(results: Results) -> str:
    """The page of all figures."""
    adjusted = _adjusted(results)
    plot = f"\n![Differences that variants make]({PLOT.parent.name}/{PLOT.name})\n" if PLOT.exists() else ""
    return INTRODUCTION + plot + "".join(section(name, result, adjusted) for name, result in results.items())


def decisions(results: Results, page: str) -> str:
    """The page with its table made anew."""
    head = ["set", "composition", "task", "images", "on top of", *STARTS]
    lines = [head, ["---"] * len(head)]
    for name, result in results.items():
        lines += _decision_lines(name, result)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(
        f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", lambda _: f"{MARKS[0]}\n{table}\n{MARKS[1]}", page, flags=re.S
    )


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
    changes = {(row["arm"], row["images"], row["measure"]): row for row in differences(cells_of(result))}
    lines = [["images", "arm", "accuracy", "difference (95 %)", "p", "worst class"]]
    if protocol["rare"]:
        lines[0] += ["rare class", "difference (95 %)", "p"]
    lines.append(["---"] * len(lines[0]))
    for row in sorted(accuracies(cells_of(result)), key=lambda row: int(row["images"])):
        key = row["arm"], row["images"]
        line = [str(row["images"]), f"`{row['arm']}`", f"{row['accuracy']:.1f} ({row['deviation']:.1f})"]
        found = changes.get((*key, "accuracy"))
        line += _difference(found, adjusted.get((name, *key, "accuracy")))
        line.append(f"{found['worst_class']:+.1f}" if found else "")
        if protocol["rare"]:
            rare = changes.get((*key, "rare_class"))
            line += [f"{row['rare_class']:.1f}", *_difference(rare, adjusted.get((name, *key, "rare_class")))]
        lines.append(line)
    text += "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    return text + _cost_line(result)


def _changes(protocol: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name} = {value}`" for name, value in protocol["fit"].items())


def _cost_line(result: Mapping[str, Any]) -> str:
    cost = {row["of"]: row["spread"]["median"] for row in _of(result, "cost")}
    if "fit_sec" not in cost:
        return ""
    draws = ", ".join(
        f"{cost[f'draw_ms_{start}']:.1f} ({start})" for start in (*STARTS, "fine_apart") if f"draw_ms_{start}" in cost
    )
    return (
        f"\nMedian cost of an image: a fit {cost['fit_sec']:.3f} process-seconds, a pyramid "
        f"{cost['pyramid_bytes'] / 1000:.0f} KB, a draw in milliseconds: {draws}.\n"
    )


def _difference(row: Row | None, p: float | None) -> list[str]:
    if row is None:
        return ["", ""]
    text = f"{row['difference']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
    return [text, f"{row['p_value'] if p is None else p:.2g}"]


def _decision_lines(name: str, result: Mapping[str, Any]) -> list[list[str]]:
    """One line for each number of images and each strong augmentation on whose top variants were measured."""
    (declared,) = _of(result, "protocol")
    protocol = json.loads(declared["protocol"])
    what, composition = COMPOSITION.get(protocol["data"], (protocol["data"], ""))
    measure = "rare_class" if protocol["rare"] else "accuracy"
    what = f"[{what}](downstream.md#{name})" + (f" ({_changes(protocol)})" if protocol["fit"] else "")
    rows = {(row["arm"], row["images"]): row for row in differences(cells_of(result)) if row["measure"] == measure}
    images = f"of a rare class, the others {protocol['majority']}" if protocol["rare"] else "a class"
    lines = []
    for count in sorted({row["images"] for row in rows.values()}):
        for base in sorted({parse_arm(row["arm"]).strong for row in rows.values()}):
            cells = [_cell(rows.get((f"{base}+{start}", count))) for start in STARTS]
            if any(cells):
                lines.append([what, composition, TASK[protocol["model"]], f"{count} {images}", f"`{base}`", *cells])
    return lines


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    text = f"{row['difference']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
    return f"**{text}**" if row["low"] > 0 or row["high"] < 0 else text


if __name__ == "__main__":
    main()
