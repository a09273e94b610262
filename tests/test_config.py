from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from singan_aug.config import PRESETS, FitConfig, best, fast, paper, preset, smooth
from singan_aug.errors import ConfigError, SinGANAugError

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
    ("patch_px", 32),
    ("projections", 0),
    ("steps_coarsest", 0),
    ("steps_finer", 0),
    ("critic_updates", -1),
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
        FitConfig(**{field: value})
    assert f"{field}: " in str(caught.value)
    assert f"got {value!r}" in str(caught.value)


def test_every_invalid_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"width: .*got 0.*seed: .*got -1"):
        FitConfig(width=0, seed=-1)


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="widht"):
        FitConfig(widht=32)


def test_finest_is_at_least_coarsest() -> None:
    with pytest.raises(ConfigError, match=r"finest_px \(20\).*coarsest_px \(21\)"):
        FitConfig(coarsest_px=21, finest_px=20)


def test_finest_may_equal_coarsest() -> None:
    assert FitConfig(coarsest_px=20, finest_px=20).finest_px == 20


def test_a_config_error_is_a_value_error_of_this_package() -> None:
    with pytest.raises(ValueError, match="width") as caught:
        FitConfig(width=0)
    assert isinstance(caught.value, SinGANAugError)


def test_a_config_is_frozen() -> None:
    config = FitConfig()
    with pytest.raises(ValidationError):
        config.width = 64  # type: ignore[misc]
    assert config.width == FitConfig().width


def test_equal_configs_hash_alike() -> None:
    assert len({FitConfig(seed=1), FitConfig(seed=1), FitConfig(seed=2)}) == 2


def test_a_config_survives_pickling() -> None:
    config = fast(seed=5)
    assert pickle.loads(pickle.dumps(config)) == config


@UNHURRIED
@given(CHANGES)
def test_json_round_trip(changes: dict[str, Any]) -> None:
    config = FitConfig(**changes)
    assert FitConfig.from_json(config.to_json()) == config


@UNHURRIED
@given(CHANGES, CHANGES)
def test_digests_are_equal_exactly_when_configs_are(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, other = FitConfig(**a), FitConfig(**b)
    assert (one.digest() == other.digest()) == (one == other)


@UNHURRIED
@given(CHANGES)
def test_a_digest_survives_the_json_round_trip(changes: dict[str, Any]) -> None:
    config = FitConfig(**changes)
    assert FitConfig.from_json(config.to_json()).digest() == config.digest()


@pytest.mark.parametrize("field", sorted(FitConfig.model_fields))
def test_every_field_changes_the_digest(field: str) -> None:
    value = getattr(FitConfig(), field)
    other: Any
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, str):
        other = value + "_other"
    elif isinstance(value, int):
        other = value + 1
    else:
        other = value * 0.9 if value else 0.5
    assert FitConfig(**{field: other}).digest() != FitConfig().digest()


def test_an_integer_for_a_float_has_the_same_digest() -> None:
    assert FitConfig(noise_gain=1).digest() == FitConfig(noise_gain=1.0).digest()


def test_negative_zero_has_the_digest_of_zero() -> None:
    assert FitConfig(noise_gain=-0.0).digest() == FitConfig(noise_gain=0.0).digest()


def test_a_digest_is_32_hexadecimal_digits() -> None:
    digest = FitConfig().digest()
    assert len(digest) == 32
    assert int(digest, 16) >= 0


def test_json_is_one_line_with_sorted_keys() -> None:
    text = FitConfig().to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(FitConfig.model_fields)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"fast"', '{"width": 0}', '{"widht": 1}', '{"seed": NaN}']
)
def test_from_json_refuses_what_is_not_a_config(text: str) -> None:
    with pytest.raises(ConfigError):
        FitConfig.from_json(text)


def test_from_json_refuses_a_field_called_self() -> None:
    with pytest.raises(ConfigError):
        FitConfig.from_json('{"self": 1}')


def test_replace_changes_what_is_named_and_nothing_else() -> None:
    config = fast(seed=3)
    changed = config.replace(width=7)
    assert {**config.model_dump(), "width": 7} == changed.model_dump()


def test_replace_leaves_the_original() -> None:
    config = FitConfig()
    config.replace(width=7)
    assert config == FitConfig()


def test_replace_validates() -> None:
    with pytest.raises(ConfigError, match=r"width: .*got 0"):
        FitConfig().replace(width=0)


def test_replace_validates_fields_together() -> None:
    with pytest.raises(ConfigError, match="finest_px"):
        FitConfig(coarsest_px=25).replace(finest_px=20)


def test_replace_refuses_an_unknown_field() -> None:
    with pytest.raises(ConfigError, match="widht"):
        FitConfig().replace(widht=1)


def test_the_defaults_are_the_paper() -> None:
    assert FitConfig() == paper()


def test_fast_is_not_the_paper() -> None:
    assert fast().digest() != paper().digest()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_takes_changes(name: str) -> None:
    assert preset(name, seed=9, width=5) == preset(name).replace(seed=9, width=5)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_refuses_an_invalid_change(name: str) -> None:
    with pytest.raises(ConfigError, match="seed"):
        preset(name, seed=-1)


def test_presets_are_found_by_name() -> None:
    assert (preset("best"), preset("fast"), preset("paper")) == (best(), fast(), paper())
    assert preset("smooth") == smooth() != fast()


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"best, fast, paper.*'quick'"):
        preset("quick")


@pytest.mark.parametrize("field", ["beta1", "beta2"])
def test_a_beta_is_below_one(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        FitConfig(**{field: 1.0})
