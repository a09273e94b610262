"""`singan-aug ls` and `show`: what a store holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import tee
from pathlib import Path
from typing import Annotated, Any

import typer

from singan_aug.bank import Bank
from singan_aug.cli._app import FAILED, AsJson, Location, Target, app, existing_store, find_pyramid, loaded, reported
from singan_aug.cli._describe import preset_words
from singan_aug.cli._output import Force, as_png, write_new
from singan_aug.display import complain, file_size, printable, say, show_json, show_json_rows, show_table
from singan_aug.errors import StoreError
from singan_aug.images import pixels_to_pil
from singan_aug.pyramid.sizes import START_WORDS, start_scale_at
from singan_aug.store import Broken, Listed, Manifest, Store, abbreviated

Row = tuple[str, Listed]  # the digits that name it, and what is told of it


class Order(StrEnum):
    """By what `ls` sorts."""

    key = "key"
    name = "name"
    date = "date"
    size = "size"
    preset = "preset"


SORTED_BY: dict[Order, Callable[[Row], Any]] = {
    Order.name: lambda row: (row[1].name, row[1].key),
    Order.date: lambda row: (row[1].created_at, row[1].key),
    Order.size: lambda row: (-row[1].weights_bytes, row[1].key),
    Order.preset: lambda row: (preset_words(row[1].config), row[1].name, row[1].key),
}


@app.command("ls")
@reported
def list_pyramids(
    location: Location = None,
    sort: Annotated[Order, typer.Option(help="By what: size and preset gather what is alike.")] = Order.key,
    as_json: AsJson = False,
) -> None:
    """List the pyramids of a store."""
    store = existing_store(location)
    broken: list[Broken] = []
    rows: Iterable[Row] = _whole(store.entries(), broken)
    if sort in SORTED_BY:
        rows = sorted(rows, key=SORTED_BY[sort])
    if as_json:
        show_json_rows(_as_json(entry) for _, entry in rows)
    else:
        _show_rows(store, rows)
    if broken:
        raise typer.Exit(FAILED)


def _whole(entries: Iterable[Listed | Broken], broken: list[Broken]) -> Iterator[Row]:
    """Those that can be read, with the digits that name them; the others are complained of."""
    ahead, here = tee(entries)
    for (_, short), entry in zip(abbreviated(entry.key for entry in ahead), here, strict=True):
        if isinstance(entry, Broken):
            broken.append(entry)
            complain(str(entry.error))
        else:
            yield short, entry


def _as_json(entry: Listed) -> dict[str, Any]:
    return {**entry._asdict(), "config": entry.config.model_dump(mode="json"), "preset": preset_words(entry.config)}


def _show_rows(store: Store, rows: Iterable[Row]) -> None:
    count = total = 0
    bank = _bank_of(store)

    def cells() -> Iterator[list[str]]:
        nonlocal count, total
        for short, entry in rows:
            count, total = count + 1, total + entry.weights_bytes
            yield [
                short,
                entry.name or "-",
                _by(entry.size),
                preset_words(entry.config),
                "yes" if entry.masked else "-",
                str(entry.scales),
                _banked(bank, entry.key),
                file_size(entry.weights_bytes),
                entry.created_at[:10],
            ]

    show_table(["key", "image", "fitted at", "preset", "mask", "scales", "bank", "size", "fitted on"], cells())
    say(f"{count} pyramids, {file_size(total)}, in {store.location}")


def _bank_of(store: Store) -> Bank | None:
    """None where there is none that can be read."""
    try:
        bank = Bank(store)
        return bank if bank.spec else None
    except StoreError as error:
        complain(str(error))
        return None


def _banked(bank: Bank | None, key: str) -> str:
    """How many variants the bank holds of a pyramid."""
    count = sum(bank.count(key, start) for start in bank.start_scales(key)) if bank else 0
    return str(count or "-")


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


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
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one pyramid, and from which start scales boxes stay where they are."""
    store = existing_store(location)
    manifest, _ = find_pyramid(store, target)
    if sheet is not None:
        _write_sheet(store, manifest, target, sheet, force=force)
    if as_json:
        show_json(_described(manifest))
        return
    made = manifest.provenance
    masks = f"{len(manifest.mask_values)} values" if manifest.mask_values else "none"
    spent = f", in {made['process_sec']:.1f} s" if isinstance(made.get("process_sec"), float) else ""
    facts = {
        "image": f"{printable(manifest.name) or '-'}, {_by(manifest.source_size)}",
        "fitted at": f"{_by(manifest.scale_sizes[-1])}, {manifest.channels} channels, mask: {masks}",
        "preset": preset_words(manifest.config),
        "fitted on": f"{manifest.created_at[:19].replace('T', ' ')}{spent}",
        "size": f"{file_size(manifest.weights_bytes)} ({manifest.weights_dtype})",
        "key": manifest.key,
    }
    for name, value in facts.items():
        say(f"{name + ':':<11}{printable(value)}")
    _show_scales(store, manifest)


def _write_sheet(store: Store, manifest: Manifest, target: str, sheet: Path, *, force: bool) -> None:
    from singan_aug.report import contact_sheet

    source = pixels_to_pil(loaded(target)) if Path(target).exists() else None
    made = contact_sheet([(printable(manifest.name), source, store.load(manifest.key))])
    write_new({sheet: as_png(made)}, force=force)


def _show_scales(store: Store, manifest: Manifest) -> None:
    from singan_aug.pyramid import keeps_layout  # torch

    count, moved = len(manifest.scale_sizes), manifest.displacement_px
    bank = _bank_of(store)
    rows = []
    for start, size in enumerate(manifest.scale_sizes):
        words = [word for word, share in START_WORDS.items() if start_scale_at(share, count) == start]
        kept = keeps_layout(moved, manifest.scale_sizes[-1], start)
        rows.append(
            [
                str(start),
                ", ".join(words) or "-",
                _by(size),
                f"{moved[start]:.1f} px" if moved else "-",
                "yes" if kept else "no",
                str((bank and bank.count(manifest.key, start)) or "-"),
            ]
        )
    show_table(["start scale", "word", "scale", "moves pixels by", "keeps boxes", "bank"], rows)
