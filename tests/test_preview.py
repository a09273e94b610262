"""The preview of what training would get, and what notebooks show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from typer.testing import CliRunner

from singan_aug import cli
from singan_aug.errors import ConfigError, ImageError
from singan_aug.fitting import fit
from singan_aug.images import pixels_to_pil, unit_to_pil
from singan_aug.presets import fast
from singan_aug.preview import CELL_PX, make_preview
from singan_aug.pyramid import draw, reconstruct, trace
from singan_aug.pyramid.pictures import GAP_PX as BETWEEN_PX
from singan_aug.report.contact_sheet import GAP_PX, LABEL_PX
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = fast(coarsest_px=16)


def _folder(folder: Path, count: int = 5) -> Path:
    for i in range(count):
        path = folder / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels_to_pil(make_photo(30, 50, seed=i)).save(path)
    return folder


def _cell(picture: Image.Image, row: int, column: int) -> np.ndarray:
    """Of a grid whose sources are 50 x 30: below the title of its row and its own label."""
    height = round(CELL_PX * 30 / 50)
    left = GAP_PX + (CELL_PX + GAP_PX) * column
    top = 2 * LABEL_PX + (2 * LABEL_PX + height + GAP_PX + LABEL_PX) * row
    return np.asarray(picture.crop((left, top, left + CELL_PX, top + height)))


def _shown(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((CELL_PX, round(CELL_PX * 30 / 50)), Image.Resampling.LANCZOS))


def test_a_row_has_source_epochs_mirrored_and_elastic(tmp_path: Path) -> None:
    made = make_preview(_folder(tmp_path), CONFIG, p=1.0, limit=2, epochs=3, start_scale=0)
    assert [path.name for path in made.shown] == ["0.png", "4.png"]
    for row, path in enumerate(made.shown):
        source = _picture(path.read_bytes())
        cells = [_cell(made.picture, row, column) for column in range(6)]
        assert np.array_equal(cells[0], _shown(source))
        assert np.array_equal(cells[4], _shown(ImageOps.mirror(source)))
        for one, other in ((0, 1), (1, 2), (2, 3), (0, 5)):
            assert not np.array_equal(cells[one], cells[other])


def test_epochs_that_replace_nothing_show_the_source(tmp_path: Path) -> None:
    made = make_preview(_folder(tmp_path), CONFIG, p=0.0, limit=1, epochs=2)
    assert np.array_equal(_cell(made.picture, 0, 0), _cell(made.picture, 0, 1))
    assert np.array_equal(_cell(made.picture, 0, 0), _cell(made.picture, 0, 2))


def test_a_preview_depends_on_its_seed_alone(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    torch.manual_seed(1)
    first = make_preview(folder, CONFIG, limit=1, seed=1)
    before = torch.random.get_rng_state()
    again = make_preview(folder, CONFIG, limit=1, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.picture.tobytes() == again.picture.tobytes()
    assert first.picture.tobytes() != make_preview(folder, CONFIG, limit=1, seed=2).picture.tobytes()


def test_what_cannot_be_fitted_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path, 2)
    (folder / "class0" / "0.png").write_text("text")
    made = make_preview(folder, CONFIG)
    assert [path.name for path, _ in made.failed] == ["0.png"]
    assert len(made.shown) == 1
    (folder / "class1" / "1.png").write_text("text")
    with pytest.raises(ImageError, match="none of 2 images"):
        make_preview(folder, CONFIG)


def test_what_is_no_preview(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"expected images in .*, got none: name a folder"):
        make_preview(tmp_path, CONFIG)
    with pytest.raises(ConfigError, match="limit to be a whole number from 1 to 50"):
        make_preview(_folder(tmp_path), CONFIG, limit=0)
    with pytest.raises(ConfigError, match="start_scale"):
        make_preview(tmp_path, CONFIG, start_scale="huge")


def _run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["preview", *map(str, arguments)])


def test_the_command_prints_the_path_and_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGAN_AUG_STORE", str(tmp_path / "cache"))
    out = tmp_path / "p.png"
    result = _run(_folder(tmp_path / "images"), "--out", out, "--limit", 2, "--start-scale", "coarse")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert _picture(out.read_bytes()).width == GAP_PX + 7 * (CELL_PX + GAP_PX)
    assert not (tmp_path / "cache").exists()


def test_the_command_refuses(tmp_path: Path) -> None:
    result = _run(tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "no such folder" in result.stderr


# Notebooks


def _picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_a_notebook_shows_a_pyramid() -> None:
    pyramid = fit(make_photo(30, 50), CONFIG)
    shown = np.asarray(_picture(pyramid._repr_png_()))
    assert shown.shape == (3 * (30 + BETWEEN_PX) - BETWEEN_PX, 4 * (50 + BETWEEN_PX) - BETWEEN_PX, 3)
    assert np.array_equal(shown[:30, :50], np.asarray(unit_to_pil(reconstruct(pyramid)[0])))
    coarse = unit_to_pil(draw(pyramid, 1, start_scale="coarse")[0])
    assert np.array_equal(shown[:30, 50 + BETWEEN_PX : 100 + BETWEEN_PX], np.asarray(coarse))


def test_a_notebook_shows_the_result_of_a_draw() -> None:
    pyramid = fit(make_photo(30, 50, channels=1), CONFIG)
    shown = _picture(trace(pyramid, 9, size=(400, 200))._repr_png_())
    assert shown.size == (6 * (80 + BETWEEN_PX) - BETWEEN_PX, 160)
