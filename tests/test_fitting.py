from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, FitDivergedError, ImageError, SinGANAugError
from singan_aug.fitting import FitEvent, fit, fit_work
from singan_aug.fitting.generated.objectives import OBJECTIVES
from singan_aug.fitting.generated.schedule import learning_rate, scale_steps
from singan_aug.images import Pixels, refuse_constant
from singan_aug.presets import fast, paper
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.pyramid.sizes import scale_sizes
from tests.conftest import PHOTO_SIZE, convolutional_scales, generated_of, make_photo, quick, quick_paper, z_star

SMALL = make_photo(20, 26)
SCALES = len(scale_sizes((20, 26), quick()))


def _same(one: Pyramid, other: Pyramid) -> bool:
    a, b = one.tensors(), other.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _chw(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels.transpose(2, 0, 1).copy())


class Recorder:
    def __init__(self) -> None:
        self.events: list[FitEvent] = []

    def __call__(self, event: FitEvent) -> None:
        self.events.append(event)


class Scripted:
    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        self._loss = loss

    adversarial = False

    def set_rate(self, learning_rate: float) -> None:
        pass

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        return self._loss(fake)


Register = Callable[[Callable[[int, int], Callable[[Tensor], Tensor]]], list[int]]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Register the objective "scripted", its loss chosen by (how many were built, scale); gives the scales built."""

    def register(choose: Callable[[int, int], Callable[[Tensor], Tensor]]) -> list[int]:
        built: list[int] = []

        def build(config: Any, channels: Any, width: Any, generator: Any, device: Any, below: Any) -> Scripted:
            scale = 0 if below is None else built[-1] + 1
            objective = Scripted(choose(len(built), scale))
            built.append(scale)
            return objective

        monkeypatch.setitem(OBJECTIVES._parts, "scripted", build)
        return built

    return register


def _calm(fake: Tensor) -> Tensor:
    return fake.square().mean()


def _broken(fake: Tensor) -> Tensor:
    return fake.mean() * float("nan")


def _inputs_of(pixels: Pixels) -> dict[str, Any]:
    return {
        "pil": Image.fromarray(pixels),
        "float32": _chw(pixels) / 255,
        "float64": _chw(pixels).double() / 255,
        "uint8": _chw(pixels),
        "strided": _chw(pixels).flip(2).flip(2),
    }


@pytest.fixture(scope="module")
def small() -> Pyramid:
    return fit(SMALL, quick())


@pytest.mark.parametrize("kind", sorted(_inputs_of(SMALL)))
def test_every_kind_of_image_gives_the_same_pyramid(small: Pyramid, kind: str) -> None:
    assert _same(fit(_inputs_of(SMALL)[kind], quick()), small)


@pytest.mark.parametrize("config", [quick(), quick_paper()], ids=["quick", "paper"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_are_fitted(channels: int, config: FitConfig) -> None:
    pyramid = fit(make_photo(20, 26, channels=3)[..., :channels], config)
    assert pyramid.channels == channels
    assert draw(pyramid, 2).shape == (2, channels, 20, 26)
    assert reconstruct(pyramid).shape == (1, channels, 20, 26)


def test_a_flat_array_is_fitted_as_grey() -> None:
    assert _same(fit(SMALL[..., 0], quick()), fit(SMALL[..., :1], quick()))


@pytest.mark.parametrize("config", [quick(), quick_paper()], ids=["quick", "paper"])
def test_the_same_image_and_config_give_the_same_bits(config: FitConfig) -> None:
    assert _same(fit(SMALL, config), fit(SMALL, config))


def test_another_seed_gives_other_weights(small: Pyramid) -> None:
    assert not _same(fit(SMALL, quick(seed=1)), small)


def test_another_image_gives_other_weights(small: Pyramid) -> None:
    assert not _same(fit(SMALL[:, ::-1], quick()), small)


def test_the_global_generators_do_not_matter(small: Pyramid) -> None:
    before = torch.get_rng_state()
    torch.manual_seed(123)
    np.random.seed(123)
    random.seed(123)
    again = fit(SMALL, quick())
    torch.set_rng_state(before)
    assert _same(again, small)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_does_not_matter(small: Pyramid, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = fit(SMALL, quick())
    finally:
        torch.set_num_threads(before)
    assert _same(again, small)


def test_reporting_does_not_change_the_result(small: Pyramid) -> None:
    assert _same(fit(SMALL, quick(), on_event=Recorder()), small)


def test_the_image_is_left_as_it_is() -> None:
    tensor = _chw(SMALL) / 255
    before = tensor.clone()
    fit(tensor, quick())
    assert torch.equal(tensor, before)


def test_the_pyramid_carries_its_config(small: Pyramid) -> None:
    assert small.config == quick()


def test_the_pyramid_has_the_sizes_of_its_scales(small: Pyramid) -> None:
    assert tuple(scale.size for scale in small.scales) == scale_sizes((20, 26), quick())


def test_a_large_image_is_shrunk() -> None:
    assert fit(make_photo(40, 80), quick(finest_px=40)).size == (20, 40)


def test_generators_end_in_eval_mode_without_gradients(paper_like: Pyramid) -> None:
    for scale in convolutional_scales(paper_like):
        assert not any(module.training for module in scale.generator.modules())
        assert not any(parameter.requires_grad for parameter in scale.generator.parameters())


def test_no_tensor_of_a_pyramid_carries_a_graph(paper_like: Pyramid) -> None:
    assert [name for name, tensor in paper_like.tensors().items() if tensor.requires_grad] == []


def test_every_tensor_of_a_pyramid_is_finite_float32(paper_like: Pyramid) -> None:
    for tensor in paper_like.tensors().values():
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()


def test_training_moves_the_weights() -> None:
    still, moved = (fit(SMALL, quick(learning_rate=rate)).tensors() for rate in (1e-9, 1e-2))
    name = "scales.0.generator.body.0.0.weight"
    assert (still[name] - moved[name]).abs().max() > 1e-3


def test_more_steps_reconstruct_better() -> None:
    config = quick(learning_rate=5e-3, objective_weight=0.0)
    short, long = (
        fit(SMALL, config.replace(steps_coarsest=steps, steps_finer=steps)).provenance["reconstruction_rmse"]
        for steps in (1, 40)
    )
    assert long[0] < short[0]
    assert long[-1] < short[-1]


def test_the_provenance_records_versions_device_and_errors(small: Pyramid) -> None:
    assert small.provenance["torch"] == torch.__version__
    assert small.provenance["device"] == "cpu"
    assert small.provenance["attempt"] == 0
    assert small.provenance["process_sec"] > 0
    assert len(small.provenance["reconstruction_rmse"]) == len(small)


@pytest.fixture(scope="module")
def events() -> list[FitEvent]:
    recorder = Recorder()
    fit(SMALL, quick(steps_coarsest=25, steps_finer=20), on_event=recorder)
    return recorder.events


def test_events_come_in_order(events: list[FitEvent]) -> None:
    places = [(event.scale, event.step) for event in events]
    assert places == sorted(set(places))


def test_every_scale_is_reported(events: list[FitEvent]) -> None:
    assert {event.scale for event in events} == set(range(SCALES))
    assert {event.scales for event in events} == {SCALES}


def test_the_last_event_of_a_scale_is_at_its_last_step(events: list[FitEvent]) -> None:
    last = {event.scale: (event.step, event.steps) for event in events}
    assert last == {0: (25, 25), **dict.fromkeys(range(1, SCALES), (20, 20))}


def test_a_scale_is_reported_more_than_once(events: list[FitEvent]) -> None:
    assert all(sum(event.scale == scale for event in events) > 1 for scale in range(SCALES))


def test_events_carry_finite_losses_by_name(events: list[FitEvent]) -> None:
    for event in events:
        assert set(event.losses) == {"sliced_wasserstein", "reconstruction"}
        assert all(np.isfinite(loss) for loss in event.losses.values())


def test_events_of_a_critic_carry_its_losses() -> None:
    recorder = Recorder()
    fit(SMALL, quick_paper(steps_coarsest=10), on_event=recorder)
    assert set(recorder.events[0].losses) == {"critic", "penalty", "wgan_gp", "reconstruction"}


def test_events_of_a_fit_that_went_well_are_of_attempt_zero(events: list[FitEvent]) -> None:
    assert {event.attempt for event in events} == {0}


def test_an_error_of_the_listener_ends_the_fit() -> None:
    def stop(event: FitEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, quick(), on_event=stop)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((30, 30, 3), 9, np.uint8), "same value"),
        (np.full((30, 30), 9, np.uint8), "same value"),
        (np.dstack([np.full((30, 30, 3), 9, np.uint8), make_photo(30, 30)[..., :1]]), "same value"),
        (make_photo(11, 40), "got 40x11"),
        (make_photo(40, 11), "got 11x40"),
        (make_photo(20, 600), "got 600x20, fitted at 250x8"),
        (np.zeros((30, 30, 2), np.uint8), r"\[30, 30, 2\]"),
    ],
)
def test_an_image_without_structure_is_refused(pixels: Pixels, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        fit(pixels, quick())


def test_an_image_that_cannot_be_fitted_trains_nothing() -> None:
    recorder = Recorder()
    with pytest.raises(ImageError):
        fit(np.full((30, 30, 3), 9, np.uint8), quick(), on_event=recorder)
    assert recorder.events == []


def test_one_pixel_that_differs_is_structure_enough() -> None:
    pixels = np.full((30, 30, 3), 9, np.uint8)
    pixels[-1, -1, -1] = 10
    refuse_constant(pixels)


def test_nan_losses_end_the_fit_after_two_attempts(scripted: Register) -> None:
    built = scripted(lambda count, scale: _broken)
    with pytest.raises(FitDivergedError, match="non-finite"):
        fit(SMALL, quick(loss="scripted"))
    assert built == [0, 0]


def test_a_diverged_fit_names_the_scale(scripted: Register) -> None:
    built = scripted(lambda count, scale: _broken if scale == 1 else _calm)
    with pytest.raises(FitDivergedError) as caught:
        fit(SMALL, quick(loss="scripted"))
    assert caught.value.scale == 1
    assert built == [0, 1, 0, 1]


def test_a_diverged_fit_names_the_step(scripted: Register) -> None:
    scripted(lambda count, scale: _broken)
    with pytest.raises(FitDivergedError) as caught:
        fit(SMALL, quick(loss="scripted", steps_coarsest=100))
    assert 0 <= caught.value.step < 20
    assert f"step {caught.value.step}" in str(caught.value)


def test_infinite_losses_are_divergence(scripted: Register) -> None:
    scripted(lambda count, scale: lambda fake: fake.mean() / 0.0)
    with pytest.raises(FitDivergedError):
        fit(SMALL, quick(loss="scripted"))


def test_a_second_attempt_may_succeed(scripted: Register) -> None:
    scripted(lambda count, scale: _broken if count == 0 else _calm)
    assert fit(SMALL, quick(loss="scripted")).provenance["attempt"] == 1


def test_a_second_attempt_has_other_noise(scripted: Register) -> None:
    scripted(lambda count, scale: _broken if count == 0 else _calm)
    second = fit(SMALL, quick(loss="scripted", anchor="none"))
    scripted(lambda count, scale: _calm)
    first = fit(SMALL, quick(loss="scripted", anchor="none"))
    assert not torch.equal(z_star(second), z_star(first))


def test_a_second_attempt_is_deterministic(scripted: Register) -> None:
    pyramids = []
    for _ in range(2):
        scripted(lambda count, scale: _broken if count == 0 else _calm)
        pyramids.append(fit(SMALL, quick(loss="scripted")))
    assert _same(*pyramids)


def test_events_carry_the_attempt(scripted: Register) -> None:
    scripted(lambda count, scale: _broken if count == 1 else _calm)
    recorder = Recorder()
    fit(SMALL, quick(loss="scripted"), on_event=recorder)
    assert [(event.attempt, event.scale) for event in recorder.events][:3] == [(0, 0), (1, 0), (1, 1)]


def test_draws_that_are_constant_are_a_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights of zero turn noise over nothing into nothing.
    monkeypatch.setattr(
        "singan_aug.fitting.generated.fitter.initialise",
        lambda network, rng: [p.data.zero_() for p in network.parameters()],
    )
    config = quick(anchor="none", learning_rate=1e-9)
    with pytest.raises(FitDivergedError, match="collapsed") as caught:
        fit(SMALL, config)
    assert caught.value.scale == 0


def test_a_diverged_fit_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(FitDivergedError("training went non-finite", scale=3, step=70)))
    assert type(error) is FitDivergedError
    assert (error.reason, error.scale, error.step) == ("training went non-finite", 3, 70)
    assert str(error) == "training went non-finite at scale 3, step 70"


def test_a_diverged_fit_is_a_runtime_error_of_this_package() -> None:
    assert issubclass(FitDivergedError, RuntimeError)
    assert issubclass(FitDivergedError, SinGANAugError)


@pytest.mark.parametrize("part", ["block", "resample", "anchor", "amplitude", "loss", "decay", "padding"])
def test_an_unknown_part_is_a_config_error_with_its_name(part: str) -> None:
    with pytest.raises(ConfigError, match="'nonesuch'"):
        fit(SMALL, quick(**{part: "nonesuch"}))


@pytest.mark.parametrize("part", ["block", "resample", "anchor", "amplitude", "loss", "decay", "padding"])
def test_an_unknown_part_is_noticed_before_training(part: str) -> None:
    recorder = Recorder()
    with pytest.raises(ConfigError):
        fit(SMALL, quick(**{part: "nonesuch"}), on_event=recorder)
    assert recorder.events == []


@pytest.mark.parametrize(
    "config",
    [quick_paper(coarsest_px=8), quick(layers=16)],
    ids=["coarsest", "padding"],
)
def test_networks_deeper_than_their_input_are_fitted_or_refused(config: FitConfig) -> None:
    try:
        fit(SMALL, config)
    except (ConfigError, ImageError) as refused:
        assert "px" in str(refused) or "layers" in str(refused)  # noqa: PT017


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_fit_uses_one_thread_and_gives_the_others_back() -> None:
    seen = []
    fit(SMALL, quick(), on_event=lambda event: seen.append(torch.get_num_threads()))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_fit_that_fails_gives_the_threads_back(scripted: Register) -> None:
    scripted(lambda count, scale: _broken)
    with pytest.raises(FitDivergedError):
        fit(SMALL, quick(loss="scripted"))
    assert torch.get_num_threads() == 2


def test_the_coarsest_scale_has_its_own_steps() -> None:
    config = quick(steps_coarsest=7, steps_finer=3)
    assert [scale_steps(scale, generated_of(config).schedule) for scale in range(3)] == [7, 3, 3]


def test_the_cosine_schedule_runs_from_the_rate_towards_its_drop() -> None:
    config = generated_of(quick(decay="cosine", learning_rate=0.1, learning_rate_drop=0.2)).schedule
    assert learning_rate(0, 1000, config) == pytest.approx(0.1)
    assert learning_rate(500, 1000, config) == pytest.approx(0.06)
    assert learning_rate(999, 1000, config) == pytest.approx(0.02, rel=1e-3)


def test_the_share_of_the_work_grows_to_one(events: list[FitEvent]) -> None:
    shares = [event.share for event in events]
    assert shares == sorted(set(shares))
    assert shares[0] > 0
    assert shares[-1] == pytest.approx(1)


def test_the_share_starts_again_with_a_second_attempt(scripted: Register) -> None:
    scripted(lambda count, scale: _broken if count == 1 else _calm)
    recorder = Recorder()
    fit(SMALL, quick(loss="scripted"), on_event=recorder)
    assert recorder.events[0].share == recorder.events[1].share


def test_the_steps_of_the_work_are_those_of_the_fit(events: list[FitEvent]) -> None:
    work = fit_work((20, 26), 3, quick(steps_coarsest=25, steps_finer=20))
    steps = {event.scale: event.steps for event in events}
    assert [scale.steps for scale in work] == [steps[k] for k in range(SCALES)]


def test_the_load_grows_with_steps_width_batch_and_channels() -> None:
    def load(channels: int = 3, **changes: Any) -> float:
        return sum(scale.load for scale in fit_work(PHOTO_SIZE, channels, quick(**changes)))

    assert load(steps_coarsest=8, steps_finer=6) == pytest.approx(2 * load())
    assert load(width=16) > load()
    assert load(batch=2) > load()
    assert load(channels=1) < load()


def test_the_work_of_the_paper_is_that_of_its_facts() -> None:
    # 7 to 13 PFLOP, two to a multiply-add; with backward passes a step costs three to five times its forward ones.
    # 73 to 90 % of it is in the 128-channel scales.
    macs = [scale.steps * scale.step_macs for scale in fit_work((188, 250), 3, paper())]
    assert 7e15 / 2 / 5 < sum(macs) < 13e15 / 2 / 3
    assert 0.73 <= sum(macs[8:]) / sum(macs) <= 0.9


def test_the_default_config_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stop(size: tuple[int, int], config: FitConfig) -> tuple[int, int]:
        seen.append(config)
        raise ImageError("stop here")

    monkeypatch.setattr("singan_aug.fitting.fitting.working_size", stop)
    with pytest.raises(ImageError, match="stop here"):
        fit(SMALL)
    assert seen == [fast()]
