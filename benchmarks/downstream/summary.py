"""The small table at the top of docs/when-it-helps.md: what to do, and the measured gain that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from singan_aug.trial.protocol import PASTES, parse_arm
from singan_aug.trial.statistics import cells_of, difference, measures_of

__all__ = ["FINDINGS", "Finding", "Gain", "gain_row", "gain_text", "summary"]

Results = Mapping[str, Mapping[str, Any]]
UNIT = {"accuracy": "", "dice": " Dice", "rare_class": ""}
ARM_TEXT = {
    "none": "nothing",
    "flip": "mirroring",
    "flip_crop": "flips and crops",
    "elastic": "elastic deformation",
    "turns": "flips and turns",
    "turns_elastic": "elastic deformation",
    "turns_affine": "flips, affine, colour",
    "rand": "RandAugment",
    "none+fine": "`fast` from fine",
}


@dataclass(frozen=True)
class Gain:
    """One measured difference: of an arm from another, in a result, at a number of images."""

    result: str  # file in results/downstream
    arm: str
    base: str
    images: int

    @property
    def over(self) -> str:
        """What it is a gain over, in words."""
        return ARM_TEXT.get(self.base, f"`{self.base}`")


@dataclass(frozen=True)
class Finding:
    """A line of the table."""

    task: str
    images: str
    advice: str
    gains: tuple[Gain, ...]


FINDINGS = (
    Finding(
        "writing, symbols, aligned parts: classes, a network from scratch",
        "5 of each class",
        "**yes**: preset `smooth`, `p=1`, nothing else",
        (Gain("digits", "none+fine@1", "none", 5), Gain("digits", "none+fine@1", "elastic", 5)),
    ),
    Finding(
        "one rare class of such images",
        "5, others 250",
        "variants of that class, or elastic deformation: as good",
        (
            Gain("digits-imbalance-long", "none+fine@1", "none", 5),
            Gain("digits-imbalance-long", "none+fine@1", "elastic", 5),
        ),
    ),
    Finding(
        "masks of one figure (horses)",
        "20",
        "**yes**: fit with the masks, mirror, train twice as long",
        (Gain("horses-long", "none+fine", "none", 20), Gain("horses-long", "flip+fine", "flip", 20)),
    ),
    Finding(
        "masks of one figure (horses) at 128 px",
        "5",
        "paste figures (`SinGANPaste`) before flips, affine, colour",
        (
            Gain("horses128-paste", "turns_affine+singan_paste", "turns_affine", 5),
            Gain("horses128", "turns_affine+mixed", "turns_affine", 5),
        ),
    ),
    Finding(
        "masks of thin structures (cell membranes)",
        "2",
        "no: flips and quarter turns instead",
        (
            Gain("membranes", "none+coarse", "none", 2),
            Gain("membranes", "turns", "none", 2),
            Gain("membranes", "turns+smooth_coarse", "turns", 2),
        ),
    ),
    Finding(
        "masks of thin structures (vessels of the eye)",
        "2",
        "no: flips, affine and colour changes instead",
        (
            Gain("vessels-long", "turns_affine", "none", 2),
            Gain("vessels-long", "turns_affine+fine", "turns_affine", 2),
        ),
    ),
    Finding(
        "surfaces and textures (steel): classes, a pretrained network",
        "2 of each class",
        "**yes**: preset `learned`, start scale coarse, no crops",
        (
            Gain("defects-learned", "none+learned_coarse", "none", 2),
            Gain("defects-learned", "none+learned_coarse", "none+fine", 2),
        ),
    ),
    Finding(
        "surfaces and textures (steel): classes, a pretrained network",
        "5 of each class",
        "**yes**, a little: variants alone, no crops",
        (Gain("defects", "none+fine", "none", 5), Gain("defects", "none+fine", "flip_crop", 5)),
    ),
    Finding(
        "photos of scenes, flowers",
        "5 of each class",
        "no: your usual augmentation",
        (Gain("scenes", "flip_crop+fine", "flip_crop", 5), Gain("flowers", "flip_crop+fine", "flip_crop", 5)),
    ),
    Finding(
        "photos of 32 px (CIFAR-10)",
        "10 of each class",
        "no: it harms",
        (Gain("cifar-views", "rand+fine", "rand", 10),),
    ),
)


def summary(results: Results) -> list[list[str]]:
    """The table's head and lines, those of which every result is there."""
    lines = [["you have", "images", "do", "gain in points (95 % interval)"]]
    for finding in FINDINGS:
        if all(gain.result in results for gain in finding.gains):
            told = "<br>".join(gain_text(gain, results) for gain in finding.gains)
            lines.append([finding.task, finding.images, finding.advice, told])
    return lines


def gain_row(gain: Gain, results: Results) -> dict[str, Any]:
    """Its difference, low and high in points, and which measure: of the rare class, else Dice, else accuracy or IoU."""
    cells = cells_of(results[gain.result])
    held = measures_of(cells[gain.arm, gain.images])
    measure = next(name for name in ("rare_class", "dice", "accuracy") if name in held)
    return difference(cells, measure, gain.arm, gain.base, gain.images)


def gain_text(gain: Gain, results: Results) -> str:
    """+3.4 (1.6 to 5.1) over mirroring, bold where the interval leaves zero out, with a link to its figures.

    Of variants where nothing else is named.
    """
    row = gain_row(gain, results)
    figures = f"{row['difference']:+.1f}{UNIT[row['measure']]} ({row['low']:.1f} to {row['high']:.1f})"
    figures = f"**{figures}**" if row["low"] > 0 or row["high"] < 0 else figures
    source = parse_arm(gain.arm).source
    what = f"{ARM_TEXT[gain.arm]}: " if source is None else "pastes: " if source in PASTES else ""
    return f"{what}[{figures}](downstream.md#{gain.result}) over {gain.over}"
