"""A contact sheet: what a pyramid remembers and what it draws, at every start scale, in one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from singan_aug.images import unit_to_pil
from singan_aug.pyramid import Pyramid, draw, reconstruct

__all__ = ["BACKGROUND", "contact_sheet", "titled_rows"]

GAP_PX, LABEL_PX = 4, 16
BACKGROUND, INK = "white", "black"


def contact_sheet(
    entries: Sequence[tuple[str, Image.Image | None, Pyramid]],  # name, source image if at hand, its pyramid
    *,
    variants: int = 4,
    seed: int = 0,
    cell_px: int = 160,  # width of each picture on the sheet
) -> Image.Image:
    """For each image a block: source and reconstruction, then one row of variants for each start scale."""
    blocks = [_block(name, source, pyramid, variants, seed, cell_px) for name, source, pyramid in entries]
    columns = 1 if len(blocks) == 1 else 2
    rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    width = max(block.width for block in blocks) * columns
    sheet = Image.new("RGB", (width, sum(max(b.height for b in row) for row in rows)), BACKGROUND)
    top = 0
    for row in rows:
        for i, block in enumerate(row):
            sheet.paste(block, (i * width // columns, top))
        top += max(block.height for block in row)
    return sheet


def _block(
    name: str, source: Image.Image | None, pyramid: Pyramid, variants: int, seed: int, cell_px: int
) -> Image.Image:
    rows = [[("reconstruction", unit_to_pil(reconstruct(pyramid)[0]))]]
    if source is not None:
        rows[0].insert(0, ("source", source))
    for scale in range(len(pyramid)):
        drawn = draw(pyramid, variants, start_scale=scale, seed=seed)
        rows.append([(f"start scale {scale}", unit_to_pil(image)) for image in drawn])
    return titled_rows(name, rows, pyramid.size[0] / pyramid.size[1], columns=max(variants, 2), cell_px=cell_px)


def titled_rows(
    title: str,
    rows: Sequence[Sequence[tuple[str, Image.Image]]],  # each picture under its label
    aspect: float,  # height of every picture, as a ratio to its width
    *,
    columns: int,  # that there is room for
    cell_px: int,
) -> Image.Image:
    """Pictures of one shape in rows, under a title."""
    height = round(cell_px * aspect)
    step_x, step_y = cell_px + GAP_PX, height + GAP_PX + LABEL_PX
    sheet = Image.new("RGB", (GAP_PX + step_x * columns, LABEL_PX * 2 + step_y * len(rows)), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    pen.text((GAP_PX, 3), title, fill=INK, font=ImageFont.load_default(size=13))
    for i, row in enumerate(rows):
        for j, (label, picture) in enumerate(row):
            left, top = GAP_PX + step_x * j, LABEL_PX + step_y * i
            pen.text((left, top + 2), label, fill=INK, font=font)
            sheet.paste(
                picture.convert("RGB").resize((cell_px, height), Image.Resampling.LANCZOS), (left, top + LABEL_PX)
            )
    return sheet
