"""What the commands of tasks share: the pyramid of an image, fitted first where told to, and pictures written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from singan_aug.cli._app import existing_store, find_pyramid, loaded
from singan_aug.cli._output import as_png, write_new
from singan_aug.cli.draw import safe_stem
from singan_aug.config import MOST_PX
from singan_aug.display import say, show_json
from singan_aug.errors import ConfigError, MissingPyramidError
from singan_aug.images import inverse_turn, turn_between, turn_pixels, unit_to_pil
from singan_aug.presets import PRESETS, preset
from singan_aug.pyramid.sizes import StartScale, read_start_scale
from singan_aug.store import fingerprint, make_key, open_store

if TYPE_CHECKING:
    from torch import Tensor

    from singan_aug.images import Pixels
    from singan_aug.pyramid import Pyramid

__all__ = [
    "FitFirst",
    "MaxSize",
    "Out",
    "PresetName",
    "Start",
    "Subject",
    "start_of",
    "subject_of",
    "write_pictures",
]

FitFirst = Annotated[
    bool, typer.Option("--fit", help="Fit IMAGE first, and store it, where it has no pyramid of this preset yet.")
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help=f"Which pyramid of IMAGE: {', '.join(sorted(PRESETS))}. Default: the one fitted last; with --fit: fast.",
        show_default=False,
    ),
]
MaxSize = Annotated[
    int | None,
    typer.Option(
        min=25,
        max=MOST_PX,
        help="With --fit: long side in pixels, as for `fit`. Default: the preset's 250.",
        show_default=False,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start-scale",
        help="The first scale that redraws, as for `draw`: coarser ones change more. Default: what suits the task.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the files.")]


@dataclass(frozen=True)
class Subject:
    """The pyramid that a command works on, and how its image lies."""

    pyramid: Pyramid
    stem: str
    own_code: int  # orientation of the pyramid
    turn_code: int  # and of the file that named it

    def turned(self, pixels: Pixels) -> Pixels:
        """Pixels that lie as the file does, as the pyramid's do."""
        if self.own_code == self.turn_code:
            return pixels
        upright = turn_pixels(pixels, self.turn_code)
        return np.ascontiguousarray(turn_pixels(upright, inverse_turn(self.own_code)))

    def opened(self, path: Path | None) -> Any:
        """The pixels of a file, lying as the pyramid does; None for none. Raises `ImageError`."""
        return None if path is None else self.turned(loaded(str(path)))

    def size(self, wanted: tuple[int, int] | None) -> tuple[int, int] | None:
        """A size, (height, width), as the pyramid lies."""
        return wanted if wanted is None or not (self.own_code ^ self.turn_code) & 4 else wanted[::-1]

    def back(self, pictures: Tensor) -> Tensor:
        """Pictures, [..., H, W], as the file lies."""
        return turn_between(pictures, self.own_code, self.turn_code)


def subject_of(
    target: str, location: Path | None, preset_name: str | None, max_size: int | None, *, fit_first: bool
) -> Subject:
    """The pyramid of an image or key. Raises `ConfigError`, `ImageError`, `MissingPyramidError`, as `fit` does."""
    if not fit_first and max_size is not None:
        raise ConfigError("--max-size says how to fit: expected --fit beside it")
    is_file = bool(target) and Path(target).exists()
    if not is_file and (fit_first or preset_name):
        raise ConfigError(f"expected an image file beside --fit or --preset, got {target!r}: there is no such file")
    if not is_file or not (fit_first or preset_name):
        store = existing_store(location)
        manifest, turn_code = find_pyramid(store, target)
        return Subject(store.load(manifest.key), safe_stem(manifest), manifest.turn_code, turn_code)
    config = preset(preset_name or "fast", **({} if max_size is None else {"finest_px": max_size}))
    store, pixels = open_store(location), loaded(target)
    identity = fingerprint(pixels)
    key = store.latest(identity.digest, config)
    if key is None and not fit_first:
        raise MissingPyramidError(f"no pyramid of preset {preset_name} for {target} in {store.location}: add --fit")
    if key is None:
        from singan_aug.fitting import fit

        made = make_key(pixels, config)
        store.prepare()
        store.save(made, fit(pixels, config), name=Path(target).name, source_size=(pixels.shape[0], pixels.shape[1]))
        key = str(made)
    manifest = store.manifest(key)
    return Subject(store.load(key), safe_stem(manifest), manifest.turn_code, identity.turn_code)


def start_of(start_scale: str | None) -> StartScale | None:
    """What --start-scale says. Raises `StartScaleError`."""
    return None if start_scale is None else read_start_scale(start_scale)


def write_pictures(
    subject: Subject, pictures: Tensor, names: Sequence[str], out: Path, *, force: bool, as_json: bool
) -> None:
    """Write each picture, [n, C, H, W] in [0, 1], as a PNG file into a folder, and say so."""
    paths = [out / f"{name}.png" for name in names]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"expected inputs of different names, got {', '.join(names)}: rename one")
    held = subject.back(pictures)
    write_new({path: as_png(unit_to_pil(picture)) for path, picture in zip(paths, held, strict=True)}, force=force)
    if as_json:
        show_json([str(path) for path in paths])
    else:
        say("\n".join(str(path) for path in paths))
