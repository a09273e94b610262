"""Files that commands write: none in place of another one, unless --force says so, and none through a link."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from singan_aug.errors import ConfigError

__all__ = ["Force", "as_png", "refuse_existing", "write_new"]

Force = Annotated[bool, typer.Option("--force", help="Write over other files of these names.")]


def as_png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def refuse_existing(*paths: Path | None, force: bool) -> None:
    """Raise `ConfigError` where something is there, before work begins whose result would have no place."""
    for path in paths:
        if path is not None and not force and (path.is_symlink() or path.exists()):
            raise ConfigError(f"{path} is there already: name another place, or add --force")


def write_new(files: Mapping[Path, bytes], *, force: bool) -> None:
    """Write all of them, or none where one would replace another file, unless `force` says so; never through a link."""
    for path, data in files.items():
        there = path.is_symlink() or path.exists()
        if there and not force and (path.is_symlink() or not path.is_file() or path.read_bytes() != data):
            raise ConfigError(f"{path} is there already, and is another file: name another place, or add --force")
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.write_bytes(data)
