"""The user study: its page, played in a real browser, and the confusion of those who played."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from singan_aug import cli
from singan_aug.errors import ConfigError, ImageError
from singan_aug.images import pixels_to_pil
from singan_aug.study import make_study, read_answers, score_answers
from singan_aug.study.answers import COLUMNS, wilson
from tests.browser import browser as browser
from tests.conftest import make_photo


def _folders(folder: Path, sources: int = 6, fakes: int = 1, size: tuple[int, int] = (30, 40)) -> tuple[Path, Path]:
    for name in ("real", "fake"):
        (folder / name).mkdir(parents=True)
    for i in range(sources):
        pixels_to_pil(make_photo(60, 80, seed=i)).save(folder / "real" / f"{i}.png")
        for j in range(fakes):
            pixels_to_pil(make_photo(*size, seed=100 * i + j)).save(folder / "fake" / f"{i}_{j}.png")
    return folder / "real", folder / "fake"


def _pairs(real: Path, fake: Path) -> dict[Path, list[Path]]:
    return {path: sorted(fake.glob(f"{path.stem}_*.png")) for path in sorted(real.iterdir())}


def _content(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def _image(content: Any, index: int) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(content["images"][index]["uri"].partition(",")[2])))


# What is shown


def test_a_page_has_its_images_within_and_asks_nobody(tmp_path: Path) -> None:
    html = make_study(_pairs(*_folders(tmp_path)), trials=3).html
    assert not re.search(r"https?://|src=[\"'](?!data:)|@import|url\(", html)


def test_real_images_have_the_size_of_their_fakes(tmp_path: Path) -> None:
    real, fake = _folders(tmp_path)
    content = _content(make_study(_pairs(real, fake), trials=3).html)
    for source in content["sources"]:
        assert _image(content, source["real"]).size == _image(content, source["fakes"][0]).size == (40, 30)
    shown = _image(content, content["sources"][0]["fakes"][0])
    name = content["images"][content["sources"][0]["fakes"][0]]["name"]
    assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(Image.open(fake / name).convert("RGB")))


def test_a_fake_of_another_shape_leaves_its_real_image_as_it_is(tmp_path: Path) -> None:
    content = _content(make_study(_pairs(*_folders(tmp_path, size=(30, 90))), trials=3, max_size=64).html)
    assert _image(content, content["sources"][0]["real"]).size == (64, 48)
    assert _image(content, content["sources"][0]["fakes"][0]).size == (64, 21)


@pytest.mark.parametrize(
    ("sources", "fakes", "trials", "paired", "unpaired"),
    [(6, 1, 3, 3, 6), (6, 1, 50, 6, 6), (3, 4, 10, 10, 2), (1, 4, 3, 3, 0), (5, 1, 5, 5, 4)],
)
def test_how_many_trials_there_are(
    sources: int, fakes: int, trials: int, paired: int, unpaired: int, tmp_path: Path
) -> None:
    made = make_study(_pairs(*_folders(tmp_path, sources, fakes)), trials=trials)
    assert (made.paired_trials, made.unpaired_trials) == (paired, unpaired)
    shown = [fake for source in _content(made.html)["sources"] for fake in source["fakes"]]
    assert len(shown) == len(set(shown)) >= paired


def test_an_attention_check_has_the_pixels_of_a_real_image_in_another_order(tmp_path: Path) -> None:
    content = _content(make_study(_pairs(*_folders(tmp_path)), trials=3).html)
    check = content["checks"][0]
    broken = np.asarray(_image(content, check["fake"]))
    assert broken.shape == (60, 80, 3)
    assert np.abs(broken.astype(int) - np.asarray(Image.open(tmp_path / "real" / "0.png"))).mean() > 5


def test_the_same_seed_makes_the_same_page(tmp_path: Path) -> None:
    pairs = _pairs(*_folders(tmp_path))
    first, again, other = (make_study(pairs, trials=2, seed=seed) for seed in (0, 0, 1))
    assert first.html == again.html
    assert first.id != other.id


def test_what_is_no_study(tmp_path: Path) -> None:
    pairs = _pairs(*_folders(tmp_path))
    for name, value in (("trials", 0), ("exposure_sec", 0), ("max_size", 1)):
        with pytest.raises(ConfigError, match=f"expected {name} to be a .*number from .*, got {value}"):
            make_study(pairs, **{name: value})
    with pytest.raises(ImageError, match="at least one real image with a fake"):
        make_study({tmp_path / "real" / "0.png": []})


def test_names_of_files_stay_text(tmp_path: Path) -> None:
    real, fake = _folders(tmp_path, 2)
    name = "</script><b>&'x"
    for folder, old, new in ((real, "0", name), (fake, "0_0", f"{name}_0")):
        (folder / f"{old}.png").rename(folder / f"{new.replace('/', '')}.png")
    content = _content(make_study({path: list(fake.glob(f"{path.stem}_*")) for path in real.iterdir()}, trials=2).html)
    assert "<script><b>&'x.png" in [image["name"] for image in content["images"]]


# Played


def _play(page: Any, protocol: str, truth: bool) -> int:
    """Answer all trials rightly, or wrongly; what is fake is told by the state that the page keeps."""
    page.click(f"[data-protocol={protocol}]")
    trials = page.evaluate("state.running.trials")
    for trial in trials:
        page.wait_for_function("answering !== null")
        right = trial["side"] if protocol == "paired" else int(trial["fake"] is not None)
        choice = right if truth or trial["check"] else 1 - right
        if trial["check"]:
            page.tap(f"#{('first', 'second')[choice]}")
        else:
            page.keyboard.press(("ArrowLeft", "ArrowRight")[choice])
        page.wait_for_function("answering === null")
    page.wait_for_selector("#start:not([hidden])")
    return len(trials)


def _saved(page: Any, path: Path) -> Path:
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(path)
    return path


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    made = make_study(_pairs(*_folders(tmp_path)), trials=3, exposure_sec=0.1)
    path = tmp_path / "study.html"
    path.write_text(made.html, encoding="utf-8")
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 780}, offline=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    yield page
    assert errors == []
    context.close()


def test_both_protocols_are_played_and_scored(opened: Any, tmp_path: Path) -> None:
    assert _play(opened, "paired", truth=True) == 3 + 1
    assert _play(opened, "unpaired", truth=False) == 6 + 1
    assert opened.is_disabled("[data-protocol=paired]")
    path = _saved(opened, tmp_path / "answers.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert sum(row["check"] == "1" for row in rows) == 2
    for row in rows:
        assert 80 <= int(row["exposure_ms"]) <= 1000  # a busy machine is late, never early
        assert row["wanted_ms"] == "100"
    unpaired = [row for row in rows if row["protocol"] == "unpaired" and row["check"] == "0"]
    seen = {kind: {Path(row[kind]).stem.split("_")[0] for row in unpaired if row[kind]} for kind in ("real", "fake")}
    assert len(seen["real"]) == len(seen["fake"]) == 3
    assert not seen["real"] & seen["fake"]
    timely = [{**row, "exposure_ms": "100"} for row in rows]
    found = {each.protocol: each for each in score_answers(read_answers([_written(tmp_path / "timely.csv", timely)]))}
    assert (found["paired"].rate, found["paired"].answers) == (0, 3)
    assert (found["unpaired"].rate, found["unpaired"].answers) == (1, 6)
    assert found["unpaired"].fakes_taken_for_real == found["unpaired"].reals_taken_for_fake == 1


def test_a_study_goes_on_where_it_stopped(opened: Any) -> None:
    opened.click("[data-protocol=paired]")
    opened.wait_for_function("answering !== null")
    opened.keyboard.press("1")
    opened.wait_for_function("state.running.done === 1 && answering !== null")
    before = opened.evaluate("state")
    opened.reload()
    assert opened.is_visible("#continue")
    assert opened.evaluate("state") == before
    opened.click("#continue")
    opened.wait_for_function("answering !== null")
    opened.keyboard.press("Escape")  # a pause
    assert opened.is_visible("#continue")
    assert opened.evaluate("state.answers.length") == 1


def test_answers_can_be_deleted(opened: Any) -> None:
    opened.click("[data-protocol=paired]")
    opened.wait_for_function("answering !== null")
    opened.keyboard.press("2")
    opened.wait_for_function("state.running.done === 1")
    opened.reload()
    opened.on("dialog", lambda dialog: dialog.accept())
    opened.click("#forget")
    assert opened.evaluate("[state.answers.length, state.running]") == [0, None]


def test_images_are_seen_during_the_exposure_alone(opened: Any) -> None:
    opened.evaluate(
        """() => { window.seen = []; const stage = document.getElementById("stage");
        const look = () => seen.push(stage.querySelectorAll("img").length);
        new MutationObserver(look).observe(stage, {childList: true}); }"""
    )
    opened.click("[data-protocol=paired]")
    opened.wait_for_function("answering !== null")
    assert opened.evaluate("seen") == [2, 0]
    boxes = opened.evaluate(
        "['first', 'second'].map((id) => document.getElementById(id).getBoundingClientRect().height)"
    )
    assert min(boxes) >= 44  # what a finger needs


# Answers


def _row(participant: str, trial: int, correct: bool, **more: Any) -> dict[str, Any]:
    row = {"study": "s", "participant": participant, "protocol": "paired", "trial": trial, "check": 0, "real": "a.png"}
    row |= {"fake": "a_0.png", "fake_shown": "first", "answer": "first", "correct": int(correct), "exposure_ms": 1000}
    return row | {"wanted_ms": 1000, "response_ms": 700, "answered_at": "2026-01-01T00:00:00Z"} | more


def _written(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _scored(path: Path, rows: list[dict[str, Any]]) -> Any:
    return score_answers(read_answers([_written(path, rows)]))


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (21, 100), (50, 50)])
def test_the_interval_of_wilson_is_that_of_scipy(count: int, total: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: pip install .[bench]")
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert wilson(count, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_few_participants_have_the_interval_of_their_answers(tmp_path: Path) -> None:
    (found,) = _scored(tmp_path / "a.csv", [_row("p", i, i >= 3) for i in range(10)])
    assert (found.rate, found.answers, found.participants, found.interval) == (0.3, 10, 1, "Wilson")
    assert (found.low, found.high) == wilson(3, 10)
    assert found.fakes_taken_for_real is None


def test_people_who_differ_widen_the_interval(tmp_path: Path) -> None:
    """Six people, three always right and three always wrong: answers are 60, what varies is six."""
    rows = [_row(f"p{p}", i, p % 2 == 0) for p in range(6) for i in range(10)]
    (found,) = _scored(tmp_path / "a.csv", rows)
    assert found.rate == 0.5
    assert found.interval == "bootstrap over participants"
    assert found.low < wilson(30, 60)[0]
    assert found.high > wilson(30, 60)[1]
    alike = [_row(f"p{p}", i, i % 2 == 0) for p in range(6) for i in range(10)]
    (found,) = _scored(tmp_path / "b.csv", alike)
    assert (found.low, found.rate, found.high) == (0.5, 0.5, 0.5)


def test_who_fails_the_checks_is_left_out(tmp_path: Path) -> None:
    rows = [_row("good", i, True) for i in range(4)] + [_row("bad", i, False) for i in range(4)]
    rows += [_row("good", 9, True, check=1)] + [_row("bad", i, i > 9, check=1) for i in (9, 10)]
    (found,) = _scored(tmp_path / "a.csv", rows)
    assert found.left_out == ("bad",)
    assert (found.rate, found.answers, found.participants) == (0, 4, 1)


def test_images_that_stood_too_long_do_not_count(tmp_path: Path) -> None:
    rows = [_row("p", 0, True), _row("p", 1, False, exposure_ms=1300), _row("p", 2, False, exposure_ms=1200)]
    (found,) = _scored(tmp_path / "a.csv", rows)
    assert (found.rate, found.answers, found.too_long) == (0.5, 2, 1)


def test_an_answer_in_two_files_counts_once(tmp_path: Path) -> None:
    rows = [_row("p", i, True) for i in range(3)]
    paths = [_written(tmp_path / "a.csv", rows), _written(tmp_path / "b.csv", [*rows, _row("p", 3, False)])]
    (found,) = score_answers(read_answers(paths))
    assert (found.answers, found.rate) == (4, 0.25)


def test_files_that_are_no_answers(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="without a column study"):
        read_answers([other])
    other.write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(ConfigError, match="another kind of file"):
        read_answers([other])
    with pytest.raises(ConfigError, match="no such file"):
        read_answers([tmp_path / "nowhere.csv"])
    with pytest.raises(ConfigError, match=r"wrong.csv, line 2: expected an answer"):
        read_answers([_written(tmp_path / "wrong.csv", [_row("p", 0, True, exposure_ms="long")])])
    with pytest.raises(ConfigError, match="answers of one study"):
        read_answers([_written(tmp_path / "two.csv", [_row("p", 0, True), _row("p", 1, True, study="t")])])
    with pytest.raises(ConfigError, match="got none"):
        read_answers([_written(tmp_path / "none.csv", [])])
    with pytest.raises(ConfigError, match="got none"):
        score_answers([])
    with pytest.raises(ConfigError, match="1 of 1 participants failed"):
        _scored(tmp_path / "failed.csv", [_row("p", 0, False), _row("p", 1, False, check=1)])


# The command


def _run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["study", *map(str, arguments)])


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    real, fake = _folders(tmp_path)
    result = _run(real, fake, "--out", tmp_path / "s.html", "--trials", 4)
    assert result.exit_code == 0, result.output
    assert "One" not in result.stderr or "6 of 8" in result.stderr
    content = _content((tmp_path / "s.html").read_text(encoding="utf-8"))
    assert content["exposure_ms"] == 1000
    assert content["trials"] == {"paired": 4, "unpaired": 3}
    first = _run("--trials", 2, real, fake, "--out", tmp_path / "t.html")
    assert first.exit_code == 0, first.output


def test_the_command_refuses(tmp_path: Path) -> None:
    real, fake = _folders(tmp_path)
    result = _run(real, tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "no such file" in result.stderr
    (fake / "0_0.png").write_text("text")
    result = _run(real, fake, "--out", tmp_path / "s.html")
    assert result.exit_code == 1
    assert "0_0.png: not an image" in result.stderr
    result = _run("score", tmp_path / "nowhere.csv")
    assert result.exit_code == 2


def test_the_command_scores(tmp_path: Path) -> None:
    rows = [_row("p", i, i >= 3) for i in range(10)] + [_row("bad", 0, False), _row("bad", 1, False, check=1)]
    path = _written(tmp_path / "a.csv", rows)
    result = _run("score", path)
    assert result.exit_code == 0, result.output
    assert "participant bad failed" in result.stderr
    cells = re.split(r"  +", result.stdout.splitlines()[1].strip())
    assert cells == ["paired", "30.0%", "10.8% to 60.3%", "Wilson", "10", "1", "-", "-"]
    found = json.loads(_run("score", path, "--json").stdout)
    assert found[0]["rate"] == 0.3
    assert found[0]["left_out"] == ["bad"]
