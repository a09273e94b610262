"""`singan-aug draw`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from singan_aug.cli._app import (
    CONFINE_HELP,
    AsJson,
    ConfineMarginPx,
    ConfineTo,
    Location,
    Seed,
    Target,
    app,
    existing_store,
    find_pyramid,
    reported,
)
from singan_aug.cli._output import Force, as_png, write_new
from singan_aug.display import printable, say, show_json
from singan_aug.errors import ConfigError
from singan_aug.images import mask_to_pil, turn_between, unit_to_pil
from singan_aug.pyramid.confine import MARGIN_PX, Confinement
from singan_aug.pyramid.sizes import DEFAULT_START, read_start_scale
from singan_aug.store import Manifest

__all__ = ["safe_stem"]


@app.command()
@reported
def draw(
    target: Target,
    variants: Annotated[int, typer.Option("--variants", "-n", min=1, help="How many variants.")] = 4,
    start_scale: Annotated[
        str,
        typer.Option(
            help="0: new global structure; larger: finer detail alone; negative: counted from the finest; or coarse, "
            "medium, fine. Default: where transforms start."
        ),
    ] = DEFAULT_START,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the variants. Default: the pyramid's own.", show_default=False)
    ] = None,
    seed: Seed = 0,
    confine: Annotated[ConfineTo, typer.Option(help=CONFINE_HELP)] = ConfineTo.none,
    confine_margin_px: ConfineMarginPx = MARGIN_PX,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")] = Path("variants"),
    force: Force = False,
    location: Location = None,
    as_json: AsJson = False,
) -> None:
    """Draw variants of a fitted image into PNG files, with their masks where it was fitted with one."""
    import torch

    from singan_aug.pyramid import trace
    from singan_aug.pyramid.confine import draw_confined

    store = existing_store(location)
    manifest, turn_code = find_pyramid(store, target)
    wanted = parse_size(size)
    if wanted is not None and (manifest.turn_code ^ turn_code) & 4:  # the file lies on its side
        wanted = wanted[::-1]
    how = Confinement.of(confine.wanted, confine_margin_px)
    if how is not None and wanted is not None:
        raise ConfigError("expected --confine without --size: a draw is confined at the size of its pyramid")
    pyramid, start = store.load(manifest.key), read_start_scale(start_scale)
    if how is None:
        traced = trace(pyramid, variants, start, wanted, seed)
        images, masks = traced.images, traced.masks
    else:
        made = draw_confined(pyramid, variants, start, seed, how)
        images = torch.stack([each.image for each in made])
        masks = pyramid.carried_mask(torch.stack([each.field for each in made]))
    drawn = turn_between(images, manifest.turn_code, turn_code)
    paths = [out / f"{safe_stem(manifest)}_scale{start_scale}_seed{seed}_{i}.png" for i in range(variants)]
    files = {path: as_png(unit_to_pil(image)) for path, image in zip(paths, drawn, strict=True)}
    if masks is not None:
        for path, mask in zip(paths, turn_between(masks, manifest.turn_code, turn_code), strict=True):
            files[path.with_stem(f"{path.stem}_mask")] = as_png(mask_to_pil(mask.numpy()))
    write_new(files, force=force)
    if as_json:
        show_json([str(path) for path in paths])
    else:
        say(f"{variants} variants of {manifest.name} from start scale {start_scale} in {out}")


def safe_stem(manifest: Manifest) -> str:
    """What files of a pyramid are called: no name of a stranger's leads out of a folder, or is too long for one."""
    stem = Path(manifest.name.replace("\\", "/")).stem
    kept = printable("".join("_" if char in '/:*?"<>|' else char for char in stem)).replace("\\", "_")
    return kept[:80].strip(". ") or manifest.key


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of WIDTHxHEIGHT. Raises `ConfigError`."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)
    if not match:
        raise ConfigError(f"expected --size WIDTHxHEIGHT such as 256x192, got {text!r}")
    return int(match[2]), int(match[1])
