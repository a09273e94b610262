"""What is known of a dataset's images: what there is to do, how it goes, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from singan_aug.annotations import MaskSource
from singan_aug.pyramid.sizes import Size
from singan_aug.store import Holder

if TYPE_CHECKING:
    from singan_aug.fitting import FitEvent

__all__ = [
    "DELETED",
    "Event",
    "FitReport",
    "OnEvent",
    "Outcome",
    "Plan",
    "Progress",
    "Status",
    "Todo",
    "Waiting",
    "counts",
]

Status = Literal["fitted", "present", "duplicate", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
DELETED = "its pyramid was deleted from the store while others were fitted"


@dataclass(frozen=True)
class Todo:
    """An image that has no pyramid yet."""

    path: Path
    key: str
    size: Size  # (height, width) at which it is fitted
    channels: int
    notes: tuple[str, ...]
    mask: MaskSource | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one image."""

    path: Path
    status: Status
    key: str = ""
    message: str = ""  # why it failed, or which image it equals
    notes: tuple[str, ...] = ()  # what decoding had to convert
    process_sec: float = 0.0
    reconstruction_rmse: float | None = None  # at the finest scale, of the range; of an image that was fitted now


@dataclass(frozen=True)
class Plan:
    """What a run would do: the images to fit, and the outcomes known without fitting."""

    todo: tuple[Todo, ...]
    known: tuple[Outcome, ...]
    ignored: int
    without_mask: int | None = None  # images that have none where others have; None where there are no masks at all
    left_out: int = 0  # broken objects of annotation files; the notes of their images say which
    unclaimed: tuple[str, ...] = ()  # what of the masks and annotations belongs to no image, a clause for each kind
    of_other_shards: int = 0  # images


@dataclass(frozen=True)
class Progress:
    """A fit under way."""

    path: Path
    event: FitEvent


@dataclass(frozen=True)
class FitReport:
    """What became of every image, sorted by path."""

    outcomes: tuple[Outcome, ...]
    ignored: int
    without_mask: int | None = None  # images fitted without one where others have one; None without any masks
    left_out: int = 0  # as `Plan` has it
    unclaimed: tuple[str, ...] = ()  # as `Plan` has it
    of_other_shards: int = 0  # as `Plan` has it
    not_begun: int = 0  # images that a budget left no time for

    def with_status(self, status: Status) -> list[Outcome]:
        """The outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def failed(self) -> list[Outcome]:
        """The images that could not be fitted."""
        return self.with_status("failed")

    @property
    def deleted(self) -> list[Outcome]:
        """Those of them that were in the store, and whose pyramids somebody deleted before the call was done."""
        return [outcome for outcome in self.failed if outcome.message == DELETED]


@dataclass(frozen=True)
class Waiting:
    """All else is done; other processes are at these images, and are waited for."""

    held: tuple[tuple[Path, Holder], ...]
    limit_sec: float


def counts(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """How many there are of each status."""
    statuses = [outcome.status for outcome in outcomes]
    return {status: statuses.count(status) for status in STATUSES}


Event = Plan | Progress | Waiting | Outcome
OnEvent = Callable[[Event], None]
