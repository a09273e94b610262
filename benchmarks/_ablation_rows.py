"""Rows of the result of `benchmarks.ablation`, out of its cells."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks._result import Row

__all__ = ["rows_of"]


def rows_of(cells: Sequence[Row]) -> list[Row]:
    """One for each question and arm."""
    return [{"what": "cells", "count": len(cells)}]
