"""The benchmark of topology: its figures by hand on drawn structures."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.topology import cl_dice, topology
from singan_aug.fitting import fit
from singan_aug.images import Pixels
from singan_aug.presets import fast, learned, smooth
from singan_aug.pyramid import trace
from singan_aug.pyramid.sizes import DEFAULT_START
from tests.conftest import make_photo


def _cross() -> np.ndarray:
    """Two walls, three pixels wide, that part a square of 31 px into four."""
    mask = np.zeros((31, 31), dtype=bool)
    mask[14:17] = mask[:, 14:17] = True
    return mask


def test_a_cut_wall_opens_a_hole_and_leaves_loose_ends() -> None:
    whole = _cross()
    cut = whole.copy()
    cut[14:17, 22:26] = False
    assert topology(whole) == {"parts": 1, "holes": 4, "ends": 4}
    assert topology(cut) == {"parts": 2, "holes": 3, "ends": 6}


def test_specks_are_no_parts() -> None:
    speckled = _cross()
    speckled[3:5, 3:5] = True
    assert topology(speckled)["parts"] == 1


def test_cl_dice_is_one_for_itself_and_none_for_what_lies_elsewhere() -> None:
    whole = _cross()
    wider = np.pad(whole, 1)[:-2, 1:-1] | whole  # a pixel thicker: the skeletons still lie inside
    assert cl_dice(whole, whole) == pytest.approx(1)
    assert cl_dice(wider, whole) == pytest.approx(1)
    half = whole.copy()
    half[14:17, 17:] = False
    assert 0.8 < cl_dice(half, whole) < 0.95
    assert cl_dice(np.roll(whole, 8, (0, 1)), whole) < 0.3


def _membranes(side: int = 160, cells: int = 30) -> tuple[Pixels, np.ndarray]:
    """Cells around random points, with walls four pixels wide, and where these are."""
    points = np.random.default_rng(0).uniform(0, side, (cells, 2))
    rows, columns = np.mgrid[0:side, 0:side]
    apart = np.sort(np.hypot(rows[..., None] - points[:, 0], columns[..., None] - points[:, 1]), -1)
    walls = apart[..., 1] - apart[..., 0] < 4
    texture = make_photo(side, side, channels=1)[..., 0]
    return np.where(walls, 40 + texture // 8, 150 + texture // 4).astype(np.uint8), walls


@pytest.mark.parametrize(
    ("make", "least_cells", "least_cl_dice"),
    [(fast, 0.9, 0.7), (smooth, 0.95, 0.8), (partial(learned, steps_coarsest=2), 0.9, 0.7)],
    ids=["fast", "smooth", "learned"],
)
def test_the_default_start_keeps_thin_structures_whole(make: Any, least_cells: float, least_cl_dice: float) -> None:
    image, walls = _membranes()
    pyramid, source = fit(image, make(), mask=walls), topology(walls)
    found: dict[str, dict[str, float]] = {}
    for start in (DEFAULT_START, "coarse"):
        masks = trace(pyramid, 6, start, seed=1).masks
        assert masks is not None
        each = [{"cl_dice": cl_dice(bits, walls), **topology(bits)} for bits in masks.numpy() > 0]
        found[start] = {name: float(np.median([one[name] for one in each])) for name in each[0]}
    kept, broken = found[DEFAULT_START], found["coarse"]
    assert kept["parts"] == source["parts"]
    assert kept["holes"] >= least_cells * source["holes"] > broken["holes"]
    assert kept["cl_dice"] >= least_cl_dice > broken["cl_dice"]
