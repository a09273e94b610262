"""`confine` in exports and on the command line: what the files say, checked by colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from singan_aug.annotations import added_polygons, decode_rle, encode_rle
from singan_aug.bank import Bank
from singan_aug.cli import app
from singan_aug.dataset import fit_dataset
from singan_aug.errors import ConfigError
from singan_aug.export import export_dataset
from singan_aug.presets import fast
from singan_aug.pyramid.confine import Confinement
from singan_aug.store import DirectoryStore
from tests.contracts.test_confine import MARGIN_PX, MASK, MODES, PIXELS, SIZE, _check, _is_object

pytestmark = pytest.mark.usefixtures("one_thread")


def _photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path)
    return path


def _exported(data: Path, mode: Any, masks: Path | None = None) -> Any:
    store = DirectoryStore(data.parent / "store")
    assert not fit_dataset([data], store, fast(), jobs=1, masks=masks).failed
    how = {"confine": mode, "confine_margin_px": MARGIN_PX}
    return export_dataset(data, data.parent / "out", store, variants=3, start_scale=0, **how, jobs=1)


@pytest.mark.parametrize("mode", MODES)
def test_masks(mode: str, tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "images" / "a.png")
    (tmp_path / "data" / "masks").mkdir()
    Image.fromarray(MASK).save(tmp_path / "data" / "masks" / "a.png")
    assert _exported(tmp_path / "data", mode).layout == "masks"
    for i in (1, 2, 3):
        after, moved = (np.asarray(Image.open(tmp_path / "out" / kind / f"a_v{i}.png")) for kind in ("images", "masks"))
        _check(mode, PIXELS, MASK, after, moved)


@pytest.mark.parametrize("mode", MODES)
def test_coco(mode: str, tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    records = [
        {"id": k, "image_id": 1, "category_id": k, "segmentation": encode_rle(np.equal(MASK, k)), "bbox": [0, 0, 1, 1]}
        for k in (1, 2)
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": records,
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
    }
    (tmp_path / "data" / "all.json").write_text(json.dumps(document))
    assert _exported(tmp_path / "data", mode).layout == "coco"
    written = json.loads((tmp_path / "out" / "all.json").read_text())
    for image in written["images"][1:]:
        moved = np.zeros(SIZE, np.uint8)
        for record in written["annotations"]:
            if record["image_id"] == image["id"]:
                moved[decode_rle(record["segmentation"]["counts"], SIZE)] = record["category_id"]
        _check(mode, PIXELS, MASK, np.asarray(Image.open(tmp_path / "out" / image["file_name"])), moved)


def test_yolo_and_an_image_without_objects(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _photo(data / "images" / "a.png")
    Image.fromarray(PIXELS[::-1]).rotate(3).save(data / "images" / "b.png")
    (data / "labels").mkdir()
    outline = added_polygons(MASK == 1)[0] / np.array(SIZE[::-1])
    (data / "labels" / "a.txt").write_text("0 " + " ".join(f"{v:.6f}" for v in outline.reshape(-1)) + "\n")
    (data / "data.yaml").write_text("train: images\nnames:\n  0: disk\n")
    report = _exported(data, "mask", masks=data / "labels")
    assert report.layout == "yolo"
    assert not report.with_status("failed")
    variant = np.asarray(Image.open(tmp_path / "out" / "images" / "a_v1.png"))
    far = np.asarray(Image.open(data / "images" / "a.png")) == variant
    assert far.all(-1)[MASK == 2].all()  # which these labels do not know
    assert not far.all()
    unchanged = [np.asarray(Image.open(tmp_path / "out" / "images" / name)) for name in ("b.png", "b_v1.png")]
    assert np.array_equal(unchanged[0], unchanged[1])


def test_boxes_alone_and_folders_without_masks_fail_by_name(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "images" / "a.png")
    (tmp_path / "data" / "labels").mkdir()
    (tmp_path / "data" / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (failed,) = _exported(tmp_path / "data", "mask").with_status("failed")
    assert "outlines of all objects to confine variants to, got 1 without one" in failed.message
    _photo(tmp_path / "more" / "data" / "cat" / "a.png")
    (failed,) = _exported(tmp_path / "more" / "data", "mask").with_status("failed")
    assert "a mask to confine to, got none" in failed.message


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mask' or 'background'"):
        export_dataset(tmp_path / "data", tmp_path / "out", confine="both")  # type: ignore[arg-type]


# The commands


@pytest.fixture
def store(tmp_path: Path) -> str:
    _photo(tmp_path / "data" / "images" / "a.png")
    (tmp_path / "data" / "masks").mkdir()
    Image.fromarray(MASK).save(tmp_path / "data" / "masks" / "a.png")
    made = DirectoryStore(tmp_path / "store")
    fit_dataset([tmp_path / "data"], made, fast(), jobs=1)
    return made.location


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("mode", MODES)
def test_draw(mode: str, store: str, tmp_path: Path) -> None:
    command = ["draw", str(tmp_path / "data" / "images" / "a.png"), "--store", store, "--out", str(tmp_path / "v")]
    command += ["--start-scale", "0", "--confine", mode, "--confine-margin-px", str(MARGIN_PX)]
    result = _run(*command, "-n", "2")
    assert result.exit_code == 0, result.output
    for i in range(2):
        after, moved = (
            np.asarray(Image.open(tmp_path / "v" / f"a_scale0_seed0_{i}{ending}.png")) for ending in ("", "_mask")
        )
        _check(mode, PIXELS, MASK, after, moved)
    result = _run(*command, "--size", "40x30")
    assert (result.exit_code, "without --size" in result.output) == (2, True)


def test_bank_and_export(store: str, tmp_path: Path) -> None:
    result = _run("bank", "--store", store, "--start-scale", "0", "--variants", "2", "--confine", "mask", "--yes")
    assert result.exit_code == 0, result.output
    assert Bank(DirectoryStore(store)).confinement == Confinement("mask")
    result = _run(
        *("export", str(tmp_path / "data"), str(tmp_path / "out"), "--store", store, "--variants", "1"),
        *("--confine", "background", "--start-scale", "0"),
    )
    assert result.exit_code == 0, result.output
    after = np.asarray(Image.open(tmp_path / "out" / "images" / "a_v1.png"))
    assert np.array_equal(after[MASK > 0], PIXELS[MASK > 0])
    assert np.array_equal(_is_object(after), MASK > 0)
    assert _run("bank", "--store", store, "--confine", "object").exit_code == 2
