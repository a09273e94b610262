"""FitConfig: everything that decides how a pyramid is fitted, as one frozen value made of parts.

::

    FitConfig
      sizes        Sizes       of all scales
      generated    Generated   the coarser scales that small networks generate; None where there are none
        networks   Networks
        noise      Noise
        objective  Objective
        schedule   Schedule
      copied       Copied      the finer scales that copy patches of the source; None where there are none
      seed

A *leaf* is a field that is no part; its name is unique over all parts, so presets and `FitConfig.replace` take leaves
by name alone. A leaf that does not apply, because its part is absent or another leaf rules it out, cannot be set, and
is in no digest and no JSON. Defaults are the paper's (Shaham et al., ICCV 2019), those of `Copied` the preset `fast`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import xxhash
from pydantic import AfterValidator, Field, model_validator

from singan_aug._checks import MOST_SEED
from singan_aug._part import INVALID, Part, changed_values, values_of
from singan_aug.errors import ConfigError

__all__ = [
    "MOST_PX",
    "MOST_SEED",
    "Copied",
    "FitConfig",
    "Generated",
    "Networks",
    "Noise",
    "Objective",
    "Part",
    "Schedule",
    "Sizes",
]

# All numbers are bounded: a config may come out of a stranger's store, and draws are made with it.
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
MOST_PX = 65_536
Side = Annotated[int, Field(ge=8, le=MOST_PX)]  # in pixels
Width = Annotated[int, Field(ge=1, le=4096)]  # channels
Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]
# Of these and those above, -0.0 becomes 0.0.
NonNegative = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False), AfterValidator(lambda x: x + 0.0)]
Blur = Annotated[NonNegative, Field(le=100)]  # standard deviation in pixels
Shift = Annotated[NonNegative, Field(le=10_000)]  # in pixels
Step = Annotated[int, Field(ge=0, le=10_000)]  # in pixels
Passes = Annotated[int, Field(ge=0, le=1000)]

# The leaves that some losses alone have; a loss that is not named here may have any of them.
LEAVES_OF_LOSSES = {
    "wgan_gp": ("critic_updates", "penalty_weight", "penalty_every"),
    "non_saturating_r1": ("critic_updates", "penalty_weight", "penalty_every"),
    "hinge_spectral": ("critic_updates",),
    "semi_dual": ("critic_updates", "compared_px"),
    "sliced_wasserstein": ("projections", "compared_px"),
}


class Sizes(Part):
    """Sizes of the scales (pyramid/sizes.py)."""

    coarsest_px: Side = 25  # short side of the coarsest scale
    finest_px: Annotated[Side, Field(ge=16)] = 250  # long side of the finest scale, at most
    scale_factor: Annotated[float, Field(gt=0.1, lt=0.96)] = 0.75  # nominal ratio between neighbouring scales
    resample: str = "bicubic"  # registered resampling between scales (pyramid/resample.py)

    @model_validator(mode="after")
    def _sides_are_ordered(self) -> Sizes:
        if self.finest_px < self.coarsest_px:
            raise ValueError(f"finest_px ({self.finest_px}) must be at least coarsest_px ({self.coarsest_px})")
        return self


class Networks(Part):
    """Generators and critics (pyramid/generated/networks.py)."""

    block: str = "conv"  # registered architecture of one layer (pyramid/generated/blocks.py)
    layers: Annotated[int, Field(ge=2, le=16)] = 5  # layers of each network, head and tail included
    width: Width = 32  # channels of the coarsest scale
    width_max: Width = 128  # channels are never more
    width_doubles_every: Annotated[int, Field(ge=0, le=1000)] = 4  # scales after which the width doubles; 0: never
    batch_norm: bool = True  # BatchNorm after each hidden convolution
    padding: str = "zeros"  # what surrounds a generator's input: zeros, reflect or replicate


class Noise(Part):
    """What enters the coarsest scale, and how strong noise is (pyramid/noise.py)."""

    anchor: str = "none"  # registered image under the coarsest scale's noise: none, or the blurred source
    anchor_blur_px: Blur = 0.0  # standard deviation of that blur, in pixels of the coarsest scale
    anchor_shift_px: Shift = 0.0  # of the smooth random field that deforms it in every draw, in the same pixels
    noise_coarsest: NonNegative = 1.0  # amplitude at the coarsest scale
    noise_coarsest_shared: bool = True  # one channel of noise there, repeated to all
    amplitude: str = "global"  # registered rule for the amplitude at every other scale
    noise_gain: NonNegative = 0.1  # there: times the RMSE of the upsampled reconstruction

    def ruled_out(self) -> Mapping[str, str]:
        """What is done to an anchor where there is none."""
        return dict.fromkeys(("anchor_blur_px", "anchor_shift_px"), "anchor='none'") if self.anchor == "none" else {}


class Objective(Part):
    """What training minimises (fitting/generated/objectives.py)."""

    loss: str = "wgan_gp"  # registered: what tells a generator how close its draws are to the source
    objective_weight: NonNegative = 1.0  # weight of the loss
    reconstruction_weight: NonNegative = 10.0  # weight of the mean squared error of the reconstruction
    penalty_weight: NonNegative = 0.1  # gradient penalty of the critic
    penalty_every: Positive = 1  # critic updates of which one has the penalty, that many times as strong
    critic_updates: Positive = 3  # critic updates in each iteration
    projections: Positive = 64  # random projections a step in sliced distances
    compared_px: Annotated[int, Field(ge=1, le=31)] = 7  # side of the patches that are compared

    def ruled_out(self) -> Mapping[str, str]:
        """The leaves of other losses."""
        own = [leaves for loss, leaves in LEAVES_OF_LOSSES.items() if loss == self.loss]
        others = {leaf for leaves in LEAVES_OF_LOSSES.values() for leaf in leaves if own and leaf not in own[0]}
        return dict.fromkeys(sorted(others), f"loss={self.loss!r}")


class Schedule(Part):
    """Steps and rates (fitting/generated/schedule.py)."""

    steps_coarsest: Positive = 2000  # iterations at the coarsest scale
    steps_finer: Positive = 2000  # iterations at every other scale
    generator_updates: Positive = 3  # generator updates in each iteration
    batch: Positive = 1  # draws in each update
    refresh_steps: Positive = 1  # iterations for which a draw of the scales below is kept
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 5e-4
    decay: str = "step"  # registered course of the learning rate
    learning_rate_drop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1  # factor of the drop, or at the end of the decay
    learning_rate_drop_at: Fraction = 0.8  # progress at which the step comes
    beta1: Decay = 0.5  # Adam
    beta2: Decay = 0.999  # Adam
    crop_px: Annotated[int, Field(ge=0, le=65536)] = 0  # side of random windows to train on; 0: the whole image

    def ruled_out(self) -> Mapping[str, str]:
        """A smooth decay has no step."""
        return {"learning_rate_drop_at": "decay='cosine'"} if self.decay == "cosine" else {}


class Generated(Part):
    """Scales made by small networks that are trained on the image: new structure."""

    scales: Positive | None = None  # how many of the coarsest; None: all, where none copies
    visible_share: Fraction = 0.0  # of the image's variance that the coarsest scale shows; it is larger where it must
    milder_ratio: Fraction = 0.0  # of noise and shift at one more start scale, of the same network; 0: there is none
    networks: Networks = Networks()
    noise: Noise = Noise()
    objective: Objective = Objective()
    schedule: Schedule = Schedule()

    def ruled_out(self) -> Mapping[str, str]:
        """One scale has none above it, and the paper's coarsest scale has a fixed size."""
        finer = ("amplitude", "noise_gain", "steps_finer", "width_doubles_every")
        ruled_out = dict.fromkeys(finer, "scales=1") if self.scales == 1 else {}
        if self.scales is None:
            ruled_out["visible_share"] = "all scales generated"
        if self.scales != 1 or self.noise.anchor == "none":
            ruled_out["milder_ratio"] = f"scales={self.scales}, anchor={self.noise.anchor!r}"
        return ruled_out


class Copied(Part):
    """Scales that copy patches of the source: true detail, and origins that labels follow (pyramid/copied/)."""

    patch_px: Annotated[int, Field(ge=1, le=31)] = 5  # side of the patches that are compared; odd
    descriptor_dims: Annotated[Positive, Field(le=4096)] = 16  # principal components in which patches are compared
    completeness: Annotated[NonNegative, Field(gt=0.0)] = 5e-3  # alpha; smaller uses more of the source
    search_patch_px: Annotated[int, Field(ge=1, le=31)] = 5  # patch_px where what was generated is searched for
    search_passes: Annotated[Positive, Field(le=16)] = 1  # searches for what was generated; later ones for the copy
    search_nearness: NonNegative = 0.0  # what a side of the image is worth there, in squared difference
    match_tolerance: NonNegative = 1e-2  # squared difference (in [-1, 1]) up to which a place is not improved
    shift_px: Shift = 2.0  # standard deviation of the shift where a draw starts, in pixels of that scale
    shift_decay: Fraction = 1.0  # factor of the shift for each scale further up that a draw starts
    shift_cells: Annotated[Positive, Field(le=256)] = 2  # cells of the random field of shifts along the short side
    shift_step_px: Step = 3  # shifts are rounded to this, so that regions move as one; 0: not
    seam_passes: Passes = 0  # passes that lay seams where they show least; 0: where they fall
    drift_px: Shift = 0.0  # of a smooth random field that breaks up what moves as one, in pixels of the finest scale
    seam_blend_px: Blur = 3.0  # low frequencies of neighbouring pieces are blended so far; 0: exact copies

    @model_validator(mode="after")
    def _patches_have_a_middle(self) -> Copied:
        for name in ("patch_px", "search_patch_px"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(
                    f"{name}: expected an odd number, so that a patch has a middle, got {getattr(self, name)}"
                )
        return self

    def patch_sides(self, count: int, *, searched: bool) -> tuple[int, ...]:
        """Side of the patches of each of `count` copied scales; `searched`: the first lies above a generated one."""
        return tuple(self.search_patch_px if searched and k == 0 else self.patch_px for k in range(count))


class FitConfig(Part):
    """How a pyramid is fitted. Names of registered parts (`block`, `loss`, ...) are looked up when they are used."""

    sizes: Sizes = Sizes()
    generated: Generated | None = None
    copied: Copied | None = None
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0

    def ruled_out(self) -> Mapping[str, str]:
        """Nothing is searched for where nothing is generated."""
        return (
            dict.fromkeys(("search_patch_px", "search_passes", "search_nearness"), "no generated scale")
            if not self.generated
            else {}
        )

    @model_validator(mode="after")
    def _scales_are_of_some_sort(self) -> FitConfig:
        if self.generated is None and self.copied is None:
            raise ValueError("expected generated or copied scales, or both, got neither: start from a preset")
        if self.generated is not None and (self.generated.scales is None) != (self.copied is None):
            if self.copied is None:
                raise ValueError("scales does not apply: this config copies no scale, so all are generated")
            raise ValueError("scales: expected how many of the coarsest scales are generated, got None")
        return self

    def replace(self, **changes: Any) -> FitConfig:
        """A copy with some leaves changed, and validated again; leaves that apply no longer are left out.

        Also takes whole parts as `sizes`, `generated` and `copied`. Raises `ConfigError`: an invalid value, a leaf that
        there is not, or one that does not apply.
        """
        tops = {name: changes.pop(name, getattr(self, name)) for name in type(self).model_fields}
        for name in changes:
            top = _PLACES.get(name)
            if top is None:
                raise ConfigError(f"{INVALID}{name}: there is no such field, got {changes[name]!r}")
            if tops[top] is None:
                does = {"generated": "generates", "copied": "copies"}[top]
                raise ConfigError(f"{INVALID}{name} does not apply: this config {does} no scale")
        ruled_out = frozenset(FitConfig.model_construct(**tops).ruled_out())
        changed = {n: changed_values(each, changes, ruled_out) for n, each in tops.items() if isinstance(each, Part)}
        return FitConfig(**(tops | changed))

    @property
    def carries_masks(self) -> bool:
        """Whether a mask can ride along: only where the finest pixels are copied, not generated."""
        return self.copied is not None

    def to_json(self) -> str:
        """All leaves that apply, as one line of JSON with sorted keys."""
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

        Over the leaves that apply and differ from their defaults, so that a leaf added later changes no digest.
        """
        changed = json.dumps(values_of(self, changed_only=True), sort_keys=True)
        return xxhash.xxh3_128_hexdigest(changed.encode())


def _places(part: type[Part], top: str) -> dict[str, str]:
    """Of all leaves of a part, under which part of a config they are."""
    places: dict[str, str] = {}
    for name, field in part.model_fields.items():
        if isinstance(field.default, Part):
            places |= _places(type(field.default), top)
        else:
            places[name] = top
    return places


_PLACES = {**_places(Sizes, "sizes"), **_places(Generated, "generated"), **_places(Copied, "copied")}
