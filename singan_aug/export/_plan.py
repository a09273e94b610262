"""What an export is asked for, what it does for one image, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from singan_aug._checks import check_count, check_seed
from singan_aug.errors import ConfigError
from singan_aug.export._layout import Labels
from singan_aug.pyramid.confine import MARGIN_PX, Confine, Confinement
from singan_aug.pyramid.sizes import DEFAULT_START, StartScale

__all__ = ["ExportReport", "Exported", "Job", "Originals", "Settings", "Status"]

Originals = Literal["copy", "link", "none"]
Status = Literal["exported", "present", "copied", "failed"]


@dataclass(frozen=True)
class Settings:
    """What decides the pixels and labels of an export."""

    layout: str = "auto"  # coco, yolo, masks, imagefolder
    variants: int = 4  # of each image
    start_scales: tuple[StartScale, ...] = (DEFAULT_START,)  # taken in turn
    originals: Originals = "copy"
    seed: int = 0
    confine: Confine | None = None  # "mask": the objects alone change; "background": all but them
    confine_margin_px: float = MARGIN_PX  # around objects, over which the displacement falls to nothing

    def __post_init__(self) -> None:
        check_count("variants", self.variants, 0)
        check_seed(self.seed)
        if not self.start_scales:
            raise ConfigError(f"expected one start_scale or more, got {self.start_scales!r}")
        if self.originals not in ("copy", "link", "none"):
            raise ConfigError(f"expected originals to be copy, link or none, got {self.originals!r}")
        _ = self.confinement

    @property
    def confinement(self) -> Confinement | None:
        """What variants are confined to. Raises `ConfigError`."""
        return Confinement.of(self.confine, self.confine_margin_px)


@dataclass(frozen=True)
class Exported:
    """What became of one image."""

    path: Path
    status: Status  # copied: without variants, as nothing in its folder is fitted; present: by an earlier run
    message: str = ""  # why it failed, or what its variants lack
    left_out: int = 0  # broken objects that its variants lack


@dataclass(frozen=True)
class ExportReport:
    """What became of every image, sorted by path."""

    layout: str
    outcomes: tuple[Exported, ...]
    variants: int  # images drawn, by this run and earlier ones
    notes: tuple[str, ...] = ()  # what of the dataset no variant stands for, a clause for each kind

    def with_status(self, status: Status) -> list[Exported]:
        """The outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.status == status]


@dataclass(frozen=True)
class Job:
    """One image to draw variants of."""

    image: Path
    relative: Path
    key: str  # of its pyramid
    names: tuple[str, ...]  # of its variants
    labels: Labels
