from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from singan_aug.config import Copied, FitConfig, Generated, Networks, Noise, Objective, Schedule, Sizes
from singan_aug.errors import ConfigError, SinGANAugError
from singan_aug.presets import PRESETS, best, fast, learned, paper, preset, smooth

INVALID = [
    ("coarsest_px", 7),
    ("finest_px", 15),
    ("scale_factor", 0.1),
    ("scale_factor", 0.96),
    ("layers", 1),
    ("layers", 17),
    ("width", 0),
    ("width_max", 0),
    ("width_doubles_every", -1),
    ("batch_norm", "perhaps"),
    ("block", 3),
    ("anchor_blur_px", -0.5),
    ("noise_coarsest", float("inf")),
    ("noise_gain", -0.1),
    ("penalty_weight", float("nan")),
    ("reconstruction_weight", -1.0),
    ("patch_px", 0),
    ("patch_px", 33),
    ("compared_px", 32),
    ("completeness", 0.0),
    ("scales", 0),
    ("projections", 0),
    ("steps_coarsest", 0),
    ("steps_finer", 0),
    ("critic_updates", 0),
    ("generator_updates", 0),
    ("learning_rate", 0.0),
    ("learning_rate", float("nan")),
    ("learning_rate_drop_at", 1.5),
    ("learning_rate_drop", 0.0),
    ("beta1", -0.1),
    ("beta2", 1.1),
    ("batch", 0),
    ("refresh_steps", 0),
    ("seam_passes", -1),
    ("seed", -1),
    ("seed", 2**63),
    ("width", 1.5),
    ("width", None),
]

BASES = (paper(), fast(), learned(), paper(loss="sliced_wasserstein"))


def _base(leaf: str) -> FitConfig:
    """A config that has this leaf."""
    return next(config for config in BASES if leaf in config.leaves())


UNHURRIED = settings(deadline=None)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "coarsest_px": st.integers(8, 32),
        "width": st.integers(1, 64),
        "batch_norm": st.booleans(),
        "block": st.sampled_from(["conv", "residual"]),
        "noise_gain": st.floats(0, 4),
        "learning_rate": st.floats(1e-6, 1.0),
        "beta1": st.floats(0, 0.99),
        "seed": st.integers(0, 2**63 - 1),
    },
)


@pytest.mark.parametrize(("field", "value"), INVALID)
def test_an_invalid_value_names_its_field_and_what_was_got(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        _base(field).replace(**{field: value})
    assert f"{field}: " in str(caught.value)
    assert f"got {value!r}" in str(caught.value)


def test_every_invalid_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"width: .*got 0.*seed: .*got -1"):
        paper(width=0, seed=-1)


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="widht"):
        paper(widht=32)


def test_finest_is_at_least_coarsest() -> None:
    with pytest.raises(ConfigError, match=r"finest_px \(20\).*coarsest_px \(21\)"):
        fast(coarsest_px=21, finest_px=20)


def test_finest_may_equal_coarsest() -> None:
    assert fast(coarsest_px=20, finest_px=20).sizes.finest_px == 20


def test_a_config_error_is_a_value_error_of_this_package() -> None:
    with pytest.raises(ValueError, match="width") as caught:
        paper(width=0)
    assert isinstance(caught.value, SinGANAugError)


def test_a_config_is_frozen() -> None:
    config = paper()
    with pytest.raises(ValidationError):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.sizes.coarsest_px = 12  # type: ignore[misc]
    assert config == paper()


def test_equal_configs_hash_alike() -> None:
    assert len({paper(seed=1), paper(seed=1), paper(seed=2)}) == 2


def test_a_config_survives_pickling() -> None:
    config = fast(seed=5)
    assert pickle.loads(pickle.dumps(config)) == config


@UNHURRIED
@given(CHANGES)
def test_json_round_trip(changes: dict[str, Any]) -> None:
    config = paper(**changes)
    assert FitConfig.from_json(config.to_json()) == config


@UNHURRIED
@given(CHANGES, CHANGES)
def test_digests_are_equal_exactly_when_configs_are(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, other = paper(**a), paper(**b)
    assert (one.digest() == other.digest()) == (one == other)


@UNHURRIED
@given(CHANGES)
def test_a_digest_survives_the_json_round_trip(changes: dict[str, Any]) -> None:
    config = paper(**changes)
    assert FitConfig.from_json(config.to_json()).digest() == config.digest()


@pytest.mark.parametrize("base", BASES, ids=["paper", "fast", "learned", "sliced"])
def test_every_leaf_changes_the_digest(base: FitConfig) -> None:
    for leaf, value in base.leaves().items():
        other: Any
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, str):
            other = value + "_other"
        elif isinstance(value, int):
            other = value + 2
        else:
            other = value * 0.9 if value else 0.5
        assert base.replace(**{leaf: other}).digest() != base.digest(), leaf


def test_leaves_have_names_of_their_own() -> None:
    parts = (Sizes, Networks, Noise, Objective, Schedule, Copied)
    names = [name for part in parts for name in part.model_fields] + ["scales", "seed"]
    assert len(set(names)) == len(names)


NOT_THERE = [
    (fast, "steps_coarsest", "this config generates no scale"),
    (fast, "scales", "this config generates no scale"),
    (paper, "shift_px", "this config copies no scale"),
    (paper, "scales", "this config copies no scale"),
    (paper, "projections", "loss='wgan_gp'"),
    (paper, "anchor_blur_px", "anchor='none'"),
    (learned, "steps_finer", "scales=1"),
    (learned, "noise_gain", "scales=1"),
    (learned, "learning_rate_drop_at", "decay='cosine'"),
]


@pytest.mark.parametrize(("make", "leaf", "why"), NOT_THERE)
def test_a_leaf_that_does_not_apply_cannot_be_set(make: Callable[..., FitConfig], leaf: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"{leaf} does not apply.*{why}"):
        make(**{leaf: 1})


@pytest.mark.parametrize(("make", "leaf", "why"), NOT_THERE)
def test_a_leaf_that_does_not_apply_is_not_there(make: Callable[..., FitConfig], leaf: str, why: str) -> None:
    assert leaf not in make().leaves()
    assert f'"{leaf}"' not in make().to_json()


def test_a_leaf_that_applies_no_longer_is_left_out() -> None:
    sliced = paper(loss="sliced_wasserstein", projections=8)
    assert sliced.replace(loss="wgan_gp") == paper()
    assert learned(scales=2, steps_finer=9).replace(scales=1) == learned(milder_ratio=0.0)
    assert learned(generated=None, completeness=5e-3, match_tolerance=1e-2, drift_px=0.0) == fast()
    assert learned(generated=None, completeness=5e-3, match_tolerance=1e-2, drift_px=0.0).digest() == fast().digest()


def test_scales_that_are_neither_generated_nor_copied_are_refused() -> None:
    with pytest.raises(ConfigError, match="start from a preset"):
        FitConfig()


def test_how_many_scales_are_generated_is_said_where_others_are_copied() -> None:
    with pytest.raises(ConfigError, match="how many"):
        FitConfig(generated=Generated(), copied=Copied())
    with pytest.raises(ConfigError, match="copies no scale"):
        FitConfig(generated=Generated(scales=1))


def test_parts_may_be_given_whole() -> None:
    config = FitConfig(sizes=Sizes(scale_factor=0.45), copied=Copied(shift_px=1.0))
    assert config == fast(shift_px=1.0)
    assert fast().replace(copied=Copied(shift_px=1.0)) == config


def test_patches_have_a_middle() -> None:
    with pytest.raises(ConfigError, match="patch_px: expected an odd number"):
        fast(patch_px=4)


def test_an_integer_for_a_float_has_the_same_digest() -> None:
    assert paper(noise_gain=1).digest() == paper(noise_gain=1.0).digest()


def test_negative_zero_has_the_digest_of_zero() -> None:
    assert paper(noise_gain=-0.0).digest() == paper(noise_gain=0.0).digest()


def test_a_digest_is_32_hexadecimal_digits() -> None:
    digest = paper().digest()
    assert len(digest) == 32
    assert int(digest, 16) >= 0


def test_json_is_one_line_with_sorted_keys() -> None:
    text = learned().to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == ["copied", "generated", "seed", "sizes"]
    assert list(json.loads(text)["sizes"]) == sorted(Sizes.model_fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"fast"',
        "{}",
        '{"generated": {"networks": {"width": 0}}}',
        '{"copied": {"widht": 1}}',
        '{"copied": {}, "seed": NaN}',
    ],
)
def test_from_json_refuses_what_is_not_a_config(text: str) -> None:
    with pytest.raises(ConfigError):
        FitConfig.from_json(text)


def test_from_json_refuses_a_field_called_self() -> None:
    with pytest.raises(ConfigError):
        FitConfig.from_json('{"self": 1}')


def test_replace_changes_what_is_named_and_nothing_else() -> None:
    config = learned(seed=3)
    changed = config.replace(width=7)
    assert {**config.leaves(), "width": 7} == changed.leaves()


def test_replace_leaves_the_original() -> None:
    config = paper()
    config.replace(width=7)
    assert config == paper()


def test_replace_validates() -> None:
    with pytest.raises(ConfigError, match=r"width: .*got 0"):
        paper().replace(width=0)


def test_replace_validates_fields_together() -> None:
    with pytest.raises(ConfigError, match="finest_px"):
        fast(coarsest_px=25).replace(finest_px=20)


def test_replace_refuses_an_unknown_field() -> None:
    with pytest.raises(ConfigError, match="widht"):
        paper().replace(widht=1)


def test_the_defaults_are_the_paper() -> None:
    assert FitConfig(generated=Generated()) == paper()


def test_fast_is_not_the_paper() -> None:
    assert fast().digest() != paper().digest()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_takes_changes(name: str) -> None:
    assert preset(name, seed=9, finest_px=99) == preset(name).replace(seed=9, finest_px=99)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_refuses_an_invalid_change(name: str) -> None:
    with pytest.raises(ConfigError, match="seed"):
        preset(name, seed=-1)


def test_presets_are_found_by_name() -> None:
    assert (preset("best"), preset("fast"), preset("paper")) == (best(), fast(), paper())
    assert preset("smooth") == smooth() != fast()


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"best, fast, learned, paper.*'quick'"):
        preset("quick")


@pytest.mark.parametrize("field", ["beta1", "beta2"])
def test_a_beta_is_below_one(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        paper(**{field: 1.0})
