"""Options are called the same in every transform, in Python and on the command line.

Transforms are read, not imported: their hosts may be absent.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import singan_aug
from singan_aug import tasks
from singan_aug.advise import advise, try_out
from singan_aug.bank import BackgroundBank, draw_bank, plan_bank
from singan_aug.cli import app
from singan_aug.dataset import fit_dataset, plan_dataset
from singan_aug.export import export_dataset
from singan_aug.preview import make_preview
from singan_aug.pyramid import draw, trace
from singan_aug.report import make_report
from singan_aug.transforms._source import Settings

FOLDER = Path(singan_aug.__file__).parent / "transforms"
OF_THE_FRAMEWORK = {  # beside ours: what only that framework has
    "kornia": {"same_on_batch", "keepdim"},
    "monai": {"keys", "mask_keys", "allow_missing_keys"},
    "detectron2": {"recompute_boxes"},
}
DEFAULTS = {field.name: repr(field.default) for field in fields(Settings)}


def _options(path: Path) -> dict[str, dict[str, str | None]]:
    """Of each SinGANAugment in a module: the arguments of its __init__, and their defaults as they are spelled."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name.startswith("SinGANAugment"):
            (init,) = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
            named = init.args.args[1:]
            given: list[ast.expr | None] = [None] * (len(named) - len(init.args.defaults)) + list(init.args.defaults)
            pairs = [*zip(named, given, strict=True), *zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)]
            found[node.name] = {arg.arg: None if value is None else ast.unparse(value) for arg, value in pairs}
    return found


MODULES = [path for path in sorted(FOLDER.glob("[a-z]*.py")) if _options(path)]


def test_transforms_are_found() -> None:
    assert {"torchvision", "albumentations", "kornia", "monai", "detectron2"} <= {path.stem for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_options_have_the_same_names_and_defaults(path: Path) -> None:
    for options in _options(path).values():
        ours = {name: default for name, default in options.items() if name in DEFAULTS}
        assert ours == {name: DEFAULTS[name] for name in ours}
        assert set(options) - set(ours) <= OF_THE_FRAMEWORK.get(path.stem, set())
        assert {"start_scale", "strength", "p", "store", "config", "on_miss", "device"} <= set(ours)


# What each command does in Python.
COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "fit": (fit_dataset,),
    "draw": (draw,),
    "bank": (draw_bank,),
    "export": (export_dataset,),
    "preview": (make_preview,),
    "report": (make_report,),
    "advise": (advise, try_out),
    "animate": (tasks.animate, tasks.save_clip),
    **{name: (getattr(tasks, name),) for name in ("edit", "harmonize", "inpaint", "paint", "sample")},
}
HOW_IT_TALKS = {"help", "json", "log-json", "quiet", "yes", "parent"}
AS_ONE_VALUE = {"preset", "max-size"}  # of `config=`
ELSE_OF_THE_COMMAND_LINE = {
    "dry-run",  # `plan_dataset`, `plan_bank`
    "rm",  # `remove_bank`
    "train",  # `try_out`
    "table",  # a method of what `make_report` returns
    *("out", "force"),  # where Python returns a value
}
OF_ONE_COMMAND = {
    "fit": {
        "seed",
        "representatives",
        "class-balance",
        "embeddings",
        "budget",
    },  # of `config=`, `choose=`, `budget_sec=`
    "draw": {"confine", "confine-margin-px"},  # of a `Confinement`, for `draw_confined`
}
OF_PYTHON = {
    *("config", "drop"),  # --preset, --yes
    *("paths", "path", "image", "pyramid"),  # arguments
    *("on_event", "on_entry", "say"),  # what a command line shows
    *("batch_images", "apart", "epochs", "loop"),  # settled there
    *("choose", "budget_sec"),  # --representatives, --class-balance, --embeddings, --budget
}


def _command_line(name: str) -> dict[str, Any]:
    """The options and arguments of a command: their parameters, by the longest name."""
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    return {max(each.opts, key=len).lstrip("-"): each for each in command.params}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_says_it_as_python_does(name: str) -> None:
    options = {option for option, each in _command_line(name).items() if each.param_type_name == "option"}
    named = {parameter.replace("_", "-") for each in COMMANDS[name] for parameter in inspect.signature(each).parameters}
    of_a_pyramid = {"store", "fit"} if "pyramid" in named else set()  # a command finds it in a store, or fits it
    assert options & named
    alone = HOW_IT_TALKS | AS_ONE_VALUE | ELSE_OF_THE_COMMAND_LINE | OF_ONE_COMMAND.get(name, set()) | of_a_pyramid
    assert options - named <= alone


@pytest.mark.parametrize("name", COMMANDS)
def test_what_python_takes_the_command_line_takes(name: str) -> None:
    options = {option.replace("-", "_") for option in _command_line(name)}
    given = {parameter for each in COMMANDS[name] for parameter in inspect.signature(each).parameters}
    assert given - options <= OF_PYTHON


@pytest.mark.parametrize("function", [draw, trace, draw_bank, plan_bank, BackgroundBank, export_dataset, make_preview])
def test_a_start_scale_is_called_so_and_no_option_has_a_second_name(function: Callable[..., Any]) -> None:
    parameters = set(inspect.signature(function).parameters)
    assert "start_scale" in parameters
    assert not parameters & {"n", "count", "number", "start_scales", "scale", "cache", "location", "n_variants"}


@pytest.mark.parametrize("function", [fit_dataset, plan_dataset, draw_bank, plan_bank, export_dataset, make_report])
def test_a_store_is_a_store_a_folder_or_the_default(function: Callable[..., Any]) -> None:
    parameter = inspect.signature(function).parameters["store"]
    assert (parameter.annotation, parameter.default) == ("Store | Path | str | None", None)


def test_commands_share_names_and_short_names() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name in set(commands) - {"study"}:
        for each in commands[name].params:
            assert not {"--cache", "--count"} & set(each.opts)
            long = [option for option in each.opts if option.startswith("--")]
            assert len(long) == (each.param_type_name == "option")  # one name, and a letter perhaps
            if "-n" in each.opts:
                assert long == ["--variants"]
