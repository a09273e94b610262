from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import singan_aug

ROOT = Path(singan_aug.__file__).parents[1]


LAZY = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in sorted((ROOT / "singan_aug").rglob("__init__.py"))
    if "lazy_loader.attach(" in path.read_text()
]


def _run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def test_all_is_sorted() -> None:
    assert singan_aug.__all__ == sorted(singan_aug.__all__)


@pytest.mark.parametrize("name", singan_aug.__all__)
def test_each_public_name_is_importable(name: str) -> None:
    assert getattr(singan_aug, name) is not None


def test_a_name_is_the_same_object_each_time() -> None:
    assert singan_aug.fit is singan_aug.fit


@pytest.mark.parametrize("room", LAZY)
def test_dir_lists_the_public_names(room: str) -> None:
    module = importlib.import_module(room)
    assert set(module.__all__) - {"__version__"} <= set(dir(module))


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="fitt"):
        singan_aug.fitt  # noqa: B018


def test_importing_loads_no_framework() -> None:
    found = _run(
        "import singan_aug, sys\n"
        "print(*[name for name in ('torch', 'torchvision', 'albumentations') if name in sys.modules])"
    )
    assert found == ""


def test_a_config_needs_no_framework() -> None:
    found = _run(
        "import singan_aug, sys\nsingan_aug.fast().digest()\n"
        "print(*[name for name in ('torch', 'torchvision', 'albumentations') if name in sys.modules])"
    )
    assert found == ""


def test_fitting_and_drawing_load_no_transform_library() -> None:
    found = _run(
        "import singan_aug, sys\nsingan_aug.fit, singan_aug.draw\n"
        "print(*[name for name in ('torchvision', 'albumentations') if name in sys.modules])"
    )
    assert found == ""


def test_without_albumentations_its_adapter_says_what_to_install() -> None:
    found = _run(
        "import sys\nsys.modules['albumentations'] = None\n"
        "try:\n    import singan_aug.transforms.albumentations\n"
        "except ImportError as error:\n    print(error)"
    )
    assert 'needs albumentations: pip install "singan-aug[albumentations]"' in found


def test_the_version_has_three_numbers() -> None:
    assert len([int(part) for part in singan_aug.__version__.split(".")]) == 3


def test_the_citation_names_this_version() -> None:
    path = ROOT / "CITATION.cff"
    if not path.is_file():
        pytest.skip("an installed package has none")
    assert f"\nversion: {singan_aug.__version__}\n" in path.read_text()
