from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import singan_aug
from singan_aug.cli import app
from singan_aug.dataset import Event, Outcome, Progress
from singan_aug.demo import BATCH_PX, START_SCALE, DemoResult, run_demo
from singan_aug.images import load_image
from singan_aug.presets import PRESETS
from singan_aug.store import DirectoryStore
from tests.conftest import quick

PHOTOS = Path(singan_aug.__file__).parent / "photos"
TINY = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
# Pillow and torch start threads; Python 3.12 and later warn of a DataLoader's fork beside them.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def _photos() -> list[Path]:
    return sorted(path for path in PHOTOS.iterdir() if path.suffix in {".jpg", ".png"})


# The photos


def test_there_are_four_to_eight_photos_under_one_megabyte() -> None:
    assert 4 <= len(_photos()) <= 8
    assert sum(path.stat().st_size for path in PHOTOS.iterdir()) < 1_000_000


def test_nothing_else_lies_beside_them() -> None:
    assert {path.name for path in PHOTOS.iterdir()} == {"SOURCES.txt", *(path.name for path in _photos())}


@pytest.mark.parametrize("path", _photos(), ids=lambda path: path.name)
def test_each_photo_has_its_source_and_licence_beside_it(path: Path) -> None:
    entries = re.split(r"\n\s*\n", (PHOTOS / "SOURCES.txt").read_text())
    (entry,) = [entry for entry in entries if entry.startswith(f"{path.name} ")]
    assert re.search(r"^\s+Source\s+\S", entry, re.MULTILINE)
    licence = re.search(r"^\s+Licence\s+(.+)$", entry, re.MULTILINE)
    assert licence
    assert re.match(r"CC0|Public domain", licence[1])


def test_no_entry_is_without_its_photo() -> None:
    named = re.findall(r"^(\S+\.(?:jpg|png))\s", (PHOTOS / "SOURCES.txt").read_text(), re.MULTILINE)
    assert sorted(named) == [path.name for path in _photos()]


def test_the_photos_decode_without_conversion_and_one_at_least_is_grey() -> None:
    loaded = [load_image(path) for path in _photos()]
    assert all(image.notes == () for image in loaded)
    assert {image.pixels.shape[-1] for image in loaded} == {1, 3}


# The whole path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult, list[Event]]:
    root = tmp_path_factory.mktemp("demo")
    events: list[Event] = []
    store = DirectoryStore(root / "store")
    return root, run_demo(store, TINY, jobs=1, on_event=events.append), events


def test_every_photo_is_fitted_into_the_store(made: tuple[Path, DemoResult, list[Event]]) -> None:
    root, result, _ = made
    assert [(o.path.name, o.status) for o in result.report.outcomes] == [(p.name, "fitted") for p in _photos()]
    store = DirectoryStore(root / "store")
    assert sorted(store.manifest(key).name for key in store.keys()) == [path.name for path in _photos()]
    assert all(len(store.load(key)) > START_SCALE for key in store.keys())


def test_progress_is_reported(made: tuple[Path, DemoResult, list[Event]]) -> None:
    _, _, events = made
    for kind in (Progress, Outcome):
        assert {event.path.name for event in events if isinstance(event, kind)} == {path.name for path in _photos()}


def test_both_are_pictures(made: tuple[Path, DemoResult, list[Event]]) -> None:
    _, result, _ = made
    for picture in (result.sheet, result.batch):
        assert picture.mode == "RGB"
        assert len(set(picture.resize((64, 64)).tobytes())) > 30  # not a blank page


def test_the_batch_shows_every_photo(made: tuple[Path, DemoResult, list[Event]]) -> None:
    _, result, _ = made
    cells = (result.batch.width // BATCH_PX) * (result.batch.height // BATCH_PX)
    assert cells == len(_photos())


def test_a_second_demo_fits_nothing_and_shows_the_same_pictures(made: tuple[Path, DemoResult, list[Event]]) -> None:
    root, result, _ = made
    again = run_demo(DirectoryStore(root / "store"), TINY, jobs=1)
    assert {outcome.status for outcome in again.report.outcomes} == {"present"}
    assert again.sheet.tobytes() == result.sheet.tobytes()
    assert again.batch.tobytes() == result.batch.tobytes()


def test_the_command_says_where_the_pictures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "fast", lambda **changes: TINY.replace(**{**changes, "finest_px": 40}))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--jobs", "1"])
    assert (result.exit_code, result.exception) == (0, None)
    for name in ("contact-sheet.png", "batch.png"):
        assert str(Path("singan-aug-demo") / name) in result.stdout
        with Image.open(tmp_path / "singan-aug-demo" / name) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
    assert len(list(DirectoryStore(tmp_path / "singan-aug-demo" / "store").keys())) == len(_photos())
    assert CliRunner().invoke(app, ["demo", "--jobs", "1"]).exit_code == 0  # once more, over what it wrote itself
    own = tmp_path / "singan-aug-demo" / "batch.png"
    own.write_text("mine")
    refused = CliRunner().invoke(app, ["demo", "--jobs", "1"])
    assert refused.exit_code == 2
    assert "batch.png is there already, and is another file" in refused.stderr
    assert own.read_text() == "mine"
    assert CliRunner().invoke(app, ["demo", "--jobs", "1", "--force"]).exit_code == 0
    assert own.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file" / "out")])
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert str(tmp_path / "file") in result.stderr
