"""`singan-aug verify` and `rm`: looking after a store."""

from __future__ import annotations

from typing import Annotated

import joblib
import typer

from singan_aug.bank import Bank
from singan_aug.cli._app import (
    FAILED,
    AsJson,
    Jobs,
    Location,
    Quiet,
    Yes,
    app,
    confirm_loss,
    existing_store,
    key_named,
    reported,
)
from singan_aug.cli._verified import Verified
from singan_aug.display import ProgressBar, complain, say, show_json
from singan_aug.errors import ConfigError, MissingPyramidError, StoreError
from singan_aug.store import Store, open_store
from singan_aug.workers import side_by_side

AT_ONCE = 200  # pyramids that a worker checks and tells of
WORTH_PROCESSES = 5000  # pyramids from which on workers are worth starting


@app.command()
@reported
def verify(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Keys, or their first digits. Default: all.", show_default=False),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put broken entries aside, into quarantine/; fit their images again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: put nothing aside.")] = False,
    yes: Yes = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run stopped: skip what it found whole.")
    ] = False,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also make each pyramid of its files, as a draw does: ten times as slow."),
    ] = False,
    jobs: Jobs = None,
    location: Location = None,
    quiet: Quiet = False,  # noqa: ARG001 (`reported` looks at it)
    as_json: AsJson = False,
) -> None:
    """Read pyramids back, and without KEY the bank too, and check every byte against its checksum."""
    store = existing_store(location)
    checked = [key_named(store, digits) for digits in keys] if keys else list(store.keys())
    broken, gone = _broken(store, checked, jobs, Verified(store, resume=resume, deep=deep), deep)
    checked = [key for key in checked if key not in gone]
    of_bank, of_bank_broken = _verify_bank(store) if not keys else ("", "")
    if as_json:
        rows = [{"key": key, "ok": key not in broken, "message": broken.get(key, "")} for key in checked]
        rows += [{"key": "bank", "ok": not of_bank_broken, "message": of_bank_broken}] if of_bank else []
        show_json(rows)
    else:
        for message in filter(None, [*broken.values(), of_bank_broken]):
            complain(message)
        meanwhile = f"; {len(gone)} more were removed meanwhile" if gone else ""
        whole = f"{len(checked) - len(broken)} of {len(checked)} pyramids"
        say(f"{whole} {of_bank}are whole in {store.location}{meanwhile}")
    if repair and not dry_run:
        confirm_loss(len(broken), f"put {len(broken):,} broken pyramids aside", yes=yes)
    for key in broken if repair else ():
        if dry_run:
            complain(f"would put {key} aside")
        else:
            _put_aside(store, key, deep)
    if broken or of_bank_broken:
        raise typer.Exit(FAILED)


def _put_aside(store: Store, key: str, deep: bool) -> None:
    """Unless another process has removed or replaced it meanwhile."""
    if key not in _check(store.location, [key], deep)[1]:
        return
    try:
        complain(f"put {key} aside into {store.quarantine(key)}: fit its image again")
    except StoreError as error:
        complain(str(error))


def _broken(
    store: Store, keys: list[str], jobs: int | None, verified: Verified, deep: bool
) -> tuple[dict[str, str], set[str]]:
    """What is wrong with those that are not whole, in the order of the keys; and those that went meanwhile."""
    left = verified.left(keys)
    jobs = jobs or (joblib.cpu_count() if len(left) >= WORTH_PROCESSES else 1)
    parts = [(store.location, left[first : first + AT_ONCE], deep) for first in range(0, len(left), AT_ONCE)]
    gone: set[str] = set()
    done = len(keys) - len(left)
    with ProgressBar("pyramids") as bar:
        for lot, wrong, lost in side_by_side(_check, parts, max(1, min(jobs, len(parts)))):
            verified.add(lot, wrong)
            gone |= lost
            done += len(lot)
            if jobs > 1:
                bar.show(done, len(keys))
    verified.finish()
    return {key: verified.wrong[key] for key in keys if key in verified.wrong}, gone


def _check(location: str, keys: list[str], deep: bool) -> tuple[list[str], dict[str, str], set[str]]:
    """Those that were looked at, what is wrong with some of them, and those that are no longer there. In a worker
    process.
    """
    store, wrong, gone = open_store(location), {}, set()
    for key in keys:
        try:
            store.check(key, deep=deep)
        except MissingPyramidError:
            gone.add(key)
        except StoreError as error:
            wrong[key] = str(error)
    return keys, wrong, gone


def _verify_bank(store: Store) -> tuple[str, str]:
    """What there is of a bank, in words, and what is wrong with it; empty where there is nothing to say."""
    try:
        bank = Bank(store)
        if bank.spec is None:
            return "", ""
        whole, _, broken = bank.check()
    except StoreError as error:
        return "and 0 variants of the bank ", str(error)
    remedy = f"draw them again with `{store.command('bank')}`"
    message = f"the bank: {broken} variants are broken: {remedy}" if broken else ""
    return f"and {whole} of {whole + broken} variants of the bank ", message


@app.command("rm")
@reported
def remove(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Keys, or their first digits, as `ls` gives them.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every pyramid of the store.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do nothing: list what would be removed.")] = False,
    yes: Yes = False,
    location: Location = None,
) -> None:
    """Remove pyramids from a store."""
    if bool(keys) == everything:
        raise ConfigError("expected keys to remove, or --all for every one of the store")
    store = existing_store(location)
    failed = False
    found: list[str] = list(store.keys()) if everything else []
    for digits in keys or []:
        try:
            found.append(_removable(store, digits))
        except StoreError as error:
            failed = True
            complain(str(error))
    found = list(dict.fromkeys(found))
    if not dry_run:
        confirm_loss(len(found), f"remove {len(found):,} pyramids from {store.location}", yes=yes)
    for key in found:
        try:
            if not dry_run:
                store.remove(key)
            say(f"{'would remove' if dry_run else 'removed'} {key}")
        except StoreError as error:
            failed = True
            complain(str(error))
    if failed:
        raise typer.Exit(FAILED)


def _removable(store: Store, digits: str) -> str:
    """As `key_named`, or the whole key of an entry that is broken and in no list."""
    return digits if len(digits) == WHOLE_KEY and not store.matching(digits) else key_named(store, digits)


WHOLE_KEY = 49  # characters
