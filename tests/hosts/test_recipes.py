"""The pages in docs/hosts, pasted as they stand: their shell and Python blocks, in order, on a small user's folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from singan_aug import fit_dataset
from tests.conftest import make_photo
from tests.hosts.conftest import labelled_photo

PAGES = sorted((Path(__file__).parents[2] / "docs" / "hosts").glob("*.md"))
pytestmark = pytest.mark.filterwarnings("default")  # the hosts' own


def _blocks(text: str, extra: str = "") -> list[tuple[str, str]]:
    found = re.findall(rf"^```(python|sh){extra}[ \t]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found]


@pytest.fixture
def a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/CLASS/NAME.png; data/images and data/masks; yolo/ with polygons; and a store of its own."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = make_photo(48, 64, seed=100 * (name == "dog") + i)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    for folder in (
        "data/images",
        "data/masks",
        *(f"yolo/{a}/{b}" for a in ("images", "labels") for b in ("train", "val")),
    ):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(8):
        pixels, mask = labelled_photo(i)
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{i}.png")
        part = "train" if i < 6 else "val"
        Image.fromarray(pixels).save(tmp_path / "yolo" / "images" / part / f"{i}.png")
        lines = [_yolo_line(number, mask == number + 1) for number in range(2)]
        (tmp_path / "yolo" / "labels" / part / f"{i}.txt").write_text("\n".join(lines))
    (tmp_path / "yolo" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [one, two]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SINGAN_AUG_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


def _yolo_line(category: int, outline: np.ndarray[Any, Any]) -> str:
    (height, width), (rows, columns) = outline.shape, np.nonzero(outline)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return " ".join([str(category), *(f"{x / width:.6f} {y / height:.6f}" for x, y in corners)])


def _run_shell(block: str) -> None:
    program = f'singan-aug() {{ "{sys.executable}" -m singan_aug "$@"; }}\n'
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", program + block]
    ran = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]


@pytest.mark.usefixtures("a_users_folder")
@pytest.mark.parametrize("path", [path for path in PAGES if _blocks(path.read_text())], ids=lambda path: path.stem)
def test_the_recipe_runs(path: Path) -> None:
    text = path.read_text()
    needed = re.match(r"<!-- needs: (.*?) -->", text)
    for library in needed[1].split() if needed else []:
        if find_spec(library) is None:
            pytest.skip(f"needs {library}")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, block in _blocks(text):
        if language == "sh":
            _run_shell(block)
        else:
            exec(compile(block, str(path), "exec"), namespace)


def _preset_with_variants(number: int, name: str, original: type) -> Any:
    """A preset of torchvision's reference scripts, replaced as the page says."""
    text = (PAGES[0].parent / "torchvision-references.md").read_text()
    python = [block for language, block in _blocks(text, " no-run") if language == "python"]
    modules = {"presets": SimpleNamespace(**{name: original}), "train": SimpleNamespace()}
    block = re.sub(r"^import (presets|train)\n", "", python[number], flags=re.MULTILINE)
    namespace: dict[str, Any] = {"__name__": "train_singan", **modules}
    exec(block, namespace)
    return namespace


@pytest.mark.usefixtures("a_users_folder")
def test_a_classification_preset_of_torchvisions_scripts_gets_variants() -> None:
    class ClassificationPresetTrain:  # called with an image
        def __call__(self, img: Any) -> Any:
            return img

    fit_dataset(["photos"])
    namespace = _preset_with_variants(0, "ClassificationPresetTrain", ClassificationPresetTrain)
    preset = namespace["presets"].ClassificationPresetTrain()
    image = Image.open("photos/cat/0.png")
    outs = [preset(image) for _ in range(8)]
    assert namespace["variants"].stats()["drawn"] == sum(out is not image for out in outs)


@pytest.mark.usefixtures("a_users_folder")
def test_a_segmentation_preset_of_torchvisions_scripts_gets_variants_and_masks() -> None:
    from singan_aug import SinGANAugment

    class SegmentationPresetTrain:  # called with an image and its mask
        def __call__(self, img: Any, target: Any) -> Any:
            return img, target

    fit_dataset(["data/images"], masks="data/masks")
    namespace = _preset_with_variants(1, "SegmentationPresetTrain", SegmentationPresetTrain)
    namespace["variants"] = SinGANAugment("coarse", p=1.0)
    image, mask = Image.open("data/images/0.png"), Image.open("data/masks/0.png")
    drawn, carried = namespace["WithVariants"]()(image, mask)
    assert drawn.tobytes() != image.tobytes()
    assert (carried.mode, carried.size) == ("L", mask.size)
    assert set(np.unique(carried)) <= {0, 1, 2}
    assert carried.tobytes() != mask.tobytes()
