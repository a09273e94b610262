"""`singan-aug ls` and `show`: what a store holds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from singan_aug.bank import Bank
from singan_aug.cli._app import FAILED, AsJson, Cache, Target, app, existing_store, find_pyramid, loaded, reported
from singan_aug.cli._describe import preset_words
from singan_aug.cli.draw import write_new
from singan_aug.display import complain, file_size, printable, say, show_json, show_table
from singan_aug.errors import StoreError
from singan_aug.images import pixels_to_pil
from singan_aug.pyramid.sizes import START_WORDS, start_scale_at
from singan_aug.store import Manifest, Store, abbreviated


class Order(StrEnum):
    """By what `ls` sorts."""

    key = "key"
    name = "name"
    date = "date"
    size = "size"
    preset = "preset"


SORTED_BY: dict[Order, Any] = {
    Order.key: lambda m: m.key,
    Order.name: lambda m: (m.name, m.key),
    Order.date: lambda m: (m.created_at, m.key),
    Order.size: lambda m: (-m.weights_bytes, m.key),
    Order.preset: lambda m: (preset_words(m.config), m.name, m.key),
}


@app.command("ls")
@reported
def list_pyramids(
    cache: Cache = None,
    sort: Annotated[Order, typer.Option(help="By what: size and preset gather what is alike.")] = Order.key,
    as_json: AsJson = False,
) -> None:
    """List the pyramids of a store."""
    store = existing_store(cache)
    manifests, broken = [], False
    for key in store.keys():
        try:
            manifests.append(store.manifest(key))
        except StoreError as error:
            broken = True
            complain(str(error))
    manifests.sort(key=SORTED_BY[sort])
    if as_json:
        show_json([_described(manifest) for manifest in manifests])
    else:
        _show_rows(store, manifests)
    if broken:
        raise typer.Exit(FAILED)


def _show_rows(store: Store, manifests: list[Manifest]) -> None:
    short, held = dict(abbreviated(store.keys())), _banked(store, [m.key for m in manifests])
    columns = ["key", "image", "fitted at", "preset", "mask", "scales", "bank", "size", "fitted on"]
    rows = [
        [
            short.get(m.key, m.key),
            m.name or "-",
            _by(m.scale_sizes[-1]),
            preset_words(m.config),
            "yes" if m.mask_values else "-",
            str(len(m.scale_sizes)),
            str(held.get(m.key) or "-"),
            file_size(m.weights_bytes),
            m.created_at[:10],
        ]
        for m in manifests
    ]
    if rows:
        show_table(columns, rows)
    total = file_size(sum(m.weights_bytes for m in manifests))
    say(f"{len(manifests)} pyramids, {total}, in {store.location}")


def _banked(store: Store, keys: list[str]) -> dict[str, int]:
    """How many variants the bank holds of each."""
    try:
        bank = Bank(store)
        if bank.spec is None:
            return {}
        return {key: sum(bank.count(key, start) for start in bank.start_scales(key)) for key in keys}
    except StoreError as error:
        complain(str(error))
        return {}


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
    force: Annotated[bool, typer.Option("--force", help="Write over the file that --sheet names.")] = False,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one pyramid, and from which start scales boxes stay where they are."""
    store = existing_store(cache)
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
    import io

    from singan_aug.report import contact_sheet

    source = pixels_to_pil(loaded(target)) if Path(target).exists() else None
    file = io.BytesIO()
    contact_sheet([(printable(manifest.name), source, store.load(manifest.key))]).save(file, format="PNG")
    write_new({sheet: file.getvalue()}, force=force)


def _show_scales(store: Store, manifest: Manifest) -> None:
    from singan_aug.pyramid import keeps_layout  # torch

    count, moved = len(manifest.scale_sizes), manifest.displacement_px
    bank = Bank(store)
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
                str(bank.count(manifest.key, start) or "-"),
            ]
        )
    show_table(["start scale", "word", "scale", "moves pixels by", "keeps boxes", "bank"], rows)
