"""What the documents say runs, and they name nothing that only one machine has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_photo

ROOT = Path(__file__).parents[1]
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()]
SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "singan-aug-demo", "variants"}
RUN_HERE = [path for path in DOCUMENTS if path.parent.name != "hosts"]  # those are run by tests/hosts/test_recipes.py
HOME = re.compile(r"(?<![\w.~}-])/(?:root|work)/|(?<![\w.])/(?:home|Users)/\w")


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _blocks(text: str) -> list[str]:
    """The blocks fenced exactly ```python; "```python no-run" is for what needs the reader's own data."""
    return re.findall(r"^```python[ \t]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_readme_has_a_block_that_runs() -> None:
    if not (ROOT / "README.md").is_file():
        pytest.skip("README.md is not written yet")
    assert _blocks((ROOT / "README.md").read_text())


def _needed(text: str) -> list[str]:
    """The libraries that a page says it needs, in a comment at its top."""
    named = re.match(r"<!-- needs: (.*?) -->", text)
    return named[1].split() if named else []


@pytest.fixture
def a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """photos/CLASS/NAME.png, and a store of its own."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = make_photo(40, 56, seed=100 * (name == "dog") + i)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SINGAN_AUG_STORE", str(tmp_path / "store"))


@pytest.mark.usefixtures("a_users_folder")
@pytest.mark.filterwarnings("default")  # the other libraries' own
@pytest.mark.filterwarnings("error::singan_aug.errors.UnchangedWarning")
@pytest.mark.parametrize("path", [path for path in RUN_HERE if _blocks(path.read_text())], ids=_ids)
def test_python_blocks_run(path: Path) -> None:
    for library in _needed(path.read_text()):
        if find_spec(library) is None:
            pytest.skip(f"needs {library}")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in _blocks(path.read_text()):
        exec(compile(block, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_ids)
def test_every_python_block_is_python(path: Path) -> None:
    for block in re.findall(r"^```python[^\n]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        compile(block, str(path), "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=_ids)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


def _is_ours(folder: Path) -> bool:
    name = folder.name
    if name.startswith(".") or name in SKIPPED_FOLDERS or name.endswith(".egg-info"):
        return name == ".ci"
    return not (folder / "pyvenv.cfg").exists()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if _is_ours(path):
                yield from _files(path)
        elif not path.name.startswith(".") and path != Path(__file__):
            yield path


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = []
    for path in _files(ROOT):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture, or weights
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in HOME.finditer(text)]
    assert found == []
