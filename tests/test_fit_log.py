"""What a fit tells while it runs, and what it remembers of images that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import singan_aug.fitting
from singan_aug.cli import app
from singan_aug.cli.fit import summarise
from singan_aug.dataset import FitReport, JsonLog, Outcome, Plan, Progress, Todo, Waiting, fit_dataset
from singan_aug.display import Display
from singan_aug.errors import FitDivergedError, StoreWriteError
from singan_aug.fitting import FitEvent
from singan_aug.store import DirectoryStore, Holder, MemoryStore, make_key
from tests.conftest import copies, make_photo, quick

TINY = copies(coarsest_px=16, scale_factor=0.5, patch_px=5)
PHOTOS = [make_photo(26, 34, seed=seed) for seed in range(3)]
KEYS = [str(make_key(photo, TINY)) for photo in PHOTOS]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(PHOTOS):
        Image.fromarray(photo).save(folder / f"{number}.png")
    return folder


def _failing(patch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """From now on each fit of the second photo fails; the list grows with each fit of any."""
    real, fits = singan_aug.fitting.fit, list[int]()

    def fit(image: Any, *args: Any, **kwargs: Any) -> Any:
        fits.append(int(image.astype(int).sum()))
        if fits[-1] == PHOTOS[1].astype(int).sum():
            raise error
        return real(image, *args, **kwargs)

    patch.setattr(singan_aug.fitting, "fit", fit)
    return fits


def _statuses(report: FitReport) -> list[str]:
    return [outcome.status for outcome in report.outcomes]


@pytest.mark.parametrize(
    "error", [FitDivergedError("losses went non-finite", scale=1, step=7), MemoryError()], ids=["diverged", "memory"]
)
def test_what_failed_is_tried_again_when_asked_or_when_something_changed(
    photos: Path, store: DirectoryStore, error: Exception
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fits = _failing(patch, error)
        first = fit_dataset([photos], store, TINY, jobs=1)
        assert _statuses(first) == ["fitted", "failed", "fitted"]
        assert len(fits) == 3
        again = fit_dataset([photos], store, TINY, jobs=1)
        assert _statuses(again) == ["present", "failed", "present"]
        assert first.failed[0].message in again.failed[0].message
        assert "--retry-failed" in again.failed[0].message
        assert len(fits) == 3  # not tried
        other = fit_dataset([photos], store, TINY.replace(seed=1), jobs=1)
        assert _statuses(other) == ["fitted", "failed", "fitted"]  # tried, with another config
        assert len(fits) == 6
    assert _statuses(fit_dataset([photos], store, TINY, jobs=1)) == ["present", "failed", "present"]
    assert _statuses(fit_dataset([photos], store, TINY, jobs=1, retry_failed=True)) == ["present", "fitted", "present"]
    assert store.failures.of(KEYS[1]) is None
    assert _statuses(fit_dataset([photos], store, TINY, jobs=1)) == ["present"] * 3


def test_what_failed_for_want_of_room_on_the_disk_is_tried_again_unasked(
    photos: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _failing(patch, StoreWriteError("No space left on device"))
        assert _statuses(fit_dataset([photos], store, TINY, jobs=1)) == ["fitted", "failed", "fitted"]
    assert _statuses(fit_dataset([photos], store, TINY, jobs=1)) == ["present", "fitted", "present"]


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"[" * 5000, b"\xff", b'{"reason": 1}'])
def test_a_damaged_note_of_a_failure_stops_nothing(photos: Path, store: DirectoryStore, text: bytes) -> None:
    store.failures.note(KEYS[1], "it diverged")
    assert MemoryStore(store).failures.of(KEYS[1]) == store.failures.of(KEYS[1])
    (store.root / "failures" / f"{KEYS[1]}.json").write_bytes(text)
    assert _statuses(fit_dataset([photos], store, TINY, jobs=1)) == ["fitted"] * 3


def _lines(path: Path) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_the_log_tells_all_that_happens(photos: Path, store: DirectoryStore, tmp_path: Path) -> None:
    (photos / "broken.png").write_text("text")
    with JsonLog(tmp_path / "log", store.location) as log:
        report = fit_dataset([photos], store, quick(coarsest_px=13, finest_px=20), jobs=1, on_event=log)
        log.end(report, 1.5)
    lines = _lines(tmp_path / "log")
    assert [line["event"] for line in lines if line["event"] != "progress"] == ["plan", *["outcome"] * 4, "end"]
    assert (lines[0]["to_fit"], lines[0]["failed"], lines[0]["store"]) == (3, 1, store.location)
    shares = [line["share"] for line in lines if line["event"] == "progress" and line["path"].endswith("0.png")]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    told = {Path(line["path"]).name: line for line in lines if line["event"] == "outcome"}
    assert {name: line["status"] for name, line in told.items()} == {
        "0.png": "fitted",
        "1.png": "fitted",
        "2.png": "fitted",
        "broken.png": "failed",
    }
    for outcome in report.with_status("fitted"):
        line = told[outcome.path.name]
        assert line["process_sec"] > 0
        assert line["reconstruction_rmse"] == store.manifest(outcome.key).provenance["reconstruction_rmse"][-1]
    assert told["broken.png"]["reconstruction_rmse"] is None
    end = {name: lines[-1][name] for name in ("complete", "fitted", "failed", "wall_sec")}
    assert end == {"complete": True, "fitted": 3, "failed": 1, "wall_sec": 1.5}


def test_the_log_of_strange_events_is_json_and_documented(tmp_path: Path) -> None:
    with JsonLog(tmp_path / "log", "S") as log:
        log(Plan((), (), 0))
        log(Progress(Path("a\udcff\n.png"), FitEvent(0, 1, 1, 2, 0, 0.5, {"loss": float("nan")})))
        log(Waiting(((Path("a.png"), Holder("h", 1, "now")),), 60.0))
        log(Outcome(Path("a.png"), "failed", message="it diverged"))
        log.end(None, 0.1)
    lines = _lines(tmp_path / "log")
    assert [line["event"] for line in lines] == ["plan", "progress", "waiting", "outcome", "end"]
    assert lines[1]["losses"] == {"loss": None}
    assert lines[1]["path"] == "a\udcff\n.png"
    assert lines[2]["images"] == [{"path": "a.png", "host": "h", "pid": 1, "since": "now"}]
    assert lines[4]["complete"] is False
    page = (Path(__file__).parents[1] / "docs" / "fit-log.md").read_text()
    assert all(f"`{name}`" in page for line in lines for name in line)


def test_the_command_appends_its_log_and_retries_when_asked(
    photos: Path, store: DirectoryStore, tmp_path: Path
) -> None:
    def run(*more: str) -> int:
        words = ["fit", str(photos), "--store", str(store.root), "--jobs", "1", "--log-json", str(tmp_path / "log")]
        return CliRunner().invoke(app, [*words, "--max-size", "32", *more]).exit_code

    assert run() == 0
    key = next(line["key"] for line in _lines(tmp_path / "log") if line["event"] == "outcome")
    store.remove(key)
    store.failures.note(key, "it diverged")
    assert run() == 1
    assert run("--retry-failed") == 0
    ends = [line for line in _lines(tmp_path / "log") if line["event"] == "end"]
    assert [(end["complete"], end["fitted"], end["failed"]) for end in ends] == [
        (True, 3, 0),
        (True, 0, 1),
        (True, 1, 0),
    ]


def test_progress_tells_the_rate_the_failures_and_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("singan_aug.display.SOONEST_SEC", 0.0)
    todo = tuple(Todo(Path(f"{n}.png"), str(n), (8, 8), 3, ()) for n in range(4))
    with Display() as display:
        display.show(Plan(todo, (), 0))
        for item in todo[:2]:
            display.show(Outcome(item.path, "fitted"))
        display.show(Outcome(todo[2].path, "failed", message="it diverged"))
    line = capsys.readouterr().err.splitlines()[-1]
    assert "3 of 4 images (75 %)" in line
    assert "images a minute, 1 failed, about" in line
    assert "(until " in line


def test_the_summary_names_the_slowest_and_the_worst_of_many(
    store: DirectoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [
        Outcome(Path(f"{n}.png"), "fitted", process_sec=float(n), reconstruction_rmse=1 / (n + 1)) for n in range(12)
    ]
    summarise(FitReport(tuple(outcomes), 0), store, 1.0, as_json=False)
    said = capsys.readouterr().out
    assert "slowest: 11.png 11 s, 10.png 10 s, 9.png 9.0 s" in said
    assert "0.png 1.000, 1.png 0.500, 2.png 0.333" in said
    summarise(FitReport(tuple(outcomes[:3]), 0), store, 1.0, as_json=False)
    assert "slowest" not in capsys.readouterr().out


def test_a_short_run_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr("singan_aug.display.time.monotonic", lambda: now[0])
    todo = tuple(Todo(Path(f"{n}.png"), str(n), (8, 8), 3, ()) for n in range(20))
    with Display() as display:
        display.show(Plan(todo, (), 0))
        for item in todo:
            now[0] += 0.1
            display.show(Outcome(item.path, "fitted"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "20 of 20 images (100 %)" in line
