"""docs/questions.md, out of results/ablation.json: a table for each question, and what it says in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks._result import Row

__all__ = ["NAMES", "page"]

VANISHED = 0.1  # of the finest scale's gradient: less than this at the coarsest is called vanishing
TITLES = {
    "upsampling": (
        "Which upsampling between scales?",
        "Three generated scales. The picture of a scale is upsampled by about 1.4 for the next one. Two upsamplings "
        "are learned: they double the size, and begin as bilinear (transposed) or as nearest neighbour (sub-pixel).",
    ),
    "blocks": (
        "Which blocks, with BatchNorm or without?",
        "One generated scale. Generator and critic have the same block. Squeeze-and-excitation looks at the whole "
        "image, all others at 3 px. *Normalised*: with BatchNorm.",
    ),
    "schedule": (
        "Scale by scale, some together, or end to end? Do gradients vanish?",
        'Three generated scales. "Last two together" trains the newest scale and the one below it, which learns a '
        'tenth as fast (ConSinGAN\'s schedule on our networks). "End to end" trains all scales from the start, with '
        "a loss at the finest scale only, or at every scale.",
    ),
    "noise": (
        "How strong should noise be at finer scales?",
        "Three generated scales. Noise in proportion to the RMSE of the upsampled reconstruction (the paper; factor "
        "0.1); the same, but around each pixel (local); constant (0.02, in [-1, 1]); or with a factor that is learned "
        "(at the learning rate of the networks, so it can change by a few per cent only).",
    ),
    "objective": (
        "Which loss is most stable?",
        "One generated scale. Semi-dual transport is an exact critic: one number for each 7x7 patch of the source.",
    ),
    "full length": (
        "Is it the same after five times as many steps?",
        "WGAN-GP has 300 steps. The others get the same processor seconds.",
    ),
    "preset": (
        "Is there a better part for the preset as it is?",
        "The preset `learned` (one generated scale, sliced Wasserstein distance, no BatchNorm), and the same with one "
        "part changed.",
    ),
    "preset stack": (
        "And with three generated scales in the preset?",
        "The preset's loss, network and noise on three scales, without crops, and the same with one part changed.",
    ),
}
NAMES = {  # of the bases, where noise is unfrozen
    "learned": "one generated scale",
    "stack": "three generated scales",
    "preset": "the preset as it is",
    "preset stack": "the preset with three generated scales",
}
UNFROZEN = """
## Which scales should get new noise?

A draw from start scale s has new noise at scale s and at finer scales. The coarser scales are those of the
reconstruction. The table has all start scales. Scale 0 is generated (of three: 0, 1 and 2); finer scales are copied.

{table}
**Answer.** {answer}

![SIFID against diversity for each start scale](images/unfrozen.svg)
"""
PARTS = (  # what it is, what the preset has, and which question has the others
    ("objective", "sliced Wasserstein", "preset", ("WGAN-GP", "non-saturating, R1", "hinge, spectral norm")),
    ("normalisation", "none", "preset", ("plain, normalised",)),
    (
        "block",
        "plain",
        "preset",
        tuple(
            f"{name}, normalised" for name in ("residual", "squeeze-and-excitation", "highway", "depthwise-separable")
        ),
    ),
    (
        "upsampling (three scales)",
        "bicubic",
        "preset stack",
        ("upsampling nearest", "upsampling bilinear"),
    ),
    (
        "schedule (three scales)",
        "scale by scale",
        "preset stack",
        ("last two together", "end to end, loss at each"),
    ),
    ("noise (three scales)", "in proportion to RMSE", "preset stack", ("noise constant", "noise local")),
)
ADOPTED = """
## What the preset takes

The preset takes a part if it is better at equal cost: less SIFID from start scale 0 at the finest scale, with an
interval below 1, and not less diversity. The preset has one generated scale. So upsampling, schedule and the noise of
finer scales do nothing in it; they were tried with three scales.

{table}
Semi-dual transport and learned upsamplings were not tried in the preset. The tables above compare them with WGAN-GP.
"""
HEAD = (
    *(
        "arm",
        "steps",
        "process-seconds",
        "SIFID from start 0 / 1 / 2",
        "times the base",
        "SIFID at the generated scale",
    ),
    *("times the base", "diversity", "incoherence at both", "chance", "failed"),
)

INTRODUCTION = """# Questions about the parts, answered by experiment

What are the parts of SinGAN worth: its upsampling, blocks, training schedule, noise and loss? Each section asks one
question, and ends with an **answer**. The last section says what the preset `learned` takes from this. The experiments
are about generated scales only. Words: [glossary](glossary.md).

`python -m benchmarks.ablation` runs the experiments. `python -m benchmarks.report` writes this page from
`benchmarks/results/ablation.json`, figures and answers too. What was expected before, and what became of it:
[research log](research.md).

**How to read the tables**

- **Arm**: one variant of the method. The first arm of each table is the *base*; the others differ from it in one part.
- **Equal cost.** Each arm gets as many training steps as take the processor seconds of its base. The bases have
  {steps} steps for each scale. This is short, so a part that needs long training loses here.
- **Sizes.** Photos are 128 px on the long side. One generated scale has 25 to 71 px on its short side, as the photo
  needs. Three generated scales have 25, 35 and 49 px (of a photo 96 px high). Finer scales are copied.
- **Two bases.** Most questions take the network and the noise of the preset `learned`, but the paper's loss, WGAN-GP.
  Two questions take the preset itself, because a part that helps a critic may not help without one.
- **SIFID, diversity, incoherence**: of draws from start scale 0, if nothing else is said. SIFID and incoherence are
  given twice: at the finest scale, and at the last generated scale, before anything is copied.
- **"Times the base"**: the ratio to the base, with its 95 % interval (geometric mean over photos, seeds averaged;
  Student's t, paired by photo). 1 means: as the base. *Clear* means that the interval does not include 1. {compared}
  arms are compared, and one in twenty would be clear by chance alone.
- **Chance**: how much SIFID changes from seed to seed (standard deviation of its logarithm for one photo, mean over
  photos).
- **Failed**: share of fits that diverged (numbers not finite), and share that collapsed (diversity under a tenth of the
  base's median).
- The learning rate was tuned for the preset's own parts, and for no arm. Distances between patches have the weight 30;
  10 and 40 gave the same on three other photos.

{date}, commit {commit}; {device}.
"""


def page(result: Mapping[str, Any]) -> str:
    """The whole page."""
    rows: list[Row] = result["rows"]
    compared = [row for row in rows if row["what"] in TITLES]
    bases = {question: next(row for row in compared if row["what"] == question) for question in _questions(compared)}
    text = INTRODUCTION.format(
        steps=" or ".join(map(str, sorted({row["steps"] for row in bases.values()}))),
        compared=len(compared) - len(bases),
        **{name: result[name] for name in ("date", "commit", "device")},
    )
    for question in TITLES:
        if question in bases:
            text += _section(question, [row for row in compared if row["what"] == question], rows)
    text += _unfrozen([row for row in rows if row["what"] == "unfrozen"])
    return text + _adopted(compared)


def _questions(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["what"] for row in rows))


def _section(question: str, own: Sequence[Row], rows: Sequence[Row]) -> str:
    title, about = TITLES[question]
    lines = [HEAD, ("---",) * len(HEAD), *(_line(row) for row in own)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    more = {"schedule": _gradients, "noise": _factors, "objective": _chance}.get(question)
    verdict = f"At the finest scale: {_verdict(own)} Before anything is copied: {_verdict(own, 'sifid_generated')}"
    answer = " ".join(filter(None, (verdict, _failures(own), more(rows) if more else "")))
    plot = "\n![Gradient norm of each scale](images/gradients.svg)\n" if question == "schedule" else ""
    about += f" {own[0]['runs']} fits by each arm, to {own[0]['photos']} photos"
    about += f" (an earlier run, commit {own[0]['commit']})." if "commit" in own[0] else "."
    return f"\n## {title}\n\n{about}\n\n{table}\n\n**Answer.** {answer}\n{plot}"


def _line(row: Row) -> tuple[str, ...]:
    starts = [row[f"sifid_mean_{start}"] for start in range(3) if f"sifid_mean_{start}" in row]
    return (
        row["arm"],
        str(row["steps"]),
        f"{row['fit_sec']['median']:.2f}",
        " / ".join(f"{value:.3f}" for value in starts),
        _interval(row, "sifid"),
        f"{row['sifid_generated']:.1f}",
        _interval(row, "sifid_generated"),
        f"{row['diversity_finest']:.2f}",
        f"{100 * row['incoherence_finest']:.1f} %, {100 * row['incoherence_generated']:.0f} %",
        "" if row["seed_deviation"] is None else f"{row['seed_deviation']:.2f}",
        f"{100 * row['diverged']:.0f} %, {100 * row['collapsed']:.0f} %",
    )


def _interval(row: Row, measure: str) -> str:
    ratio, low, high = (row[f"{measure}_{name}"] for name in ("ratio", "low", "high"))
    return "1" if low == high == 1 else f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def _verdict(own: Sequence[Row], measure: str = "sifid") -> str:
    """What is clear of the base, by SIFID from start scale 0; less of it with less diversity is a trade, no gain."""
    base, *others = own
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "trade": []}
    for row in others:
        if row[f"{measure}_low"] <= 1 <= row[f"{measure}_high"]:
            continue
        lower = row[f"{measure}_high"] < 1
        traded = row["diversity_high"] < 1 if lower else row["diversity_low"] > 1
        told = f"{row['arm']} ({_interval(row, measure)})"
        kinds["trade" if traded else "better" if lower else "worse"].append(told)
    parts = [
        f"clearly {kind} than {base['arm']}: {', '.join(kinds[kind])}" for kind in ("better", "worse") if kinds[kind]
    ]
    if kinds["trade"]:
        parts.append(f"better or worse in SIFID, but diversity changes in the same way: {', '.join(kinds['trade'])}")
    undecided = len(others) - sum(map(len, kinds.values()))
    if undecided:
        parts.append(f"no clear difference from {base['arm']} in {undecided} of {len(others)} arms")
    return "; ".join(parts) + "."


def _failures(own: Sequence[Row]) -> str:
    failed = [row["arm"] for row in own if row["diverged"] or row["collapsed"]]
    return f"Some fits failed with {', '.join(failed)}." if failed else "No fit diverged or collapsed."


def _chance(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row["what"] == "objective" and row["seed_deviation"] is not None]
    if not own:
        return ""
    own.sort(key=lambda row: float(row["seed_deviation"]))
    told = ", ".join(f"{row['arm']} {row['seed_deviation']:.2f}" for row in own)
    return f"SIFID changes from seed to seed by, from least to most: {told}."


def _gradients(rows: Sequence[Row]) -> str:
    """The coarsest scale's gradient beside the finest's, where one loss at the finest reaches all."""
    own = [row for row in rows if row["what"] == "gradient norm" and row["arm"] == "end to end, loss at the finest"]
    if not own:
        return ""
    coarsest, finest = (np.array(row["median"]) for row in (own[0], own[-1]))
    ratios = coarsest / finest
    vanishes = "vanishes" if np.median(ratios) < VANISHED else "does not vanish"
    return (
        "With one loss at the finest scale, end to end, the gradient of the coarsest generator is "
        f"{np.median(ratios):.2f} times that of the finest (median over the course of training; {ratios[0]:.2f} in the "
        f"first step, {ratios[-1]:.2f} at the end): it {vanishes}."
    )


def _factors(rows: Sequence[Row]) -> str:
    own = [row["factor"] for row in rows if row["what"] == "learned factor of the noise"]
    told = " and ".join(f"{each['median']:.2f} ({each['q25']:.2f} to {each['q75']:.2f})" for each in own)
    return f"The factors that were learned for the two finer scales: {told} (median, quartiles)." if own else ""


def _unfrozen(rows: Sequence[Row]) -> str:
    """The bases from each start scale."""
    if not rows:
        return ""
    rows = sorted(rows, key=lambda row: list(NAMES).index(row["arm"]))
    table = "| base | start scale | diversity | SIFID |\n| --- | --- | --- | --- |\n"
    for row in rows:
        table += f"| {NAMES[row['arm']]} | {row['start_scale']} | {row['diversity']:.2f} | {row['sifid']:.3f} |\n"
    beaten = [row for row in rows if any(_beats(other, row) for other in rows if other["arm"] == row["arm"])]
    answer = "More diversity costs realism: no start scale has more diversity and less SIFID than another of its base."
    if beaten:
        told = ", ".join(f"{row['start_scale']} ({NAMES[row['arm']]})" for row in beaten)
        answer = f"Mostly, more diversity costs realism. But some start scale is better in both than {told}."
    return UNFROZEN.format(table=table, answer=answer)


def _adopted(rows: Sequence[Row]) -> str:
    """What the preset takes of each question, and what was found when its parts were changed one by one."""
    own = [row for row in rows if row["what"] in ("preset", "preset stack")]
    if not own:
        return ""
    found = {(row["what"], row["arm"]): row for row in own}
    table = "| part | the preset has | the others, in the preset: SIFID at the finest scale, times the preset | so |\n"
    table += "| --- | --- | --- | --- |\n"
    for part, has, question, arms in PARTS:
        tried = [found[question, arm] for arm in arms if (question, arm) in found]
        if not tried:
            continue
        told = "; ".join(f"{row['arm']} {_interval(row, 'sifid')}" for row in tried)
        better = [row["arm"] for row in tried if row["sifid_high"] < 1 and row["diversity_high"] >= 1]
        so = f"to be taken: {', '.join(better)}" if better else f"stays; {len(tried)} tried, none clearly better"
        table += f"| {part} | {has} | {told} | {so} |\n"
    return ADOPTED.format(table=table)


def _beats(one: Row, other: Row) -> bool:
    return bool(one["sifid"] < other["sifid"] and one["diversity"] > other["diversity"])
