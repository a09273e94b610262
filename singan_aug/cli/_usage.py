"""Wrong usage in one line, with what was probably meant, under the help of which command more is told."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from singan_aug.display import complain

__all__ = ["USAGE", "OneLineUsage", "interrupted_code"]

USAGE, INTERRUPTED, TERMINATED = 2, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def interrupted_code(error: BaseException) -> int:
    """The exit code of a command that was ended by Ctrl-C or SIGTERM."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


@contextmanager
def _terminable() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class OneLineUsage(TyperGroup):
    """A group of commands whose errors of usage are one line and exit code 2."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run it; whatever the parser says against the arguments is one line."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        if not standalone_mode:
            return run()
        _name_old_names(sys.argv[1:] if args is None else args)
        try:
            with _terminable():
                code = run()
        except (typer.Abort, KeyboardInterrupt) as error:
            complain("interrupted")
            code = interrupted_code(error.__cause__ or error)
        except Exception as error:
            if not hasattr(error, "format_message"):  # the parser's errors have no base that every typer exports
                raise
            complain(_explained(error))
            code = getattr(error, "exit_code", USAGE)
        sys.exit(code if isinstance(code, int) else 0)


def _name_old_names(args: Sequence[str]) -> None:
    """One line for each name of before 0.1 that is still in use."""
    if any(each.split("=")[0] == "--cache" for each in args):
        complain("--cache is called --store now")
    if os.environ.get("SINGAN_AUG_CACHE") and not os.environ.get("SINGAN_AUG_STORE"):
        complain("$SINGAN_AUG_CACHE is called $SINGAN_AUG_STORE now")


EXPECTED = {  # by pydantic's word for what is wrong; the rest is told in its words
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}


def _explained(error: Any) -> str:
    message = _of_a_value(error) or str(error.format_message()).rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "singan-aug"
    return f"{message}: see `{command} --help`"


def _of_a_value(error: Any) -> str | None:
    """Argument, expectation and value, where the parser refused a value; it would not repeat the value itself."""
    parameter, details = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if parameter is None or details is None:
        return None
    first = details(include_url=False)[0]
    name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.make_metavar(error.ctx)
    expected = EXPECTED.get(first["type"])
    if expected is None:
        said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        _, listed, choices = said.partition(" is not one of ")
        expected = f"one of {choices}".replace("'", "") if listed else said
    return f"expected {name} to be {expected.format(**first.get('ctx', {}))}, got {first['input']!r}"
