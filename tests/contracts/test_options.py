"""Every transform has the same options and defaults. Modules are read, not imported: their hosts may be absent."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import singan_aug
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
