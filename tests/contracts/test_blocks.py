from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from singan_aug._registry import Registry
from singan_aug.errors import ConfigError
from singan_aug.fitting import fit
from singan_aug.fitting.generated.losses import (
    hinge_critic_loss,
    logistic_critic_loss,
    non_saturating_loss,
    r1_penalty,
    random_projections,
    semi_dual,
    sliced_wasserstein,
)
from singan_aug.fitting.generated.objectives import OBJECTIVES, HingeSpectralNorm, Objective
from singan_aug.fitting.generated.schedule import RATES, learning_rate
from singan_aug.presets import paper
from singan_aug.pyramid import draw
from singan_aug.pyramid.generated.blocks import BLOCKS, HighwayBlock, initialise
from singan_aug.pyramid.noise import AMPLITUDES, ANCHORS, generator_for
from singan_aug.pyramid.resample import RESAMPLERS, resize
from tests.conftest import generated_of, make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = make_photo(20, 26)

every_block = pytest.mark.parametrize("name", list(BLOCKS))
every_resampler = pytest.mark.parametrize("name", list(RESAMPLERS))
every_amplitude = pytest.mark.parametrize("name", list(AMPLITUDES))
every_anchor = pytest.mark.parametrize("name", list(ANCHORS))
every_schedule = pytest.mark.parametrize("name", list(RATES))
every_objective = pytest.mark.parametrize("name", list(OBJECTIVES))
with_and_without_norm = pytest.mark.parametrize("batch_norm", [True, False])
every_width = pytest.mark.parametrize(("inputs", "outputs"), [(3, 8), (8, 8), (1, 4), (8, 4)])


def _image(n: int = 1, channels: int = 3, height: int = 14, width: int = 19, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, height, width, generator=generator_for("image", seed)) * 2 - 1


def _block(name: str, inputs: int = 3, outputs: int = 8, batch_norm: bool = True, seed: int = 0) -> nn.Module:
    block = BLOCKS[name](inputs, outputs, batch_norm)
    initialise(block, generator_for("block", seed))
    return block


@every_block
@every_width
@with_and_without_norm
def test_a_block_takes_one_pixel_off_each_side(name: str, inputs: int, outputs: int, batch_norm: bool) -> None:
    block = _block(name, inputs, outputs, batch_norm)
    assert block(_image(2, inputs)).shape == (2, outputs, 12, 17)


@every_block
@with_and_without_norm
def test_a_block_is_finite(name: str, batch_norm: bool) -> None:
    assert torch.isfinite(_block(name, batch_norm=batch_norm)(_image(2))).all()


@every_block
def test_a_block_passes_gradients_to_its_input(name: str) -> None:
    image = _image().requires_grad_(True)
    _block(name)(image).square().sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0


@every_block
@every_width
def test_a_block_passes_gradients_to_its_weights(name: str, inputs: int, outputs: int) -> None:
    block = _block(name, inputs, outputs)
    block(_image(2, inputs)).pow(3).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in block.parameters())
    assert all(bool(p.grad.any()) for p in block.parameters() if p.grad is not None and p.ndim == 4)


@every_block
def test_a_block_sees_no_further_than_3_px(name: str) -> None:
    image = _image().double().requires_grad_(True)
    _block(name).double().eval()(image)[0, :, 6, 6].sum().backward()
    assert image.grad is not None
    assert image.grad[..., 6:9, 6:9].all()
    image.grad[..., 6:9, 6:9] = 0
    assert not image.grad.any()


@every_block
def test_samples_do_not_mix_in_eval_mode(name: str) -> None:
    block, images = _block(name).eval(), _image(3)
    torch.testing.assert_close(block(images)[1:2], block(images[1:2]), rtol=0, atol=1e-6)


@every_block
@every_width
@with_and_without_norm
def test_every_weight_of_a_block_comes_from_the_generator(
    name: str, inputs: int, outputs: int, batch_norm: bool
) -> None:
    one, again, other = (_block(name, inputs, outputs, batch_norm, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@every_block
def test_building_a_block_leaves_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    _block(name)
    assert torch.equal(torch.get_rng_state(), before)


@every_block
@with_and_without_norm
def test_batch_norm_is_there_only_if_asked_for(name: str, batch_norm: bool) -> None:
    norms = [m for m in _block(name, batch_norm=batch_norm).modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) is batch_norm


@every_block
def test_a_block_does_not_change_its_input(name: str) -> None:
    image = _image()
    before = image.clone()
    _block(name)(image)
    assert torch.equal(image, before)


def _assert_fits(**changes: Any) -> None:
    drawn = draw(fit(SMALL, quick(**changes)), 2)
    assert drawn.shape == (2, 3, 20, 26)
    assert torch.isfinite(drawn).all()


@every_block
@with_and_without_norm
def test_a_block_works_inside_a_fit(name: str, batch_norm: bool) -> None:
    _assert_fits(block=name, batch_norm=batch_norm)


@every_block
def test_a_block_works_inside_a_critic(name: str) -> None:
    _assert_fits(block=name, loss="wgan_gp", objective_weight=1.0, critic_updates=1, batch_norm=True)


TARGETS = [(28, 38), (14, 38), (7, 9), (14, 20), (1, 1)]


@every_resampler
@pytest.mark.parametrize("size", TARGETS)
def test_a_resampler_gives_the_size_asked_for(name: str, size: tuple[int, int]) -> None:
    resized = RESAMPLERS[name](_image(2), size)
    assert resized.shape == (2, 3, *size)
    assert torch.isfinite(resized).all()


@every_resampler
def test_the_same_size_is_the_same_tensor(name: str) -> None:
    image = _image()
    assert resize(image, (14, 19), name) is image


@every_resampler
@pytest.mark.parametrize("size", TARGETS)
def test_a_resampler_keeps_a_constant(name: str, size: tuple[int, int]) -> None:
    resized = RESAMPLERS[name](torch.full((1, 3, 14, 19), 0.37), size)
    torch.testing.assert_close(resized, torch.full((1, 3, *size), 0.37), rtol=0, atol=1e-5)


@every_resampler
def test_a_resampler_never_quantises(name: str) -> None:
    image = _image()
    change = RESAMPLERS[name](image + 1e-4, (28, 38)) - RESAMPLERS[name](image, (28, 38))
    torch.testing.assert_close(change, torch.full_like(change, 1e-4), rtol=0, atol=1e-6)


@every_resampler
def test_a_resampler_passes_gradients(name: str) -> None:
    image = _image().requires_grad_(True)
    RESAMPLERS[name](image, (28, 38)).sum().backward()
    assert image.grad is not None
    assert (image.grad > 0).all()


@every_resampler
def test_a_resampler_keeps_what_is_up_up(name: str) -> None:
    ramp = torch.linspace(-1, 1, 14).reshape(1, 1, 14, 1).expand(1, 1, 14, 19)
    resized = RESAMPLERS[name](ramp, (28, 38))[0, 0]
    assert (resized.diff(dim=0).sum(0) > 1.5).all()
    assert resized.diff(dim=1).abs().max() < 1e-5


@every_resampler
def test_a_resampler_mixes_neither_samples_nor_channels(name: str) -> None:
    image = _image(2)
    alone = RESAMPLERS[name](image[1:, 2:], (28, 38))
    torch.testing.assert_close(RESAMPLERS[name](image, (28, 38))[1:, 2:], alone, rtol=0, atol=1e-6)


@every_resampler
def test_a_resampler_works_inside_a_fit(name: str) -> None:
    _assert_fits(resample=name)


@every_amplitude
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_amplitude_is_one_number_or_a_map(name: str, channels: int) -> None:
    amplitude = AMPLITUDES[name](_image(1, channels), _image(1, channels, seed=1), generated_of(quick()).noise)
    assert tuple(amplitude.shape) in {(1, 1, 1, 1), (1, 1, 14, 19)}
    assert torch.isfinite(amplitude).all()
    assert (amplitude > 0).all()


@every_amplitude
def test_an_amplitude_is_nothing_for_a_perfect_reconstruction(name: str) -> None:
    assert not AMPLITUDES[name](_image(), _image(), generated_of(quick()).noise).any()


@every_amplitude
def test_an_amplitude_is_proportional_to_its_gain(name: str) -> None:
    one, three = (
        AMPLITUDES[name](_image(), _image(seed=1), generated_of(quick(noise_gain=gain)).noise) for gain in (1.0, 3.0)
    )
    torch.testing.assert_close(three, 3 * one)


@every_amplitude
def test_an_amplitude_is_proportional_to_the_error(name: str) -> None:
    real, error = _image(), _image(seed=1)
    one, two = (AMPLITUDES[name](real, real + share * error, generated_of(quick()).noise) for share in (0.5, 1.0))
    torch.testing.assert_close(two, 2 * one, rtol=1e-4, atol=1e-6)


@every_amplitude
def test_an_amplitude_works_inside_a_fit(name: str) -> None:
    _assert_fits(amplitude=name)


@every_anchor
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_anchor_is_an_image_of_the_same_shape(name: str, channels: int) -> None:
    anchor = ANCHORS[name](_image(1, channels), generated_of(quick()).noise)
    assert anchor.shape == (1, channels, 14, 19)
    assert torch.isfinite(anchor).all()
    assert anchor.abs().max() <= 1 + 1e-6


@every_anchor
def test_an_anchor_leaves_the_image(name: str) -> None:
    image = _image()
    ANCHORS[name](image, generated_of(quick()).noise)
    assert torch.equal(image, _image())


@every_anchor
def test_an_anchor_has_less_detail_than_the_image(name: str) -> None:
    image = _image()
    anchor = ANCHORS[name](image, generated_of(quick(anchor_blur_px=1.5)).noise)
    assert anchor.diff(dim=-1).abs().mean() < image.diff(dim=-1).abs().mean()


@every_anchor
def test_an_anchor_works_inside_a_fit(name: str) -> None:
    _assert_fits(anchor=name, batch_norm=True, learning_rate=1e-2, steps_coarsest=20)


@every_schedule
def test_a_rate_is_positive_and_never_above_the_configs(name: str) -> None:
    config = generated_of(quick(decay=name, learning_rate=0.01)).schedule
    rates = [learning_rate(step, 50, config) for step in range(50)]
    assert all(math.isfinite(rate) and 0 < rate <= 0.01 for rate in rates)


@every_schedule
def test_a_rate_ends_lower_than_it_begins(name: str) -> None:
    config = generated_of(quick(decay=name, learning_rate=0.01)).schedule
    assert learning_rate(49, 50, config) < 0.5 * learning_rate(0, 50, config)


@every_schedule
def test_a_rate_depends_on_progress_alone(name: str) -> None:
    config = generated_of(quick(decay=name)).schedule
    assert learning_rate(10, 50, config) == pytest.approx(learning_rate(40, 200, config))


@every_schedule
def test_one_step_has_a_rate(name: str) -> None:
    assert learning_rate(0, 1, generated_of(quick(decay=name)).schedule) > 0


@every_schedule
def test_a_schedule_works_inside_a_fit(name: str) -> None:
    _assert_fits(decay=name)


def _objective(
    name: str, channels: int = 3, seed: int = 0, below: Objective | None = None, **changes: Any
) -> Objective:
    build, config = OBJECTIVES[name], generated_of(quick(loss=name, **changes))
    return build(config, channels, config.networks.width, generator_for("objective", seed), torch.device("cpu"), below)


@every_objective
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("n", [1, 3])
def test_a_loss_is_one_finite_number(name: str, channels: int, n: int) -> None:
    loss = _objective(name, channels).loss(_image(1, channels), _image(n, channels, seed=1), generator_for(0))
    assert loss.ndim == 0
    assert torch.isfinite(loss)


@every_objective
def test_the_gradient_of_a_loss_reaches_the_fake(name: str) -> None:
    fake = _image(seed=1).requires_grad_(True)
    _objective(name).loss(_image(), fake, generator_for(0)).backward()
    assert fake.grad is not None
    assert torch.isfinite(fake.grad).all()
    assert fake.grad.abs().sum() > 0


@every_objective
def test_a_loss_is_a_function_of_its_generator(name: str) -> None:
    losses = [_objective(name).loss(_image(), _image(seed=1), generator_for(0)) for _ in range(2)]
    assert torch.equal(*losses)


@every_objective
def test_an_update_reports_finite_losses_without_a_graph(name: str) -> None:
    losses = _objective(name).update(_image(), _image(seed=1), generator_for(0))
    for loss in losses.values():
        assert loss.ndim == 0
        assert torch.isfinite(loss)
        assert not loss.requires_grad


@every_objective
def test_an_update_leaves_the_images(name: str) -> None:
    real, fake = _image(), _image(seed=1)
    _objective(name).update(real, fake, generator_for(0))
    assert torch.equal(real, _image())
    assert torch.equal(fake, _image(seed=1))
    assert not fake.requires_grad


@every_objective
def test_an_objective_leaves_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    objective = _objective(name)
    objective.update(_image(), _image(seed=1), generator_for(0))
    objective.loss(_image(), _image(seed=1), generator_for(0))
    assert torch.equal(torch.get_rng_state(), before)


@every_objective
def test_updates_never_make_the_fake_look_more_real(name: str) -> None:
    updates: dict[str, Any] = {"critic_updates": 10} if name == "wgan_gp" else {}
    objective, rng = _objective(name, learning_rate=1e-2, **updates), generator_for(0)
    real, fake = _image(), _image(seed=1) * 0.2
    gaps = []
    for _ in range(2):
        gaps.append(objective.loss(real, fake, generator_for(1)) - objective.loss(real, real, generator_for(1)))
        objective.update(real, fake, rng)
    assert gaps[1] >= gaps[0]


@every_objective
def test_a_rate_near_zero_learns_nothing(name: str) -> None:
    objective = _objective(name, batch_norm=False)
    objective.set_rate(1e-20)
    before = objective.loss(_image(), _image(seed=1), generator_for(0))
    objective.update(_image(), _image(seed=1), generator_for(0))
    after = objective.loss(_image(), _image(seed=1), generator_for(0))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-7)  # what was rounded otherwise alone


@every_objective
@pytest.mark.parametrize("other", list(OBJECTIVES))
def test_an_objective_starts_above_any_other(name: str, other: str) -> None:
    objective = _objective(name, below=_objective(other, seed=1))
    assert torch.isfinite(objective.loss(_image(), _image(seed=1), generator_for(0)))


@every_objective
@pytest.mark.parametrize("batch", [1, 2])
def test_an_objective_works_inside_a_fit(name: str, batch: int) -> None:
    _assert_fits(loss=name, objective_weight=1.0, batch=batch)


def test_the_sliced_distance_of_an_image_to_itself_is_zero() -> None:
    assert float(_objective("sliced_wasserstein").loss(_image(), _image(), generator_for(0))) == 0


def test_the_sliced_distance_ignores_where_patches_are() -> None:
    objective, tile = _objective("sliced_wasserstein", compared_px=3), _image(height=6, width=6)
    real, moved = (image.tile(3, 5)[..., :14, :26] for image in (tile, tile.roll((2, 3), (2, 3))))
    # 12 x 24 patches of 3 px: each patch of the tile, wrapped around, in both images as often.
    assert float(objective.loss(real, moved, generator_for(0))) == pytest.approx(0, abs=1e-10)


def test_the_sliced_distance_is_that_of_sorted_projections() -> None:
    real, fake = _image(), _image().flip(2).requires_grad_(True)
    filters = random_projections(6, 3, 5, generator_for(0))
    found = sliced_wasserstein(fake, real, filters)
    sides = [torch.nn.functional.conv2d(image, filters)[0].flatten(1).sort(dim=1).values for image in (fake, real)]
    expected = (sides[0] - sides[1]).square().mean()
    assert torch.allclose(found, expected)
    gradient, expected_gradient = (torch.autograd.grad(loss, fake)[0] for loss in (found, expected))
    assert torch.allclose(gradient, expected_gradient, atol=1e-7)


def test_patches_may_be_single_pixels() -> None:
    objective, real = _objective("sliced_wasserstein", compared_px=1), _image()
    assert float(objective.loss(real, real.flip(3), generator_for(0))) == pytest.approx(0, abs=1e-10)


def test_the_sliced_distance_grows_with_the_difference() -> None:
    objective, real = _objective("sliced_wasserstein"), _image()
    near, far = (float(objective.loss(real, real * share, generator_for(0))) for share in (0.9, 0.3))
    assert 0 < near < far


def test_the_sliced_distance_takes_images_smaller_than_its_patches() -> None:
    objective = _objective("sliced_wasserstein", compared_px=31)
    assert torch.isfinite(objective.loss(_image(), _image(seed=1), generator_for(0)))


def test_a_highway_takes_the_way_that_its_gate_says() -> None:
    block, image = _block("highway", 8, 8), _image(1, 8)
    assert isinstance(block, HighwayBlock)
    block.gate.weight.data.zero_()
    assert block.gate.bias is not None
    for bias, expected in ((-40.0, image[..., 1:-1, 1:-1]), (40.0, block.layer(image))):
        block.gate.bias.data.fill_(bias)
        torch.testing.assert_close(block(image), expected)


def test_a_separable_block_has_a_fraction_of_the_weights() -> None:
    separable, plain = (sum(p.numel() for p in _block(name, 32, 32).parameters()) for name in ("separable", "conv"))
    assert separable < 0.2 * plain


def _patches(count: int, seed: int) -> Tensor:
    return torch.rand(count, 5, generator=generator_for("patches", seed))


def test_the_semi_dual_is_at_most_the_transport_cost_and_reaches_it() -> None:
    drawn, known = _patches(6, 0), _patches(6, 1)
    costs = (drawn[:, None] - known).square().mean(2)
    cheapest = min(float(costs[range(6), order].mean()) for order in permutations(range(6)))
    potential = torch.zeros(6)
    found = []
    for step in range(400):
        cost, nearest = semi_dual(drawn, known, potential)
        found.append(float(cost))
        potential += 0.05 * 0.99**step * (1 / 6 - torch.bincount(nearest, minlength=6) / 6)
    assert max(found) <= cheapest + 1e-6
    assert max(found) == pytest.approx(cheapest, rel=0.02)
    assert found[0] < 0.95 * cheapest


def test_the_semi_dual_of_a_set_to_itself_is_nothing() -> None:
    cost, nearest = semi_dual(_patches(6, 0), _patches(6, 0), torch.zeros(6))
    assert float(cost) == pytest.approx(0, abs=1e-7)
    assert nearest.tolist() == list(range(6))


def test_the_semi_dual_objective_refuses_windows() -> None:
    with pytest.raises(ConfigError, match=r"expected crop_px=0 with loss='semi_dual'.*got 12"):
        _objective("semi_dual", crop_px=12)


def test_r1_is_half_the_squared_gradient_at_each_pixel() -> None:
    critic = nn.Conv2d(3, 1, 1)
    critic.weight.data = torch.tensor([1.0, 2.0, 2.0]).reshape(1, 3, 1, 1)
    assert float(r1_penalty(critic, _image(2)).detach()) == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("loss", "real", "fake", "expected"),
    [
        (hinge_critic_loss, [2.0, 0.0], [-2.0, 0.5], 0.5 + 0.75),
        (logistic_critic_loss, [0.0], [0.0], 2 * math.log(2)),
        (logistic_critic_loss, [50.0], [-50.0], 0.0),
        (logistic_critic_loss, [-50.0], [0.0], 50 + math.log(2)),
    ],
)
def test_what_a_critic_minimises(
    loss: Callable[[Tensor, Tensor], Tensor], real: list[float], fake: list[float], expected: float
) -> None:
    assert float(loss(torch.tensor(real), torch.tensor(fake))) == pytest.approx(expected)


def test_the_non_saturating_loss_keeps_its_slope_where_the_critic_is_sure() -> None:
    scores = torch.tensor([-50.0, 50.0], requires_grad=True)
    non_saturating_loss(scores).backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([-0.5, 0.0]))


def test_each_convolution_of_a_hinge_critic_has_spectral_norm_1() -> None:
    objective = _objective("hinge_spectral", learning_rate=0.1)
    objective.update(_image(), _image(seed=1), generator_for(0))
    assert isinstance(objective, HingeSpectralNorm)
    convolutions = [module for module in objective.critic.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    for module in convolutions:
        norm = torch.linalg.matrix_norm(module.weight.flatten(1), 2)
        torch.testing.assert_close(norm, torch.tensor(1.0), rtol=1e-3, atol=0)


REGISTRIES: list[Registry[Any]] = [BLOCKS, RESAMPLERS, AMPLITUDES, ANCHORS, RATES, OBJECTIVES]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry._kind)
def test_an_unknown_name_is_refused_with_the_known_ones(registry: Registry[Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry["nonesuch"]
    assert "'nonesuch'" in str(caught.value)
    assert all(name in str(caught.value) for name in registry)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry._kind)
def test_a_name_is_registered_once(registry: Registry[Any]) -> None:
    name = next(iter(registry))
    part = registry[name]
    with pytest.raises(ValueError, match=f"'{name}' is registered already"):
        registry.register(name)(part)


def test_every_part_of_a_default_config_is_registered() -> None:
    own = paper().leaves()
    parts = [own[leaf] for leaf in ("block", "resample", "amplitude", "anchor", "decay", "loss")]
    assert all(name in list(registry) for name, registry in zip(parts, REGISTRIES, strict=True))
