"""The contract of the benchmarks: what they wrote is valid, tells no paths, and each can still be started."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import _forks, _gpnn, _kills, _result, report
from benchmarks._result import spread

FOLDER = Path(_result.__file__).parent
RESULTS = sorted(_result.RESULTS.glob("*.json"))
SUITES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def _name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", RESULTS, ids=_name)
def test_a_result_follows_the_schema(path: Path) -> None:
    result = json.loads(path.read_text())
    jsonschema.validate(result, json.loads((FOLDER / "result.schema.json").read_text()))
    assert result["commit"]  # a run outside of a checkout has none; what is committed says where it comes from


@pytest.mark.parametrize("path", RESULTS, ids=_name)
def test_a_result_names_its_suite_as_its_file_does(path: Path) -> None:
    result = json.loads(path.read_text())
    suite = path.stem.partition("-")[0]  # "paper-250" is another run of paper
    assert result["suite"] == suite
    assert suite in SUITES
    assert result["command"].split()[:3] == ["python", "-m", f"benchmarks.{suite}"]


@pytest.mark.parametrize("path", RESULTS, ids=_name)
def test_a_result_holds_no_absolute_path(path: Path) -> None:
    assert not re.search(r"/(root|work|home|tmp|Users)\b|[A-Z]:\\\\", path.read_text())


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_explains_itself(
    suite: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{suite}")
    monkeypatch.setattr(sys, "argv", [suite, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage:")


def test_the_page_is_what_the_committed_results_give() -> None:
    assert report.PAGE.read_text() == report.page(), "run `python -m benchmarks.report`"
    assert report.questions() in (None, report.QUESTIONS.read_text()), "run `python -m benchmarks.report`"


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_is_listed(suite: str) -> None:
    assert f"| `{suite}` |" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("--limit", "--limit"),
        ("0.5", "0.5"),
        ("/srv/someone/photos", "photos"),
        ("../data/photos/", "photos"),
        ("SinGAN=/tmp/samples/singan/", "SinGAN=singan"),
        ("--photos=C/photos", "--photos=photos"),
        ("shift_px=3.75", "shift_px=3.75"),
    ],
)
def test_a_command_names_the_last_folder_alone(argument: str, written: str) -> None:
    assert _result._without_folders(argument) == written


def _image(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_gpnn_takes_the_key_that_its_equation_names(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(30, 5, generator=generator), torch.randn(20, 5, generator=generator)
    distances = torch.cdist(queries, keys).square() / 5
    expected = (distances / (_gpnn.ALPHA + distances.min(0).values)).argmin(1)
    assert torch.equal(_gpnn._nearest(queries, keys), expected)
    monkeypatch.setattr(_gpnn, "ROWS", 7)
    monkeypatch.setattr(_gpnn, "KEPT_BYTES", 0)
    assert torch.equal(_gpnn._nearest(queries, keys), expected)


def test_gpnn_puts_the_patches_of_an_image_together_again() -> None:
    image = _image(20, 24)
    patches = torch.nn.functional.unfold(image, _gpnn.PATCH_PX)
    assert torch.allclose(_gpnn._averaged(patches, (20, 24)), image, atol=1e-6)


def test_a_sample_of_gpnn_is_made_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpnn, "NOISE", 5.0)  # that of the paper gives so small an image back nearly unchanged
    image = _image(30, 34)
    made = _gpnn.sample(image, torch.Generator().manual_seed(1))
    assert made.shape == image.shape
    assert image.min() <= made.min() <= made.max() <= image.max()
    assert not torch.allclose(made, image, atol=0.1)


def test_the_pairs_of_gpnn_grow_with_the_square_of_the_pixels() -> None:
    assert _gpnn.pairs((192, 256)) / _gpnn.pairs((96, 128)) == pytest.approx(16, rel=0.25)  # borders weigh less


def test_the_same_results_give_the_same_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the bench extra is not installed")
    from benchmarks import _plots

    spent = {"median": 0.1, "q25": 0.1, "q75": 0.2, "n": 3}
    rows = [
        {"what": "fast", "pixels": 100 * n, "process_sec": spent, "peak_memory_bytes": 1e8, "start_scale": 0}
        | {"sifid_mean": 0.1 * n, "fit_sec": spent}
        for n in (1, 2)
    ]
    results = {"fit": {"rows": rows}, "quality": {"rows": rows}}
    first, second = (_plots.draw_all(results, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first] == ["cost.svg", "frontier.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert _plots.draw_all({}, tmp_path / "three") == []


measurements = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)
HALF_A_DIGIT = 0.5e-5 * 1.001  # figures are written with five digits


@given(measurements)
def test_quartiles_are_in_order_and_in_range(values: list[float]) -> None:
    found = spread(values)
    assert min(values) - HALF_A_DIGIT <= found["q25"] <= found["median"] <= found["q75"] <= max(values) + HALF_A_DIGIT


@given(measurements)
def test_half_of_the_measurements_are_on_either_side_of_the_median(values: list[float]) -> None:
    median = spread(values)["median"]
    assert np.mean(np.array(values) <= median + HALF_A_DIGIT) >= 0.5
    assert np.mean(np.array(values) >= median - HALF_A_DIGIT) >= 0.5


@given(measurements)
def test_the_order_of_measurements_does_not_matter(values: list[float]) -> None:
    assert spread(sorted(values)) == spread(values)


@given(st.floats(0, 1e6), st.integers(1, 30))
def test_equal_measurements_have_no_spread(value: float, count: int) -> None:
    found = spread([value] * count)
    assert found["n"] == count
    assert found["q25"] == found["median"] == found["q75"]
    assert found["median"] == pytest.approx(value, abs=HALF_A_DIGIT)


def test_what_a_kill_did_to_a_store_is_counted(tmp_path: Path) -> None:
    paths = _forks.photos(tmp_path / "photos", 2)
    place = tmp_path / "store"
    assert _forks.fit(paths, place) == 0
    whole, broken = _forks.state(place)
    assert (len(whole), broken) == (2, 0)
    first, second = sorted(whole)

    def counted(before: dict[str, bytes]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        _kills._compared(place, before, whole, counts)
        return {name: count for name, count in counts.items() if count}

    assert counted(whole) == {}
    assert counted({**whole, "another": b""}) == {"lost": 1}
    whole[second] += b"."  # of the run that was not killed
    assert counted(whole) == {"different": 1}
    weights = place / "pyramids" / first[:2] / first / "pyramid.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert counted(whole) == {"broken": 1, "lost": 1, "different": 1}


def test_a_fit_is_killed_while_it_is_under_way(tmp_path: Path) -> None:
    paths, place = _forks.photos(tmp_path / "photos", 2), tmp_path / "store"
    assert _kills._killed(paths, place, 0.0, all_of_it=False)
    assert not _forks.state(place)[0]
