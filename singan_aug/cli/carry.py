"""`singan-aug store merge`, `pack` and `unpack`: pyramids carried from store to store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import FAILED, AsJson, app, reported
from singan_aug.cli._usage import OneLineUsage
from singan_aug.display import complain, file_size, say, show_json
from singan_aug.errors import ConfigError, StoreError
from singan_aug.store import Copied, EntryStore, OnConflict, PackedStore, merge, open_store, pack

store_app = typer.Typer(
    cls=OneLineUsage, no_args_is_help=True, rich_markup_mode=None, help="Merge stores; pack one into a file to carry."
)
app.add_typer(store_app, name="store")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Do nothing: tell what would be done.")]
Conflicts = Annotated[
    OnConflict,
    typer.Option(help="Which pyramid stays where both have one of a key, fitted at different times."),
]
Source = Annotated[Path, typer.Argument(metavar="FROM", help="A store: a folder, or a packed file.")]


@store_app.command("merge")
@reported
def merge_stores(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="INTO", help="The store that receives them; made if need be.")],
    on_conflict: Conflicts = OnConflict.KEEP,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Copy into a store what another has and it lacks. Each pyramid is verified on its way."""
    _merge(_there(source), _with_files(target), on_conflict, dry_run=dry_run, as_json=as_json)


@store_app.command("unpack")
@reported
def unpack_store(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `store pack` wrote.")],
    target: Annotated[Path, typer.Argument(metavar="INTO", help="The store that receives them; made if need be.")],
    on_conflict: Conflicts = OnConflict.KEEP,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a folder of a packed store. The same as `store merge FILE INTO`."""
    _merge(_packed(source), _with_files(target), on_conflict, dry_run=dry_run, as_json=as_json)


@store_app.command("pack")
@reported
def pack_store(
    source: Source,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file that ends in .zip.")],
    dry_run: DryRun = False,
) -> None:
    """Put a store into one file, which transforms, `draw` and `ls` read as it is (--store FILE)."""
    if file.suffix != ".zip":
        raise ConfigError(f"expected a file that ends in .zip to pack into, got {file}")
    store = _there(source)
    broken: list[Copied] = []
    count, packed_bytes = pack(store, file, broken, dry_run=dry_run)
    would = "would be " if dry_run else ""
    say(f"{count} pyramids {would}packed into {file}, {file_size(packed_bytes)}")
    _complain_of(broken)
    if broken:
        raise typer.Exit(FAILED)


def _merge(source: EntryStore, target: EntryStore, on_conflict: OnConflict, *, dry_run: bool, as_json: bool) -> None:
    if source.location == target.location:
        raise ConfigError(f"expected two stores, got {source.location} twice")
    counts: Counter[str] = Counter()
    copied_bytes = 0
    told = []
    for each in merge(source, target, on_conflict, dry_run=dry_run):
        counts[each.status] += 1
        copied_bytes += each.bytes
        if as_json:
            told.append(each._asdict())
        elif each.status == "replaced":
            done = "would replace" if dry_run else "replaced"
            say(f"{done} {each.key} ({each.name or 'without a name'}): {each.message}")
        else:
            _complain_of([each])
    if as_json:
        show_json(told)
    else:
        parts = [f"{count} {status}" for status, count in sorted(counts.items())] or ["nothing to copy"]
        would = "would be: " if dry_run else ""
        say(f"{would}{', '.join(parts)}; {file_size(copied_bytes)} into {target.location}")
    if counts["broken"] or counts["conflict"]:
        raise typer.Exit(FAILED)


def _complain_of(entries: Iterable[Copied]) -> None:
    for each in entries:
        if each.status == "broken":
            complain(f"left out: {each.message}")
        elif each.status == "conflict":
            complain(
                f"conflict: {each.key} ({each.name or 'without a name'}): {each.message}; the latter stays: "
                "--on-conflict newer or replace takes another one"
            )


def _there(place: Path) -> EntryStore:
    store = _with_files(place)
    if not store.exists():
        raise ConfigError(f"expected a store at {place}: there is none")
    return store


def _with_files(place: Path) -> EntryStore:
    store = open_store(place)
    if not isinstance(store, EntryStore):
        raise StoreError(f"expected a store of files, got {store.location}")
    return store


def _packed(place: Path) -> PackedStore:
    store = _there(place)
    if not isinstance(store, PackedStore):
        raise ConfigError(f"expected a packed store, a file that ends in .zip, got {place}")
    return store
