from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from singan_aug.errors import ConfigError, StartScaleError
from singan_aug.transforms._start_scale import StartScaleRule


def _chosen(start_scale: Any, count: int, strength: float | None = None, draws: int = 400) -> Counter[int]:
    rule = StartScaleRule(start_scale, strength)
    return Counter(rule.choose(count, seed) for seed in range(draws))


@pytest.mark.parametrize(
    ("word", "count", "scale"),
    [
        ("coarse", 1, 0),
        ("medium", 1, 0),
        ("fine", 1, 0),
        ("coarse", 2, 0),
        ("medium", 2, 1),
        ("fine", 2, 1),
        ("coarse", 5, 0),
        ("medium", 5, 2),
        ("fine", 5, 4),
        ("medium", 10, 5),
    ],
)
def test_a_word_means_a_place_between_the_coarsest_and_the_finest_scale(word: str, count: int, scale: int) -> None:
    assert _chosen(word, count) == {scale: 400}


def test_a_number_is_a_scale_and_a_negative_one_counts_from_the_finest() -> None:
    assert _chosen(2, 5) == {2: 400}
    assert _chosen(-1, 5) == {4: 400}
    with pytest.raises(StartScaleError, match=r"0\.\.4.*got 5"):
        StartScaleRule(5, None).choose(5, 0)


@pytest.mark.parametrize("given", [(1, 3), [1, 3], (3, 1), (1, -2), (-4, "fine")])
def test_a_range_gives_every_scale_in_it_about_as_often(given: Any) -> None:
    chosen = _chosen(given, 5)
    last = 4 if given[1] == "fine" else 3
    assert set(chosen) == set(range(1, last + 1))
    assert min(chosen.values()) > 400 / (last + 1)


def test_a_range_ends_where_the_scales_do() -> None:
    assert set(_chosen((0, 9), 3)) == {0, 1, 2}
    assert set(_chosen((5, 9), 3)) == {2}
    assert set(_chosen((-9, 0), 3)) == {0}


def test_weights_decide_how_often() -> None:
    chosen = _chosen({0: 1, "fine": 3, 1: 0}, 4, draws=2000)
    assert set(chosen) == {0, 3}
    assert 2.4 < chosen[3] / chosen[0] < 3.7


def test_weights_that_went_through_json_are_the_same() -> None:
    assert _chosen({"0": 1, "-1": 3}, 4) == _chosen({0: 1, -1: 3}, 4)


def test_strength_goes_from_the_finest_to_the_coarsest() -> None:
    scales = [next(iter(_chosen(None, 5, strength))) for strength in range(11)]
    assert scales[0] == 4
    assert scales[10] == 0
    assert scales == sorted(scales, reverse=True)
    assert set(scales) == {0, 1, 2, 3, 4}


def test_the_seed_decides() -> None:
    rule = StartScaleRule((0, 4), None)
    assert [rule.choose(5, seed) for seed in range(50)] == [rule.choose(5, seed) for seed in range(50)]


@pytest.mark.parametrize(
    ("start_scale", "strength", "words"),
    [
        ("rough", None, "'coarse', 'medium', 'fine'.*'rough'"),
        (1.5, None, "int.*1.5"),
        (None, None, "int.*None"),
        ((0, 1, 2), None, r"range \(first, last\).*\(0, 1, 2\)"),
        ((0, 1.5), None, r"1\.5"),
        ({}, None, "above 0"),
        ({0: 0}, None, "above 0"),
        ({0: -1}, None, "at least 0.*-1 for 0"),
        ({0: float("nan")}, None, "at least 0.*nan"),
        ({"deep": 1}, None, "'deep'"),
        (1, 5, "got both"),
        (None, 11, "0 .*to 10.*got 11"),
        (None, -1, "got -1"),
        (None, True, "got True"),
        (None, "9", "got '9'"),
    ],
)
def test_nonsense_is_refused(start_scale: Any, strength: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        StartScaleRule(start_scale, strength)
