"""Exact search with completeness, against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from singan_aug.pyramid.copied import search, steps_numba, steps_torch
from singan_aug.pyramid.copied.search import nearest_nearby, nearest_places, prepared
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.sizes import Size


def _descriptors(count: int, seed: int) -> Tensor:
    return torch.randn(count, 6, generator=generator_for("search", seed))


def _score(wanted: Tensor, known: Tensor, alpha: float, used: Tensor | None = None) -> Tensor:
    """[A, B]: Granot et al. 2022, eq. 2, in double precision."""
    distance = (wanted.double()[:, None] - known.double()[None]).square().sum(2)
    least = distance.amin(0)
    if used is not None:
        least[used] = 0
    return distance / (alpha + least)


@pytest.mark.parametrize("alpha", [5e-3, 1.0, 1e6])
def test_the_place_is_the_best_by_the_papers_measure(alpha: float) -> None:
    wanted, known = _descriptors(40, 0), _descriptors(300, 1)
    found = nearest_places(wanted, prepared(known), alpha)
    score = _score(wanted, known, alpha)
    least = score.amin(1)
    assert bool((score.gather(1, found[:, None])[:, 0] <= least * (1 + 1e-3)).all())  # some 12 bits decide


def test_a_large_alpha_leaves_the_nearest() -> None:
    wanted, known = _descriptors(40, 0), _descriptors(300, 1)
    assert torch.equal(nearest_places(wanted, prepared(known), 1e6), torch.cdist(wanted, known).argmin(1))


def test_a_small_alpha_makes_use_of_more_places() -> None:
    wanted, known = _descriptors(300, 0) * 0.3, _descriptors(300, 1)
    used = [len(nearest_places(wanted, prepared(known), alpha).unique()) for alpha in (1e6, 5e-3)]
    assert used[1] > 1.2 * used[0]


def test_places_that_are_shown_already_count_as_less_good() -> None:
    wanted, known = _descriptors(40, 0), _descriptors(300, 1)
    free = nearest_places(wanted, prepared(known), 5e-3)
    again = nearest_places(wanted, prepared(known), 5e-3, used=free)
    score = _score(wanted, known, 5e-3, free)
    assert bool((score.gather(1, again[:, None])[:, 0] <= score.amin(1) * (1 + 1e-3)).all())
    assert len(set(again.tolist()) & set(free.tolist())) < len(set(free.tolist()))


def test_what_is_searched_in_parts_is_found_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, known = _descriptors(101, 0), _descriptors(300, 1)
    whole = nearest_places(wanted, prepared(known), 5e-3, used=torch.tensor([3, 5]))
    monkeypatch.setattr(search, "PAIRS_AT_ONCE", 7 * 300)
    assert torch.equal(nearest_places(wanted, prepared(known), 5e-3, used=torch.tensor([3, 5])), whole)


def test_everything_is_its_own_best_match() -> None:
    known = _descriptors(200, 0)
    assert torch.equal(nearest_places(known, prepared(known), 5e-3), torch.arange(200))


@pytest.mark.parametrize("columns", [1, 2, 37, 513])
def test_compiled_and_by_torch_the_same_is_found(columns: int) -> None:
    distance, factors = _descriptors(columns, 0) @ torch.ones(6, 50), torch.rand(columns, generator=generator_for("f"))
    distance = distance.square().T.contiguous()
    wanted, found = (steps.best_columns(distance.clone(), factors) for steps in (steps_torch, steps_numba))
    assert torch.equal(found, wanted)


def test_the_least_of_each_row_is_found() -> None:
    distance = torch.rand(50, 300, generator=generator_for(0)) * torch.logspace(-6, 6, 50)[:, None]
    least = distance.amin(1)
    found = distance.gather(1, steps_torch.least_columns(distance.clone())[:, None])[:, 0]
    assert bool((found <= least * (1 + 2**-13)).all())


def _near(size: Size, own: Size, reach_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a search finds nearby, and what it was given."""
    wanted, known = _descriptors(size[0] * size[1], 0), _descriptors(own[0] * own[1], 1)
    return nearest_nearby(wanted, size, prepared(known), own, 5e-3, reach_px), wanted, known


@pytest.mark.parametrize("own", [(20, 13), (9, 30)])
def test_a_reach_over_all_places_finds_what_the_exhaustive_search_finds(own: Size) -> None:
    found, wanted, known = _near((17, 22), own, reach_px=30)
    assert torch.equal(found, nearest_places(wanted, prepared(known), 5e-3))


@pytest.mark.parametrize("size", [(40, 40), (61, 33)])
def test_places_found_nearby_are_near_and_the_best_there(size: Size) -> None:
    own, reach_px = (40, 40), 5
    found, wanted, known = _near(size, own, reach_px)
    rows = (torch.arange(size[0]) + 0.5) * own[0] / size[0]
    columns = (torch.arange(size[1]) + 0.5) * own[1] / size[1]
    down = (found // own[1]).view(size) + 0.5 - rows[:, None]
    across = (found % own[1]).view(size) + 0.5 - columns
    farthest = torch.stack([down, across]).abs().max()
    assert reach_px < float(farthest) <= reach_px + 2 * search.TILE_PX
    nearest = nearest_nearby(wanted, size, prepared(known), own, 1e6, reach_px)
    better = _score(wanted, known, 1e6) < _score(wanted, known, 1e6).gather(1, nearest[:, None]) * (1 - 1e-3)
    places = torch.arange(len(known))
    close_down = ((places // own[1])[None] + 0.5 - rows.repeat_interleave(size[1])[:, None]).abs() <= reach_px - 1
    close_across = ((places % own[1])[None] + 0.5 - columns.repeat(size[0])[:, None]).abs() <= reach_px - 1
    assert not bool((better & close_down & close_across).any())


def test_a_search_nearby_in_parts_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _near((40, 40), (40, 40), reach_px=5)[0]
    monkeypatch.setattr(search, "PAIRS_AT_ONCE", 100_000)
    assert torch.equal(_near((40, 40), (40, 40), reach_px=5)[0], whole)
