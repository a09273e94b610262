"""Options are called the same in every transform, in Python and on the command line.

Transforms are read, not imported: their hosts may be absent.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
from typer.main import get_command

import singan_aug
from singan_aug import tasks
from singan_aug.advise import advise, try_out
from singan_aug.bank import BackgroundBank, draw_bank, plan_bank
from singan_aug.cli import app
from singan_aug.dataset import Choice, fit_dataset, plan_dataset
from singan_aug.errors import SinGANAugError
from singan_aug.export import export_dataset
from singan_aug.preview import make_preview
from singan_aug.pyramid import draw, trace
from singan_aug.pyramid.sizes import read_start_scale
from singan_aug.report import make_report
from singan_aug.store import open_store
from singan_aug.transforms._source import Settings, VariantSource

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
    "interpolate": (tasks.interpolate, tasks.save_clip),
    "super-resolution": (tasks.super_resolution,),
    **{name: (getattr(tasks, name),) for name in ("edit", "harmonize", "inpaint", "paint", "sample", "style")},
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
        "seed",  # of `config=`
        *(field.name.replace("_", "-") for field in fields(Choice)),  # of `choose=`
        "budget",  # `budget_sec=`
    },
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


ELSE_BY_DEFAULT = {  # on the command line `draw` shows what training gets; None: what Python says by another word
    ("draw", "variants"),
    ("draw", "start_scale"),
    ("export", "start_scale"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_the_same(name: str) -> None:
    given = {option.replace("-", "_"): each.default for option, each in _command_line(name).items()}
    for each in COMMANDS[name]:
        for parameter, said in inspect.signature(each).parameters.items():
            if said.default is said.empty or parameter not in given or (name, parameter) in ELSE_BY_DEFAULT:
                continue
            option = None if given[parameter] == "none" else given[parameter]
            if parameter == "start_scale" and option is not None:
                option = read_start_scale({"coarse": "0"}.get(option, option))
            assert option == said.default, parameter


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("p", 2.0), ("strength", 11.0), ("on_miss", "skip"), ("labels", "drop"), ("confine", "object")),
        *(("confine_margin_px", -3.0), ("seed", -1), ("device", "gpu"), ("start_scale", "finest")),
    ],
)
def test_an_error_names_argument_expectation_and_value(name: str, value: Any) -> None:
    with pytest.raises(SinGANAugError) as caught:
        VariantSource(Settings(**{name: value}))
    said = str(caught.value)
    assert "expected" in said
    assert name.removeprefix("confine_") in said.replace(" ", "_")
    assert repr(value) in said


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["draw", "x", "--seed", "abc"], "--seed to be a whole number, got 'abc'"),
        (["draw", "x", "--seed", "-1"], "--seed to be 0 or more, got '-1'"),
        (["fit", ".", "--jobs", "0"], "--jobs to be 1 or more, got '0'"),
        (["animate", "x", "--fps", "zero"], "--fps to be a number, got 'zero'"),
        (["super-resolution", "x", "--factor", "99"], "--factor to be 16.0 or less, got '99'"),
        (["draw", "x", "--confine", "all"], "--confine to be one of none, mask, background, got 'all'"),
    ],
)
def test_the_parser_names_option_expectation_and_value(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        app(arguments)
    assert caught.value.code == 2
    assert f"expected {expected}: see `" in capsys.readouterr().err


def test_a_path_alone_is_one_path(tmp_path: Path) -> None:
    """Letter by letter it would be the whole disk, and be fitted."""
    (tmp_path / "0.png").write_bytes(b"no image")
    for paths in (str(tmp_path), tmp_path, [tmp_path]):
        assert [each.path for each in plan_dataset(paths, tmp_path / "store").known] == [tmp_path / "0.png"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda folder: fit_dataset([folder], folder / "store", jobs=0), "jobs to be a whole number of at least 1"),
        (lambda folder: fit_dataset([folder], folder / "store", limit=0), "limit to be a whole number of at least 1"),
        (lambda folder: fit_dataset([folder], folder / "store", wait_sec=-1), "wait_sec to be a number of at least 0"),
        (lambda folder: fit_dataset([folder], folder / "store", backend="slurm"), "backend to be dask or ray"),
        (lambda folder: fit_dataset([folder], folder / "store", cast(Any, "fast")), "config to be a FitConfig"),
        (lambda folder: export_dataset(folder, folder / "out", jobs=0), "jobs to be a whole number of at least 1"),
        (lambda folder: export_dataset(folder, folder / "out", seed=-1), "seed to be a whole number from 0 to"),
        (lambda folder: draw_bank(folder, variants=0), "variants to be a whole number from 1 to 10,000"),
        (lambda folder: make_report(folder, limit=0), "limit to be a whole number of at least 1"),
        (lambda folder: make_preview(folder, p=3), "p in 0..1"),
        (lambda folder: open_store(cast(Any, 5)), "store to be a folder"),
        (lambda folder: Choice(representatives=0), "representatives to be a whole number of at least 1"),
    ],
)
def test_python_names_argument_and_expectation(call: Callable[[Path], Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(SinGANAugError, match=f"expected {expected}.*got"):
        call(tmp_path)
