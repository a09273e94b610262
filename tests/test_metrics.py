"""Scores of images: properties with random weights, small cases by hand, and agreement with an independent scorer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from singan_aug import metrics
from singan_aug.errors import ConfigError, ImageError
from singan_aug.images import to_signed, to_unit
from singan_aug.metrics import InceptionStem, LpipsAlex, lpips, pixel_diversity, sifid
from singan_aug.metrics.frechet import CONVOLUTIONS as STEM_CONVOLUTIONS
from singan_aug.metrics.frechet import _frechet
from singan_aug.metrics.perceptual import CONVOLUTIONS as ALEX_CONVOLUTIONS
from singan_aug.pyramid.resample import blur
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")


def _stem_weights() -> dict[str, Tensor]:
    """Of the right shapes, random, with the variance that keeps features of a size from layer to layer."""
    numbers = torch.Generator().manual_seed(0)
    held = {}
    for i, (out, into, side, _, _) in enumerate(STEM_CONVOLUTIONS):
        held[f"conv{i}.weight"] = torch.randn(out, into, side, side, generator=numbers) * math.sqrt(
            2 / (into * side**2)
        )
        held[f"conv{i}.beta"] = torch.randn(out, generator=numbers) * 0.1
        held[f"conv{i}.mean"] = torch.randn(out, generator=numbers) * 0.1
        held[f"conv{i}.var"] = torch.rand(out, generator=numbers) + 0.5
    return held


def _alex_weights() -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(0)
    held = {}
    for i, (index, out, into, side, _, _) in enumerate(ALEX_CONVOLUTIONS):
        deviation = math.sqrt(2 / (into * side**2))
        held[f"features.{index}.weight"] = torch.randn(out, into, side, side, generator=numbers) * deviation
        held[f"features.{index}.bias"] = torch.zeros(out)
        held[f"lin{i}.weight"] = torch.rand(1, out, 1, 1, generator=numbers)
    return held


@pytest.fixture(scope="module")
def stem_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "stem.safetensors"
    save_file(_stem_weights(), path)
    return path


@pytest.fixture(scope="module")
def alex_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alex.safetensors"
    save_file(_alex_weights(), path)
    return path


@pytest.fixture(scope="module", params=[64, 192])
def stem(stem_file: Path, request: pytest.FixtureRequest) -> InceptionStem:
    return InceptionStem.load(stem_file, request.param)


@pytest.fixture(scope="module")
def alex(alex_file: Path) -> LpipsAlex:
    return LpipsAlex.load(alex_file)


def _photo(height: int = 48, width: int = 64, channels: int = 3, seed: int = 0) -> Tensor:
    return to_unit(to_signed(make_photo(height, width, channels, seed)))


def _blurred(photo: Tensor, deviations: tuple[float, ...]) -> Tensor:
    return torch.cat([blur(photo, deviation) for deviation in deviations]).clamp(0, 1)


def test_all_is_sorted() -> None:
    assert metrics.__all__ == sorted(metrics.__all__)


# SIFID


def test_sifid_of_an_image_to_itself_is_nothing(stem: InceptionStem) -> None:
    assert float(sifid(_photo(), _photo(), stem)) == pytest.approx(0, abs=1e-9)  # rounding of traces of about 10


def test_sifid_is_symmetric(stem: InceptionStem) -> None:
    one, other = _photo(), _photo(40, 52, seed=1)
    assert float(sifid(one, other, stem)) == pytest.approx(float(sifid(other, one, stem)), rel=1e-9)


def test_sifid_grows_with_blur(stem: InceptionStem) -> None:
    distances = sifid(_photo(), _blurred(_photo(), (0.5, 1.0, 2.0)), stem)
    assert 0 < distances[0] < distances[1] < distances[2]


def test_sifid_of_a_batch_is_that_of_its_images(stem: InceptionStem) -> None:
    real, fakes = _photo(), torch.cat([_photo(seed=seed) for seed in (1, 2, 3)])
    together = sifid(real, fakes, stem)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    apart = torch.cat([sifid(real, fake[None], stem) for fake in fakes])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=0)  # convolutions of a batch round differently
    torch.testing.assert_close(sifid(real.repeat(3, 1, 1, 1), fakes, stem), together, rtol=1e-5, atol=0)


def test_sifid_takes_grey_as_three_equal_channels(stem: InceptionStem) -> None:
    grey, other = _photo(channels=1), _photo(seed=1)
    assert float(sifid(grey, other, stem)) == float(sifid(grey.repeat(1, 3, 1, 1), other, stem))


def test_the_layers_have_their_channels_and_sizes(stem_file: Path) -> None:
    assert InceptionStem.load(stem_file).features(_photo()).shape == (1, 64, 21, 29)
    assert InceptionStem.load(stem_file, 192).features(_photo()).shape == (1, 192, 8, 12)


@pytest.mark.parametrize(("channels", "least_px"), [(64, 9), (192, 23)])
def test_the_smallest_image_has_a_covariance(stem_file: Path, channels: int, least_px: int) -> None:
    stem = InceptionStem.load(stem_file, channels)
    small = _photo(least_px, least_px)
    assert stem.features(small).shape[-2:] == (2, 2)
    assert torch.isfinite(sifid(small, _photo(least_px, least_px, seed=1), stem)).all()
    with pytest.raises(ImageError, match=f"expected fake of at least {least_px} px"):
        sifid(small, small[..., 1:], stem)


def test_batch_norm_is_folded(tmp_path: Path) -> None:
    held = _stem_weights()
    held["conv2.weight"].zero_()
    held["conv2.beta"].fill_(2.0)
    held["conv2.mean"].fill_(3.0)
    held["conv2.var"].fill_(4.0 - 1e-3)
    save_file(held, tmp_path / "stem.safetensors")
    features = InceptionStem.load(tmp_path / "stem.safetensors").features(_photo())
    torch.testing.assert_close(features, torch.full_like(features, 2.0 - 3.0 / 2.0))


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        # Commuting: the sum of (sqrt c - sqrt c')^2 over the axes.
        ([[4.0, 0.0], [0.0, 9.0]], [[1.0, 0.0], [0.0, 16.0]], 1.0 + 1.0),
        # Not commuting: tr M^(1/2) = sqrt(tr M + 2 sqrt(det M)) of M = C C', whose trace is 10 and determinant 12.
        ([[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 4.0]], 4.0 + 5.0 - 2 * math.sqrt(10 + 2 * math.sqrt(12))),
        # Of no rank.
        ([[0.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]], 3.0),
    ],
)
def test_the_frechet_distance_by_hand(one: list[list[float]], other: list[list[float]], distance: float) -> None:
    means = torch.tensor([[1.0, 2.0], [4.0, -2.0]]).double()
    found = _frechet(means[0], torch.tensor(one).double(), means[1], torch.tensor(other).double())
    assert float(found) == pytest.approx(9 + 16 + distance)


# LPIPS


def test_lpips_of_an_image_to_itself_is_nothing(alex: LpipsAlex) -> None:
    assert float(lpips(_photo(), _photo(), alex)) == 0


def test_lpips_is_symmetric(alex: LpipsAlex) -> None:
    one, other = _photo(), _photo(seed=1)
    assert float(lpips(one, other, alex)) == pytest.approx(float(lpips(other, one, alex)), rel=1e-6)


def test_lpips_grows_with_blur(alex: LpipsAlex) -> None:
    distances = lpips(_photo(), _blurred(_photo(), (0.5, 1.0, 2.0)), alex)
    assert 0 < distances[0] < distances[1] < distances[2]


def test_lpips_of_a_batch_is_that_of_its_images(alex: LpipsAlex) -> None:
    one, others = _photo(), torch.cat([_photo(seed=seed) for seed in (1, 2, 3)])
    together = lpips(one, others, alex)
    assert together.shape == (3,)
    apart = torch.cat([lpips(other[None], one, alex) for other in others])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=0)  # convolutions of a batch round differently


def test_lpips_takes_grey_as_three_equal_channels(alex: LpipsAlex) -> None:
    grey, other = _photo(channels=1), _photo(seed=1)
    assert float(lpips(grey, other, alex)) == float(lpips(grey.repeat(1, 3, 1, 1), other, alex))


def test_lpips_refuses_sizes_that_differ(alex: LpipsAlex) -> None:
    with pytest.raises(ImageError, match=r"expected two of one size.*resize"):
        lpips(_photo(), _photo(48, 65), alex)


def test_lpips_refuses_what_is_smaller_than_its_pooling(alex: LpipsAlex) -> None:
    assert torch.isfinite(lpips(_photo(31, 31), _photo(31, 31, seed=1), alex)).all()
    with pytest.raises(ImageError, match="at least 31 px"):
        lpips(_photo(30, 40), _photo(30, 40), alex)


def test_lpips_by_hand(tmp_path: Path) -> None:
    """Two features, red and 1, seen by the first head alone; its tap at (5, 5) is inside the image everywhere."""
    held = {name: torch.zeros_like(tensor) for name, tensor in _alex_weights().items()}
    held["features.0.weight"][0, 0, 5, 5] = 1.0
    held["features.0.bias"][1] = 1.0
    held["lin0.weight"][0, :2, 0, 0] = torch.tensor([1.0, 2.0])
    save_file(held, tmp_path / "alex.safetensors")
    white, middle = torch.ones(1, 3, 40, 40), torch.full((1, 3, 40, 40), 0.5)
    reds = [(signed + 0.030) / 0.458 for signed in (1.0, 0.0)]
    (a, b), (c, d) = [(red / math.hypot(red, 1), 1 / math.hypot(red, 1)) for red in reds]
    found = lpips(white, middle, LpipsAlex.load(tmp_path / "alex.safetensors"))
    assert float(found) == pytest.approx((a - c) ** 2 + 2 * (b - d) ** 2, rel=1e-5)


# Diversity


def test_draws_that_are_one_have_no_diversity() -> None:
    assert pixel_diversity(_photo().repeat(3, 1, 1, 1), _photo()) == 0


def test_pixel_diversity_by_hand() -> None:
    real = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    draws = torch.tensor([[0.25, 0.5], [0.75, 0.5]]).reshape(2, 1, 1, 2)
    # Deviations 0.5/sqrt(2) and 0 over the draws; that of the source, both values in three channels, is sqrt(1.5/5).
    assert pixel_diversity(draws, real) == pytest.approx(0.25 / math.sqrt(2) / math.sqrt(0.3))


def test_pixel_diversity_is_a_ratio() -> None:
    draws, real = torch.cat([_photo(seed=seed) for seed in range(4)]), _photo()
    assert pixel_diversity(draws / 2, real / 2) == pytest.approx(pixel_diversity(draws, real))


@pytest.mark.parametrize("count", [0, 1])
def test_one_draw_has_no_diversity(count: int) -> None:
    with pytest.raises(ImageError, match="expected"):
        pixel_diversity(_photo()[:count], _photo())


def test_a_constant_source_has_no_deviation() -> None:
    with pytest.raises(ImageError, match="contrast"):
        pixel_diversity(_photo().repeat(2, 1, 1, 1), torch.full((1, 3, 8, 8), 0.5))


# What is refused


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda image: image[0], r"\[N, 1 or 3, H, W\], got \[3, 48, 64\]"),
        (lambda image: image[:, :2], r"got \[1, 2, 48, 64\]"),
        (lambda image: image[:0], r"got \[0, 3, 48, 64\]"),
        (lambda image: (image * 255).byte(), "uint8: divide by 255"),
        (lambda image: image * 2 - 1, r"\[0, 1\], got -"),
        (lambda image: torch.where(image > 0.5, torch.nan, image), "nan"),
    ],
)
def test_images_are_checked(
    stem: InceptionStem, alex: LpipsAlex, spoil: Callable[[Tensor], Tensor], message: str
) -> None:
    image, spoiled = _photo(), spoil(_photo())
    with pytest.raises(ImageError, match=f"expected fake .*{message}"):
        sifid(image, spoiled, stem)
    with pytest.raises(ImageError, match=f"expected the second .*{message}"):
        lpips(image, spoiled, alex)
    with pytest.raises(ImageError, match=f"expected draws .*{message}"):
        pixel_diversity(spoiled, image)


def test_batches_of_two_sizes_are_no_pairs(stem: InceptionStem, alex: LpipsAlex) -> None:
    two, three = _photo().repeat(2, 1, 1, 1), _photo().repeat(3, 1, 1, 1)
    with pytest.raises(ImageError, match="got 2, 3"):
        sifid(two, three, stem)
    with pytest.raises(ImageError, match="got 2, 3"):
        lpips(two, three, alex)


@pytest.mark.parametrize("load", [InceptionStem.load, LpipsAlex.load])
def test_weights_that_are_missing_or_something_else(
    load: Callable[[Path], object], stem_file: Path, alex_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ConfigError, match="something else"):
        load(tmp_path / "text.safetensors")
    others = alex_file if load == InceptionStem.load else stem_file
    with pytest.raises(ConfigError, match="found none: these are other weights"):
        load(others)


def test_weights_of_another_shape(stem_file: Path, tmp_path: Path) -> None:
    held = load_file(stem_file)
    save_file(held | {"conv1.beta": torch.zeros(31)}, tmp_path / "stem.safetensors")
    with pytest.raises(ConfigError, match=r"conv1.beta of shape \[32\], got \[31\]"):
        InceptionStem.load(tmp_path / "stem.safetensors")


def test_the_first_layer_needs_no_weights_of_the_second(stem_file: Path, tmp_path: Path) -> None:
    held = {name: tensor for name, tensor in load_file(stem_file).items() if int(name[4]) < 3}
    save_file(held, tmp_path / "stem.safetensors")
    assert InceptionStem.load(tmp_path / "stem.safetensors").channels == 64
    with pytest.raises(ConfigError, match="conv3"):
        InceptionStem.load(tmp_path / "stem.safetensors", 192)


def test_there_are_two_layers(stem_file: Path) -> None:
    with pytest.raises(ConfigError, match="expected 64 or 192 channels, got 768"):
        InceptionStem.load(stem_file, 768)


# Agreement with a scorer that shares no line with this one, on photos and on samples of SinGAN's own program

KNOWN = [  # photo, SIFID at 64 and at 192 channels, LPIPS
    ("1", 0.510298, 9.840778, 0.250452),
    ("11", 0.888151, 6.001024, 0.264910),
    ("13", 0.816695, 6.144717, 0.348135),
]


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("SINGAN_AUG_DATA")
    if not folder:
        pytest.skip("SINGAN_AUG_DATA names no folder of research data")
    for needed in ("metrics/inception_stem.safetensors", "metrics/lpips_alex.safetensors", "places50"):
        if not (Path(folder) / needed).exists():
            pytest.skip(f"the folder that SINGAN_AUG_DATA names holds no {needed}")
    return Path(folder)


def _opened(folder: Path, name: str) -> Tensor:
    (path,) = folder.glob(f"{name}.*")
    return to_unit(to_signed(np.asarray(Image.open(path).convert("RGB"))))


@pytest.mark.parametrize(("name", "at_64", "at_192", "perceptual"), KNOWN)
def test_figures_agree_with_an_independent_scorer(
    data: Path, name: str, at_64: float, at_192: float, perceptual: float
) -> None:
    real, fake = (_opened(data / "places50" / folder, name) for folder in ("real", "singan"))
    weights = data / "metrics" / "inception_stem.safetensors"
    assert float(sifid(real, fake, InceptionStem.load(weights))) == pytest.approx(at_64, rel=1e-2)
    assert float(sifid(real, fake, InceptionStem.load(weights, 192))) == pytest.approx(at_192, rel=1e-2)
    network = LpipsAlex.load(data / "metrics" / "lpips_alex.safetensors")
    assert float(lpips(real, fake, network)) == pytest.approx(perceptual, rel=1e-2)


def test_diversity_agrees_with_an_independent_scorer(data: Path) -> None:
    samples = [_opened(data / "places50" / folder, "1") for folder in ("singan", "gpnn", "consingan")]
    assert pixel_diversity(torch.cat(samples), _opened(data / "places50" / "real", "1")) == pytest.approx(
        0.375060, rel=1e-2
    )
