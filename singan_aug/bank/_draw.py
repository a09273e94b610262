"""draw_bank(): variants of every stored pyramid, drawn beforehand, side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import joblib

from singan_aug._checks import check_count, check_seed
from singan_aug.bank._bank import Bank
from singan_aug.bank._file import MOST_VARIANTS, BankFile, BankSpec, Entry, Slot, bank_bytes, is_int
from singan_aug.bank._writer import BankWriter
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError, StartScaleError, StoreError
from singan_aug.images import Pixels, to_pixels
from singan_aug.pyramid.confine import MARGIN_PX, Confine, Confinement
from singan_aug.pyramid.sizes import DEFAULT_START, START_WORDS, StartScale, each_start_scale, resolve_start_scale
from singan_aug.store import Manifest, Store, open_store
from singan_aug.workers import side_by_side

__all__ = ["BankPlan", "BankProgress", "BankReport", "draw_bank", "plan_bank", "remove_bank", "resolved_spec"]

DEFAULT = BankSpec(variants=8, start_scales=(DEFAULT_START,), seed=0)  # where transforms start by default
DRAWN_AT_ONCE = 16  # variants that one task draws and sends back
WORKER_PX = 10_000_000  # pixels to draw that take longer than starting a worker process and importing torch in it
TRIAL_ENTRIES = 3  # on which the forecast times a draw


@dataclass(frozen=True)
class BankProgress:
    """How far drawing has come."""

    drawn: int
    total: int


@dataclass(frozen=True)
class BankReport:
    """What became of a bank."""

    variants: int  # that it holds now
    drawn: int  # of them by this call
    failed: tuple[tuple[str, str], ...]  # keys of pyramids that could not be drawn from, and why


@dataclass(frozen=True)
class BankPlan:
    """What a call would do."""

    spec: BankSpec
    entries: tuple[Entry, ...]
    failed: tuple[tuple[str, str], ...]  # as in `BankReport`
    to_draw: int  # variants
    dropped: int  # variants that are drawn, and would be lost
    stored_bytes: int  # of the whole bank
    wall_sec: float  # a rough forecast
    jobs: int


OnEvent = Callable[[BankProgress], None]


def draw_bank(
    store: Store | Path | str | None = None,
    *,
    variants: int | None = None,  # of each pyramid at each start scale; by default as many as the bank has, or 8
    start_scale: StartScale | Iterable[StartScale] | None = None,  # or several; by default the bank's, or "fine"
    seed: int | None = None,  # the variants' seeds derive from it; by default the bank's own, or 0
    confine: Confine
    | Literal["none"]
    | None = None,  # "mask" or "background"; by default as the bank has it, or "none"
    confine_margin_px: float | None = None,  # around the object; by default as the bank has it, or 8
    refresh: float | None = None,  # then draw this share of the bank anew, (0, 1], what is oldest first
    jobs: int | None = None,  # processes side by side; by default one for each core that has enough to do
    drop: bool = False,  # go on where variants that are drawn would be lost, since others are asked for now
    on_event: OnEvent | None = None,
) -> BankReport:
    """Draw whatever the bank of a store lacks, for every pyramid in it.

    Variants can be had as soon as each is drawn. Interrupting loses only those under way, and the same call continues.
    Room for other pyramids or start scales is made by copying the bank to a new file, which keeps what is drawn.
    Without `refresh` the whole bank is read, and broken variants are drawn again. A pyramid that is broken, or has no
    such start scale, never stops the others.

    Raises:
        ConfigError: an argument is not one of these, or variants would be lost and `drop` is not set.
        MissingPyramidError: the store holds no pyramid.
        StartScaleError: no pyramid has such start scales.
        LabelError: variants are to be confined, and no pyramid has a mask.
        StoreError: it cannot be written, has no room, or another process draws its bank.
        WorkerLostError: a worker process was killed from outside.
    """
    store = open_store(store)
    notify: OnEvent = on_event or (lambda _: None)
    spec = resolved_spec(store, variants, start_scale, seed, refresh, confine, confine_margin_px)
    with BankWriter.claimed(store) as writer:
        entries, broken, dropped = _layout(store, spec)
        if dropped and not drop:
            raise ConfigError(
                f"this would drop {dropped:,} variants that the bank of {store.location} holds, since fewer variants, "
                "other start scales, another seed or another confinement are asked for now: ask for those too, or pass "
                "drop=True (--yes)"
            )
        failed = dict(broken)
        drawn = 0
        with writer.opened(spec, entries) as bank:
            slots = bank.missing(check=refresh is None)
            slots += bank.oldest(math.ceil((refresh or 0.0) * bank.capacity))
            tasks = list(_tasks(slots, bank.entries, spec, store.location))
            for numbers, made in side_by_side(_draw, tasks, _jobs(jobs, slots, bank.entries)):
                if isinstance(made, str):
                    if made:
                        failed[bank.entries[slots[numbers[0]].entry].key] = made
                    continue
                for number, (variant_seed, pixels) in zip(numbers, made, strict=True):
                    bank.write(slots[number], variant_seed, pixels)
                drawn += len(made)
                notify(BankProgress(drawn, len(slots)))
            held = bank.capacity - len(bank.missing(check=False))
    return BankReport(held, drawn, tuple(sorted(failed.items())))


def plan_bank(
    store: Store | Path | str | None = None,
    *,
    variants: int | None = None,
    start_scale: StartScale | Iterable[StartScale] | None = None,
    seed: int | None = None,
    confine: Confine | Literal["none"] | None = None,
    confine_margin_px: float | None = None,
    refresh: float | None = None,
    jobs: int | None = None,
    timed: bool = True,  # draw a few variants to forecast the time
) -> BankPlan:
    """What `draw_bank` would do. Raises as it does."""
    store = open_store(store)
    spec = resolved_spec(store, variants, start_scale, seed, refresh, confine, confine_margin_px)
    entries, failed, dropped = _layout(store, spec)
    total = len(entries) * spec.variants
    bank = Bank(store)
    kept = 0
    with suppress(StoreError):  # nothing of a broken bank is kept
        if bank.spec and bank.spec.draws_as(spec):
            kept = sum(min(spec.variants, bank.count(s.key, s.start_scale)) for s in entries if bank.holds(s))
    to_draw = total - kept + math.ceil((refresh or 0.0) * kept)
    slots = [Slot(row, i, 0) for row in range(len(entries)) for i in range(spec.variants)][:to_draw]
    side = _jobs(jobs, slots, entries)
    pixels = to_draw * sum(s.height * s.width for s in entries) / max(1, len(entries))
    seconds = pixels * _seconds_per_px(store, entries, spec.confinement) / side if timed and to_draw else 0.0
    return BankPlan(
        spec, tuple(entries), tuple(failed), to_draw, dropped, bank_bytes(entries, spec.variants), seconds, side
    )


def remove_bank(store: Store | Path | str | None = None) -> None:
    """Delete a store's bank. Raises `MissingPyramidError` where it has none, `StoreWriteError`."""
    with BankWriter.claimed(open_store(store)) as writer:
        writer.remove()


def resolved_spec(
    store: Store,
    variants: int | None,
    start_scale: StartScale | Iterable[StartScale] | None,
    seed: int | None,
    refresh: float | None,
    confine: Confine | Literal["none"] | None = None,
    confine_margin_px: float | None = None,
) -> BankSpec:
    """What is asked for, the rest as the bank has it. Raises `ConfigError`."""
    before = None
    with suppress(StoreError):  # one that cannot be read is drawn anew
        before = Bank(store).spec
    before = before or DEFAULT
    kept: Confine | None = before.confine if confine is None else None if confine == "none" else confine
    margin_px = before.confine_margin_px if confine_margin_px is None else confine_margin_px
    Confinement.of(kept, margin_px)
    spec = BankSpec(
        variants=before.variants if variants is None else variants,
        start_scales=before.start_scales
        if start_scale is None
        else tuple(dict.fromkeys(each_start_scale(start_scale))),
        seed=before.seed if seed is None else seed,
        confine=kept,
        confine_margin_px=margin_px if kept else MARGIN_PX,
    )
    check_count("variants", spec.variants, 1, MOST_VARIANTS)
    if not spec.start_scales or not all(is_int(scale) or scale in START_WORDS for scale in spec.start_scales):
        raise ConfigError(
            f"expected one start scale or more, integers or {', '.join(START_WORDS)}, got {list(spec.start_scales)!r}"
        )
    check_seed(spec.seed)
    if refresh is not None and not 0.0 < refresh <= 1.0:
        raise ConfigError(f"expected refresh to be a share of the bank, above 0 and at most 1, got {refresh!r}")
    return spec


def _layout(store: Store, spec: BankSpec) -> tuple[list[Entry], list[tuple[str, str]], int]:
    """What the bank has to hold, the pyramids that it cannot, and how many variants would be lost.

    Raises `MissingPyramidError` where there are no pyramids, `StartScaleError` where none has such start scales.
    """
    before = None
    with suppress(OSError, StoreError):  # missing, broken or of another version: nothing of it is kept
        before = BankFile(store.bank_path) if store.bank_path else None
    entries: list[Entry] = []
    failed, broken, lacking = [], set(), None
    for key in store.keys():
        try:
            entries += _entries_of(store.manifest(key), spec)
        except (StartScaleError, LabelError) as error:
            lacking = error
            failed.append((key, str(error)))
        except MissingPyramidError:  # removed meanwhile
            continue
        except StoreError as error:
            broken.add(key)
            failed.append((key, str(error)))
    if not entries and not failed:
        raise MissingPyramidError(
            f"there are no pyramids in {store.location}: fit images with `{store.command('fit', 'FOLDER')}` first"
        )
    if not entries and lacking:
        raise lacking
    if before is not None and before.spec.draws_as(spec):  # what cannot be read today may be restored tomorrow
        entries += [entry for entry in before.entries if entry.key in broken]
    return entries, failed, 0 if before is None else _dropped(before, store, spec, set(entries))


def _dropped(before: BankFile, store: Store, spec: BankSpec, entries: set[Entry]) -> int:
    """How many variants of pyramids that are still there another layout has no room for."""
    count = 0
    for row, entry in enumerate(before.entries):
        kept = spec.variants if entry in entries and before.spec.draws_as(spec) else 0
        lost = sum(slot[0] != 0 for slot in before.slots(row)[kept:])
        if lost and store.has_weights(entry.key, entry.weights_checksum):
            count += lost
    return count


def _entries_of(manifest: Manifest, spec: BankSpec) -> list[Entry]:
    """One for each start scale, each once. Raises `StartScaleError` where the pyramid lacks one, `LabelError` where it
    has no mask and draws are confined by it.
    """
    if spec.confine and not manifest.mask_values:
        raise LabelError(
            f"expected a pyramid with a mask to confine its draws to, got {manifest.name or manifest.key} without one: "
            "fit images with their masks (`singan-aug fit --masks`)"
        )
    scales = len(manifest.scale_sizes)
    return [
        Entry(
            key=manifest.key,
            start_scale=start,
            scales=scales,
            height=manifest.scale_sizes[-1][0],
            width=manifest.scale_sizes[-1][1],
            channels=manifest.channels,
            turn_code=manifest.turn_code,
            weights_checksum=manifest.weights_checksum,
        )
        for start in sorted({resolve_start_scale(start, scales) for start in spec.start_scales})
    ]


def _jobs(jobs: int | None, slots: Sequence[Slot], entries: Sequence[Entry]) -> int:
    if jobs is not None:
        check_count("jobs", jobs)
    else:
        load = sum(entries[slot.entry].height * entries[slot.entry].width for slot in slots)
        jobs = min(joblib.cpu_count(), max(1, round(load / WORKER_PX)))
    return max(1, min(jobs, math.ceil(len(slots) / DRAWN_AT_ONCE)))


Task = tuple[tuple[int, ...], str, str, tuple[tuple[int, int], ...], Confinement | None]


def _tasks(slots: Sequence[Slot], entries: Sequence[Entry], spec: BankSpec, location: str) -> Iterator[Task]:
    """(numbers of slots, store, key, (start scale, seed) of each, confinement), a pyramid's slots together."""

    def key_of(number: int) -> str:
        return entries[slots[number].entry].key

    for key, group in groupby(sorted(range(len(slots)), key=key_of), key_of):
        numbers = list(group)
        for first in range(0, len(numbers), DRAWN_AT_ONCE):
            some = numbers[first : first + DRAWN_AT_ONCE]
            starts = [entries[slots[number].entry].start_scale for number in some]
            seeds = [spec.seed_of(entries[slots[number].entry], slots[number]) for number in some]
            yield tuple(some), location, key, tuple(zip(starts, seeds, strict=True)), spec.confinement


def _draw(
    numbers: tuple[int, ...],
    location: str,
    key: str,
    wanted: tuple[tuple[int, int], ...],
    how: Confinement | None,
) -> tuple[tuple[int, ...], list[tuple[int, Pixels]] | str]:
    """The numbers, and (seed, pixels) of each; or why the pyramid cannot be drawn from, "" where it is gone."""
    from singan_aug.pyramid import draw
    from singan_aug.pyramid.confine import draw_confined

    try:
        pyramid = open_store(location).load(key)
    except MissingPyramidError:
        return numbers, ""
    except StoreError as error:
        return numbers, str(error)
    made = []
    for start, seed in wanted:
        if how is None:
            unit = draw(pyramid, 1, start, seed=seed)[0]
        else:
            unit = draw_confined(pyramid, 1, start, seed, how)[0].image
        made.append((seed, to_pixels(unit)))
    return numbers, made


def _seconds_per_px(store: Store, entries: Sequence[Entry], how: Confinement | None) -> float:
    """Process seconds that a pixel of a draw takes, on a few pyramids."""
    spent_sec = pixels = 0.0
    for entry in entries[:: math.ceil(len(entries) / TRIAL_ENTRIES)]:
        _draw((0,), store.location, entry.key, ((entry.start_scale, 0),), how)  # the first draw of a process is slower
        started_sec = time.process_time()
        _draw((0,), store.location, entry.key, ((entry.start_scale, 0),), how)
        spent_sec += time.process_time() - started_sec
        pixels += entry.height * entry.width
    return spent_sec / pixels
