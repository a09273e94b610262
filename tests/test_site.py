"""The documentation site: its reference has every public name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import singan_aug

PACKAGE = Path(singan_aug.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"
API = "\n".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md")))
DOCUMENTED = re.findall(r"^\.\. automodule:: singan_aug\.?(\S*)", API, re.MULTILINE)
INTERNAL = {  # no underscore, since rooms beside them use them; not promised (docs/stability.md)
    *(
        "__main__",
        "annotations",
        "cli",
        "clusters",
        "compiled",
        "demo",
        "display",
        "estimate",
        "images",
        "photos",
        "trial",
    ),
    *("transforms", "web", "workers"),
}


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _exported(module: str) -> list[str]:
    """Its `__all__`. It is read, not imported: a transform's host may be absent."""
    for node in ast.parse(_file(module).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def test_each_module_is_in_the_reference_or_internal() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    public = {room for room in rooms - INTERNAL if room.startswith("__init__") or not room.startswith("_")}
    adapters = {f"transforms.{path.stem}" for path in (PACKAGE / "transforms").glob("[a-z]*.py")}
    missing = ({"" if room == "__init__" else room for room in public} | adapters) - set(DOCUMENTED)
    assert missing == set()
    assert len(DOCUMENTED) == len(set(DOCUMENTED))


def test_the_reference_has_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("myst_nb", reason="no Sphinx with MyST-NB is installed: pip install .[docs]")
    from sphinx.util.inventory import InventoryFile

    # In another process: autodoc rewrites the signatures of what it documents.
    only = ["include_patterns=api/*", "root_doc=api/index", "nb_execution_mode=off", "html_theme=basic"]
    settings = [each for setting in only for each in ("-D", setting)]
    command = [sys.executable, "-m", "sphinx", "-q", *settings, str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    found = InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="")
    names = {name for domain, each in found.data.items() if domain.startswith("py:") for name in each}
    once = {"singan_aug.transforms.albumentations_paste.Cutout"}  # stands beside torchvision's, which is the same
    missing = set()
    for module in DOCUMENTED:
        for name in _exported(module):
            whole = ".".join(part for part in ("singan_aug", module, name) if part)
            if not {whole, f"singan_aug.{name}"} & names:
                missing.add(whole)
    assert missing - once == {"singan_aug.__version__"}
