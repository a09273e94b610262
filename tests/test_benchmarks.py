"""The contract of the benchmarks: what they wrote is valid, tells no paths, and each can still be started."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import _result, report
from benchmarks._result import spread

FOLDER = Path(_result.__file__).parent
RESULTS = sorted(_result.RESULTS.glob("*.json"))
SUITES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def _name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", RESULTS, ids=_name)
def test_a_result_follows_the_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), json.loads((FOLDER / "result.schema.json").read_text()))


@pytest.mark.parametrize("path", RESULTS, ids=_name)
def test_a_result_names_its_suite_as_its_file_does(path: Path) -> None:
    result = json.loads(path.read_text())
    assert result["suite"] == path.stem
    assert path.stem in SUITES
    assert result["command"].split()[:3] == ["python", "-m", f"benchmarks.{path.stem}"]


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
