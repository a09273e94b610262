"""Which images are fitted where not all can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from singan_aug import cli
from singan_aug.dataset import Choice, Outcome, Plan, Todo, fit_dataset, plan_dataset
from singan_aug.display import Display
from singan_aug.errors import ConfigError
from singan_aug.store import DirectoryStore

pytest.importorskip("scipy")

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two classes: `a` has red, green and blue images, five, three and two of them; `b` two red ones."""
    rng = np.random.default_rng(0)
    for group, counts in {"a": {"red": 5, "green": 3, "blue": 2}, "b": {"red": 2}}.items():
        (tmp_path / "in" / group).mkdir(parents=True)
        for colour, count in counts.items():
            for number in range(count):
                pixels = np.clip(COLOURS[colour] + rng.normal(0, 12, (24, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "in" / group / f"{colour}{number}.png")
    return sorted((tmp_path / "in").rglob("*.png"))


def _names(paths: Sequence[Path], group: str) -> list[str]:
    return [path.stem[:-1] for path in paths if path.parent.name == group]


def test_representatives_are_of_every_sort_and_the_largest_comes_first(images: list[Path]) -> None:
    chosen = Choice(representatives=3).of(images)
    assert _names(chosen, "a") == ["red", "green", "blue"]
    assert _names(chosen, "b") == ["red", "red"]
    assert [path.parent.name for path in chosen] == ["a", "b", "a", "b", "a"]
    assert Choice(representatives=3).of(images) == chosen
    assert _names(Choice(representatives=1).of(images), "a")[0] in COLOURS


def test_all_are_chosen_where_all_may_be(images: list[Path]) -> None:
    assert sorted(Choice().of(images)) == sorted(Choice(representatives=99).of(images)) == images


def test_a_balanced_choice_has_as_many_of_each_class(images: list[Path]) -> None:
    chosen = Choice(class_balance=True).of(images)
    assert len(_names(chosen, "a")) == len(_names(chosen, "b")) == 2
    assert len(Choice(representatives=1, class_balance=True).of(images)) == 2


def test_embeddings_decide_where_they_are_given(images: list[Path], tmp_path: Path) -> None:
    rows = np.zeros((len(images), 2))
    special = next(place for place, path in enumerate(images) if path.stem == "red3")
    rows[special] = 9  # nothing that colours tell
    np.save(tmp_path / "rows.npy", rows)
    chosen = Choice(representatives=2, embeddings=tmp_path / "rows.npy").of(images)
    assert images[special] in chosen


@pytest.mark.parametrize("rows", [np.zeros((3, 2)), np.zeros(12), np.full((12, 2), np.nan), np.array(["a"] * 12), None])
def test_embeddings_that_do_not_fit_are_refused(images: list[Path], tmp_path: Path, rows: np.ndarray | None) -> None:
    file = tmp_path / "rows.npy"
    if rows is None:
        file.write_bytes(b"nonsense")
    else:
        np.save(file, rows)
    with pytest.raises(ConfigError, match=r"rows\.npy"):
        Choice(representatives=2, embeddings=file).of(images)


def test_an_archive_of_embeddings_is_refused(images: list[Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", rows=np.zeros((len(images), 4)))
    with pytest.raises(ConfigError, match="one array of numbers"):
        Choice(representatives=2, embeddings=tmp_path / "rows.npz").of(images)


def test_equal_images_do_not_confuse_it(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path in paths:
        Image.new("RGB", (24, 24), (9, 9, 9)).save(path)
    assert len(set(Choice(representatives=3).of(paths))) == 3


def test_what_cannot_be_read_is_chosen_too_so_that_it_is_named(images: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "in" / "a" / "broken.png"
    broken.write_bytes(b"no image")
    assert broken in Choice(representatives=1).of([*images, broken])


def test_however_many_of_a_ranking_come_first_they_stand_for_the_rest(images: list[Path]) -> None:
    ranked = Choice().of(images)
    assert [path.parent.name for path in ranked[:4]] == ["a", "b", "a", "b"]
    assert set(_names(ranked, "a")[:6]) == set(COLOURS)
    assert len(_names(ranked, "a")) == 10


@pytest.mark.parametrize("batch_images", [1, 2])
def test_no_image_is_begun_when_the_time_is_up_but_the_first(
    images: list[Path], tmp_path: Path, batch_images: int
) -> None:
    ranked = Choice().of(images)
    for number in (1, 2, 3):
        report = fit_dataset(
            images, tmp_path / "store", choose=Choice().of, budget_sec=1e-6, jobs=1, batch_images=batch_images
        )
        done = number * batch_images
        assert report.not_begun == len(images) - done
        assert sorted(outcome.path for outcome in report.outcomes) == sorted(ranked[:done])
        assert len(report.with_status("fitted")) == batch_images
    rest = fit_dataset(images, tmp_path / "store", budget_sec=600.0, jobs=1)
    assert rest.not_begun == 0
    assert len(rest.outcomes) == len(images)


def test_a_budget_holds_for_images_side_by_side(images: list[Path], tmp_path: Path) -> None:
    report = fit_dataset(images, tmp_path / "store", budget_sec=1e-6, jobs=2)
    assert 1 <= len(report.with_status("fitted")) == len(images) - report.not_begun <= 2


def test_images_of_others_are_waited_for_within_the_budget_alone(images: list[Path], tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.prepare()
    key = plan_dataset(images[:1], store).todo[0].key
    with store.claim(key, wait=False) as mine:
        assert mine
        report = fit_dataset(images[:1], store, budget_sec=0.2, wait_sec=600.0, jobs=1)
    assert (report.outcomes, report.not_begun) == ((), 1)


def test_progress_counts_what_the_budget_will_do_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("singan_aug.display.time.monotonic", lambda: now[0])
    paths = [Path(f"{number}.png") for number in range(100)]
    with Display(50.0) as display:
        display.show(Plan(tuple(Todo(path, path.stem, (24, 30), 3, ()) for path in paths), (), 0))
        for path in paths[:3]:
            now[0] += 5.0
            display.show(Outcome(path, "fitted"))
        for path in paths[3:5]:
            now[0] += 17.5
            display.show(Outcome(path, "fitted"))
    lines = capsys.readouterr().err.splitlines()
    assert "1 of 10 images within the budget (10 %)" in lines[0]
    assert "about 45 s left" in lines[0]
    assert "3 of 10 images within the budget (30 %)" in lines[2]
    assert "4 of 6 images within the budget (66 %)" in lines[3]
    assert "5 of 5 images within the budget (100 %)" in lines[4]


def test_the_command_fits_what_was_chosen(images: list[Path], tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["fit", str(tmp_path / "in"), "--store", str(tmp_path / "store"), "--jobs", "1"]
    dry = runner.invoke(cli.app, [*arguments, "--representatives", "2", "--dry-run"])
    assert dry.exit_code == 0, (dry.output, dry.exception)
    assert dry.stdout.startswith("4 images, 4 to fit")
    result = runner.invoke(cli.app, [*arguments, "--representatives", "1", "--budget", "1h"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "about 2 of 2 images to fit within 1 h 0 min, by an estimate" in result.stdout
    assert len(list(DirectoryStore(tmp_path / "store").keys())) == 2


def test_the_command_tells_what_it_had_no_time_for(images: list[Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["fit", str(tmp_path / "in"), "--store", str(tmp_path / "store"), "--jobs", "1", "--log-json", str(log)]
    result = CliRunner().invoke(cli.app, [*arguments, "--budget", "0.001s"])
    assert result.exit_code == 0, result.output
    assert "about 1 of 12 images to fit" in result.stdout
    assert "1 fitted, 0 already there, 11 not begun, for want of time in" in result.stdout
    assert json.loads(log.read_text().splitlines()[-1])["not_begun"] == 11


def test_embeddings_without_a_choice_are_refused(images: list[Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["fit", str(tmp_path / "in"), "--embeddings", "rows.npy"])
    assert result.exit_code == 2
    assert "beside --embeddings" in result.stderr


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "-1h", "1m2h", "0h"])
def test_a_budget_that_is_none_is_refused(images: list[Path], tmp_path: Path, text: str) -> None:
    result = CliRunner().invoke(cli.app, ["fit", str(tmp_path / "in"), "--budget", text])
    assert result.exit_code == 2
    assert "--budget such as 2h" in result.stderr
