"""One folder with everything that real folders hold: each gets its status and one clear line, the others are fitted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from typer.testing import CliRunner, Result

from singan_aug.cli import app
from singan_aug.images import load_image
from singan_aug.presets import PRESETS
from singan_aug.store import DirectoryStore
from singan_aug.transforms.torchvision import SinGANAugment
from tests.conftest import make_photo, quick

TINY = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
SIZE = (26, 34)
LIMIT_PIXELS = 13_000  # in place of Pillow's 89 million
ORIENTATION = 0x0112


def _image(seed: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(make_photo(*SIZE, channels, seed).squeeze())


def _truncated(path: Path) -> None:
    _image(1).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def _wide(path: Path) -> None:
    Image.fromarray(make_photo(3, 4000)).save(path)


def _bomb(path: Path, pixels: int) -> None:
    Image.fromarray(np.arange(pixels, dtype=np.uint32).astype(np.uint8).reshape(100, -1)).save(path)


def _palette(path: Path) -> None:
    _image(3).convert("P").save(path, transparency=bytes(range(256)))


def _sixteen_bits(path: Path) -> None:
    Image.fromarray(make_photo(*SIZE, 1, 4).squeeze().astype(np.uint16) * 257).save(path)


def _floats(path: Path, factor: float) -> None:
    Image.fromarray(make_photo(*SIZE, 1, 5).squeeze().astype(np.float32) * np.float32(factor)).save(path)


def _animated(path: Path) -> None:
    _image(6).convert("P").save(path, save_all=True, append_images=[_image(i).convert("P") for i in (7, 8)])


def _turned(path: Path, orientation: int = 6) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    _image(9).save(path, exif=exif)


def _locked(path: Path) -> None:
    _image(10).save(path)
    path.chmod(0)


def _transparent(path: Path) -> None:
    Image.fromarray(make_photo(*SIZE, 4, 11)).save(path)


def _plain(seed: int) -> Callable[[Path], None]:
    return lambda path: _image(seed).save(path)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], Any]
    status: str
    words: tuple[str, ...] = ()  # that the message of a refusal must hold, or the notes of a conversion


CASES = [
    Case("text.jpg", lambda path: path.write_text("This is not an image.\n"), "failed", ("not an image",)),
    Case("truncated.jpg", _truncated, "failed", ("truncated",)),
    Case("empty.png", Path.touch, "failed", ("0 bytes",)),
    Case("pixel.png", lambda path: Image.new("RGB", (1, 1)).save(path), "failed", ("1x1", "12 px")),
    Case("line.png", _wide, "failed", ("4000x3", "12 px")),
    Case("bomb.png", lambda path: _bomb(path, LIMIT_PIXELS + 1000), "failed", ("million pixels",)),
    Case("larger bomb.png", lambda path: _bomb(path, 3 * LIMIT_PIXELS), "failed", ("million pixels",)),
    Case("constant.png", lambda path: Image.new("RGB", (34, 26), "teal").save(path), "failed", ("same value",)),
    Case("floats to 255.tif", lambda path: _floats(path, 1.0), "failed", ("floats in [0, 1]", "rescale")),
    Case("dangling.jpg", lambda path: path.symlink_to("nowhere.jpg"), "failed", ("link to nothing",)),
    Case("locked.jpg", _locked, "failed", ("no permission",)),
    Case("cmyk.jpg", lambda path: _image(2).convert("CMYK").save(path), "fitted", ("CMYK converted",)),
    Case("palette.png", _palette, "fitted", ("transparency dropped",)),
    Case("rgba.png", _transparent, "fitted", ("transparency dropped",)),
    Case("16 bits.png", _sixteen_bits, "fitted", ("16-bit",)),
    Case("floats.tiff", lambda path: _floats(path, 1 / 255), "fitted", ("floats",)),
    Case("animated.gif", _animated, "fitted", ("first of 3 frames",)),
    Case("turned.jpg", _turned, "fitted", ("EXIF",)),
    Case("dots.in.v1.2 and spaces  ñandú 日本.png", _plain(12), "fitted"),
    Case("UPPER.JPG", _plain(13), "fitted"),
    Case("[bold]:cat: {x} %s.png", _plain(14), "fitted"),
    Case("grey.png", lambda path: _image(15, 1).save(path), "fitted"),
    Case("twin a.png", _plain(16), "fitted"),
    Case("twin b.bmp", _plain(16), "duplicate", ("same image as", "twin a.png")),
]
FAILED = [case.name for case in CASES if case.status == "failed"]


def _may_read_anything(folder: Path) -> bool:
    probe = folder / "probe"
    probe.touch(mode=0)
    probe.chmod(0)
    try:
        return os.access(probe, os.R_OK)
    finally:
        probe.unlink()


def _fit(folder: Path, store: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["fit", str(folder), "--store", str(store), "--jobs", "1", *more])


@dataclass(frozen=True)
class Fitted:
    folder: Path
    store: Path
    skipped: frozenset[str]
    result: Result

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {Path(row["path"]).name: row for row in json.loads(self.result.stdout)["images"]}

    def row(self, name: str) -> dict[str, Any]:
        if name in self.skipped:
            pytest.skip("this user may read any file")
        return self.rows[name]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fitted]:
    root = tmp_path_factory.mktemp("ugly")
    folder = root / "photos"
    folder.mkdir()
    skipped = {"locked.jpg"} if _may_read_anything(root) else set()
    for case in CASES:
        if case.name not in skipped:
            case.make(folder / case.name)
    (folder / "empty folder").mkdir()
    (folder / "folder.jpg").mkdir()
    (folder / "notes.txt").write_text("left out")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two would wait for each other where both cores are busy
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "fast", lambda **changes: TINY.replace(**changes))
        patch.setattr(Image, "MAX_IMAGE_PIXELS", LIMIT_PIXELS)
        yield Fitted(folder, root / "store", frozenset(skipped), _fit(folder, root / "store", "--json"))
    torch.set_num_threads(before)


def test_the_run_ends_with_1_and_no_traceback(fitted: Fitted) -> None:
    assert fitted.result.exit_code == 1
    assert isinstance(fitted.result.exception, SystemExit)
    assert "Traceback" not in fitted.result.output


def test_every_file_is_accounted_for(fitted: Fitted) -> None:
    assert set(fitted.rows) | fitted.skipped == {case.name for case in CASES}
    summary = json.loads(fitted.result.stdout)
    assert summary["ignored"] == 1
    assert sum(summary[status] for status in ("fitted", "present", "duplicate", "failed")) == len(fitted.rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_has_its_status_and_a_line_that_names_the_problem(fitted: Fitted, case: Case) -> None:
    row = fitted.row(case.name)
    assert row["status"] == case.status, row["message"]
    told = ", ".join(row["notes"]) if case.status == "fitted" else row["message"]
    for word in case.words:
        assert word in told
    assert bool(told) == bool(case.words)
    assert "\n" not in row["message"]


@pytest.mark.parametrize("name", FAILED)
def test_each_failure_is_named_on_one_line_of_stderr(fitted: Fitted, name: str) -> None:
    row = fitted.row(name)
    assert f"singan-aug: {row['path']}: {row['message']}" in fitted.result.stderr.splitlines()


@pytest.mark.parametrize("case", [case for case in CASES if case.status == "fitted"], ids=lambda case: case.name)
def test_stderr_names_each_fitted_one_of_which_something_was_converted(fitted: Fitted, case: Case) -> None:
    """And no other: without a terminal, progress is a line for each percent, not for each image."""
    row = fitted.row(case.name)
    told = [line for line in fitted.result.stderr.splitlines() if line.startswith(f"singan-aug: {row['path']}: ")]
    assert told == ([f"singan-aug: {row['path']}: {', '.join(row['notes'])}"] if row["notes"] else [])


def test_the_store_holds_exactly_what_was_fitted(fitted: Fitted) -> None:
    store = DirectoryStore(fitted.store)
    keys = sorted(row["key"] for row in fitted.rows.values() if row["status"] == "fitted")
    assert sorted(store.keys()) == keys
    for key in keys:
        store.load(key)
    assert store.incomplete() == []


def test_what_is_stored_is_named_as_the_file_was(fitted: Fitted) -> None:
    store = DirectoryStore(fitted.store)
    names = {store.manifest(key).name for key in store.keys()}
    assert names == {name for name, row in fitted.rows.items() if row["status"] == "fitted"}


def test_the_next_run_says_the_same_of_the_bad_ones_and_leaves_the_good_ones_alone(fitted: Fitted) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (fitted.store / "pyramids").rglob("*") if path.is_file()}

    before = files()
    result = _fit(fitted.folder, fitted.store)
    assert result.exit_code == 1
    failed = [f"failed: {row['path']}: {row['message']}" for row in fitted.rows.values() if row["status"] == "failed"]
    assert sorted(line for line in result.stdout.splitlines() if line.startswith("failed: ")) == sorted(failed)
    assert "0 fitted" in result.stdout
    assert files() == before


def test_an_empty_folder_alone_is_said_to_hold_no_images(fitted: Fitted) -> None:
    result = CliRunner().invoke(app, ["fit", str(fitted.folder / "empty folder"), "--store", str(fitted.store)])
    assert result.exit_code == 1
    assert "empty folder, got none: name a folder" in result.stderr


@pytest.mark.parametrize("name", ["cmyk.jpg", "palette.png", "rgba.png", "16 bits.png", "floats.tiff", "animated.gif"])
def test_what_was_converted_is_found_as_a_pipeline_decodes_it(fitted: Fitted, name: str) -> None:
    with Image.open(fitted.folder / name) as file:
        image = file.convert("RGB") if name == "cmyk.jpg" else file.copy()  # as torchvision's ImageFolder decodes CMYK
    variant = SinGANAugment(store=fitted.store, p=1.0)(image)
    assert (variant.mode, variant.size) == (image.mode, image.size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_with_exif_rotation_is_found_turned_or_not(fitted: Fitted, tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "turned.png"  # of the same pixels as the fitted JPEG, in each orientation that the tag can name
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    with Image.open(fitted.folder / "turned.jpg") as source:
        Image.fromarray(np.asarray(source)).save(path, exif=exif)
    augment = SinGANAugment(store=fitted.store, p=1.0)
    with Image.open(path) as raw:
        torch.manual_seed(3)
        as_stored = augment(raw)
        assert as_stored.size == raw.size
        upright = ImageOps.exif_transpose(raw)
        torch.manual_seed(3)
        as_seen = augment(upright)
        assert as_seen.size == upright.size
        assert as_stored.tobytes() != raw.tobytes()
    turned = Image.fromarray(np.asarray(as_stored))
    turned.getexif()[ORIENTATION] = orientation
    assert ImageOps.exif_transpose(turned).tobytes() == as_seen.tobytes()


def test_a_file_with_exif_rotation_is_fitted_upright(fitted: Fitted) -> None:
    row = fitted.row("turned.jpg")
    manifest = DirectoryStore(fitted.store).manifest(row["key"])
    assert manifest.source_size == load_image(fitted.folder / "turned.jpg").pixels.shape[:2] == SIZE[::-1]
