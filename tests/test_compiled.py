"""Functions compiled by Numba."""

from __future__ import annotations

from pathlib import Path

import pytest
from numba.core import caching
from numba.core import config as numba_config

from singan_aug.compiled import exact


def test_where_nothing_can_be_kept_functions_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert exact(_twice)(21) == 42


@pytest.mark.parametrize("kept", [0, 1, 40])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_file_is_compiled_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, kept: int
) -> None:
    monkeypatch.setattr(numba_config, "CACHE_DIR", str(tmp_path))
    assert exact(_twice)(21) == 42
    (damaged,) = tmp_path.rglob(f"*.{suffix}")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:kept])
    assert exact(_twice)(21) == 42
    assert any(len(path.read_bytes()) > kept for path in tmp_path.rglob(f"*.{suffix}"))  # and kept again


def _twice(number: int) -> int:
    return 2 * number
