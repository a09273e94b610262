"""`singan-aug du` and `prune`: how much a store takes, and what of it may go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import FAILED, AsJson, Location, Yes, app, confirm_loss, existing_store, reported
from singan_aug.cli._describe import preset_words
from singan_aug.display import complain, file_size, say, show_json, show_table
from singan_aug.errors import ConfigError, ImageError, StoreError
from singan_aug.store import Broken, Listed, Store, fingerprint

_AGE = re.compile(r"(\d{1,6})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d+)?)(B|KB|MB|GB)", re.IGNORECASE)
BESIDE = (
    "variants.bank",
    "derived",
    "partial",
    "unfinished",
    "claims",
    "failures",
    "quarantine",
    "store.json",
)  # pyramids/
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@app.command("du")
@reported
def disk_usage(location: Location = None, as_json: AsJson = False) -> None:
    """Tell how much of the disk a store takes: weights by preset, the bank, and what is derived or left over."""
    store = existing_store(location)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in store.entries():
        if isinstance(entry, Listed):
            words = f"weights of {preset_words(entry.config)}"
            counts[words] += 1
            sizes[words] += entry.weights_bytes
    taken = dict(sizes.most_common())
    root = Path(store.location)
    pyramids = _taken(root / "pyramids")
    taken["manifests and what is broken"] = pyramids - sum(sizes.values())
    beside = {name: _taken(root / name) for name in BESIDE}
    taken |= beside
    taken["total"] = pyramids + sum(beside.values())
    if as_json:
        show_json({"store": store.location, "bytes": taken, "pyramids": dict(counts)})
        return
    show_table(
        ["what", "pyramids", "size"], [[what, str(counts[what] or "-"), file_size(n)] for what, n in taken.items()]
    )


def _taken(place: Path) -> int:
    """Bytes of a file, or of all in a folder; links are not followed."""
    if place.is_symlink() or not place.exists():
        return 0
    if place.is_file():
        return place.stat().st_size
    return sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())


@app.command()
@reported
def prune(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Fitted longer ago: 12h, 30d, 8w.", show_default=False)
    ] = None,
    larger_than: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Weights of more: 500KB, 2MB.", show_default=False)
    ] = None,
    preset_named: Annotated[
        str | None,
        typer.Option("--preset", help='Fitted so, as `ls` tells it: fast, or "fast seed=3".', show_default=False),
    ] = None,
    not_in: Annotated[
        list[Path] | None,
        typer.Option(help="Of no image in this file or folder; may be given several times.", show_default=False),
    ] = None,
    unused_for: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Not read for so long, as far as the disk notes reading.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do nothing: list what would be removed.")] = False,
    yes: Yes = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Remove the pyramids to which all of the given conditions apply."""
    if all(option is None for option in (older_than, larger_than, preset_named, not_in, unused_for)):
        raise ConfigError("expected a condition: --older-than, --larger-than, --preset, --not-in or --unused-for")
    store = existing_store(location)
    now = datetime.now(UTC)
    born_before = now - _age("--older-than", older_than) if older_than else None
    read_before = now - _age("--unused-for", unused_for) if unused_for else None
    most = _bytes(larger_than) if larger_than else None
    kept = _fingerprints(not_in) if not_in else frozenset[str]()
    chosen = [
        entry
        for entry in _whole(store.entries())
        if (born_before is None or _born(entry) < born_before)
        and (most is None or entry.weights_bytes > most)
        and (preset_named is None or preset_words(entry.config) == preset_named)
        and (not not_in or entry.key[:32] not in kept)
        and (read_before is None or _last_read(store, entry.key) < read_before)
    ]
    _remove(store, chosen, dry_run=dry_run, yes=yes, as_json=as_json)


def _remove(store: Store, chosen: list[Listed], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    total = file_size(sum(entry.weights_bytes for entry in chosen))
    if not dry_run:
        confirm_loss(len(chosen), f"remove {len(chosen):,} pyramids ({total}) from {store.location}", yes=yes)
    removed, failed = [], False
    for entry in chosen:
        try:
            if not dry_run:
                store.remove(entry.key)
            removed.append(entry)
        except StoreError as error:
            failed = True
            complain(str(error))
    if as_json:
        show_json([{"key": entry.key, "name": entry.name, "bytes": entry.weights_bytes} for entry in removed])
    else:
        for entry in removed:
            say(f"{'would remove' if dry_run else 'removed'} {entry.key} ({entry.name or '-'})")
        say(f"{len(removed)} pyramids, {total}, {'would go' if dry_run else 'are gone'} from {store.location}")
    if failed:
        raise typer.Exit(FAILED)


def _whole(entries: Iterable[Listed | Broken]) -> Iterator[Listed]:
    """Those that can be read: what is broken is for `verify`."""
    return (entry for entry in entries if isinstance(entry, Listed))


def _born(entry: Listed) -> datetime:
    """When it was fitted; now, where that cannot be told."""
    try:
        born = datetime.fromisoformat(entry.created_at)
    except ValueError:
        return datetime.now(UTC)
    return born if born.tzinfo else born.replace(tzinfo=UTC)


def _last_read(store: Store, key: str) -> datetime:
    """When its weights were read or written last; now, where that cannot be told."""
    try:
        status = (Path(store.location) / "pyramids" / key[:2] / key / "pyramid.safetensors").stat()
    except OSError:
        return datetime.now(UTC)
    return datetime.fromtimestamp(max(status.st_atime, status.st_mtime), UTC)


def _fingerprints(paths: Iterable[Path]) -> frozenset[str]:
    """Of all images there. Raises `ConfigError` where one cannot be read: its pyramid would seem to be of no image."""
    from singan_aug.dataset import find_images
    from singan_aug.images import LoadedImage, map_images

    roots = list(paths)
    for path in roots:
        if not path.exists():
            raise ConfigError(f"expected images for --not-in, got {path}: there is no such file or folder")

    def look(path: Path, image: LoadedImage | ImageError) -> str:
        if isinstance(image, ImageError):
            raise ConfigError(f"cannot tell which pyramid is of {path}, so none is removed: {image}")
        return fingerprint(image.pixels).digest

    found = find_images(roots)
    if found.unreadable or not found.images:
        what = found.unreadable[0][0] if found.unreadable else "any image"
        raise ConfigError(f"cannot read {what} in {', '.join(map(str, roots))}, so nothing is removed")
    return frozenset(map_images(look, found.images))


def _age(option: str, text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if not match:
        raise ConfigError(f"expected {option} such as 12h, 30d or 8w, got {text!r}")
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def _bytes(text: str) -> float:
    match = _SIZE.fullmatch(text)
    if not match:
        raise ConfigError(f"expected --larger-than such as 500KB or 2MB, got {text!r}")
    return float(match[1]) * _BYTES[match[2].upper()]
