"""FitConfig: everything that decides how a pyramid is fitted, as one frozen value, and the presets built from it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import xxhash
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from singan_aug.errors import ConfigError

__all__ = ["PRESETS", "FitConfig", "best", "fast", "paper", "preset", "smooth"]

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]  # -0.0 is 0.0


class FitConfig(BaseModel):
    """How a pyramid is fitted: sizes, networks, noise, objective, schedule and seed.

    Frozen and validated. Parts (`kind`, `block`, `resample`, `anchor`, `noise`, `objective`, `schedule`) are names
    that the room which owns the part registers; an unknown name is a `ConfigError` when the part is built. The values
    below are the paper's, so a preset reads as its departures from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # Sizes of the scales (pyramid/sizes.py)
    coarsest_px: Annotated[int, Field(ge=8)] = 25  # short side of the coarsest scale
    finest_px: Annotated[int, Field(ge=16)] = 250  # long side of the finest scale, at most
    scale_factor: Annotated[float, Field(gt=0.1, lt=0.96)] = 0.75  # nominal ratio between neighbouring scales

    # What a scale is made of (pyramid/generated/scale.py, pyramid/copied/scale.py)
    kind: str = "convolutional"  # registered kind of pyramid: trained generators, or patches copied from the source
    patch_px: Annotated[int, Field(ge=1, le=31)] = 7  # side of the patches that are compared, here and in objectives

    # Patches: nothing is trained (pyramid/copied/scale.py)
    descriptor_dims: Positive = 16  # principal components in which patches are compared
    shift_px: NonNegative = 2.0  # standard deviation of the shift at the start scale, in its pixels
    shift_decay: Fraction = 1.0  # factor of the shift for each scale further up that a draw starts
    shift_cells: Positive = 2  # cells of the random field of shifts along the short side
    shift_step_px: Annotated[int, Field(ge=0)] = 3  # shifts are rounded to this, so that regions move as one; 0: not
    seam_passes: Annotated[int, Field(ge=0)] = 0  # passes that lay seams where they show least; 0: where they fall
    seam_blend_px: NonNegative = 3.0  # low frequencies of neighbouring pieces are blended so far; 0: exact copies
    match_tolerance: NonNegative = 1e-2  # squared difference (in [-1, 1]) up to which a place is not improved

    # Networks (pyramid/generated/blocks.py, pyramid/generated/networks.py)
    block: str = "conv"  # registered architecture of one layer
    layers: Annotated[int, Field(ge=2, le=16)] = 5  # layers of each network, head and tail included
    width: Positive = 32  # channels of the coarsest scale
    width_max: Positive = 128  # channels are never more
    width_doubles_every: Annotated[int, Field(ge=0)] = 4  # scales after which the width doubles; 0: never
    batch_norm: bool = True  # BatchNorm after each hidden convolution
    padding: str = "zeros"  # what surrounds a generator's input: zeros, reflect or replicate

    # Between scales, and what enters the coarsest one (pyramid/resample.py, pyramid/noise.py)
    resample: str = "bicubic"  # registered resampling
    anchor: str = "none"  # registered image under the coarsest scale's noise: none, or the blurred source
    anchor_blur_px: NonNegative = 0.0  # standard deviation of that blur, in pixels of the coarsest scale
    noise: str = "global"  # registered rule for the noise amplitude of each scale
    noise_coarsest: NonNegative = 1.0  # amplitude at the coarsest scale
    noise_coarsest_shared: bool = True  # one channel of noise there, repeated to all
    noise_gain: NonNegative = 0.1  # finer scales: times the RMSE of the upsampled reconstruction

    # Objective (fitting/generated/losses.py, fitting/generated/objectives.py)
    objective: str = "wgan_gp"  # registered training objective
    objective_weight: NonNegative = 1.0  # weight of the objective in the generator's loss
    penalty_weight: NonNegative = 0.1  # gradient penalty of the critic
    reconstruction_weight: NonNegative = 10.0  # mean squared error of the reconstruction
    projections: Positive = 64  # random projections a step in sliced objectives

    # Schedule (fitting/generated/schedule.py)
    schedule: str = "step"  # registered course of the learning rate
    steps_coarsest: Positive = 2000  # iterations at the coarsest scale
    steps_finer: Positive = 2000  # iterations at every other scale
    critic_updates: Annotated[int, Field(ge=0)] = 3  # critic updates in each iteration; 0 for objectives without one
    generator_updates: Positive = 3  # generator updates in each iteration
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 5e-4
    learning_rate_drop_at: Fraction = 0.8  # progress at which the step schedule drops
    learning_rate_drop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1  # factor of that drop, or at the end of a decay
    beta1: Decay = 0.5  # Adam
    beta2: Decay = 0.999  # Adam
    batch: Positive = 1  # draws in each update
    refresh_steps: Positive = 1  # iterations for which a draw of the scales below is kept

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @model_validator(mode="after")
    def _sides_are_ordered(self) -> FitConfig:
        if self.finest_px < self.coarsest_px:
            raise ValueError(f"finest_px ({self.finest_px}) must be at least coarsest_px ({self.coarsest_px})")
        return self

    def replace(self, **changes: Any) -> FitConfig:
        """A copy with some fields changed, validated again. Raises `ConfigError`."""
        return FitConfig(**{**self.model_dump(), **changes})

    @property
    def carries_masks(self) -> bool:
        """Whether a mask can ride along: only where pixels are copied, not generated."""
        return self.kind == "patches"

    def to_json(self) -> str:
        """The whole config as one line of JSON with sorted keys."""
        return json.dumps(self.model_dump(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FitConfig:
        """The inverse of `to_json`. Raises `ConfigError` for anything else."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"expected a FitConfig as JSON, got text that is not JSON ({error})") from None
        if not isinstance(values, dict):
            raise ConfigError(f"expected a FitConfig as a JSON object, got {type(values).__name__}")
        return cls(**values)

    def digest(self) -> str:
        """32 hexadecimal digits (xxh3-128), equal exactly when the configs are equal.

        Over the fields that differ from their defaults, so that a field added later changes no digest.
        """
        changed = self.model_dump(exclude_defaults=True)
        return xxhash.xxh3_128_hexdigest(json.dumps(changed, sort_keys=True).encode())


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{field}: {message}, got {problem['input']!r}" if field else message)
    return "invalid FitConfig: " + "; ".join(lines)


def paper(**changes: Any) -> FitConfig:
    """The recipe of Shaham et al. (ICCV 2019), number for number; departures are listed in docs/departures.md."""
    return FitConfig(**changes)


def fast(**changes: Any) -> FitConfig:
    """The default: patches copied from the source in coherent pieces. Nothing is trained, so a fit takes a moment."""
    return FitConfig(**{"kind": "patches", "scale_factor": 0.45, "patch_px": 5, **changes})


def best(**changes: Any) -> FitConfig:
    """Patches as `fast` copies them, with seams laid where they show least: the same fit, slower draws."""
    return fast(**{"shift_px": 2.4, "seam_passes": 20, **changes})


def smooth(**changes: Any) -> FitConfig:
    """Patches as `fast` copies them, moved by a smooth field: things bend where `fast` cuts them, as suits writing."""
    return fast(**{"shift_px": 1.6, "shift_step_px": 0, **changes})


PRESETS = {"best": best, "fast": fast, "paper": paper, "smooth": smooth}


def preset(name: str, **changes: Any) -> FitConfig:
    """The preset of that name with some fields changed. Raises `ConfigError` for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"expected a preset out of {', '.join(sorted(PRESETS))}, got {name!r}")
    return PRESETS[name](**changes)
