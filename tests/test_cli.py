from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import xxhash
from PIL import Image
from typer.testing import CliRunner, Result

import singan_aug
import singan_aug.fitting
from singan_aug import cli, dataset
from singan_aug.config import FitConfig
from singan_aug.display import show_table
from singan_aug.images import load_image, pixels_to_pil, turn_between, unit_to_pil
from singan_aug.presets import PRESETS
from singan_aug.pyramid import draw
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import make_photo, quick

ROOT = Path(singan_aug.__file__).parents[1]
TINY = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
SIZE = (26, 34)
PHOTOS = {"red fox.png": 0, "deep/stone.jpg": 1, "deep/er/grey.png": 2}
COMMANDS = ["preview", "fit", "draw", "ls", "show", "verify", "rm", "bank", "report", "score", "study", "demo"]


def _pixels(seed: int) -> Any:
    return make_photo(*SIZE, channels=1 if seed == 2 else 3, seed=seed)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    """The preset `fast` is tiny here, and one thread draws: two would wait for each other where both cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "fast", lambda **changes: TINY.replace(**changes))
        patch.setenv("COLUMNS", "80")
        yield
    torch.set_num_threads(before)


def _run(*arguments: object) -> Result:
    """Run a command in this process; any exception but an exit is a bug that a user would see as a traceback."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"a traceback: {result.exception!r}") from result.exception
    assert "Traceback" not in result.output
    return result


def _one_line(result: Result) -> str:
    (line,) = filter(None, result.stderr.splitlines())
    assert line.startswith("singan-aug: ")
    return str(line)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "photos"
    for name, seed in PHOTOS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels_to_pil(_pixels(seed)).save(folder / name)
    (folder / "notes.txt").write_text("left out")
    return folder


@pytest.fixture(scope="module")
def fitted(photos: Path, _tiny: None) -> DirectoryStore:
    """A store that no test changes."""
    store = DirectoryStore(photos.parent / "store")
    result = _run("fit", photos, "--store", store.root, "--jobs", "1")
    assert result.exit_code == 0
    return store


@pytest.fixture
def store(fitted: DirectoryStore, tmp_path: Path) -> DirectoryStore:
    """A copy of it."""
    shutil.copytree(fitted.root, tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


def _key_of(store: DirectoryStore, name: str) -> str:
    (key,) = [key for key in store.keys() if store.manifest(key).name == Path(name).name]
    return key


def _pictures(folder: Path) -> list[Image.Image]:
    pictures: list[Image.Image] = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            picture.load()
            pictures.append(picture)
    return pictures


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Help and usage


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda command: " ".join(command) or "-")
def test_help_is_there(command: list[str]) -> None:
    result = _run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert result.stderr == ""
    if not command:
        for name in COMMANDS:
            assert re.search(rf"^\s+{name}\s", result.stdout, re.MULTILINE)


def test_the_version_is_the_packages() -> None:
    assert _run("--version").stdout == f"singan-aug {singan_aug.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["fit"], ["fit", "--nope"], ["draw"], ["ls", "extra"], ["rm"], ["rm", "abc", "--all"]],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert _run(*arguments).exit_code == 2


def test_a_missing_path_ends_with_2_and_is_named(tmp_path: Path) -> None:
    result = _run("fit", tmp_path / "nowhere", "--store", tmp_path / "store")
    assert result.exit_code == 2
    line = _one_line(result)
    assert "expected image files or folders" in line
    assert str(tmp_path / "nowhere") in line


@pytest.mark.parametrize(
    ("options", "expected", "got"),
    [
        (["--preset", "quick"], "fast, learned, paper", "'quick'"),
        (["--device", "banana"], "cpu, cuda or cuda:N", "'banana'"),
        (["--device", "cuda:99"], "CUDA device", "'cuda:99'"),
        (["--device", "mps"], "cpu", "'mps'"),
        (["--device", "meta"], "cpu", "'meta'"),
        (["--max-size", "24"], "25", "--max-size"),
        (["--jobs", "0"], "1", "--jobs"),
        (["--seed", "-1"], "0", "--seed"),
        (["--seed", str(2**63)], str(2**63 - 1), "--seed"),
        (["--max-size", "65537"], "65536", "--max-size"),
        (["--limit", "0"], "1", "--limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an mps device")
def test_a_bad_option_of_fit_ends_with_2_and_a_line_that_helps(
    photos: Path, tmp_path: Path, options: list[str], expected: str, got: str
) -> None:
    result = _run("fit", photos, "--store", tmp_path / "store", "--jobs", "1", *options)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert got in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "expected", "got"),
    [
        (["--size", "12by12"], "WIDTHxHEIGHT such as 256x192", "'12by12'"),
        (["--size", "0x12"], "WIDTHxHEIGHT", "'0x12'"),
        (["--size", "-3x12"], "WIDTHxHEIGHT", "'-3x12'"),
        (["--start-scale", "3"], "0..2", "got 3"),
        (["--start-scale", "-4"], "-3..-1", "got -4"),
        (["--variants", "0"], "1", "--variants"),
        (["--start-scale", "rough"], "start scale", "coarse, medium, fine"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_of_draw_ends_with_2_and_a_line_that_helps(
    fitted: DirectoryStore, photos: Path, tmp_path: Path, options: list[str], expected: str, got: str
) -> None:
    equals = "=".join(options)  # a value may start with a dash
    result = _run("draw", photos / "red fox.png", "--store", fitted.root, "--out", tmp_path / "out", equals)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert got in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["1x1", "4x4", "300x5"])
def test_a_size_too_small_for_the_pyramid_is_drawn_or_refused_in_one_line(
    fitted: DirectoryStore, photos: Path, tmp_path: Path, size: str
) -> None:
    out = tmp_path / "out"
    result = _run("draw", photos / "red fox.png", "--store", fitted.root, "--size", size, "--out", out)
    if result.exit_code == 0:
        assert {f"{picture.width}x{picture.height}" for picture in _pictures(out)} == {size}
    else:
        assert result.exit_code in (1, 2)
        assert size in _one_line(result)


def test_an_interruption_ends_with_130(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("singan_aug.dataset.fit_dataset", interrupt)
    result = _run("fit", photos, "--store", tmp_path / "store")
    assert result.exit_code == 130
    assert "interrupted" in _one_line(result)


def _modules_after(*arguments: str, cache: Path) -> set[str]:
    code = (
        "import sys\nfrom singan_aug.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "SINGAN_AUG_STORE": str(cache)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(ended.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["ls"], ["ls", "--json"]], ids=" ".join)
def test_a_command_that_needs_no_network_loads_no_torch(fitted: DirectoryStore, arguments: list[str]) -> None:
    loaded = _modules_after(*arguments, cache=fitted.root)
    assert "singan_aug.cli" in loaded
    assert not loaded & {"torch", "torchvision", "albumentations"}


# fit


def test_fit_says_what_it_did(photos: Path, tmp_path: Path) -> None:
    result = _run("fit", photos, "--store", tmp_path / "store", "--jobs", "1")
    assert result.exit_code == 0
    assert "3 fitted" in result.stdout
    assert "1 other files ignored" in result.stdout
    assert str(tmp_path / "store") in result.stdout
    assert "singan-aug: 3 of 3 images (100 %)" in result.stderr
    assert len(list(DirectoryStore(tmp_path / "store").keys())) == 3


def test_fit_takes_size_and_seed_into_the_config(photos: Path, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    options = ["--max-size", "28", "--seed", "7", "--jobs", "1"]
    assert _run("fit", photos / "red fox.png", "--store", store.root, *options).exit_code == 0
    (key,) = store.keys()
    assert key == str(make_key(_pixels(0), TINY.replace(finest_px=28, seed=7)))
    assert store.manifest(key).scale_sizes[-1] == (21, 28)


def test_fit_json_puts_nothing_else_on_stdout(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("text")
    result = _run("fit", photos, tmp_path / "broken.jpg", "--store", tmp_path / "store", "--jobs", "1", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["fitted"], summary["present"], summary["duplicate"], summary["failed"]) == (3, 0, 0, 1)
    assert summary["store"] == str(tmp_path / "store")
    rows = {row["path"]: row for row in summary["images"]}
    assert rows[str(tmp_path / "broken.jpg")]["status"] == "failed"
    assert "not an image" in rows[str(tmp_path / "broken.jpg")]["message"]
    assert rows[str(photos / "red fox.png")]["key"] == str(make_key(_pixels(0), TINY))


def test_a_second_fit_skips_what_is_there(photos: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(singan_aug.fitting, "fit", refuse)
    before = _files(store.root)
    result = _run("fit", photos, "--store", store.root)
    assert result.exit_code == 0
    assert "0 fitted, 3 already there" in result.stdout
    assert _files(store.root) == before


def test_fit_uses_the_environments_store(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGAN_AUG_STORE", str(tmp_path / "named"))
    assert _run("fit", photos / "red fox.png", "--jobs", "1").exit_code == 0
    assert len(json.loads(_run("ls", "--json").stdout)) == 1
    assert (tmp_path / "named" / "store.json").is_file()


def test_no_images_end_with_1(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    result = _run("fit", tmp_path, "--store", tmp_path / "store")
    assert result.exit_code == 1
    assert f"expected images in {tmp_path}, got none (1 other file): name a folder" in result.stderr
    dry = _run("fit", tmp_path, "--store", tmp_path / "store", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (1, "")
    assert "got none (1 other file)" in dry.stderr
    assert not (tmp_path / "store").exists()


def test_a_failure_is_named_as_it_happens_and_in_the_summary(photos: Path, store: DirectoryStore) -> None:
    bad = store.root.parent / "bad.png"
    bad.write_bytes(b"")
    result = _run("fit", photos, bad, "--store", store.root)
    assert result.exit_code == 1
    assert any(line.startswith(f"singan-aug: {bad}: ") for line in result.stderr.splitlines())
    assert any(line.startswith(f"failed: {bad}: ") for line in result.stdout.splitlines())


def test_a_store_that_cannot_be_written_ends_with_1_and_names_it(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = _run("fit", photos, "--store", tmp_path / "file" / "store", "--jobs", "1")
    assert result.exit_code == 1
    assert f"cannot write to the store {tmp_path / 'file' / 'store'}" in result.stderr


# fit --dry-run


def test_a_dry_run_prints_count_sizes_and_estimate_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    result = _run("fit", photos, "--store", tmp_path / "store", "--dry-run")
    assert result.exit_code == 0
    assert "3 images, 3 to fit, at 34x26" in result.stdout
    assert re.search(r"about .+ with \d+ side by side \(.+ of processor time\), [\d.]+ [KM]?B in ", result.stdout)
    assert not (tmp_path / "store").exists()


def test_a_dry_run_as_json(photos: Path, store: DirectoryStore) -> None:
    store.remove(_key_of(store, "stone.jpg"))
    bad = store.root.parent / "bad.png"
    bad.write_bytes(b"")
    before = _files(store.root)
    result = _run("fit", photos, bad, "--store", store.root, "--dry-run", "--json", "--jobs", "2")
    assert result.exit_code == 1
    forecast = json.loads(result.stdout)
    assert (forecast["images"], forecast["to_fit"], forecast["present"]) == (4, 1, 2)
    assert forecast["sizes"] == ["34x26"]
    assert [row["path"] for row in forecast["failed"]] == [str(bad)]
    assert forecast["process_sec"] >= forecast["wall_sec"] >= 0
    assert 1 <= forecast["jobs"] <= 2
    assert _files(store.root) == before


def test_the_forecast_of_bytes_is_within_a_factor_of_two(photos: Path, fitted: DirectoryStore, tmp_path: Path) -> None:
    forecast = json.loads(_run("fit", photos, "--store", tmp_path / "store", "--dry-run", "--json").stdout)
    stored = sum(len(data) for data in _files(fitted.root / "pyramids").values())
    assert stored / 2 < forecast["bytes"] < stored * 2


# draw


def test_draw_writes_variants_of_the_images_size(fitted: DirectoryStore, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = _run("draw", photos / "deep" / "stone.jpg", "--store", fitted.root, "-n", "3", "--seed", "5", "--out", out)
    assert result.exit_code == 0
    assert "3 variants of stone.jpg" in result.stdout
    pictures = _pictures(out)
    assert [(p.format, p.mode, p.size) for p in pictures] == [("PNG", "RGB", (34, 26))] * 3
    pyramid = fitted.load(_key_of(fitted, "stone.jpg"))
    expected = [unit_to_pil(image).tobytes() for image in draw(pyramid, 3, "fine", seed=5)]  # as transforms do
    assert [picture.tobytes() for picture in pictures] == expected


def test_draw_json_lists_the_files(fitted: DirectoryStore, photos: Path, tmp_path: Path) -> None:
    options = ["--store", fitted.root, "--out", tmp_path / "out", "--json", "--start-scale", "-1"]
    result = _run("draw", photos / "red fox.png", *options)
    assert result.exit_code == 0
    assert sorted(map(Path, json.loads(result.stdout))) == sorted((tmp_path / "out").iterdir())
    assert len(json.loads(result.stdout)) == 4


def test_draw_takes_a_key_or_its_first_digits(fitted: DirectoryStore, photos: Path, tmp_path: Path) -> None:
    key = _key_of(fitted, "red fox.png")
    for name, target in (("file", photos / "red fox.png"), ("key", key), ("digits", key[:8])):
        assert _run("draw", target, "--store", fitted.root, "-n", "1", "--out", tmp_path / name).exit_code == 0
    assert _files(tmp_path / "file") == _files(tmp_path / "key") == _files(tmp_path / "digits")


def test_the_same_seed_writes_the_same_bytes_and_another_others(
    fitted: DirectoryStore, photos: Path, tmp_path: Path
) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        options = ["--store", fitted.root, "--seed", seed, "--out", tmp_path / name]
        assert _run("draw", photos / "red fox.png", *options).exit_code == 0
    assert _files(tmp_path / "first") == _files(tmp_path / "again")
    first, other = (set(_files(tmp_path / name).values()) for name in ("first", "other"))
    assert len(first) == len(other) == 4
    assert not first & other


@pytest.mark.parametrize("start_scale", [0, 2])
def test_draw_takes_a_size(fitted: DirectoryStore, photos: Path, tmp_path: Path, start_scale: int) -> None:
    options = ["--store", fitted.root, "--size", "50x30", "--start-scale", start_scale, "--out", tmp_path]
    assert _run("draw", photos / "deep/er/grey.png", *options).exit_code == 0
    assert {(picture.mode, picture.size) for picture in _pictures(tmp_path)} == {("L", (50, 30))}


@pytest.fixture
def on_its_side(photos: Path, tmp_path: Path) -> Path:
    path = tmp_path / "on its side.png"
    pixels_to_pil(_pixels(0)).transpose(Image.Transpose.ROTATE_90).save(path)
    return path


def test_draw_from_a_turned_copy_gives_turned_variants(
    fitted: DirectoryStore, on_its_side: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert _run("draw", on_its_side, "--store", fitted.root, "-n", "1", "--out", out).exit_code == 0
    key = make_key(load_image(on_its_side).pixels, TINY)
    drawn = draw(fitted.load(str(key)), 1, "fine")
    expected = turn_between(drawn, fitted.manifest(str(key)).turn_code, key.fingerprint.turn_code)
    (picture,) = _pictures(out)
    assert picture.size == (26, 34)
    assert picture.tobytes() == unit_to_pil(expected[0]).tobytes()


def test_a_size_is_that_of_the_files_even_for_a_turned_copy(
    fitted: DirectoryStore, on_its_side: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert _run("draw", on_its_side, "--store", fitted.root, "--size", "50x30", "--out", out).exit_code == 0
    assert {picture.size for picture in _pictures(out)} == {(50, 30)}


@pytest.mark.parametrize("command", ["draw", "show"])
def test_an_image_without_a_pyramid_ends_with_1_and_the_command_to_fit_it(
    fitted: DirectoryStore, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "new.png"
    pixels_to_pil(_pixels(9)).save(path)
    result = _run(command, path, "--store", fitted.root)
    assert result.exit_code == 1
    line = _one_line(result)
    assert str(path) in line
    assert str(fitted.root) in line
    assert "singan-aug fit" in line


@pytest.mark.parametrize("command", ["draw", "show"])
def test_a_file_that_is_no_image_is_named(fitted: DirectoryStore, photos: Path, command: str) -> None:
    result = _run(command, photos / "notes.txt", "--store", fitted.root)
    assert result.exit_code == 1
    assert "notes.txt" in _one_line(result)


@pytest.mark.parametrize("command", ["draw", "show"])
@pytest.mark.parametrize(("target", "code"), [("ffff-0", 1), ("-", 1), ("ffff-none", 2), ("", 2), ("red fox", 2)])
def test_a_target_that_is_none_is_named(fitted: DirectoryStore, command: str, target: str, code: int) -> None:
    """A key that is not there ends with 1, what is neither a file nor the digits of a key with 2."""
    result = _run(command, target, "--store", fitted.root)
    assert result.exit_code == code
    assert repr(target) in _one_line(result)


def test_a_folder_for_the_variants_that_cannot_be_made_ends_with_1(
    fitted: DirectoryStore, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    result = _run("draw", photos / "red fox.png", "--store", fitted.root, "--out", tmp_path / "file")
    assert result.exit_code == 1
    assert str(tmp_path / "file") in _one_line(result)


# ls, show


def test_ls_lists_every_pyramid(fitted: DirectoryStore) -> None:
    result = _run("ls", "--store", fitted.root)
    assert result.exit_code == 0
    for key in fitted.keys():
        (line,) = [line for line in result.stdout.splitlines() if key[:12] in line]
        assert fitted.manifest(key).name in line
        assert "34x26" in line
        assert " fast " in line
    size = sum(fitted.manifest(key).weights_bytes for key in fitted.keys()) / 1000
    assert f"3 pyramids, {size:.1f} KB, in {fitted.root}" in result.stdout


def test_a_table_is_as_wide_as_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["name", "number"], [["x" * 300, "1"], ["a name", "2"]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["name", "x" * 300, "a name"]


def test_the_digits_that_ls_shows_name_one_pyramid_each(store: DirectoryStore, photos: Path) -> None:
    """Two fits of one image share 32 digits; what ls shows of each is told apart, by eye and by every command."""
    options = ["--max-size", "30", "--seed", "3", "--jobs", "1"]
    assert _run("fit", photos / "red fox.png", "--store", store.root, *options).exit_code == 0
    lines = [line.split() for line in _run("ls", "--store", store.root).stdout.splitlines()[1:-1]]
    assert len(lines) == len({words[0] for words in lines}) == 4
    for words in lines:
        shown = json.loads(_run("show", words[0], "--store", store.root, "--json").stdout)
        assert shown["name"].split()[-1] in " ".join(words)
    (twin, other) = [line for line in map(" ".join, lines) if "red fox.png" in line]
    assert ("finest_px=30 seed=3" in twin) != ("finest_px=30 seed=3" in other)
    assert _run("rm", twin.split()[0], "--store", store.root).exit_code == 0
    assert len(list(store.keys())) == 3


@pytest.mark.parametrize("order", ["key", "name", "date", "size", "preset"])
def test_ls_sorts(fitted: DirectoryStore, order: str) -> None:
    rows = json.loads(_run("ls", "--store", fitted.root, "--sort", order, "--json").stdout)
    by = {"name": "name", "date": "created_at", "size": "weights_bytes"}.get(order, "key")
    values = [row[by] for row in rows]
    assert values == sorted(values, reverse=order == "size") or order == "preset"
    assert len(rows) == 3


def test_ls_without_any_store_is_empty_and_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SINGAN_AUG_STORE", raising=False)
    monkeypatch.setattr("singan_aug.store._local.platformdirs.user_cache_path", lambda *_, **__: tmp_path / "none")
    result = _run("ls")
    assert result.exit_code == 0
    assert "0 pyramids" in result.stdout
    assert json.loads(_run("ls", "--json").stdout) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("how", ["option", "environment"])
@pytest.mark.parametrize("command", [["ls"], ["verify"], ["rm", "--all"], ["show", "ab"], ["draw", "ab"], ["bank"]])
def test_a_store_that_was_named_and_is_not_there_is_an_error(
    command: list[str], how: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "none", photos, photos / "red fox.png"):
        monkeypatch.setenv("SINGAN_AUG_STORE", str(place))
        result = _run(*command, *(["--store", place] if how == "option" else []))
        assert result.exit_code == 2
        assert f"expected a store at {place}" in _one_line(result)
    assert not (tmp_path / "none").exists()


def test_ls_json_is_an_array_with_one_object_for_each_pyramid(fitted: DirectoryStore) -> None:
    result = _run("ls", "--store", fitted.root, "--json")
    assert result.stderr == ""
    rows = json.loads(result.stdout)
    assert [row["key"] for row in rows] == list(fitted.keys())
    assert {row["name"] for row in rows} == {Path(name).name for name in PHOTOS}
    assert all(FitConfig(**row["config"]) == TINY for row in rows)
    assert all((row["size"], row["scales"], row["masked"]) == ([26, 34], 3, False) for row in rows)


def test_ls_names_a_broken_entry_and_lists_the_others(store: DirectoryStore) -> None:
    broken = _key_of(store, "stone.jpg")
    (path,) = store.root.rglob(f"{broken}/manifest.json")
    path.write_text(path.read_text().replace("stone.jpg", "stome.jpg"))
    result = _run("ls", "--store", store.root, "--json")
    assert result.exit_code == 1
    assert broken in _one_line(result)
    assert {row["name"] for row in json.loads(result.stdout)} == {"red fox.png", "grey.png"}


def test_show_tells_what_is_known(fitted: DirectoryStore, photos: Path) -> None:
    key = _key_of(fitted, "red fox.png")
    shown = json.loads(_run("show", photos / "red fox.png", "--store", fitted.root, "--json").stdout)
    assert shown == fitted.manifest(key).model_dump(mode="json", exclude={"descriptor"})
    text = _run("show", key[:10], "--store", fitted.root).stdout
    assert key in text
    assert "red fox.png, 34x26" in text
    lines = text.splitlines()
    header = next(i for i, line in enumerate(lines) if "keeps boxes" in line)
    kept = [line.split()[-2] for line in lines[header + 1 :]]
    manifest = fitted.manifest(key)
    assert kept == ["yes" if px <= 0.03 * 26 else "no" for px in manifest.displacement_px]
    assert [line.split()[0] for line in lines[header + 1 :]] == ["0", "1", "2"]


@pytest.mark.parametrize("target", ["file", "key"])
def test_show_writes_a_sheet(fitted: DirectoryStore, photos: Path, tmp_path: Path, target: str) -> None:
    named = photos / "red fox.png" if target == "file" else _key_of(fitted, "red fox.png")
    result = _run("show", named, "--store", fitted.root, "--sheet", tmp_path / "sheet.png", "--json")
    assert result.exit_code == 0
    json.loads(result.stdout)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


@pytest.mark.parametrize("name", ["sheet", "sheet.nope", "missing folder/sheet.png"])
def test_a_sheet_that_cannot_be_written_is_one_line(fitted: DirectoryStore, tmp_path: Path, name: str) -> None:
    key = _key_of(fitted, "red fox.png")
    result = _run("show", key, "--store", fitted.root, "--sheet", tmp_path / name)
    if result.exit_code == 0:  # a PNG whatever its name
        with Image.open(tmp_path / name) as sheet:
            assert sheet.format == "PNG"
    else:
        assert result.exit_code in (1, 2)
        assert name in _one_line(result)


def test_an_ambiguous_target_ends_with_1_and_says_how_many(store: DirectoryStore) -> None:
    _give_all_the_first_digit(store)
    result = _run("show", "0", "--store", store.root)
    assert result.exit_code == 1
    assert "3 pyramids" in _one_line(result)


def _give_all_the_first_digit(store: DirectoryStore) -> None:
    """Rename each entry so that its key begins with 0; only names are read by those who call this."""
    for key in list(store.keys()):
        new = "0" + key[1:]
        (store.root / "pyramids" / new[:2]).mkdir(exist_ok=True)
        (store.root / "pyramids" / key[:2] / key).rename(store.root / "pyramids" / new[:2] / new)


# verify


def test_verify_of_a_whole_store(fitted: DirectoryStore) -> None:
    result = _run("verify", "--store", fitted.root)
    assert result.exit_code == 0
    assert "3 of 3 pyramids are whole" in result.stdout
    rows = json.loads(_run("verify", "--store", fitted.root, "--json").stdout)
    assert [(row["key"], row["ok"]) for row in rows] == [(key, True) for key in fitted.keys()]


@pytest.mark.parametrize("file", ["pyramid.safetensors", "manifest.json"])
def test_verify_names_the_one_with_a_flipped_bit(store: DirectoryStore, file: str) -> None:
    broken = _key_of(store, "grey.png")
    (path,) = store.root.rglob(f"{broken}/{file}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    whole = _key_of(store, "red fox.png")
    path.write_bytes(data)
    result = _run("verify", "--store", store.root)
    assert result.exit_code == 1
    assert broken in _one_line(result)
    assert "2 of 3" in result.stdout
    as_json = _run("verify", "--store", store.root, "--json")
    assert as_json.exit_code == 1
    assert {row["key"]: row["ok"] for row in json.loads(as_json.stdout)} == {key: key != broken for key in store.keys()}
    assert _run("verify", whole, "--store", store.root).exit_code == 0
    assert _run("verify", broken, "--store", store.root).exit_code == 1


def test_verify_of_a_key_that_is_not_there_ends_with_1(fitted: DirectoryStore) -> None:
    result = _run("verify", "0" * 32 + "-" + "0" * 16, "--store", fitted.root)
    assert result.exit_code == 1
    assert "no pyramid" in _one_line(result)


# rm


def test_rm_takes_the_first_digits(store: DirectoryStore) -> None:
    key = _key_of(store, "grey.png")
    result = _run("rm", key[:12], "--store", store.root)
    assert result.exit_code == 0
    assert key in result.stdout
    assert key not in store
    assert len(list(store.keys())) == 2


def test_rm_refuses_digits_that_two_keys_begin_with(store: DirectoryStore) -> None:
    _give_all_the_first_digit(store)
    result = _run("rm", "0", "--store", store.root)
    assert result.exit_code == 1
    assert "3 pyramids begin so" in _one_line(result)
    assert len(list(store.keys())) == 3


def test_rm_removes_what_it_can_and_names_the_rest(store: DirectoryStore) -> None:
    key = _key_of(store, "grey.png")
    result = _run("rm", "ffff-none", key, "--store", store.root)
    assert result.exit_code == 1
    assert "ffff-none" in _one_line(result)
    assert key not in store


def test_rm_of_nothing_named_removes_nothing(store: DirectoryStore) -> None:
    """As in `rm "$KEY"` where KEY is unset."""
    for name in ("grey.png", "stone.jpg"):
        store.remove(_key_of(store, name))
    for nothing in ("", "-"):
        assert _run("rm", nothing, "--store", store.root).exit_code == 1
    assert len(list(store.keys())) == 1


def test_rm_all_leaves_an_empty_store(store: DirectoryStore) -> None:
    result = _run("rm", "--all", "--yes", "--store", store.root)
    assert result.exit_code == 0
    assert result.stdout.count("removed ") == 3
    assert list(store.keys()) == []
    assert "0 pyramids" in _run("ls", "--store", store.root).stdout


@pytest.mark.parametrize("several", [["--all"], ["0", "1"]], ids=" ".join)
def test_rm_of_several_asks(store: DirectoryStore, several: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = list(store.keys())
    arguments = several if several == ["--all"] else keys[:2]
    result = _run("rm", *arguments, "--store", store.root)
    assert result.exit_code == 2
    assert "--yes" in _one_line(result)
    result = _run("rm", *arguments, "--dry-run", "--store", store.root)
    assert result.exit_code == 0
    assert result.stdout.count("would remove ") == len(arguments) + (several == ["--all"]) * 2
    assert list(store.keys()) == keys
    monkeypatch.setattr("singan_aug.cli._app.sys", SimpleNamespace(stdin=_Terminal(), stderr=_Terminal()))
    for answer in ("n", "y"):
        result = CliRunner().invoke(cli.app, ["rm", *arguments, "--store", str(store.root)], input=f"{answer}\n")
        assert result.exit_code == (answer == "n")
        assert (list(store.keys()) == keys) == (answer == "n")


class _Terminal:
    def isatty(self) -> bool:
        return True


def test_draw_and_show_write_over_nothing_else(fitted: DirectoryStore, photos: Path, tmp_path: Path) -> None:
    draw_it = ["draw", photos / "red fox.png", "--store", fitted.root, "-n", "1", "--out", tmp_path]
    assert _run(*draw_it).exit_code == 0
    assert _run(*draw_it).exit_code == 0  # the same file
    (path,) = tmp_path.iterdir()
    sheet_it = ["show", photos / "red fox.png", "--store", fitted.root, "--sheet", path]
    path.write_bytes(b"precious")
    for command in (draw_it, sheet_it):
        result = _run(*command)
        assert result.exit_code == 2
        assert str(path) in _one_line(result)
        assert path.read_bytes() == b"precious"
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(elsewhere)
    assert _run(*draw_it).exit_code == 2
    assert _run(*draw_it, "--force").exit_code == 0
    assert elsewhere.read_bytes() == b"precious"
    assert not path.is_symlink()


EVIL = "\x1b]0;owned\x07\x1b[31m\u202egnp\u2028\x9b2J\r\nred.png"


def test_no_control_character_reaches_a_terminal(store: DirectoryStore, tmp_path: Path) -> None:
    key = _key_of(store, "red fox.png")
    path = store.root / "pyramids" / key[:2] / key / "manifest.json"
    values = json.loads(path.read_text()) | {"name": EVIL}
    del values["manifest_checksum"]
    guard = xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())
    path.write_text(json.dumps({**values, "manifest_checksum": guard}, indent=2) + "\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / EVIL.replace("/", "")).write_bytes(b"no image")
    at = ("--store", store.root)
    commands: list[tuple[object, ...]] = [("ls",), ("show", key), ("draw", key, "--out", tmp_path / "out"), ("rm", key)]
    commands += [("fit", tmp_path / "in"), ("show", EVIL), ("show", key, f"--{EVIL}"), (EVIL,), ("ls", "--store", EVIL)]
    for command in commands:
        result = _run(*command, *(() if "--store" in command else at))
        assert result.stdout + result.stderr
        assert not {"\x1b", "\x07", "\u202e", "\u2028", "\x9b", "\r"} & set(result.stdout + result.stderr), command
    assert all("\x1b" not in path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        (["fitt"], "fit"),
        (["ls", "--stroe", "x"], "--store"),
        (["draw"], "IMAGE_OR_KEY"),
        (["fit", "x", "--jobs", "a"], "a"),
    ],
)
def test_wrong_usage_is_one_line_with_what_was_meant(wrong: list[str], meant: str) -> None:
    result = _run(*wrong)
    assert result.exit_code == 2
    assert meant in _one_line(result)
    assert "--help" in result.stderr


def test_quiet_says_nothing_but_what_went_wrong(photos: Path, tmp_path: Path) -> None:
    at = ("--store", tmp_path / "store", "--jobs", "1", "--quiet")
    result = _run("fit", photos, *at)
    assert (result.exit_code, result.output) == (0, "")
    (tmp_path / "in.png").write_bytes(b"no image")
    result = _run("fit", tmp_path / "in.png", *at)
    assert result.exit_code == 1
    assert "in.png" in _one_line(result)
    result = _run("bank", *at, "--variants", "1")
    assert (result.exit_code, result.output) == (0, "")
    assert _run("ls", "--store", tmp_path / "store").stdout


def test_rm_removes_a_broken_entry(store: DirectoryStore) -> None:
    key = _key_of(store, "grey.png")
    (path,) = store.root.rglob(f"{key}/manifest.json")
    path.write_text("{")
    assert _run("rm", key, "--store", store.root).exit_code == 0
    assert key not in store


# A store of a newer format


@pytest.mark.parametrize(
    "command",
    [["ls"], ["verify"], ["rm", "--all"], ["show", "{photo}"], ["draw", "{photo}"], ["fit", "{photo}"]],
    ids=lambda command: command[0],
)
def test_a_newer_store_ends_with_1_and_the_remedy(store: DirectoryStore, photos: Path, command: list[str]) -> None:
    path = store.root / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    before = _files(store.root)
    arguments = [word.replace("{photo}", str(photos / "red fox.png")) for word in command]
    result = _run(*arguments, "--store", store.root)
    assert result.exit_code == 1
    line = _one_line(result)
    assert "newer" in line
    assert "pip install -U" in line
    assert _files(store.root) == before


# Ctrl-C

_LAUNCH = """
import sys
from pathlib import Path

from singan_aug import config, dataset, presets
from singan_aug.__main__ import main
from singan_aug.display import Display

marker, recipe = Path(sys.argv.pop(1)), config.FitConfig.from_json(sys.argv.pop(1))
presets.PRESETS["fast"] = lambda **changes: recipe.replace(**changes)
show = Display.show


def marked(self, event):
    show(self, event)
    if isinstance(event, dataset.Progress):
        marker.touch()


Display.show = marked
if __name__ == "__main__":
    main()
"""
# In a worker of joblib's, before anything of ours is imported there.
_SLOW_START = """
import sys, time
from pathlib import Path

if any("popen_loky_posix" in word for word in sys.orig_argv):
    Path({marker!r}).touch()
    time.sleep(30)
"""


def _interrupt_when(
    ready: Callable[[], bool], command: list[str], path: str = "", number: int = signal.SIGINT
) -> tuple[int, str]:
    """Start a command in a process group of its own, signal that once it is `ready`: exit code and output."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=120)
    except BaseException:
        process.kill()
        raise
    return process.returncode, output


_LOADING = """
import os, signal, sys

class SentWhileLoading:
    def find_spec(self, name, path=None, target=None):
        if name == "singan_aug.cli":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, SentWhileLoading())
from singan_aug.__main__ import main
main()
"""


def test_a_signal_while_the_command_is_loaded_ends_it_with_143() -> None:
    done = subprocess.run([sys.executable, "-c", _LOADING, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


def test_names_of_before_0_1_work_and_name_the_new_ones(
    fitted: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _run("ls", "--store", fitted.root)
    assert expected.stderr == ""
    result = _run("ls", "--cache", fitted.root)
    assert (result.exit_code, result.stdout) == (0, expected.stdout)
    assert result.stderr == "singan-aug: --cache is called --store now\n"
    assert _run("ls", f"--cache={fitted.root}").stderr == result.stderr

    monkeypatch.delenv("SINGAN_AUG_STORE", raising=False)
    monkeypatch.setenv("SINGAN_AUG_CACHE", str(fitted.root))
    result = _run("ls")
    assert (result.exit_code, result.stdout) == (0, expected.stdout)
    assert result.stderr == "singan-aug: $SINGAN_AUG_CACHE is called $SINGAN_AUG_STORE now\n"


def test_a_store_deleted_during_a_fit_ends_it_with_1_and_how_many_are_lost(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = tmp_path / "store", dataset.fit_dataset

    def fit_dataset(*args: Any, **kwargs: Any) -> dataset.FitReport:
        done: list[dataset.Event] = []

        def delete(event: dataset.Event) -> None:
            if isinstance(event, dataset.Outcome) and not done:
                done.append(event)
                shutil.rmtree(place)

        return real(*args, **{**kwargs, "jobs": 1, "apart": False, "on_event": delete})

    monkeypatch.setattr("singan_aug.dataset.fit_dataset", fit_dataset)
    fit = ["fit", photos, "--store", place, "--limit", "2"]
    result = _run(*fit)
    assert result.exit_code == 1
    assert f"1 image could not be kept: the store {place} was deleted meanwhile" in " ".join(result.stderr.split())
    assert "run the same command again" in " ".join(result.stderr.split())
    assert "1 fitted, 0 already there, 1 failed" in result.stdout

    monkeypatch.undo()
    result = _run(*fit, "--jobs", "1")
    assert result.exit_code == 0
    assert "1 fitted, 1 already there" in result.stdout


@pytest.mark.parametrize(
    ("jobs", "number", "expected"), [("1", signal.SIGINT, 130), ("2", signal.SIGINT, 130), ("2", signal.SIGTERM, 143)]
)
def test_a_signal_in_a_fit_ends_it_cleanly_and_the_next_run_completes(
    photos: Path, store: DirectoryStore, tmp_path: Path, jobs: str, number: int, expected: int
) -> None:
    longer = TINY.replace(steps_coarsest=300, steps_finer=300)  # longer than it takes to stop the workers
    (tmp_path / "launch.py").write_text(_LAUNCH)
    marker = tmp_path / "under way"
    before = _files(store.root / "pyramids")
    command = [sys.executable, str(tmp_path / "launch.py"), str(marker), longer.to_json()]
    fit = ["fit", str(photos), "--store", str(store.root), "--limit", "2"]
    code, output = _interrupt_when(marker.exists, [*command, *fit, "--jobs", jobs], number=number)
    assert code == expected, output
    assert "Traceback" not in output
    assert "interrupted" in output

    assert before.items() <= _files(store.root / "pyramids").items()
    assert store.incomplete() == []
    assert not any((store.root / "partial").iterdir())
    keys = [str(make_key(load_image(photos / name).pixels, longer)) for name in ("red fox.png", "deep/stone.jpg")]
    assert not all(key in store for key in keys)
    for key in keys:
        with store.claim(key, wait=False) as mine:
            assert mine

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "fast", lambda **changes: longer.replace(**changes))
        assert _run(*fit, "--jobs", "1").exit_code == 0
    assert all(key in store for key in keys)
    assert _run("verify", "--store", store.root).exit_code == 0


def test_ctrl_c_while_the_workers_start_ends_cleanly(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "launch.py").write_text(_LAUNCH)
    marker = tmp_path / "starting"
    (tmp_path / "sitecustomize.py").write_text(_SLOW_START.format(marker=str(marker)))
    command = [sys.executable, str(tmp_path / "launch.py"), str(tmp_path / "unused"), TINY.to_json()]
    fit = ["fit", str(photos), "--store", str(tmp_path / "store"), "--jobs", "2"]
    code, output = _interrupt_when(marker.exists, [*command, *fit], path=str(tmp_path))
    assert code == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "command",
    [
        ["preview", "{photo}", "--out", "{there}"],
        ["report", "{store}", "--out", "{there}"],
        ["report", "{store}", "--out", "{new}", "--table", "{there}"],
        ["study", "{photo}", "{photo}", "--out", "{there}"],
        ["show", "{photo}", "--sheet", "{there}", "--store", "{store}"],
    ],
)
def test_no_command_writes_over_another_file(
    command: list[str], fitted: DirectoryStore, photos: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    places = {"photo": photos / "red fox.png", "store": fitted.root, "there": there, "new": tmp_path / "new"}
    result = _run(*(word.format(**places) for word in command))
    assert result.exit_code == 2
    assert f"{there} is there already" in result.stderr
    assert there.read_text() == "mine"
    assert not (tmp_path / "new").exists()
