"""The report of a store: what it holds, and how its page behaves in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from singan_aug import cli
from singan_aug.errors import ConfigError, MissingPyramidError
from singan_aug.fitting import fit
from singan_aug.images import pixels_to_pil
from singan_aug.metrics import pixel_diversity
from singan_aug.presets import fast
from singan_aug.pyramid import draw
from singan_aug.report import html as page_module
from singan_aug.report import make_report, measured
from singan_aug.report.plots import plotted
from singan_aug.store import DirectoryStore, make_key
from tests.browser import browser as browser
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = {"cats/one.png": 0, "cats/two.png": 1, "dogs/<b>three.png": 2}


def _mask(seed: int) -> Any:
    rows, columns = np.mgrid[0:40, 0:48]
    return (np.hypot(rows - 20, columns - 16 - seed) < 10).astype(np.uint8) * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    store = DirectoryStore(folder / "store")
    for name, seed in NAMES.items():
        pixels = make_photo(40, 48, seed=seed)
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels_to_pil(pixels).save(path)
        mask = _mask(seed) if seed < 2 else None
        pyramid = fit(pixels, fast(coarsest_px=16), mask=mask)
        store.save(make_key(pixels, fast(coarsest_px=16), mask), pyramid, name=path.name, source_size=(40, 48))
    return folder


def _store(folder: Path) -> DirectoryStore:
    return DirectoryStore(folder / "store")


def _images(folder: Path) -> dict[Path, str]:
    return {path: path.parent.name for path in sorted((folder / "images").rglob("*.png"))}


def _embedded(html: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def _opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


# What it holds


def test_every_pyramid_has_its_pictures_and_measures(folder: Path) -> None:
    report = make_report(_store(folder), images=_images(folder), variants=3, jobs=1)
    assert [entry.name for entry in report.entries] == ["<b>three.png", "one.png", "two.png"]
    for i, entry in enumerate(report.entries):
        pyramid = _store(folder).load(entry.key)
        pictures = _embedded(report.html, f"pictures-{i}")
        assert len(entry.measures) == len(pictures["scales"]) == len(pyramid)
        for start, scale in enumerate(pictures["scales"]):
            assert len(scale["variants"]) == 3
            assert set(entry.measures[start]) == {"incoherence", "diversity", "displacement", "largest_piece"}
        assert _opened(pictures["source"]).size == (48, 40)
    assert report.entries[1].classes == ("cats", "mask value 3")
    assert report.entries[0].classes == ("dogs",)


def test_measures_are_those_of_the_metrics(folder: Path) -> None:
    report = make_report(_store(folder), variants=4, seed=5, jobs=1)
    entry = report.entries[1]
    pyramid = _store(folder).load(entry.key)
    images = (draw(pyramid, 4, start_scale=0, seed=5) * 255).round() / 255
    source = draw(pyramid, 1, start_scale=0).new_tensor(make_photo(40, 48, seed=0) / 255.0).movedim(-1, 0)[None]
    assert entry.measures[0]["diversity"] == pytest.approx(pixel_diversity(images, source), abs=1e-3)
    moved = 100 * pyramid.displacement_px[0] / 40
    assert entry.measures[0]["displacement"] == pytest.approx(moved, abs=1e-4)


def test_masks_lie_over_their_pictures(folder: Path) -> None:
    report = make_report(_store(folder), variants=1, jobs=1)
    pictures = _embedded(report.html, "pictures-1")
    mask = np.asarray(_opened(pictures["mask"]))
    assert mask.shape == (40, 48, 4)
    assert np.array_equal(mask[..., 3] > 0, _mask(0) > 0)
    assert all(len(scale["masks"]) == 1 for scale in pictures["scales"])
    assert _embedded(report.html, "pictures-0")["mask"] is None


def test_the_page_asks_nobody_and_stays_html(folder: Path) -> None:
    html = make_report(_store(folder), images=_images(folder), variants=1, jobs=1).html
    assert "<b>three" not in html.replace("\\u003cb", "")
    outside = re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", html)
    assert outside == []
    assert not re.search(r"@import|url\((?!#)", html)


def test_pictures_shrink_as_pyramids_get_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def length() -> int:
        return len(make_report(_store(folder), variants=2, jobs=1).html)

    whole = length()
    monkeypatch.setattr(page_module, "PAGE_BYTES", 60_000)
    monkeypatch.setattr(measured, "LADDER", ((48, 80), (24, 40), (12, 20)))
    assert length() < whole


def test_what_failed_stands_on_top(folder: Path, tmp_path: Path) -> None:
    unfitted, broken = tmp_path / "unfitted.png", tmp_path / "broken.png"
    pixels_to_pil(make_photo(30, 30, seed=9)).save(unfitted)
    broken.write_text("text")
    report = make_report(_store(folder), images={**_images(folder), unfitted: "", broken: ""}, variants=1, jobs=1)
    assert [what for what, _ in report.failed] == [str(broken), str(unfitted)]
    assert report.html.index("not an image") < report.html.index('id="cards"')


def test_a_broken_pyramid_is_a_failure_and_the_others_are_shown(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "store", tmp_path / "store")
    weights = sorted((tmp_path / "store").rglob("*.safetensors"))
    weights[0].write_bytes(weights[0].read_bytes()[:-10])
    report = make_report(DirectoryStore(tmp_path / "store"), variants=1, jobs=1)
    assert len(report.entries) == 2
    assert len(report.failed) == 1


def test_what_is_no_report(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPyramidError, match="no pyramids in"):
        make_report(DirectoryStore(tmp_path / "none"))
    with pytest.raises(ConfigError, match="variants to be a whole number from 1 to 64"):
        make_report(_store(folder), variants=0)
    with pytest.raises(ConfigError, match="got no such file"):
        make_report(_store(folder), weights=tmp_path)


def test_plots_take_the_colour_of_the_text() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install .[report]")
    (plot,) = plotted({"SIFID": [[0.1, 0.2], [0.3]]}) or []
    assert plot.startswith("<svg")
    assert "currentColor" in plot
    assert "#010203" not in plot
    assert plot == (plotted({"SIFID": [[0.1, 0.2], [0.3]]}) or [])[0]


# Its behaviour


@pytest.fixture
def opened(browser: Any, folder: Path, tmp_path: Path) -> Any:
    path = tmp_path / "report.html"
    path.write_text(make_report(_store(folder), images=_images(folder), variants=2, jobs=1).html, encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844}, offline=True, color_scheme="dark")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.wait_for_selector(".picture")
    yield page
    assert errors == []
    context.close()


def _titles(page: Any) -> list[str]:
    return [title.split(" ")[0] for title in page.locator(".card h2").all_text_contents()]


def test_cards_are_chosen_and_sorted(opened: Any) -> None:
    assert _titles(opened) == ["<b>three.png", "one.png", "two.png"]
    opened.select_option("#class", "cats")
    assert _titles(opened) == ["one.png", "two.png"]
    opened.select_option("#class", "")
    opened.select_option("#sort", "diversity")
    found = opened.evaluate(
        "[...document.querySelectorAll('.card')].map((card) => entries[card.dataset.index].measures[0].diversity)"
    )
    assert found == sorted(found)
    opened.select_option("#sort", "incoherence")
    found = opened.evaluate(
        "[...document.querySelectorAll('.card')].map((card) => entries[card.dataset.index].measures[0].incoherence)"
    )
    assert found == sorted(found, reverse=True)


def test_the_start_scale_changes_variants_and_measures(opened: Any) -> None:
    card = opened.locator(".card").first
    before = card.locator("img").nth(2).get_attribute("src"), card.locator(".measures").inner_text()
    opened.keyboard.press("ArrowRight")
    assert opened.input_value("#start") == "1"
    after = card.locator("img").nth(2).get_attribute("src"), card.locator(".measures").inner_text()
    assert before[0] != after[0]
    assert "start scale 1" in after[1] != before[1]


def test_masks_zoom_and_keys(opened: Any) -> None:
    opened.keyboard.press("j")
    opened.keyboard.press("j")
    opened.wait_for_selector(".mask", state="hidden")
    opened.keyboard.press("m")
    opened.wait_for_selector(".mask", state="visible")
    assert opened.evaluate("document.activeElement.id") == opened.locator(".card").nth(1).get_attribute("id")
    opened.keyboard.press("Enter")
    assert "one.png, start scale 0, source" in opened.inner_text("#zoom figcaption")
    opened.keyboard.press("ArrowRight")
    assert "reconstruction" in opened.inner_text("#zoom figcaption")
    opened.keyboard.press("Escape")
    assert not opened.is_visible("#zoom")


def test_it_fits_a_phone_in_the_dark(opened: Any) -> None:
    assert not opened.is_visible("#totals table")  # pictures come first
    assert opened.locator(".picture").first.bounding_box()["y"] < 844
    opened.click("#totals summary")
    assert opened.is_visible("#totals table")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 22)"


def test_pictures_far_from_the_view_are_not_there(browser: Any, folder: Path, tmp_path: Path) -> None:
    html = make_report(_store(folder), variants=1, jobs=1).html
    summary, blocks = _embedded(html, "summary"), [_embedded(html, f"pictures-{i}") for i in range(3)]
    summary["entries"] = [{**summary["entries"][i % 3], "key": f"{i}"} for i in range(300)]
    held = {"summary": summary} | {f"pictures-{i}": blocks[i % 3] for i in range(300)}
    without = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    more = "".join(
        f'<script type="application/json" id="{name}">{page_module._json(value)}</script>'
        for name, value in held.items()
    )
    (tmp_path / "many.html").write_text(without.replace("<script>", f"{more}<script>"), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "many.html").as_uri())
    page.wait_for_selector(".picture")
    assert page.locator(".card").count() == 300
    assert 0 < page.locator(".picture").count() < 150
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelector('.card:last-child .picture') !== null")
    page.wait_for_function("document.querySelector('.card .picture') === null || seen.size < 40")
    assert page.locator(".picture").count() < 150
    page.close()


# The command


def _run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)])


def test_the_command_writes_page_and_table(folder: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "r.html", tmp_path / "r.csv"
    options = ("--out", out, "--table", table, "--images", folder / "images", "--variants", 2, "--jobs", 1)
    result = _run(folder / "store", *options)
    assert result.exit_code == 0, result.output
    assert "3 pyramids" in result.stdout
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["classes"] for row in rows} == {"cats; mask value 3", "dogs"}
    assert len(rows) == sum(len(_store(folder).load(key)) for key in _store(folder).keys())
    assert all(float(row["incoherence"]) >= 0 for row in rows)


def test_the_command_refuses(folder: Path, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "nowhere",), (folder / "store", "--images", tmp_path / "nowhere")):
        result = _run(*arguments)
        assert result.exit_code == 2
        assert "there is no" in result.stderr
    (tmp_path / "empty").mkdir()
    for named in ([tmp_path / "empty"], ["--store", tmp_path / "empty"]):
        result = _run(*named)
        assert result.exit_code == 2
        assert "expected a store at" in result.stderr
    result = _run(folder / "store", "--store", folder / "store")
    assert result.exit_code == 2
    assert "expected one store" in result.stderr
