"""Writes docs/benchmarks.md and docs/questions.md from benchmarks/results: `python -m benchmarks.report`. No figure of
this package is typed by hand.

With matplotlib (the `bench` extra) it also draws the plots that the page shows; without, those there are stay.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import _questions
from benchmarks._result import RESULTS, Row, say

__all__ = ["PAGE", "QUESTIONS", "page", "questions"]

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
QUESTIONS = PAGE.with_name("questions.md")
PLOTS = PAGE.parent / "images"
CAPTIONS = {
    "cost.svg": "Process seconds and peak memory of a fit against pixels",
    "frontier.svg": "Realism against the cost of a fit, and against diversity",
}

INTRODUCTION = """# Benchmarks

Made by `python -m benchmarks.report` from the files in `benchmarks/results/`. What the suites do and how they measure:
[benchmarks/README.md](../benchmarks/README.md); what did not work: [research.md](research.md). A cell with a spread
is the median and, in brackets, the quartiles. Higher is better for diversity and LPIPS, lower for everything else;
pieces and what is unmoved describe draws and are neither.
"""

NOTES = {
    "tasks": """
The rows `panorama` are older than the layout that `sample` has now: see the suite `panorama`.
""",
    "paper": """
The authors' released program at 64 px, one photo, one seed, three scales, 2,000 iterations each: noise amplitude of
scale 1 .044; SIFID of start 0 2.28; pixel diversity of start 1 .087; LPIPS between draws of start 1 .012. That was
measured in another run, on one photo that need not be among those below: it gives the order of magnitude, no ranking.
The SIFID that the paper publishes (.09 for start 0, .05 for start 1) is of photos of 250 px.
""",
}


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        from benchmarks import _plots
    except ImportError:
        say("matplotlib is not installed: the plots stay as they are (pip install -e '.[bench]')")
    else:
        for path in _plots.draw_all(_results(), PLOTS):
            say(f"wrote {path}")
    for path, text in ((PAGE, page()), (QUESTIONS, questions())):
        if text is not None:
            path.write_text(text)
            say(f"wrote {path}")


def page() -> str:
    """The page that the committed results give, with the committed plots."""
    shown = [f"\n![{text}](images/{name})\n" for name, text in CAPTIONS.items() if (PLOTS / name).exists()]
    return INTRODUCTION + "".join(shown) + "".join(_section(*named) for named in _results().items())


def questions() -> str | None:
    """The page of the ablation, once it was run."""
    result = _results().get("ablation")
    return None if result is None else _questions.page(result)


def _results() -> dict[str, dict[str, Any]]:
    """What each suite wrote, by its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def _section(name: str, result: dict[str, Any]) -> str:
    clean = "" if result["clean_checkout"] else ", with changes that were not committed"
    versions = ", ".join(f"{package} {result['versions'][package]}" for package in ("python", "torch"))
    head = f"\n## {name}\n\n`{result['command'].strip()}`\n\n"
    head += f"{result['date']}, commit {result['commit']}{clean}; "
    head += f"{result['device']}, {result['threads']} thread(s); {versions}\n"
    head += NOTES.get(result["suite"], "")
    return head + "".join(_table(rows) for rows in _alike(result["rows"]))


def _alike(rows: list[Row]) -> list[list[Row]]:
    """Rows with the same fields belong into one table."""
    tables: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        tables.setdefault(tuple(row), []).append(row)
    return list(tables.values())


def _table(rows: list[Row]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{_number(value['median'])} ({_number(value['q25'])}-{_number(value['q75'])})"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
