"""What a notebook shows of variants: rows of pictures as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from singan_aug.images import unit_to_pil

__all__ = ["rows_as_png"]

CELL_PX, GAP_PX = 160, 4  # long side of each picture, and what is between two
SHOWN = 6  # pictures in a row, at most


def rows_as_png(
    rows: Sequence[Tensor],  # each [n, C, H, W] in [0, 1], all of one shape but for n
) -> bytes:
    """A PNG of the first `SHOWN` pictures of each row, small ones as they are, larger ones shrunk."""
    height, width = rows[0].shape[-2:]
    ratio = min(1.0, CELL_PX / max(height, width))
    cell = max(1, round(width * ratio)), max(1, round(height * ratio))
    columns = min(SHOWN, max(map(len, rows)))
    size = (columns * (cell[0] + GAP_PX) - GAP_PX, len(rows) * (cell[1] + GAP_PX) - GAP_PX)
    sheet = Image.new("RGB", size, "white")
    for i, row in enumerate(rows):
        for j, image in enumerate(row[:SHOWN]):
            picture = unit_to_pil(image).convert("RGB").resize(cell, Image.Resampling.LANCZOS)
            sheet.paste(picture, (j * (cell[0] + GAP_PX), i * (cell[1] + GAP_PX)))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
