"""The ablation: unless parts are swapped its stack is the package's; its parts begin right; its rows count right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import _questions
from benchmarks._ablation_rows import Arms, rows_of, with_kept
from benchmarks._arms import ARMS, QUESTIONS, config_of
from benchmarks._result import Row
from benchmarks._stack import LearnedNoise, Parts, Trained, Upsampled, fit_stack, own_parts, trained_stack
from singan_aug._registry import Registry
from singan_aug.fitting.generated.fitter import fit_generated
from singan_aug.pyramid import draw
from singan_aug.pyramid.generated.blocks import BLOCKS
from singan_aug.pyramid.generated.networks import Generator
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import generator_for
from tests.conftest import generated_of, make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def parts_that_are_not_the_packages() -> Iterator[None]:
    with own_parts():
        yield


SIZES = ((16, 18), (22, 25), (30, 34))
CONFIG = generated_of(quick(loss="wgan_gp", objective_weight=1.0, critic_updates=1, batch=2, refresh_steps=1))


def _real() -> Tensor:
    return torch.rand(1, 3, *SIZES[-1], generator=generator_for("real")) * 2 - 1


def _trained(**parts: Any) -> Trained:
    return trained_stack(_real(), SIZES, CONFIG, "bicubic", (0, 0), Parts(**parts))


def _weights(scale: GeneratedScale) -> Tensor:
    return torch.cat([value.flatten() for value in scale.generator.state_dict().values()])


def test_without_swapped_parts_a_stack_is_what_the_package_trains() -> None:
    expected = fit_generated(_real(), SIZES, CONFIG, "bicubic", (0, 0), lambda *_: None)
    for own, scale in zip(_trained().scales, expected, strict=True):
        for name, tensor in scale.stored().items():
            assert torch.equal(own.stored()[name], tensor), name


def test_training_two_scales_together_changes_the_lower_one_and_what_it_hands_on() -> None:
    alone, together = _trained(), _trained(together=2)
    assert set(together.norms) == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)}
    assert not torch.equal(_weights(alone.scales[0]), _weights(together.scales[0]))
    for below, scale in zip(together.scales, together.scales[1:], strict=False):
        assert torch.equal(scale.entering, below.reconstruct())


@pytest.mark.parametrize("losses", ["newest", "all"])
def test_end_to_end_trains_every_scale_in_one_stage(losses: str) -> None:
    trained = _trained(together=0, losses=losses)
    assert set(trained.norms) == {(2, 0), (2, 1), (2, 2)}
    assert all(norm > 0 for norms in trained.norms.values() for norm in norms)


def test_a_constant_amplitude_is_constant_above_the_coarsest() -> None:
    amplitudes = [float(scale.amplitude.mean()) for scale in _trained(noise=0.25).scales]
    assert amplitudes == pytest.approx([CONFIG.noise.noise_coarsest, 0.25, 0.25])


def test_a_factor_of_the_noise_is_learned_for_each_finer_scale() -> None:
    gains = _trained(noise="learned").gains
    assert len(gains) == 2
    assert all(gain not in (0.0, 1.0) for gain in gains)


class _Echo(torch.nn.Module):
    def forward(self, entering: Tensor, noise: Tensor) -> Tensor:
        return entering + noise


@pytest.mark.parametrize(("how", "mode"), [("transposed", "bilinear"), ("subpixel", "nearest")])
def test_a_learned_upsampling_begins_as_a_plain_one(how: str, mode: str) -> None:
    image = torch.rand(2, 3, 7, 9, generator=generator_for("below"))
    made = Upsampled(_Echo(), 3, (14, 18), how)(image, torch.zeros(1, 1, 1, 1))
    torch.testing.assert_close(made, F.interpolate(image, (14, 18), mode=mode), rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["transposed", "subpixel"])
def test_a_learned_upsampling_learns(how: str) -> None:
    scale = _trained(upsampling=how).scales[1]
    assert isinstance(scale.generator, Upsampled)
    begun = Upsampled(_Echo(), 3, scale.size, how).weight
    assert not torch.equal(scale.generator.weight, begun)


def test_a_learned_factor_multiplies_the_noise() -> None:
    module = LearnedNoise(_Echo())
    module.log_gain.data.fill_(float(np.log(3)))
    torch.testing.assert_close(module(torch.zeros(1), torch.ones(1)), torch.full((1,), 3.0))


def test_squeeze_and_excitation_weighs_channels_by_the_whole_image() -> None:
    block = BLOCKS["squeeze_excitation"](3, 8, False)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, generator=generator_for("weights"))
    image = torch.rand(1, 3, 14, 19, generator=generator_for("image"))
    changed = image.clone()
    changed[..., 10:, 10:] += 1
    ratio = block(changed)[..., :6, :6] / block(image)[..., :6, :6]
    assert block(image).shape == (1, 8, 12, 17)
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-4)
    assert (ratio[..., 0, 0] - 1).abs().max() > 1e-3


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_has_a_config_whose_parts_are_there(name: str) -> None:
    config = config_of(ARMS[name], seed=3, steps=7)
    assert generated_of(config).networks.block in list(BLOCKS)
    assert generated_of(config).schedule.steps_coarsest == 7
    assert config.seed == 3


def test_every_question_begins_with_its_base() -> None:
    for arms in QUESTIONS.values():
        first, *others = arms.values()
        assert others
        assert {ARMS[arm].base for arm in arms.values()} == {first}


def test_a_pyramid_with_swapped_parts_can_be_drawn_from() -> None:
    arm = ARMS["upsampling subpixel"]
    config = config_of(arm, seed=0, steps=1).replace(width=4)
    pyramid, _ = fit_stack(make_photo(96, 128), config, arm.parts)
    assert [isinstance(scale, GeneratedScale) for scale in pyramid.scales] == [True] * 3 + [False] * 3
    assert draw(pyramid, 2).shape == (2, 3, 96, 128)
    assert isinstance(pyramid.scales[0].generator, Generator)  # type: ignore[attr-defined]


def _cell(arm: str, photo: str, seed: int, sifid: float, diversity: float = 0.5, **more: Any) -> Row:
    scores = {"sifid": [sifid] * 3, "diversity": [diversity] * 3, "incoherence": [0.1] * 3}
    cell: Row = {"arm": arm, "photo": photo, "seed": seed, "steps": 5, "fit_sec": 1.0, "diverged": 0}
    return cell | {"finest": scores, "generated": scores} | more


def _cells(factor: float = 2.0, **more: Any) -> list[Row]:
    """Of the noise's arms, three photos and two seeds; the SIFID of "learned" is `factor` times that of the others."""
    cells = []
    for p, photo in enumerate("abc"):
        for seed in range(2):
            sifid = 0.3 * (p + 1) * (1 + seed)
            cells += [_cell(arm, photo, seed, sifid) for arm in ("stack", "noise constant", "noise local")]
            cells.append(_cell("noise learned", photo, seed, sifid * factor, **more))
    return cells


def _rows(cells: list[Row], what: str = "noise") -> list[Row]:
    return [row for row in rows_of(cells) if row["what"] == what]


def test_an_arm_that_is_twice_as_bad_on_every_photo_is_clearly_so() -> None:
    base, _, learned, _ = _rows(_cells())
    assert (base["arm"], base["sifid_ratio"]) == ("in proportion to RMSE", 1.0)
    assert learned["sifid_ratio"] == pytest.approx(2.0, rel=1e-2)
    assert 1.9 < learned["sifid_low"] <= learned["sifid_high"] < 2.1
    assert learned["sifid_mean_0"] == pytest.approx(2 * base["sifid_mean_0"], rel=1e-3)


def test_chance_within_a_photo_is_not_that_between_photos() -> None:
    base = _rows(_cells())[0]
    assert base["seed_deviation"] == pytest.approx(np.std(np.log([1, 2]), ddof=1), abs=2e-3)


def test_runs_that_collapsed_or_diverged_are_counted() -> None:
    cells = _cells()
    collapsed, diverged = (cell for cell in cells if cell["arm"] == "noise learned" and cell["photo"] == "a")
    collapsed["generated"] = {**collapsed["generated"], "diversity": [0.04]}
    del diverged["finest"], diverged["generated"]
    diverged["diverged"] = 1
    learned = _rows(cells)[2]
    assert (learned["diverged"], learned["collapsed"]) == pytest.approx((1 / 6, 1 / 6), abs=1e-3)


def test_only_what_every_arm_has_is_compared() -> None:
    unfinished = [*_cells(), _cell("stack", "d", 0, 99.0)]
    assert _rows(unfinished)[0]["sifid_mean_0"] == _rows(_cells())[0]["sifid_mean_0"]
    assert len(Arms.of(unfinished, ["stack", "noise learned"]).cells["stack"]) == 6
    assert _rows([cell for cell in unfinished if cell["arm"] != "noise local"]) == []


def _schedule() -> list[Row]:
    """Of the schedule's arms."""
    return [
        {**cell, "arm": arm} for arm in QUESTIONS["schedule"].values() for cell in _cells() if cell["arm"] == "stack"
    ]


def test_gradient_norms_are_medians_over_runs() -> None:
    cells = _schedule()
    for i, cell in enumerate(each for each in cells if each["arm"] == "stack"):
        cell["norms"] = [[0, 0, [float(i), 10.0]]]
    (row,) = _rows(cells, "gradient norm")
    assert (row["arm"], row["stage"], row["scale"]) == ("scale by scale", 0, 0)
    assert (row["median"], row["q25"], row["q75"]) == ([2.5, 10.0], [1.25, 10.0], [3.75, 10.0])


def test_learned_factors_are_told_by_scale() -> None:
    first, second = _rows(_cells(gains=[0.9, 1.1]), "learned factor of the noise")
    assert (first["scale"], first["factor"]["median"], second["factor"]["median"]) == (1, 0.9, 1.1)


def test_parts_are_registered_for_the_time_being_alone() -> None:
    registry: Registry[int] = Registry("number")
    with registry.with_part("one", 1):
        assert list(registry) == ["one"]
        with pytest.raises(ValueError, match="'one' is registered already"), registry.with_part("one", 2):
            pass
    assert list(registry) == []


def _page(cells: list[Row]) -> str:
    return _questions.page({"rows": rows_of(cells), "date": "today", "commit": "abc1234", "device": "a machine"})


@pytest.mark.parametrize(
    ("factor", "more", "answer"),
    [
        (
            2.0,
            {},
            "clearly worse than in proportion to RMSE: learned (2.00 (2.00 to 2.00))",
        ),
        (
            0.5,
            {},
            "clearly better than in proportion to RMSE: learned (0.50 (0.50 to 0.50))",
        ),
        (
            0.5,
            {"diversity": 0.25},
            "better or worse in SIFID, but diversity changes in the same way: learned (0.50 (0.50 to 0.50))",
        ),
        (1.0, {}, "no clear difference from in proportion to RMSE in 3 of 3 arms"),
    ],
)
def test_the_page_says_what_is_clear(factor: float, more: dict[str, Any], answer: str) -> None:
    text = _page(_cells(factor, **more))
    said = text.partition("**Answer.** ")[2].partition("\n")[0]
    assert said.startswith(f"At the finest scale: {answer}")
    assert "No fit diverged or collapsed." in said
    assert "6 fits by each arm, to 3 photos." in text


def test_the_page_says_whether_gradients_vanish() -> None:
    cells = _schedule()
    for cell in [each for each in cells if each["arm"] == "end to end, loss at the finest"]:
        cell["norms"] = [[2, 0, [0.02, 0.01, 0.01]], [2, 2, [1.0, 1.0, 1.0]]]
    assert "is 0.01 times that of the finest (median over the course of training; 0.02 in the first step" in _page(
        cells
    )
    assert "it vanishes." in _page(cells)


def test_a_start_scale_that_another_beats_is_named() -> None:
    cells = _cells()
    assert "no start scale has more diversity and less SIFID" in _page(cells)
    for cell in cells:
        cell["finest"] = {**cell["finest"], "sifid": [0.1, 0.3, 0.2], "diversity": [0.5, 0.4, 0.3]}
    assert "some start scale is better in both than 1 (three generated scales), 2 (three" in _page(cells)


def test_of_questions_with_more_fits_in_the_last_result_its_rows_are_kept() -> None:
    more, fewer = rows_of(_cells()), rows_of([cell for cell in _cells() if cell["seed"] == 0])
    kept = with_kept(fewer, {"commit": "abc1234", "rows": more})
    assert [row["runs"] for row in kept if row["what"] == "noise"] == [6] * 4
    assert {row["commit"] for row in kept if row["what"] == "noise"} == {"abc1234"}
    own = with_kept(more, {"commit": "abc1234", "rows": fewer})
    assert own == more
    text = _questions.page({"rows": kept, "date": "today", "commit": "def", "device": "a machine"})
    assert "6 fits by each arm, to 3 photos (an earlier run, commit abc1234)." in text


@pytest.mark.parametrize(
    ("factor", "so"), [(0.5, "to be taken: WGAN-GP"), (2.0, "stays; 3 tried, none clearly better")]
)
def test_the_page_says_what_the_preset_takes(factor: float, so: str) -> None:
    cells = [
        {**cell, "arm": arm, "finest": {**cell["finest"], "sifid": [cell["finest"]["sifid"][0] * times] * 3}}
        for arm in QUESTIONS["preset"].values()
        for times in [factor if arm == "preset, WGAN-GP" else 1.0]
        for cell in _cells()
        if cell["arm"] == "stack"
    ]
    line = next(line for line in _page(cells).splitlines() if line.startswith("| objective | sliced Wasserstein |"))
    assert line.endswith(f"| {so} |")
