from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from singan_aug.images import Pixels, pixels_to_pil, unit_to_pil
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.report import contact_sheet
from singan_aug.report.contact_sheet import GAP_PX, LABEL_PX

CELL = 60


def _cell_height(pyramid: Pyramid) -> int:
    return round(CELL * pyramid.size[0] / pyramid.size[1])


def _corner(pyramid: Pyramid, row: int, column: int) -> tuple[int, int]:
    """Left and top of a picture: below the title and its own label."""
    step_y = _cell_height(pyramid) + GAP_PX + LABEL_PX
    return GAP_PX + (CELL + GAP_PX) * column, 2 * LABEL_PX + step_y * row


def _cell(sheet: Image.Image, pyramid: Pyramid, row: int, column: int) -> Image.Image:
    left, top = _corner(pyramid, row, column)
    return sheet.crop((left, top, left + CELL, top + _cell_height(pyramid)))


def _shown(picture: Image.Image, pyramid: Pyramid) -> bytes:
    return picture.convert("RGB").resize((CELL, _cell_height(pyramid)), Image.Resampling.LANCZOS).tobytes()


def _block_size(pyramid: Pyramid, variants: int) -> tuple[int, int]:
    height = 2 * LABEL_PX + (_cell_height(pyramid) + GAP_PX + LABEL_PX) * (len(pyramid) + 1)
    return GAP_PX + (CELL + GAP_PX) * max(variants, 2), height


@pytest.mark.parametrize("variants", [1, 2, 5])
def test_a_sheet_has_a_row_for_each_start_scale_and_a_column_for_each_variant(
    fast_like: Pyramid, variants: int
) -> None:
    sheet = contact_sheet([("a", None, fast_like)], variants=variants, cell_px=CELL)
    assert sheet.mode == "RGB"
    assert sheet.size == _block_size(fast_like, variants)


def test_source_reconstruction_and_variants_stand_in_their_cells(fast_like: Pyramid, photo: Pixels) -> None:
    source = pixels_to_pil(photo)
    sheet = contact_sheet([("photo.png", source, fast_like)], variants=3, seed=5, cell_px=CELL)
    assert _cell(sheet, fast_like, 0, 0).tobytes() == _shown(source, fast_like)
    memory = unit_to_pil(reconstruct(fast_like)[0])
    assert _cell(sheet, fast_like, 0, 1).tobytes() == _shown(memory, fast_like)
    for scale in range(len(fast_like)):
        for i, variant in enumerate(draw(fast_like, 3, start_scale=scale, seed=5)):
            shown = _cell(sheet, fast_like, scale + 1, i).tobytes()
            assert shown == _shown(unit_to_pil(variant), fast_like)


def test_without_a_source_the_reconstruction_stands_first(fast_like: Pyramid) -> None:
    sheet = contact_sheet([("a", None, fast_like)], cell_px=CELL)
    memory = unit_to_pil(reconstruct(fast_like)[0])
    assert _cell(sheet, fast_like, 0, 0).tobytes() == _shown(memory, fast_like)


def test_every_picture_has_a_label_and_rows_have_different_ones(fast_like: Pyramid, photo: Pixels) -> None:
    sheet = contact_sheet([("a", pixels_to_pil(photo), fast_like)], variants=2, cell_px=160)
    columns = [[_label_at(sheet, fast_like, row, column) for row in range(len(fast_like) + 1)] for column in (0, 1)]
    for labels in columns:
        assert all((label < 128).any() for label in labels)
        assert all(not np.array_equal(above, below) for above, below in pairwise(labels))


def _label_at(sheet: Image.Image, pyramid: Pyramid, row: int, column: int) -> np.ndarray:
    """The label strip above a picture of the default width."""
    height = round(160 * pyramid.size[0] / pyramid.size[1])
    left, top = GAP_PX + (160 + GAP_PX) * column, LABEL_PX + (height + GAP_PX + LABEL_PX) * row
    return np.asarray(sheet.crop((left, top, left + 160, top + LABEL_PX)).convert("L"))


def test_the_name_stands_on_top(fast_like: Pyramid) -> None:
    sheets = [contact_sheet([(name, None, fast_like)], cell_px=CELL) for name in ("a", "b")]
    first, second = (sheet.crop((0, 0, sheet.width, LABEL_PX)).tobytes() for sheet in sheets)
    assert first != second
    first, second = (sheet.crop((0, LABEL_PX, *sheet.size)).tobytes() for sheet in sheets)
    assert first == second


def test_a_name_of_any_letters_is_taken(fast_like: Pyramid) -> None:
    contact_sheet([("dots.and ñandú 日本 " * 20, None, fast_like)], variants=1, cell_px=CELL)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (6, 2, 3)])
def test_images_stand_in_two_columns(fast_like: Pyramid, count: int, columns: int, rows: int) -> None:
    sheet = contact_sheet([("a", None, fast_like)] * count, variants=2, cell_px=CELL)
    width, height = _block_size(fast_like, 2)
    assert sheet.size == (columns * width, rows * height)


def test_blocks_of_different_heights_do_not_overlap(fast_like: Pyramid, paper_like: Pyramid) -> None:
    both = contact_sheet([("a", None, fast_like), ("b", None, paper_like)], variants=2, cell_px=CELL)
    alone = [contact_sheet([entry], variants=2, cell_px=CELL) for entry in (("a", None, fast_like),)]
    other = contact_sheet([("b", None, paper_like)], variants=2, cell_px=CELL)
    assert both.height == max(alone[0].height, other.height)
    assert both.crop((0, 0, *alone[0].size)).tobytes() == alone[0].tobytes()
    left = both.width // 2
    assert both.crop((left, 0, left + other.width, other.height)).tobytes() == other.tobytes()


def test_a_seed_decides_the_whole_sheet(fast_like: Pyramid) -> None:
    first, again, other = (contact_sheet([("a", None, fast_like)], seed=seed, cell_px=CELL) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
