"""Functions compiled for the CPU by Numba: when they are first called, which takes seconds, then kept on the disk.

They are kept until the file that they are in changes: whoever changes a constant of another that they use touches it.
Numba takes a third of a second to import, so modules with compiled functions are imported where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

__all__ = ["exact", "summing"]

Function = TypeVar("Function", bound=Callable[..., Any])


def exact(function: Function) -> Function:
    """Compiled, with floats as they are everywhere."""
    return _compiled(function)


def summing(function: Function) -> Function:
    """Compiled, with sums in whatever order is fastest."""
    return _compiled(function, fastmath={"contract", "reassoc", "nsz"})


def _compiled(function: Function, **options: Any) -> Function:
    compiled = numba.njit(nogil=True, **options)(function)
    with suppress(RuntimeError):  # no folder can be written to: compiled anew in each process
        compiled._cache = _Kept(function)  # type: ignore[no-untyped-call]
    return cast("Function", compiled)


class _Kept(FunctionCache):
    """Numba's files of one function. Those that are cut short or damaged are compiled anew, instead of an error.

    Numba itself hands on whatever unpickling raises.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # a damaged pickle raises anything
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # a full disk: it works all the same, in this process
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
