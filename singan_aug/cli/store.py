"""`singan-aug ls`, `show`, `verify` and `rm`: looking after a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from singan_aug.bank import Bank
from singan_aug.cli._app import FAILED, AsJson, Cache, Target, app, find_pyramid, loaded, reported
from singan_aug.display import complain, file_size, say, show_json, show_table
from singan_aug.errors import ConfigError, MissingPyramidError, StoreError
from singan_aug.images import pixels_to_pil
from singan_aug.store import Manifest, Store, open_store


@app.command("ls")
@reported
def list_pyramids(cache: Cache = None, as_json: AsJson = False) -> None:
    """List the pyramids of a store."""
    store = open_store(cache)
    manifests, broken = [], False
    for key in store.keys():
        try:
            manifests.append(store.manifest(key))
        except StoreError as error:
            broken = True
            complain(str(error))
    if as_json:
        show_json([_described(manifest) for manifest in manifests])
    else:
        rows = []
        for m in manifests:
            height, width = m.scale_sizes[-1]
            counts = [str(len(m.scale_sizes)), str(m.channels), file_size(m.weights_bytes)]
            rows.append([m.key[:12], m.name, f"{width}x{height}", *counts, m.created_at[:10]])
        if rows:
            show_table(["key", "image", "fitted at", "scales", "channels", "size", "fitted on"], rows)
        say(f"{len(manifests)} pyramids in {store.location}")
    if broken:
        raise typer.Exit(FAILED)


def _described(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(mode="json", exclude={"descriptor"})  # 5 KB that tell a reader nothing


@app.command()
@reported
def show(
    target: Target,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Also write a contact sheet to this PNG file: reconstruction, and variants at each start scale.",
            show_default=False,
        ),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one pyramid."""
    store = open_store(cache)
    manifest, _ = find_pyramid(store, target)
    if sheet is not None:
        from singan_aug.report import contact_sheet

        source = pixels_to_pil(loaded(target)) if Path(target).exists() else None
        contact_sheet([(manifest.name, source, store.load(manifest.key))]).save(sheet, format="PNG")
    if as_json:
        show_json(_described(manifest))
        return
    for name, value in _described(manifest).items():
        say(f"{name}: {json.dumps(value)}")


@app.command()
@reported
def verify(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Keys, as `ls --json` gives them. Default: all.", show_default=False),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Read pyramids back, and without KEY the bank too, and check every byte against its checksum."""
    store = open_store(cache)
    broken = {}
    checked = list(keys or store.keys())
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
    cache: Cache = None,
) -> None:
    """Remove pyramids from a store."""
    if bool(keys) == everything:
        raise ConfigError("expected keys to remove, or --all for every one of the store")
    store = open_store(cache)
    failed = False
    for wanted in list(store.keys()) if everything else keys or []:
        found = [key for key in store.keys() if wanted and key.startswith(wanted)]
        key = found[0] if len(found) == 1 else wanted
        try:
            if not wanted:
                raise MissingPyramidError("expected a key or its first digits, got an empty word")
            if len(found) > 1:
                raise MissingPyramidError(f"{len(found)} keys begin with {wanted!r}: give more digits")
            store.remove(key)
            say(f"removed {key}")
        except StoreError as error:
            failed = True
            complain(str(error))
    if failed:
        raise typer.Exit(FAILED)
