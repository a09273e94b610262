"""`singan-aug draw`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import AsJson, Cache, Seed, Target, app, find_pyramid, reported
from singan_aug.display import say, show_json
from singan_aug.errors import ConfigError
from singan_aug.images import mask_to_pil, turn_between, unit_to_pil
from singan_aug.pyramid.sizes import read_start_scale
from singan_aug.store import open_store


@app.command()
@reported
def draw(
    target: Target,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many variants.")] = 4,
    start_scale: Annotated[
        str,
        typer.Option(
            help="0: new global structure; larger: finer detail alone; negative: counted from the finest; or coarse, "
            "medium, fine."
        ),
    ] = "0",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the variants. Default: the pyramid's own.", show_default=False)
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")] = Path("variants"),
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Draw variants of a fitted image into PNG files, with their masks where it was fitted with one."""
    from singan_aug.pyramid import trace

    store = open_store(cache)
    manifest, turn_code = find_pyramid(store, target)
    wanted = parse_size(size)
    if wanted is not None and (manifest.turn_code ^ turn_code) & 4:  # the file lies on its side
        wanted = wanted[::-1]
    traced = trace(store.load(manifest.key), count, read_start_scale(start_scale), wanted, seed)
    drawn = turn_between(traced.images, manifest.turn_code, turn_code)
    out.mkdir(parents=True, exist_ok=True)
    stem = Path(manifest.name).stem or manifest.key
    paths = [out / f"{stem}_scale{start_scale}_seed{seed}_{i}.png" for i in range(count)]
    for path, image in zip(paths, drawn, strict=True):
        unit_to_pil(image).save(path)
    if traced.masks is not None:
        for path, mask in zip(paths, turn_between(traced.masks, manifest.turn_code, turn_code), strict=True):
            mask_to_pil(mask.numpy()).save(path.with_stem(f"{path.stem}_mask"))
    if as_json:
        show_json([str(path) for path in paths])
    else:
        say(f"{count} variants of {manifest.name} in {out}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of WIDTHxHEIGHT. Raises `ConfigError`."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)
    if not match:
        raise ConfigError(f"expected --size WIDTHxHEIGHT such as 256x192, got {text!r}")
    return int(match[2]), int(match[1])
