"""The benchmark of topology: its figures by hand on drawn structures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.topology import cl_dice, topology


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
