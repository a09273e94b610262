"""What `benchmarks.ablation` compares: questions, and for each the arms, the base first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks._stack import Parts
from singan_aug import FitConfig
from singan_aug.presets import learned

__all__ = ["ARMS", "BASES", "CONSTANT_NOISE", "FINEST_PX", "QUESTIONS", "STEPS", "Arm", "config_of"]

FINEST_PX = 128  # long side of the finest scale, in all arms
CONSTANT_NOISE = 0.02  # the median amplitude that the base has at its finer generated scales, on the packaged photos
TRANSPORT_WEIGHT = 30.0  # of distances between patches, which are that much smaller than scores of a critic
ADVERSARIAL: Mapping[str, Any] = {  # the base: the preset's network and noise under the paper's objective, WGAN-GP
    "loss": "wgan_gp",
    "objective_weight": 1.0,
    "critic_updates": 1,
    "penalty_every": 4,
    "learning_rate": 2e-3,
    "milder_ratio": 0.0,
    "anchor_shift_px": 1.4,
    "noise_coarsest": 0.9,
    "completeness": 2e-3,
    "search_patch_px": 5,
    "search_nearness": 0.15,
    "match_tolerance": 1e-2,
    "drift_px": 0.0,
}
STACK: Mapping[str, Any] = {"scales": 3, "scale_factor": 0.6, "visible_share": 0.0, "crop_px": 0}
CRITIC: Mapping[str, Any] = {name: ADVERSARIAL[name] for name in ("objective_weight", "learning_rate")}
FULL = "{}, full length"
OF_PRESET = "preset, {}"
STEPS = {  # of each scale of the bases
    "learned": 60,
    "stack": 24,
    FULL.format("learned"): 300,
    "preset": 80,  # its own
    "preset stack": 40,
}
BASES = tuple(STEPS)


@dataclass(frozen=True)
class Arm:
    """A config, by what it changes of `ADVERSARIAL` or of the preset, and parts that the package does not have."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
    short: str | None = None  # the arm that this is the same as, but for five times as many steps
    preset: bool = False  # whether what is changed is `learned` as it is, with its sliced Wasserstein distance

    @property
    def scales(self) -> int:
        """How many are generated."""
        return int(self.changes.get("scales", 1))

    @property
    def base(self) -> str:
        """The arm whose cost it gets."""
        if self.scales > 1:
            return "preset stack" if self.preset else "stack"
        if self.preset:
            return "preset"
        return "learned" if self.short is None else FULL.format("learned")


ARMS: dict[str, Arm] = {
    # One generated scale, as the preset has it.
    "learned": Arm(),
    "plain, normalised": Arm({"batch_norm": True}),
    **{
        f"{name}{', normalised' if norm else ''}": Arm({"block": block, "batch_norm": norm})
        for name, block in {
            "residual": "residual",
            "squeeze-and-excitation": "squeeze_excitation",
            "highway": "highway",
            "depthwise-separable": "separable",
        }.items()
        for norm in (False, True)
    },
    "non-saturating, R1": Arm({"loss": "non_saturating_r1"}),
    "hinge, spectral norm": Arm({"loss": "hinge_spectral"}),
    "sliced Wasserstein": Arm({"loss": "sliced_wasserstein", "objective_weight": TRANSPORT_WEIGHT}),
    "semi-dual transport": Arm({"loss": "semi_dual", "objective_weight": TRANSPORT_WEIGHT, "crop_px": 0}),
    # Three generated scales.
    "stack": Arm(STACK),
    **{
        f"upsampling {how}": Arm(STACK, Parts(upsampling=how))
        for how in ("nearest", "bilinear", "transposed", "subpixel")
    },
    "last two together": Arm(STACK, Parts(together=2)),
    "end to end, loss at the finest": Arm(STACK, Parts(together=0)),
    "end to end, loss at each": Arm(STACK, Parts(together=0, losses="all")),
    "noise constant": Arm(STACK, Parts(noise=CONSTANT_NOISE)),
    "noise learned": Arm(STACK, Parts(noise="learned")),
    "noise local": Arm({**STACK, "amplitude": "local"}),
}

ARMS |= {
    FULL.format(name): Arm(ARMS[name].changes, short=name)
    for name in ("learned", *(each for each in ARMS if "loss" in ARMS[each].changes))
}

ARMS |= {
    "preset": Arm(preset=True),
    **{
        OF_PRESET.format(name): Arm(ARMS[name].changes, preset=True)
        for name in ARMS
        if ARMS[name].changes.get("batch_norm") and ARMS[name].short is None
    },
    **{
        OF_PRESET.format(name): Arm({**CRITIC, "loss": loss, "critic_updates": 1, **rest}, preset=True)
        for name, loss, rest in (
            ("WGAN-GP", "wgan_gp", {"penalty_every": 4}),
            ("non-saturating, R1", "non_saturating_r1", {}),
            ("hinge, spectral norm", "hinge_spectral", {}),
        )
    },
    "preset stack": Arm(STACK, preset=True),
    **{
        OF_PRESET.format(name): Arm(ARMS[name].changes, ARMS[name].parts, preset=True)
        for name in (
            "upsampling nearest",
            "upsampling bilinear",
            "last two together",
            "end to end, loss at each",
            "noise constant",
            "noise local",
        )
    },
}


def _named(base: str) -> dict[str, str]:
    """The arms of a base of the preset, by what they change."""
    return {name.removeprefix("preset, "): name for name in ARMS if ARMS[name].base == base != name}


QUESTIONS: dict[str, dict[str, str]] = {  # of each question what its arms are called there
    "blocks": {
        "plain": "learned",
        **{name: name for name in ARMS if ARMS[name].base == "learned" and "batch_norm" in ARMS[name].changes},
    },
    "objective": {
        "WGAN-GP": "learned",
        **{name: name for name in ARMS if ARMS[name].base == "learned" and "loss" in ARMS[name].changes},
    },
    "full length": {
        "WGAN-GP": FULL.format("learned"),
        **{str(arm.short): name for name, arm in ARMS.items() if arm.short is not None and arm.changes},
    },
    "upsampling": {
        "bicubic": "stack",
        **{name.removeprefix("upsampling "): name for name in ARMS if name.startswith("upsampling ")},
    },
    "schedule": {
        "scale by scale": "stack",
        **{name: name for name in ("last two together", *(each for each in ARMS if each.startswith("end to end")))},
    },
    "noise": {
        "in proportion to RMSE": "stack",
        **{name.removeprefix("noise "): name for name in ARMS if name.startswith("noise ")},
    },
    "preset": {"as it is": "preset", **_named("preset")},
    "preset stack": {"bicubic, scale by scale, noise in proportion": "preset stack", **_named("preset stack")},
}


def config_of(arm: Arm, *, seed: int, steps: int | None = None) -> FitConfig:
    """The config of an arm; `steps` of each scale, by default those of its base."""
    steps = steps or STEPS[arm.base]
    fixed = {} if arm.preset and arm.scales == 1 else {"milder_ratio": 0.0} if arm.preset else ADVERSARIAL
    base = learned(finest_px=FINEST_PX, **fixed)
    config = base.replace(**arm.changes).replace(seed=seed, steps_coarsest=steps)
    return config if arm.scales == 1 else config.replace(steps_finer=steps)
