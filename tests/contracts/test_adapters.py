"""What every adapter promises, whatever its framework. To add one: a line in ADAPTERS."""

from __future__ import annotations

import copy
import importlib
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

import singan_aug.fitting
from singan_aug.config import FitConfig
from singan_aug.errors import (
    ConfigError,
    ImageError,
    LabelError,
    MissingPyramidError,
    SinGANAugError,
    StartScaleError,
    UnchangedWarning,
)
from singan_aug.fitting import fit
from singan_aug.images import Pixels, to_pixels, turn_pixels
from singan_aug.presets import fast
from singan_aug.pyramid import Pyramid, draw
from singan_aug.pyramid.noise import derive_seed
from singan_aug.store import DirectoryStore, fingerprint, make_key
from singan_aug.transforms.torchvision_paste import SinGANPaste, cut_out
from tests.conftest import make_photo, quick

TINY = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
SIZE = (26, 34)
RGB = make_photo(*SIZE)
RGBA = make_photo(*SIZE, channels=4)
GREY = make_photo(*SIZE, channels=1, seed=1)
LARGE = make_photo(52, 68, seed=2)  # above TINY's finest_px, so its pyramid is smaller than it
UNKNOWN = make_photo(*SIZE, seed=99)


def _chw(pixels: Pixels) -> torch.Tensor:
    return torch.tensor(pixels.transpose(2, 0, 1).copy())


def _float(pixels: Pixels, dtype: torch.dtype) -> torch.Tensor:
    return (_chw(pixels).double() / 255).to(dtype)


def _pil(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def _with_alpha() -> Image.Image:
    image = _pil(GREY)
    image.putalpha(_pil(RGBA[..., 3:]))
    return image


IMAGES: dict[str, Callable[[], Any]] = {
    "PIL L": lambda: _pil(GREY),
    "PIL RGB": lambda: _pil(RGB),
    "PIL RGBA": lambda: _pil(RGBA),
    "PIL LA": _with_alpha,
    "PIL RGBa": lambda: _pil(RGBA).convert("RGBa"),
    "PIL La": lambda: _with_alpha().convert("La"),
    "PIL 1": lambda: _pil(GREY).convert("1"),
    "PIL P": lambda: _pil(RGB).quantize(64),
    "PIL CMYK": lambda: _pil(RGB).convert("CMYK"),
    "PIL I;16": lambda: Image.fromarray(GREY.squeeze(-1).astype(np.uint16) * 257),
    "PIL I": lambda: Image.fromarray(GREY.squeeze(-1).astype(np.int32) * 257),
    "PIL F": lambda: Image.fromarray(GREY.squeeze(-1).astype(np.float32) / 255),
    "PIL RGB, equal channels": lambda: _pil(GREY).convert("RGB"),
    "PIL larger than its pyramid": lambda: _pil(LARGE),
    "uint8 tensor": lambda: _chw(RGB),
    "uint8 grey tensor": lambda: _chw(GREY),
    "uint8 tensor without channels": lambda: _chw(GREY)[0],
    "uint8 tensor of four channels": lambda: _chw(RGBA),
    "float16 tensor": lambda: _float(RGB, torch.float16),
    "float32 tensor": lambda: _float(RGB, torch.float32),
    "float64 tensor": lambda: _float(RGB, torch.float64),
    "float32 tensor without channels": lambda: _float(GREY, torch.float32)[0],
    "float32 grey tensor": lambda: _float(GREY, torch.float32),
    "uint8 tv_tensors.Image": lambda: tv_tensors.Image(_chw(RGB)),
    "float32 tv_tensors.Image": lambda: tv_tensors.Image(_float(RGB, torch.float32)),
    "strided tensor": lambda: torch.tensor(RGB.copy()).permute(2, 0, 1),
}
CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)


@dataclass(frozen=True)
class Adapter:
    """How the contract talks to one framework."""

    library: str  # that it is for; where that is absent, its tests are skipped
    images: tuple[str, ...]  # the names out of IMAGES that it takes
    reseed: Callable[[Any, int], object]  # (transform, seed): the generator that its users seed
    call: Callable[[Any, Any], Any]  # (transform, image) -> image
    replay: Callable[[Any, Any, int], Any]  # (transform, image, seed of the draw) -> image

    def make(self, start_scale: Any = 0, **kwargs: Any) -> Any:
        module = importlib.import_module(f"singan_aug.transforms.{self.library}")
        return module.SinGANAugment(start_scale, p=1.0, **kwargs)


def _through_array(run: Callable[[Any], Any], image: Any) -> Any:
    """An image of this contract as an array, through `run`, and back; the very image if `run` gives the very array."""
    if isinstance(image, Image.Image):
        array = np.array(image)
        out = run(array)
        return image if out is array else Image.fromarray(out)
    array = np.ascontiguousarray(image.movedim(0, -1).cpu().numpy())
    out = run(array)
    return image if out is array else torch.from_numpy(out).movedim(-1, 0).to(image.device)


def _through_batch(run: Callable[[torch.Tensor], torch.Tensor], image: Any) -> Any:
    """An image of this contract as a batch of one float image, through `run`, and back."""
    if isinstance(image, torch.Tensor) and image.is_floating_point():
        return run(image[None])[0]
    batch = _float(to_pixels(image), torch.float32)[None].to(getattr(image, "device", "cpu"))
    out = run(batch)
    if torch.equal(out, batch):
        return image
    levels = (out[0] * 255).round().byte()
    return _pil(levels.movedim(0, -1).numpy()) if isinstance(image, Image.Image) else levels


ADAPTERS = {
    "torchvision": Adapter(
        library="torchvision",
        images=tuple(IMAGES),
        reseed=lambda transform, seed: torch.manual_seed(seed),
        call=lambda transform, image: transform(image),
        replay=lambda transform, image, seed: transform.transform(image, {"seed": seed}),
    ),
    "albumentations": Adapter(
        library="albumentations",
        images=(
            *("PIL L", "PIL RGB", "PIL RGBA", "PIL RGB, equal channels", "PIL larger than its pyramid"),
            *("uint8 tensor", "uint8 grey tensor", "uint8 tensor of four channels"),
            *("float32 tensor", "float64 tensor", "float32 grey tensor"),
        ),
        reseed=lambda transform, seed: transform.set_random_seed(seed),
        call=lambda transform, image: _through_array(lambda array: transform(image=array)["image"], image),
        replay=lambda transform, image, seed: _through_array(lambda array: transform.apply(array, seed=seed), image),
    ),
    "kornia": Adapter(
        library="kornia",
        images=("float16 tensor", "float32 tensor", "float64 tensor", "float32 grey tensor"),
        reseed=lambda transform, seed: torch.manual_seed(seed),
        call=lambda transform, image: _through_batch(transform, image),
        replay=lambda transform, image, seed: _through_batch(
            lambda batch: transform(batch, params={"seed": torch.tensor([seed])}), image
        ),
    ),
}


def _needs(adapter: Adapter) -> pytest.MarkDecorator:
    library = adapter.library
    return pytest.mark.skipif(find_spec(library) is None, reason=f'needs {library}: pip install ".[{library}]"')


CASES = [
    pytest.param(adapter, name, id=f"{key}: {name}", marks=_needs(adapter))
    for key, adapter in ADAPTERS.items()
    for name in adapter.images
]


@pytest.fixture(params=[pytest.param(adapter, id=key, marks=_needs(adapter)) for key, adapter in ADAPTERS.items()])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    found: Adapter = request.param
    return found


def _colour(image: Any) -> Pixels:
    pixels = to_pixels(image)[..., :3]
    return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a pyramid for each of IMAGES."""
    store = DirectoryStore(tmp_path_factory.mktemp("adapters") / "store")
    for make in IMAGES.values():
        pixels = _colour(make())
        key = make_key(pixels, TINY)
        if str(key) not in store:
            store.save(key, fit(pixels, TINY), name="photo.png")
    return store.location


def _stored(folder: str, image: Any) -> Pyramid:
    return DirectoryStore(folder).load(str(make_key(_colour(image), TINY)))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Image.Image):
        return bool(first.tobytes() == second.tobytes())
    return torch.equal(torch.as_tensor(first), torch.as_tensor(second))


def _seeded(adapter: Adapter, transform: Any, image: Any, seed: int) -> Any:
    adapter.reseed(transform, seed)
    return adapter.call(transform, image)


def _check_like(out: Any, image: Any) -> None:
    assert type(out) is type(image) or (isinstance(image, Image.Image) and isinstance(out, Image.Image))
    if isinstance(image, Image.Image):
        assert (out.mode, out.size) == (image.mode, image.size)
        assert out.getpalette() == image.getpalette()
    else:
        assert (out.dtype, out.shape, out.device) == (image.dtype, image.shape, image.device)
        if out.is_floating_point():
            assert 0 <= float(out.min()) <= float(out.max()) <= 1


# What comes out


@pytest.mark.parametrize(("adapter", "name"), CASES)
def test_an_image_comes_out_as_it_came_in_but_for_its_pixels(adapter: Adapter, name: str, folder: str) -> None:
    image, untouched = IMAGES[name](), IMAGES[name]()
    out = _seeded(adapter, adapter.make(store=folder), image, 1)
    _check_like(out, image)
    assert not _same(out, image)
    assert _same(image, untouched)


@pytest.mark.parametrize(("adapter", "name"), CASES)
def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(adapter: Adapter, name: str, folder: str) -> None:
    transform, image = adapter.make(store=folder), IMAGES[name]()
    first, again, other = (_seeded(adapter, transform, image, seed) for seed in (1, 1, 2))
    assert _same(first, again)
    assert not _same(first, other)
    assert not _same(adapter.call(transform, image), other)


@pytest.mark.parametrize("start_scale", [0, 1, 2, -1])
@pytest.mark.parametrize("name", ["PIL RGB", "PIL L", "uint8 tensor", "float32 tensor"])
def test_it_is_the_pure_draw_of_the_pyramid(adapter: Adapter, name: str, start_scale: int, folder: str) -> None:
    image = IMAGES[name]()
    (drawn,) = draw(_stored(folder, image), start_scale=start_scale, seed=2**62 + 11)
    out = adapter.replay(adapter.make(start_scale, store=folder), image, 2**62 + 11)
    if isinstance(out, torch.Tensor) and out.is_floating_point():
        assert torch.equal(out, drawn)
    else:
        assert np.array_equal(to_pixels(out), to_pixels((drawn * 255).round().byte()))


def test_start_scales_differ(adapter: Adapter, folder: str) -> None:
    outs = [adapter.replay(adapter.make(scale, store=folder), IMAGES["PIL RGB"](), 5) for scale in range(3)]
    assert not any(_same(first, second) for first, second in combinations(outs, 2))


@pytest.mark.parametrize("name", ["PIL RGBA", "PIL LA", "PIL RGBa", "PIL La"])
def test_transparency_is_kept(adapter: Adapter, name: str, folder: str) -> None:
    if name not in adapter.images:
        pytest.skip("an image that this framework does not have")
    image = IMAGES[name]()
    out = adapter.call(adapter.make(store=folder), image)
    alpha = image.getbands()[-1]
    assert _same(out.getchannel(alpha), image.getchannel(alpha))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("transform", ["SinGANAugment", "SinGANPaste"])
def test_what_a_file_says_beside_its_pixels_is_kept(transform: str, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    kept: dict[str, Any] = {"icc_profile": PROFILE} | ({} if suffix == "webp" else {"dpi": (300, 300)})
    _pil(RGB).save(tmp_path / f"a.{suffix}", **kept, exif=exif)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        pixels = to_pixels(image)
        DirectoryStore(tmp_path).save(make_key(pixels, TINY), fit(pixels, TINY))
        if transform == "SinGANAugment":
            out = _torchvision(0, store=tmp_path)(image)
        else:
            objects = cut_out(RGB, np.pad(np.ones((6, 8), np.uint8), ((4, 16), (10, 16))))
            out, _ = SinGANPaste(objects, store=tmp_path, p=1.0)(image, tv_tensors.Mask(torch.zeros(SIZE)))
        assert not _same(out, image)
        assert out.info == image.info
        assert kept.keys() <= out.info.keys()
        assert dict(out.getexif()) == dict(image.copy().getexif())  # of a TIFF not even its copy has any
        assert suffix == "tif" or out.getexif()[0x010E] == "a description"


def test_a_fourth_channel_is_kept(adapter: Adapter, folder: str) -> None:
    image = IMAGES["uint8 tensor of four channels"]()
    assert torch.equal(adapter.call(adapter.make(store=folder), image)[3], image[3])


def test_grey_in_three_channels_stays_grey(adapter: Adapter, folder: str) -> None:
    out = np.asarray(adapter.call(adapter.make(store=folder), IMAGES["PIL RGB, equal channels"]()))
    assert np.array_equal(out[..., 0], out[..., 1])
    assert np.array_equal(out[..., 0], out[..., 2])


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", ["uint8 tensor", "float32 tensor", "uint8 tv_tensors.Image"])
def test_the_device_is_kept_and_decides_no_pixel(adapter: Adapter, name: str, device: str, folder: str) -> None:
    transform, image = adapter.make(store=folder), IMAGES[name]()
    out = adapter.replay(transform, image.to(device), 3)
    assert out.device.type == device
    assert _same(out.cpu(), adapter.replay(transform, image, 3))


@pytest.mark.parametrize("code", range(8))
@pytest.mark.parametrize("grey", [False, True])
def test_a_flipped_or_turned_image_is_found_and_its_variant_turned_alike(
    adapter: Adapter, code: int, grey: bool, folder: str
) -> None:
    pixels, transform = GREY if grey else RGB, adapter.make(store=folder)
    upright = adapter.replay(transform, _chw(pixels), 4)
    turned = adapter.replay(transform, _chw(turn_pixels(pixels, code)), 4)
    assert np.array_equal(to_pixels(turned), turn_pixels(to_pixels(upright), code))


def test_global_generators_give_one_number_whatever_the_image(adapter: Adapter, folder: str) -> None:
    transform = adapter.make(store=folder)
    numpy_before, python_before = np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[index]
    after = []
    for name in ("PIL L", "PIL larger than its pyramid"):
        _seeded(adapter, transform, IMAGES[name](), 6)
        after.append(torch.get_rng_state())
    assert torch.equal(*after)
    assert np.random.get_state()[1].tobytes() == numpy_before  # type: ignore[index]
    assert random.getstate() == python_before


# Which pyramid


def test_a_miss_names_the_fingerprint_the_store_and_the_command(adapter: Adapter, folder: str) -> None:
    with pytest.raises(MissingPyramidError) as caught:
        adapter.call(adapter.make(store=folder), _pil(UNKNOWN))
    message = str(caught.value)
    assert fingerprint(UNKNOWN).digest in message
    assert folder in message
    assert f"singan-aug fit PATH --store {folder}" in message


def test_a_store_that_does_not_exist_is_a_miss_and_is_not_made(adapter: Adapter, tmp_path: Path) -> None:
    with pytest.raises(MissingPyramidError, match="none"):
        adapter.call(adapter.make(store=tmp_path / "none"), _pil(RGB))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "image", [_pil(UNKNOWN), _chw(UNKNOWN), tv_tensors.Image(_chw(UNKNOWN))], ids=["PIL", "tensor", "tv_tensors.Image"]
)
def test_on_miss_pass_leaves_the_very_object_counts_it_and_warns_once(
    adapter: Adapter, image: Any, folder: str
) -> None:
    transform = adapter.make(store=folder, on_miss="pass")
    with pytest.warns(UnchangedWarning, match="singan-aug fit"):
        assert adapter.call(transform, image) is image
    assert adapter.call(transform, image) is image
    assert transform.stats() == {"drawn": 0, "from the bank": 0, "left by p": 0, "no pyramid": 2}


def test_one_changed_value_is_a_miss(adapter: Adapter, folder: str) -> None:
    changed = RGB.copy()
    changed[3, 4, 1] ^= 1
    with pytest.raises(MissingPyramidError):
        adapter.call(adapter.make(store=folder), _pil(changed))


def test_the_default_store_is_the_environments(adapter: Adapter, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGAN_AUG_STORE", folder)
    image = _pil(RGB)
    assert _same(adapter.replay(adapter.make(1), image, 7), adapter.replay(adapter.make(1, store=folder), image, 7))


@pytest.fixture(scope="module")
def three_configs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, FitConfig]]:
    """One image fitted under three configs, a minute apart; keys sort in another order."""
    store = DirectoryStore(tmp_path_factory.mktemp("configs") / "store")
    configs = {"first": TINY.replace(seed=1), "last": TINY.replace(seed=2), "middle": TINY.replace(seed=3)}
    if str(make_key(RGB, configs["last"])) == max(str(make_key(RGB, config)) for config in configs.values()):
        configs["first"], configs["last"] = configs["last"], configs["first"]
    with pytest.MonkeyPatch.context() as patch:
        for minute, name in enumerate(("first", "middle", "last")):
            moment = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
            patch.setattr("singan_aug.store._entries.datetime", SimpleNamespace(now=lambda tz, moment=moment: moment))
            store.save(make_key(RGB, configs[name]), fit(RGB, configs[name]))
    return store.location, configs


def test_of_several_pyramids_the_one_fitted_last_is_drawn(
    adapter: Adapter, three_configs: tuple[str, dict[str, FitConfig]]
) -> None:
    location, configs = three_configs
    pyramid = DirectoryStore(location).load(str(make_key(RGB, configs["last"])))
    out = adapter.replay(adapter.make(store=location), _float(RGB, torch.float32), 8)
    assert torch.equal(out, draw(pyramid, seed=8)[0])


@pytest.mark.parametrize("name", ["first", "middle", "last"])
def test_a_config_selects_its_own_pyramid(
    adapter: Adapter, name: str, three_configs: tuple[str, dict[str, FitConfig]]
) -> None:
    location, configs = three_configs
    pyramid = DirectoryStore(location).load(str(make_key(RGB, configs[name])))
    out = adapter.replay(adapter.make(store=location, config=configs[name]), _float(RGB, torch.float32), 8)
    assert torch.equal(out, draw(pyramid, seed=8)[0])


def test_a_config_without_a_pyramid_is_a_miss_that_says_so(
    adapter: Adapter, three_configs: tuple[str, dict[str, FitConfig]]
) -> None:
    with pytest.raises(MissingPyramidError, match="with this config"):
        adapter.call(adapter.make(store=three_configs[0], config=TINY.replace(seed=4)), _pil(RGB))


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_a_pyramid_fitted_meanwhile_is_found(adapter: Adapter, tmp_path: Path) -> None:
    transform, image = adapter.make(store=tmp_path, on_miss="pass"), _pil(UNKNOWN)
    assert adapter.call(transform, image) is image
    DirectoryStore(tmp_path).save(make_key(UNKNOWN, TINY), fit(UNKNOWN, TINY))
    assert not _same(adapter.call(transform, image), image)


@pytest.mark.parametrize("start_scale", [3, 99, -4])
def test_a_start_scale_that_the_pyramid_lacks_is_refused(adapter: Adapter, start_scale: int, folder: str) -> None:
    with pytest.raises(StartScaleError, match=rf"0\.\.2.*got {start_scale}"):
        adapter.call(adapter.make(start_scale, store=folder), _pil(RGB))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start_scale": "2"}, "start_scale.*int.*'2'"),
        ({"start_scale": 1.0}, r"start_scale.*int.*1\.0"),
        ({"start_scale": True}, "start_scale.*int.*True"),
        ({"on_miss": "skip"}, "on_miss.*'error' or 'pass'.*'skip'"),
    ],
)
def test_a_wrong_argument_is_refused_when_it_is_given(adapter: Adapter, arguments: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        adapter.make(**arguments)


# What is refused


@pytest.mark.parametrize("low_high", [(-1.0, 1.0), (0.0, 255.0), (-2.1, 2.6)])
def test_a_normalised_tensor_is_refused_with_the_remedy(
    adapter: Adapter, low_high: tuple[float, float], folder: str
) -> None:
    low, high = low_high
    with pytest.raises(ImageError, match=r"\[0, 1\].*before normalising"):
        adapter.call(adapter.make(store=folder), _float(RGB, torch.float32) * (high - low) + low)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool])
def test_a_tensor_of_another_dtype_is_refused(adapter: Adapter, dtype: torch.dtype, folder: str) -> None:
    with pytest.raises(ImageError, match="uint8 or float"):
        adapter.call(adapter.make(store=folder), _chw(RGB).to(dtype))


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_it_never_fits(adapter: Adapter, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a transform fitted")

    monkeypatch.setattr(singan_aug.fitting, "fit", refuse)
    monkeypatch.setattr("singan_aug.fitting.fitting.fit", refuse)
    adapter.call(adapter.make(store=folder), _pil(RGB))
    adapter.call(adapter.make(store=folder, on_miss="pass"), _pil(UNKNOWN))
    with pytest.raises(MissingPyramidError):
        adapter.call(adapter.make(store=folder), _pil(UNKNOWN))


def test_drawing_writes_nothing_into_the_store(adapter: Adapter, folder: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}
    adapter.call(adapter.make(store=folder), _pil(RGB))
    assert {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")} == before


# How it travels


@pytest.mark.parametrize("copied", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_draws_the_same(adapter: Adapter, copied: Callable[[Any], Any], folder: str) -> None:
    transform = adapter.make(1, store=folder, config=TINY)
    expected = _seeded(adapter, transform, _pil(RGB), 9)
    assert _same(_seeded(adapter, copied(transform), _pil(RGB), 9), expected)


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_what_it_has_loaded_is_not_pickled(adapter: Adapter, folder: str) -> None:
    transform = adapter.make(store=folder, on_miss="pass")
    adapter.call(transform, _pil(UNKNOWN))  # Albumentations makes generators at the first call, and keeps a seed
    before = len(pickle.dumps(transform))
    adapter.call(transform, _pil(RGB))
    assert abs(len(pickle.dumps(transform)) - before) < 100  # a number may be longer than the last


def test_its_repr_shows_its_arguments(adapter: Adapter, folder: str) -> None:
    shown = repr(adapter.make(2, store=folder, on_miss="pass")).replace("'", "")
    for words in ("SinGANAugment", "start_scale=2", folder, "on_miss=pass"):
        assert words in shown


def test_its_repr_shows_that_a_config_was_given(adapter: Adapter, folder: str) -> None:
    assert repr(adapter.make(store=folder, config=TINY)) != repr(adapter.make(store=folder))


class Repeated(Dataset[torch.Tensor]):
    """One image many times, as a user's dataset would give it."""

    def __init__(self, adapter: str, transform: Any, length: int = 4) -> None:
        self.adapter, self.transform, self.length = adapter, transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        out = ADAPTERS[self.adapter].call(self.transform, _pil(RGB))
        return torch.from_numpy(np.array(out))


def _batches(name: str, transform: Any, start: str, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(Repeated(name, transform), num_workers=2, generator=generator, multiprocessing_context=start)
    return [batch for _ in range(2 if start == "fork" else 1) for batch in loader]  # two epochs where they are cheap


# Python 3.12 and later warn of any fork beside threads, and torch has started some.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("name", [pytest.param(key, marks=_needs(adapter)) for key, adapter in ADAPTERS.items()])
def test_a_loaders_workers_and_epochs_differ_and_a_seed_repeats_them(name: str, start: str, folder: str) -> None:
    transform = ADAPTERS[name].make(store=folder)
    drawn = _batches(name, transform, start, 0)
    assert all(batch.shape == (1, *RGB.shape) for batch in drawn)
    assert not any(torch.equal(first, second) for first, second in combinations(drawn, 2))
    again = _batches(name, transform, "fork", 0)  # the way a worker starts decides nothing
    assert all(torch.equal(first, second) for first, second in zip(drawn, again, strict=False))
    other = _batches(name, transform, "fork", 1)
    assert not any(torch.equal(first, second) for first, second in zip(drawn, other, strict=False))


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_what_was_counted_is_no_part_of_a_pickle(folder: str) -> None:
    transform = _torchvision(store=folder, on_miss="pass")
    before = pickle.dumps(transform)
    for image in (_pil(RGB), _pil(UNKNOWN)):
        transform(image)
    assert transform.stats()["drawn"] == 1
    assert pickle.dumps(transform) == before
    assert pickle.loads(before).stats()["drawn"] == 0


def test_a_relative_store_is_found_from_another_folder(
    adapter: Adapter, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(folder).parent)
    packed = pickle.dumps(adapter.make(store=Path(folder).name))
    monkeypatch.chdir(tmp_path)
    image = _pil(RGB)
    assert not _same(adapter.call(pickle.loads(packed), image), image)


def test_without_shared_memory_it_counts_all_the_same(
    adapter: Adapter, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("Read-only file system")

    monkeypatch.setattr("singan_aug.transforms._counts.RawArray", refuse)
    transform = pickle.loads(pickle.dumps(adapter.make(store=folder)))
    adapter.call(transform, _pil(RGB))
    assert transform.stats()["drawn"] == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
def test_transforms_share_a_few_open_files(adapter: Adapter, folder: str) -> None:
    kept = [adapter.make(store=folder)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept += [adapter.make(store=folder) for _ in range(50)]
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 8


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_a_pyramid_removed_between_look_up_and_load_is_a_miss(
    adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path)
    key = make_key(UNKNOWN, TINY)
    store.save(key, fit(UNKNOWN, TINY))
    transform, image = adapter.make(store=tmp_path, on_miss="pass"), _pil(UNKNOWN)
    load = DirectoryStore.load

    def remove_first(self: DirectoryStore, wanted: str) -> Pyramid:
        if str(key) in self:
            self.remove(str(key))
        return load(self, wanted)

    monkeypatch.setattr(DirectoryStore, "load", remove_first)
    assert adapter.call(transform, image) is image
    assert transform.stats() == {"drawn": 0, "from the bank": 0, "left by p": 0, "no pyramid": 1}


def test_a_miss_says_what_clips_16_bits(adapter: Adapter, folder: str) -> None:
    with pytest.raises(MissingPyramidError, match=r"16 bits.*divide them by 257"):
        adapter.call(adapter.make(store=folder), _pil(np.full_like(UNKNOWN, 255)))


@pytest.mark.skipif(find_spec("kornia") is None, reason='needs kornia: pip install ".[kornia]"')
@pytest.mark.parametrize("labels", ["refuse", "carry"])
def test_kornias_masks_follow_or_are_refused(labels: str, tmp_path: Path) -> None:
    augmentation = importlib.import_module("kornia.augmentation")
    copying = fast(coarsest_px=12, seam_blend_px=0)  # so that every pixel of a variant is one of the source's
    DirectoryStore(tmp_path).save(make_key(RGB, copying), fit(RGB, copying))
    augment = ADAPTERS["kornia"].make(store=tmp_path, labels=labels)
    images = _float(RGB, torch.float32).expand(3, -1, -1, -1)
    pipeline = augmentation.AugmentationSequential(augment, data_keys=["input", "mask"])
    if labels == "refuse":
        with pytest.raises(LabelError, match="start scale 0 move pixels"):
            pipeline(images, images[:, :1])
        return
    changed, masks = pipeline(images, images[:, :1])
    assert not torch.equal(changed, images)
    assert torch.allclose(changed[:, :1], masks, atol=1e-6)


# torchvision alone


def _torchvision(*args: Any, **kwargs: Any) -> Any:
    return ADAPTERS["torchvision"].make(*args, **kwargs)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1,)])
@pytest.mark.parametrize("wrap", [torch.Tensor, tv_tensors.Image])
def test_each_element_of_a_batch_has_a_draw_of_its_own(shape: tuple[int, ...], wrap: Any, folder: str) -> None:
    image = _float(RGB, torch.float32)
    batch = image.expand(*shape, *image.shape).clone()
    batch = batch if wrap is torch.Tensor else tv_tensors.Image(batch)
    out = _torchvision(store=folder)(batch)
    _check_like(out, batch)
    elements = torch.as_tensor(out).reshape(-1, *image.shape)
    assert not any(torch.equal(first, second) for first, second in combinations((*elements, image), 2))


def test_each_element_of_a_batch_is_drawn_from_its_own_pyramid(folder: str) -> None:
    colour, grey = _float(RGB, torch.float32), _float(GREY, torch.float32).expand(3, -1, -1)
    out = _torchvision(store=folder).transform(torch.stack([colour, grey]), {"seed": 5})
    (first,) = draw(_stored(folder, colour), seed=derive_seed(5, 0))
    (second,) = draw(_stored(folder, grey), seed=derive_seed(5, 1))
    assert torch.equal(out[0], first)
    assert torch.equal(out[1], second.expand(3, -1, -1))


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_of_a_batch_only_the_known_elements_change_on_a_miss_with_pass(folder: str) -> None:
    batch = torch.stack([_chw(UNKNOWN), _chw(RGB)])
    out = _torchvision(store=folder, on_miss="pass")(batch)
    assert torch.equal(out[0], batch[0])
    assert not torch.equal(out[1], batch[1])


def test_labels_pass_as_the_same_objects(folder: str) -> None:
    label, count, meta = object(), torch.tensor(3), {"path": Path("a.png"), "tags": ["x"]}
    image, *rest = _torchvision(store=folder)(_pil(RGB), label, count, meta)
    assert isinstance(image, Image.Image)
    assert rest[0] is label
    assert rest[1] is count
    assert rest[2]["path"] is meta["path"]
    assert rest[2]["tags"] == ["x"]


def test_a_sample_may_be_a_dictionary(folder: str) -> None:
    sample = {"image": tv_tensors.Image(_chw(RGB)), "label": torch.tensor([1, 2])}
    out = _torchvision(store=folder)(sample)
    assert out["label"] is sample["label"]
    assert not torch.equal(out["image"], sample["image"])


GEOMETRY = {
    "Mask": lambda: tv_tensors.Mask(torch.zeros(*SIZE, dtype=torch.uint8)),
    "BoundingBoxes": lambda: tv_tensors.BoundingBoxes(torch.zeros(1, 4), format="XYXY", canvas_size=SIZE),  # type: ignore[call-overload, unused-ignore]
    "KeyPoints": lambda: tv_tensors.KeyPoints(torch.zeros(1, 2), canvas_size=SIZE),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_what_would_not_follow_the_structure_is_refused(name: str, folder: str) -> None:
    if not hasattr(tv_tensors, name):
        pytest.skip(f"this torchvision has no {name}")
    with pytest.raises(LabelError, match=r"start scale 0 move pixels by \d.*labels='carry'|singan-aug fit --masks"):
        _torchvision(store=folder)({"image": _pil(RGB), "deep": [GEOMETRY[name]()]})


def _mask() -> Any:
    return (RGB[..., 0] > 100).astype(np.uint8)


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
@pytest.mark.parametrize("on_miss", ["error", "pass"])
@pytest.mark.parametrize(
    "mask",
    [
        lambda: Image.fromarray(_mask()),
        lambda: torch.from_numpy(_mask()).long(),
        lambda: torch.from_numpy(_mask())[None],
        _mask,
    ],
    ids=["PIL", "tensor", "tensor with a channel", "array"],
)
def test_a_mask_that_would_stay_beside_a_moving_image_is_refused(mask: Any, on_miss: Any, folder: str) -> None:
    with pytest.raises(SinGANAugError, match=r"tv_tensors\.Mask|if this is a mask"):
        _torchvision(0, store=folder, on_miss=on_miss)(_pil(RGB), mask())


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_of_several_images_one_that_stays_is_told(folder: str) -> None:
    transform = _torchvision(0, store=folder, on_miss="pass")
    with pytest.warns(UnchangedWarning, match="belong together"):
        transform(_pil(RGB), _pil(UNKNOWN))


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")  # torch's own
def test_a_compiled_pipeline_draws_the_same(folder: str) -> None:
    pipeline = v2.Compose([_torchvision(0, store=folder), v2.ToDtype(torch.float32, scale=True)])
    compiled: Any = torch.compile(pipeline, backend="eager")
    torch.manual_seed(3)
    expected = pipeline(_chw(RGB))
    torch.manual_seed(3)
    assert torch.equal(compiled(_chw(RGB)), expected)


@pytest.mark.parametrize("compose", [v1.Compose, v2.Compose], ids=["v1", "v2"])
def test_it_stands_first_in_a_compose(compose: Any, folder: str) -> None:
    pipeline = compose([_torchvision(1, store=folder), v1.RandomHorizontalFlip(p=1.0), v1.PILToTensor()])
    torch.manual_seed(4)
    alone = _torchvision(1, store=folder)(_pil(RGB))
    torch.manual_seed(4)
    assert np.array_equal(to_pixels(pipeline(_pil(RGB))), np.asarray(alone)[:, ::-1])


def test_a_random_apply_leaves_some_images_alone(folder: str) -> None:
    sometimes, image = v2.RandomApply([_torchvision(store=folder)], p=0.5), _pil(RGB)
    kept = [sometimes(image) is image for _ in range(20)]
    assert any(kept)
    assert not all(kept)
