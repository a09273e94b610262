from __future__ import annotations

import contextlib
import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from singan_aug.errors import ConfigError, StartScaleError
from singan_aug.fitting import fit
from singan_aug.images import Pixels, to_signed, to_unit
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.pyramid.drawing import BATCH
from singan_aug.pyramid.generated.blocks import initialise
from singan_aug.pyramid.generated.networks import Generator
from singan_aug.pyramid.generated.scale import run_scale
from singan_aug.pyramid.noise import derive_seed, generator_for, noise_maps
from singan_aug.pyramid.resample import blur, resize
from tests.conftest import PHOTO_SIZE, convolutional_scales, make_photo, quick, quick_paper, z_star

pytestmark = pytest.mark.usefixtures("one_thread")

# A convolution over another number of images may add up in another order; weights and pixels are of order 1.
ORDER_OF_SUMS = 1e-5

STARTS = [0, 1, 2, 3]


@pytest.fixture(params=["fast_like", "paper_like"])
def pyramid(request: pytest.FixtureRequest) -> Pyramid:
    fitted: Pyramid = request.getfixturevalue(request.param)
    return fitted


@pytest.fixture(scope="module")
def trained(photo: Pixels) -> Pyramid:
    config = quick(
        width=16,
        learning_rate=5e-3,
        objective_weight=1.0,
        steps_coarsest=120,
        steps_finer=60,
        padding="zeros",
    )
    return fit(photo, config)


def _with_noise_of(pyramid: Pyramid, amplitude: float, scales: range) -> Pyramid:
    changed = [
        replace(scale, amplitude=torch.full((1, 1, 1, 1), amplitude)) if k in scales else scale
        for k, scale in enumerate(convolutional_scales(pyramid))
    ]
    return replace(pyramid, scales=tuple(changed))


def test_the_fixtures_have_four_scales(pyramid: Pyramid) -> None:
    assert len(pyramid) == len(STARTS)


@pytest.mark.parametrize("start", STARTS)
def test_a_draw_has_the_sources_shape(pyramid: Pyramid, start: int) -> None:
    assert draw(pyramid, 2, start).shape == (2, 3, *PHOTO_SIZE)


def test_a_draw_is_float32_in_zero_to_one(pyramid: Pyramid) -> None:
    loud = _with_noise_of(pyramid, 5.0, range(4))
    drawn = draw(loud, 4)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_a_draw_can_be_trained_on(pyramid: Pyramid) -> None:
    drawn = draw(pyramid)
    weight = torch.ones(1, requires_grad=True)
    (drawn * weight).sum().backward()
    assert weight.grad is not None
    assert not drawn.requires_grad


def test_one_variant_is_the_default(pyramid: Pyramid) -> None:
    assert torch.equal(draw(pyramid), draw(pyramid, 1, 0, None, 0))


@pytest.mark.parametrize("start", STARTS)
def test_the_same_seed_gives_the_same_pixels(pyramid: Pyramid, start: int) -> None:
    assert torch.equal(draw(pyramid, 2, start, seed=7), draw(pyramid, 2, start, seed=7))


@pytest.mark.parametrize("start", STARTS)
def test_another_seed_gives_other_pixels(pyramid: Pyramid, start: int) -> None:
    assert (draw(pyramid, 1, start, seed=7) - draw(pyramid, 1, start, seed=8)).abs().max() > 100 * ORDER_OF_SUMS


@pytest.mark.parametrize("start", STARTS)
def test_the_variants_of_one_seed_differ(pyramid: Pyramid, start: int) -> None:
    one, other = draw(pyramid, 2, start, seed=7)
    assert (one - other).abs().max() > 100 * ORDER_OF_SUMS


@pytest.mark.parametrize("n", [3, BATCH, BATCH + 4])
def test_a_variant_does_not_depend_on_how_many_are_drawn(pyramid: Pyramid, n: int) -> None:
    few = draw(pyramid, 2, seed=3)
    torch.testing.assert_close(draw(pyramid, n, seed=3)[:2], few, rtol=0, atol=ORDER_OF_SUMS)


def test_more_than_one_batch_is_drawn_in_order(pyramid: Pyramid) -> None:
    many, more = draw(pyramid, BATCH + 1, seed=3), draw(pyramid, BATCH + 5, seed=3)
    assert many.shape[0] == BATCH + 1
    torch.testing.assert_close(more[: BATCH + 1], many, rtol=0, atol=ORDER_OF_SUMS)


def test_no_variant_repeats_over_batches(pyramid: Pyramid) -> None:
    drawn = draw(pyramid, 2 * BATCH + 1, seed=3).flatten(1)
    distances = torch.cdist(drawn, drawn) + torch.eye(len(drawn))
    assert distances.min() > 100 * ORDER_OF_SUMS


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_draw_without_noise_is_the_reconstruction(pyramid: Pyramid, start: int) -> None:
    silent = _with_noise_of(pyramid, 0.0, range(start, len(pyramid)))
    torch.testing.assert_close(draw(silent, 1, start), reconstruct(pyramid), rtol=0, atol=ORDER_OF_SUMS)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_draw_does_not_run_the_scales_below_its_start(pyramid: Pyramid, start: int) -> None:
    broken = _with_noise_of(pyramid, float("nan"), range(start))
    assert torch.equal(draw(broken, 1, start, seed=5), draw(pyramid, 1, start, seed=5))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_enters_a_scale_is_the_reconstruction_of_the_one_below(pyramid: Pyramid, k: int) -> None:
    below = convolutional_scales(pyramid)[k - 1]
    noise = torch.zeros(1, 3, *below.size) if below.z_star is None else below.z_star
    output = run_scale(below, below.entering, noise, below.size)
    torch.testing.assert_close(convolutional_scales(pyramid)[k].entering, output, rtol=0, atol=ORDER_OF_SUMS)


@pytest.mark.parametrize("start", STARTS)
def test_negative_start_scales_count_from_the_finest(pyramid: Pyramid, start: int) -> None:
    assert torch.equal(draw(pyramid, 1, start - len(pyramid), seed=2), draw(pyramid, 1, start, seed=2))


def test_each_start_scale_gives_other_pixels(pyramid: Pyramid) -> None:
    drawn = torch.cat([draw(pyramid, 1, start, seed=2) for start in STARTS]).flatten(1)
    assert (torch.cdist(drawn, drawn) + torch.eye(len(drawn))).min() > 100 * ORDER_OF_SUMS


def test_a_finer_start_stays_closer_to_the_source(trained: Pyramid) -> None:
    coarse, fine = ((draw(trained, 8, start) - reconstruct(trained)).square().mean() for start in (0, -1))
    assert fine < coarse


@pytest.mark.parametrize("size", [(36, 96), (72, 48), (30, 40), (50, 31)])
@pytest.mark.parametrize("start", STARTS)
def test_any_start_scale_takes_another_size(pyramid: Pyramid, start: int, size: tuple[int, int]) -> None:
    drawn = draw(pyramid, 2, start, size=size)
    assert drawn.shape == (2, 3, *size)
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("start", STARTS)
def test_the_sources_size_named_is_the_default(pyramid: Pyramid, start: int) -> None:
    assert torch.equal(draw(pyramid, 1, start, size=PHOTO_SIZE), draw(pyramid, 1, start))


def test_a_size_may_be_a_list(pyramid: Pyramid) -> None:
    assert draw(pyramid, size=[40, 40]).shape[-2:] == (40, 40)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [1, 2, 3])
def test_another_size_shows_the_same_picture(trained: Pyramid, start: int) -> None:
    large = resize(draw(trained, 1, start, size=(72, 96)), PHOTO_SIZE)
    small = reconstruct(trained)
    correlation = torch.corrcoef(torch.stack([large.flatten(), small.flatten()]))[0, 1]
    assert correlation > 0.7


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 64)])
def test_a_small_size_is_drawn_or_refused(fast_like: Pyramid, size: tuple[int, int]) -> None:
    with contextlib.suppress(ValueError):
        assert draw(fast_like, size=size).shape[-2:] == size


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 64)])
def test_a_small_size_is_drawn_with_zeros_around(paper_like: Pyramid, size: tuple[int, int]) -> None:
    assert draw(paper_like, size=size).shape[-2:] == size


@pytest.mark.parametrize("n", [0, -1])
def test_no_variants_are_refused(pyramid: Pyramid, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {n}"):
        draw(pyramid, n)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-3, 5)])
def test_an_empty_size_is_refused(pyramid: Pyramid, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="size"):
        draw(pyramid, size=size)


@pytest.mark.parametrize("start", [4, -5])
def test_a_start_scale_that_is_not_there_is_refused(pyramid: Pyramid, start: int) -> None:
    with pytest.raises(StartScaleError, match=f"got {start}"):
        draw(pyramid, 1, start)


def test_drawing_leaves_the_global_generators(pyramid: Pyramid) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    draw(pyramid, 3)
    reconstruct(pyramid)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]


def test_fitting_leaves_the_global_generators(photo: Pixels) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    fit(photo, quick_paper(steps_coarsest=1, steps_finer=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]


def test_the_global_seed_does_not_matter(pyramid: Pyramid) -> None:
    before = torch.get_rng_state()
    torch.manual_seed(1)
    one = draw(pyramid, seed=4)
    torch.manual_seed(2)
    other = draw(pyramid, seed=4)
    torch.set_rng_state(before)
    assert torch.equal(one, other)


def test_drawing_changes_no_tensor_of_the_pyramid(pyramid: Pyramid) -> None:
    before = {name: tensor.clone() for name, tensor in pyramid.tensors().items()}
    draw(pyramid, 3, size=(40, 40)).zero_()
    reconstruct(pyramid).zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in pyramid.tensors().items())


def test_the_reconstruction_has_the_sources_shape_and_range(pyramid: Pyramid) -> None:
    image = reconstruct(pyramid)
    assert image.shape == (1, 3, *PHOTO_SIZE)
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_reconstruction_is_close_to_the_source(trained: Pyramid, photo: Pixels) -> None:
    source = to_unit(to_signed(photo))
    error = (reconstruct(trained) - source).square().mean().sqrt()
    assert error < 0.5 * source.std()


def test_the_reconstruction_is_closer_than_the_anchor(trained: Pyramid, photo: Pixels) -> None:
    source = to_unit(to_signed(photo))
    anchor = to_unit(resize(convolutional_scales(trained)[0].entering, PHOTO_SIZE))
    assert (reconstruct(trained) - source).square().mean() < (anchor - source).square().mean()


def test_the_recorded_error_is_that_of_the_reconstruction(pyramid: Pyramid, photo: Pixels) -> None:
    recorded = pyramid.provenance["reconstruction_rmse"][-1]
    source = to_unit(to_signed(photo))
    assert float((reconstruct(pyramid) - source).square().mean().sqrt()) <= recorded + 1e-4


def test_one_scale_is_reconstructed_from_its_z_star() -> None:
    pyramid = fit(make_photo(16, 20), quick(noise_coarsest=1.0, anchor="none", steps_coarsest=20, learning_rate=1e-2))
    scale = convolutional_scales(pyramid)[0]
    expected = to_unit(scale.generator(scale.entering, z_star(pyramid) * scale.amplitude))
    assert len(pyramid) == 1
    torch.testing.assert_close(reconstruct(pyramid), expected, rtol=0, atol=ORDER_OF_SUMS)


def test_tensors_rebuild_a_pyramid_that_draws_the_same(pyramid: Pyramid) -> None:
    again = Pyramid.from_tensors(
        pyramid.tensors(), config=pyramid.config, channels=3, size=pyramid.size, provenance=pyramid.provenance
    )
    assert torch.equal(draw(again, 2, seed=9), draw(pyramid, 2, seed=9))
    assert torch.equal(reconstruct(again), reconstruct(pyramid))


def test_a_missing_tensor_is_a_key_error(pyramid: Pyramid) -> None:
    tensors = pyramid.tensors()
    del tensors["scales.1.amplitude"]
    with pytest.raises(KeyError, match="amplitude"):
        Pyramid.from_tensors(tensors, config=pyramid.config, channels=3, size=pyramid.size, provenance={})


def test_a_tensor_of_another_shape_is_a_runtime_error(pyramid: Pyramid) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        Pyramid.from_tensors(pyramid.tensors(), config=pyramid.config, channels=1, size=pyramid.size, provenance={})


def test_a_copy_on_a_device_shares_nothing(pyramid: Pyramid) -> None:
    copied = pyramid.to("cpu").tensors()
    shared = [name for name, tensor in pyramid.tensors().items() if tensor.data_ptr() == copied[name].data_ptr()]
    assert shared == []


def test_another_provenance_leaves_the_draws(pyramid: Pyramid) -> None:
    changed = pyramid.with_provenance({"device": "elsewhere"})
    assert changed.provenance == {"device": "elsewhere"}
    assert torch.equal(draw(changed), draw(pyramid))


def test_a_pyramid_survives_a_deep_copy(pyramid: Pyramid) -> None:
    assert torch.equal(draw(copy.deepcopy(pyramid)), draw(pyramid))


def _generator(padding: str, block: str = "conv", batch_norm: bool = True) -> Generator:
    generator = Generator(3, width=6, layers=5, block=block, batch_norm=batch_norm, padding=padding)
    initialise(generator, generator_for("weights"))
    return generator.eval().requires_grad_(False)


def _inputs(n: int = 2) -> tuple[Tensor, Tensor]:
    rng = generator_for("inputs")
    return torch.randn(n, 3, 20, 26, generator=rng), torch.randn(n, 3, 20, 26, generator=rng)


def test_an_unknown_padding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"reflect, replicate, zeros.*'circular'"):
        _generator("circular")


def test_noise_is_standard_normal() -> None:
    noise = noise_maps([generator_for(0)], 3, (100, 100), shared=False)
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03


def test_the_noise_of_a_sample_is_its_own() -> None:
    both = noise_maps([generator_for(0), generator_for(1)], 3, (4, 5), shared=False)
    assert torch.equal(both[1:], noise_maps([generator_for(1)], 3, (4, 5), shared=False))


def test_seeds_of_other_parts_differ() -> None:
    parts = [(), (0,), (1,), (0, 1), (1, 0), (0, "z*"), (0, 0, "weights"), (0, 0, "training")]
    assert len({derive_seed(*part) for part in parts}) == len(parts)


def test_a_seed_means_the_same_on_every_machine() -> None:
    assert derive_seed(0) == 919140953729665066
    assert derive_seed(3, 0, "z*") == 2835043793169265770


def test_a_seed_fits_into_63_bits() -> None:
    assert all(0 <= derive_seed(i) < 2**63 for i in range(100))


def test_blurring_keeps_a_constant() -> None:
    torch.testing.assert_close(blur(torch.full((1, 2, 9, 7), 0.3), 2.0), torch.full((1, 2, 9, 7), 0.3))


def test_blurring_by_nothing_changes_nothing() -> None:
    image, _ = _inputs()
    assert torch.equal(blur(image, 0.0), image)


def test_blurring_spreads_a_point_by_its_deviation() -> None:
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = blur(point, 2.0)[0, 0]
    offsets = torch.arange(41) - 20.0
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    assert float((spread.sum(1) * offsets**2).sum()) ** 0.5 == pytest.approx(2.0, rel=0.03)  # cut off at 3 sigma
