"""Functions compiled by Numba."""

from __future__ import annotations

import pytest
from numba.core import caching

from singan_aug.compiled import exact


def test_where_nothing_can_be_kept_functions_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert exact(_twice)(21) == 42


def _twice(number: int) -> int:
    return 2 * number
