"""Whatever torch's default dtype and device are, fits, draws and carried labels are the same to the bit."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import singan_aug
from singan_aug import SinGANAugment
from singan_aug.config import FitConfig
from singan_aug.fitting import fit
from singan_aug.metrics import incoherence, patch_distance
from singan_aug.presets import best, fast, smooth
from singan_aug.pyramid import Pyramid, reconstruct, trace
from singan_aug.pyramid.edge import redraw_edge
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import make_photo, mixed, quick, quick_paper

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTO = make_photo(39, 53, seed=5)  # of a size that no other test has: what is kept for a size is made here
CLASSES = np.add.outer(np.arange(39) // 14, np.arange(53) // 20).astype(np.uint8)
BRIEF = {"steps_coarsest": 3, "steps_finer": 2}
CONFIGS: dict[str, Callable[[], FitConfig]] = {
    "fast": lambda: fast(coarsest_px=15),
    "best": lambda: best(coarsest_px=15),
    "smooth": lambda: smooth(coarsest_px=15),
    "learned": lambda: mixed(steps_coarsest=3),
    "learned by a distance": lambda: mixed(steps_coarsest=3, loss="sliced_wasserstein"),
    "all generated": lambda: quick(**BRIEF),
    "residual blocks": lambda: quick(**BRIEF, block="residual", width_doubles_every=1, width_max=16),
    **{
        f"{block} blocks, {loss}": lambda block=block, loss=loss: quick(**BRIEF, block=block, loss=loss)  # type: ignore[misc]
        for block, loss in (("highway", "hinge_spectral"), ("separable", "semi_dual"), ("conv", "non_saturating_r1"))
    },
    "paper": lambda: quick_paper(**BRIEF),
}


@contextmanager
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def _no_device() -> Iterator[None]:
    with torch.device("meta"):
        yield


@contextmanager
def _no_device_by_default() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


DEFAULTS = {"float64": _double, "a device": _no_device, "a default device": _no_device_by_default}


def _fitted_and_drawn(config: FitConfig) -> dict[str, Tensor]:
    pyramid = fit(PHOTO, config, mask=CLASSES if config.carries_masks else None)
    made = {**pyramid.tensors(), "memory": reconstruct(pyramid)}
    for start in range(len(pyramid)):
        traced = trace(pyramid, 2, start, seed=3)
        found = {"images": traced.images, "levels": traced.levels, "origins": traced.origins, "masks": traced.masks}
        made |= {f"{name} from {start}": each for name, each in found.items() if each is not None}
    made["another size"] = trace(pyramid, 1, 0, (31, 44), seed=4).images
    pasted = torch.from_numpy(CLASSES == 2)
    made["edge"] = redraw_edge(pyramid, reconstruct(pyramid) * 2 - 1, pasted, "fine")
    made["displacement"] = torch.from_numpy(np.array(pyramid.displacement_px))
    return made


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("defaults", DEFAULTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_they_decide_nothing(name: str, defaults: str) -> None:
    with DEFAULTS[defaults]():
        made = _fitted_and_drawn(CONFIGS[name]())
    _same(made, _fitted_and_drawn(CONFIGS[name]()))


@pytest.fixture(scope="module")
def pyramids() -> dict[str, Pyramid]:
    return {name: fit(PHOTO, CONFIGS[name](), mask=CLASSES) for name in ("fast", "learned")}


@pytest.mark.parametrize("defaults", DEFAULTS)
@pytest.mark.parametrize("name", ["fast", "learned"])
def test_they_decide_nothing_of_a_transform(
    name: str, defaults: str, pyramids: dict[str, Pyramid], tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path)
    store.save(make_key(PHOTO, CONFIGS[name]()), pyramids[name])
    image, mask = tv_tensors.Image(torch.from_numpy(PHOTO.copy()).movedim(-1, 0)), tv_tensors.Mask(CLASSES)
    points = tv_tensors.KeyPoints(torch.from_numpy(np.array([[3.0, 4.0], [40.0, 30.0]])), canvas_size=(39, 53))

    def varied() -> dict[str, Tensor]:
        augment = SinGANAugment(0, p=1.0, store=str(tmp_path), seed=1)
        changed = augment(image, mask, points)
        alone = augment(image.as_subclass(Tensor).float() / 255)
        return {**dict(zip(("image", "mask", "points"), changed, strict=True)), "alone": alone}

    with DEFAULTS[defaults]():
        made = varied()
    _same(made, varied())


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_they_decide_no_measure(defaults: str) -> None:
    source = torch.from_numpy(PHOTO.copy()).movedim(-1, 0)[None].float() / 255
    with DEFAULTS[defaults]():
        made = {"incoherence": incoherence(source, source.flip(-1)), "patches": patch_distance(source, source.flip(2))}
    _same(
        made, {"incoherence": incoherence(source, source.flip(-1)), "patches": patch_distance(source, source.flip(2))}
    )


MAKERS = {
    "arange",
    "empty",
    "eye",
    "full",
    "linspace",
    "ones",
    "rand",
    "randint",
    "randn",
    "randperm",
    "tensor",
    "zeros",
}
WHOLE = {"arange", "randint", "randperm"}  # of integers, unless told otherwise
OWN_NETWORKS = "trial"  # whose training takes torch's defaults for all it makes


def test_every_tensor_is_made_on_a_device_and_of_a_dtype_that_is_named() -> None:
    found = []
    folder = Path(singan_aug.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls if path.parent.name != OWN_NETWORKS else []:
            maker = ast.unparse(call.func).removeprefix("torch.")
            if f"torch.{maker}" == ast.unparse(call.func) and maker in MAKERS:
                needed = {"device"} if maker in WHOLE else {"device", "dtype"}
                if not needed <= {keyword.arg for keyword in call.keywords}:
                    found.append(f"{path.relative_to(folder)}:{call.lineno}: {ast.unparse(call)}")
    assert not found
