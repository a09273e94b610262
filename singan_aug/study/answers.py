"""What people answered: files that the page of a study exported, and the confusion that they give."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from singan_aug.errors import ConfigError

__all__ = ["Answer", "Confusion", "read_answers", "score_answers"]

COLUMNS = (
    *("study", "participant", "protocol", "trial", "check", "real", "fake", "fake_shown", "answer", "correct"),
    *("exposure_ms", "wanted_ms", "response_ms", "answered_at"),
)
PROTOCOLS = ("paired", "unpaired")
FAILED_CHECKS_RATIO = 1 / 3  # whoever fails more of the attention checks is left out
EXPOSURE_TOLERANCE = 1.25  # times the exposure that was wanted: longer looks are left out
RESAMPLED = 5  # participants from which on the interval is of them, not of answers
RESAMPLES = 10_000
NO_ANSWERS = "expected answers of a study, got none: name CSV files that participants saved"
Z_95 = 1.959964


@dataclass(frozen=True)
class Answer:
    """One trial of one participant."""

    study: str
    participant: str
    protocol: str
    trial: int
    is_check: bool
    is_fake: bool  # whether there was a fake to find: always, in the paired protocol
    is_correct: bool
    exposure_ratio: float  # how long it was shown, of what was wanted


@dataclass(frozen=True)
class Confusion:
    """The share of wrong answers in one protocol: 0.5 where people can but guess."""

    protocol: str
    rate: float
    low: float  # of the 95 % interval
    high: float
    interval: str  # how it was made: "bootstrap over participants", or "Wilson" over answers where these are few
    answers: int
    participants: int
    fakes_taken_for_real: float | None  # share, in the unpaired protocol
    reals_taken_for_fake: float | None
    left_out: tuple[str, ...]  # participants who failed the attention checks
    too_long: int  # answers left out because the image was shown too long


def read_answers(paths: Iterable[Path]) -> list[Answer]:
    """The answers of CSV files that the page exported; one that stands in two files counts once.

    Raises `ConfigError` for a file that is none of these, or where answers are of more than one study.
    """
    answers: dict[tuple[str, str, int], Answer] = {}
    studies: dict[str, Path] = {}
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
                if missing:
                    raise ConfigError(f"{path}: expected answers of a study, got a file without a column {missing[0]}")
                rows = list(reader)
        except (UnicodeDecodeError, csv.Error):
            raise ConfigError(f"{path}: expected answers of a study as CSV, got another kind of file") from None
        except OSError as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise ConfigError(f"{path}: expected answers of a study, got {what}") from None
        for line, row in enumerate(rows, start=2):
            answer = _answer(row, f"{path}, line {line}")
            answers.setdefault((answer.participant, answer.protocol, answer.trial), answer)
            studies.setdefault(answer.study, path)
    if len(studies) > 1:
        named = ", ".join(f"{study} ({path.name})" for study, path in studies.items())
        raise ConfigError(f"expected answers of one study, got {named}: score each by itself")
    if not answers:
        raise ConfigError(NO_ANSWERS)
    return list(answers.values())


def score_answers(answers: Sequence[Answer], *, seed: int = 0) -> list[Confusion]:
    """The confusion in each protocol that was played.

    Left out are participants who failed more than a third of the attention checks of the protocol, and trials whose
    image stood longer than a quarter above what was wanted. The interval is a percentile bootstrap over participants
    where there are five or more, since answers of one person are not independent; else Wilson's over answers
    (Wilson 1927), which is too narrow as far as people differ.

    Raises `ConfigError` where there are no answers, or none that count.
    """
    if not answers:
        raise ConfigError(NO_ANSWERS)
    return [
        _confusion(protocol, of_it, seed)
        for protocol in PROTOCOLS
        if (of_it := [answer for answer in answers if answer.protocol == protocol])
    ]


def _confusion(protocol: str, answers: Sequence[Answer], seed: int) -> Confusion:
    people = sorted({answer.participant for answer in answers})
    left_out = tuple(person for person in people if _failed([a for a in answers if a.participant == person]))
    counted = [answer for answer in answers if not answer.is_check and answer.participant not in left_out]
    too_long = sum(answer.exposure_ratio > EXPOSURE_TOLERANCE for answer in counted)
    counted = [answer for answer in counted if answer.exposure_ratio <= EXPOSURE_TOLERANCE]
    if not counted:
        raise ConfigError(
            f"expected answers that count in the {protocol} protocol, got none: {len(left_out)} of {len(people)} "
            f"participants failed the attention checks, {too_long} answers saw the image too long"
        )
    wrong = {person: [not a.is_correct for a in counted if a.participant == person] for person in people}
    wrong = {person: each for person, each in wrong.items() if each}
    if len(wrong) >= RESAMPLED:
        interval, (low, high) = "bootstrap over participants", _bootstrap(list(wrong.values()), seed)
    else:
        interval, (low, high) = "Wilson", wilson(sum(map(sum, wrong.values())), len(counted))
    unpaired = protocol == "unpaired"
    return Confusion(
        protocol=protocol,
        rate=_wrong_ratio(counted) or 0.0,
        low=low,
        high=high,
        interval=interval,
        answers=len(counted),
        participants=len(wrong),
        fakes_taken_for_real=_wrong_ratio([a for a in counted if a.is_fake]) if unpaired else None,
        reals_taken_for_fake=_wrong_ratio([a for a in counted if not a.is_fake]) if unpaired else None,
        left_out=left_out,
        too_long=too_long,
    )


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share `count / total`. Wilson 1927, equation 1."""
    share, z = count / total, Z_95
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _bootstrap(wrong: Sequence[Sequence[bool]], seed: int) -> tuple[float, float]:
    """Of the share over all answers, as participants are drawn with replacement."""
    counts = np.array([[sum(each), len(each)] for each in wrong])
    drawn = np.random.default_rng(seed).integers(len(counts), size=(RESAMPLES, len(counts)))
    sums = counts[drawn].sum(1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def _failed(answers: Sequence[Answer]) -> bool:
    """Whether one participant failed too many of the attention checks."""
    checks = [answer for answer in answers if answer.is_check]
    return sum(not check.is_correct for check in checks) > FAILED_CHECKS_RATIO * len(checks)


def _wrong_ratio(answers: Sequence[Answer]) -> float | None:
    return sum(not answer.is_correct for answer in answers) / len(answers) if answers else None


def _answer(row: dict[str, str], where: str) -> Answer:
    try:
        if row["protocol"] not in PROTOCOLS or not {row["check"], row["correct"]} <= {"0", "1"}:
            raise ValueError
        return Answer(
            study=row["study"],
            participant=row["participant"],
            protocol=row["protocol"],
            trial=int(row["trial"]),
            is_check=row["check"] == "1",
            is_fake=row["fake"] != "",
            is_correct=row["correct"] == "1",
            exposure_ratio=float(row["exposure_ms"]) / float(row["wanted_ms"]),
        )
    except (ValueError, TypeError, ZeroDivisionError):
        raise ConfigError(f"{where}: expected an answer as the page exports it, got {dict(row)}") from None
