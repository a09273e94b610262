"""`singan-aug verify` and `rm`: looking after a store."""

from __future__ import annotations

from typing import Annotated

import typer

from singan_aug.bank import Bank
from singan_aug.cli._app import (
    FAILED,
    AsJson,
    Cache,
    Yes,
    app,
    confirm_loss,
    existing_store,
    key_named,
    reported,
)
from singan_aug.display import complain, say, show_json
from singan_aug.errors import ConfigError, StoreError
from singan_aug.store import Store


@app.command()
@reported
def verify(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Keys, or their first digits. Default: all.", show_default=False),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Read pyramids back, and without KEY the bank too, and check every byte against its checksum."""
    store = existing_store(cache)
    broken = {}
    checked = [key_named(store, digits) for digits in keys] if keys else list(store.keys())
    for key in checked:
        try:
            store.load(key)
        except StoreError as error:
            broken[key] = str(error)
    of_bank, of_bank_broken = _verify_bank(store) if not keys else ("", "")
    if as_json:
        rows = [{"key": key, "ok": key not in broken, "message": broken.get(key, "")} for key in checked]
        rows += [{"key": "bank", "ok": not of_bank_broken, "message": of_bank_broken}] if of_bank else []
        show_json(rows)
    else:
        for message in filter(None, [*broken.values(), of_bank_broken]):
            complain(message)
        say(f"{len(checked) - len(broken)} of {len(checked)} pyramids {of_bank}are whole in {store.location}")
    if broken or of_bank_broken:
        raise typer.Exit(FAILED)


def _verify_bank(store: Store) -> tuple[str, str]:
    """What there is of a bank, in words, and what is wrong with it; empty where there is nothing to say."""
    try:
        bank = Bank(store)
        if bank.spec is None:
            return "", ""
        whole, _, broken = bank.check()
    except StoreError as error:
        return "and 0 variants of the bank ", str(error)
    message = f"the bank: {broken} variants are broken: draw them again with `singan-aug bank`" if broken else ""
    return f"and {whole} of {whole + broken} variants of the bank ", message


@app.command("rm")
@reported
def remove(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Keys, or their first digits, as `ls` gives them.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every pyramid of the store.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do nothing: list what would be removed.")] = False,
    yes: Yes = False,
    cache: Cache = None,
) -> None:
    """Remove pyramids from a store."""
    if bool(keys) == everything:
        raise ConfigError("expected keys to remove, or --all for every one of the store")
    store = existing_store(cache)
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
