"""Functions compiled for the CPU by Numba: when they are first called, which takes seconds, then kept on the disk.

They are kept until the file that they are in changes: whoever changes a constant of another that they use touches it.
Numba takes a third of a second to import, so modules with compiled functions are imported where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["exact", "summing"]

Function = TypeVar("Function", bound=Callable[..., Any])


def exact(function: Function) -> Function:
    """Compiled, with floats as they are everywhere."""
    return _compiled(function)


def summing(function: Function) -> Function:
    """Compiled, with sums in whatever order is fastest."""
    return _compiled(function, fastmath={"contract", "reassoc", "nsz"})


def _compiled(function: Function, **options: Any) -> Function:
    try:
        return cast("Function", numba.njit(cache=True, nogil=True, **options)(function))
    except RuntimeError:  # no folder can be written to: compiled anew in each process
        return cast("Function", numba.njit(nogil=True, **options)(function))
