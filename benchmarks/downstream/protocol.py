"""The suites: which protocol each set is measured by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from singan_aug.trial.protocol import MILDER, SINGAN, Protocol

__all__ = ["OWN_ARMS", "OWN_MASKS", "SUITES"]

FROZEN_ARMS = (
    *("none", "none+duplicates", "none+reconstruction", "none+coarse", "none+medium", "none+fine", "none+fine@1"),
    *("flip_crop", "flip_crop+coarse", "flip_crop+medium", "flip_crop+fine", "flip_crop+fine@1"),
    *("trivial", "trivial+coarse", "trivial+medium", "trivial+fine", "trivial+fine@1"),
    *("rand", "rand+medium", "rand+fine", "rand+fine@1"),
)
SCRATCH_ARMS = ("none", "none+fine", "flip", "flip+fine", "trivial", "trivial+fine", "cutmix", "cutmix+fine")
GPNN_ARMS = ("none", "none+gpnn", "none+fine", "flip_crop", "flip_crop+gpnn", "flip_crop+fine")
LEARNED = tuple(f"learned_{start}" for start in ("coarse", MILDER, "fine"))
LONG_ARMS = ("none", "none+fine", "flip", "flip+fine", "colour", "colour+fine")
OWN_ARMS = ("none", "none+coarse", "none+medium", "none+fine", "trivial", "trivial+fine", "rand", "rand+fine")


DIGITS = Protocol(
    "digits-imbalance",
    "digits28",
    "scratch",
    arms=(
        *("none", "none+fine", "none+gpnn", "flip_crop", "flip_crop+fine", "elastic", "elastic+fine"),
        *("trivial", "trivial+fine", "rand", "rand+fine", "cutmix", "cutmix+fine"),
    ),
    rare=(5, 10, 15),
    majority=250,
    pool_per_class=300,
    width=16,
    steps=150,
    batch=50,
    learning_rate=3e-3,
    flips=False,
    fit={"shift_px": 1.6, "shift_step_px": 0},  # the preset smooth: regions cut strokes at 28 px
)
FEW_DIGITS = replace(  # nearer to what a pipeline gives: twice the steps, four times the views
    DIGITS,
    name="digits",
    arms=(
        *("none", "none+fine", "none+fine@1", "none+fine#2", "none+fine#8", "flip_crop", "flip_crop+fine"),
        *("elastic", "elastic+fine", "trivial", "trivial+fine", "rand", "rand+fine", "cutmix", "cutmix+fine"),
    ),
    images_per_class=(5, 10),
    rare=(),
    majority=0,
    test_per_class=200,
    views=64,
    steps=300,
)
HORSES = Protocol(
    "horses",
    "weizmann_horses",
    "masks",
    arms=(
        *("none", "none+coarse", "none+medium", "none+fine", "none+fine_apart", "flip", "flip+fine"),
        *("flip_crop", "colour"),
    ),
    images_per_class=(5, 10, 20),
    size_px=64,
    pool_per_class=200,
    splits=3,
    steps=250,
    batch=8,
    learning_rate=3e-3,
)
SMALL = Protocol(
    "scenes-scratch",
    "scenes6_64",
    "scratch",
    arms=SCRATCH_ARMS,
    images_per_class=(5, 10),
    size_px=48,
    splits=3,
    views=64,
    width=16,
    batch=32,
    learning_rate=3e-3,
)
SCENES = Protocol("scenes", "scenes6_64", "frozen", FROZEN_ARMS, seen_px=128)
DEFECTS = Protocol("defects", "neu_surface_defects", "frozen", FROZEN_ARMS, size_px=128, seen_px=128)
FLOWERS = Protocol("flowers", "flowers5_160", "frozen", FROZEN_ARMS, size_px=128, seen_px=128)
CIFAR = Protocol(
    "cifar",
    "cifar10_small",
    "frozen",
    arms=(*FROZEN_ARMS, "none+gpnn", "flip_crop+gpnn"),
    size_px=32,
    seen_px=96,
)
LEARNED_ARMS = (
    *("none", "flip_crop"),
    *(f"{strong}+{source}" for strong in ("none", "flip_crop") for source in ("coarse", "fine", *LEARNED)),
)
BESIDE_LEARNED: dict[str, Any] = {"arms": LEARNED_ARMS, "images_per_class": (2, 5), "seeds": 3, "bfloat16": True}
MANY_VIEWS: dict[str, Any] = {"arms": ("rand", "rand+fine"), "images_per_class": (10, 25), "views": 64}
CLASSIC = ("none", "turns", "turns_elastic", "turns_affine")


def _mask_arms(chosen: str) -> tuple[str, ...]:
    """Every classic arm, alone and under the variants that tuning.py chose, and all variants alone."""
    alone = (f"none+{source}" for source in (*SINGAN, *(f"smooth_{start}" for start in SINGAN)))
    return (*CLASSIC, *(f"{arm}+{chosen}" for arm in CLASSIC[1:]), *alone)


MEMBRANES = Protocol(
    "membranes",
    "em_membranes",
    "masks",
    arms=_mask_arms("smooth_coarse"),
    images_per_class=(2, 5),
    crop_px=128,
    ordered=0.3,
    pool_per_class=40,
    seeds=3,
    views=32,
    width=16,
    steps=200,
    batch=4,
    learning_rate=1e-2,
    quarter_turns=True,
    elastic=(2000.0, 20.0),
    fit={"finest_px": 1024},  # images are fitted at their own size
)
VESSELS = replace(
    MEMBRANES,
    name="vessels",
    data="drive_vessels",
    arms=_mask_arms("smooth_fine"),
    ordered=0.45,
    steps=300,
    elastic=(120.0, 5.0),
)
HORSES128 = replace(  # as well trained after 300 steps as after 900, on training images
    VESSELS,
    name="horses128",
    data="weizmann_horses",
    arms=(
        *(*CLASSIC, "turns_paste", "turns_elastic+coarse"),
        *(f"turns_affine+{source}" for source in ("coarse", "mixed", "paste", "singan_paste")),
    ),
    size_px=128,
    ordered=None,
    quarter_turns=False,
    seeds=1,
    views=64,
)
CONFINED_ARMS = ("mask_coarse", "background_coarse")
VESSELS_LONG = replace(  # 300 steps were too few: 1000 give 5 points of Dice more, on training images
    VESSELS,
    name="vessels-long",
    arms=(
        *CLASSIC,
        *(f"turns_affine+{source}" for source in ("fine", "smooth_fine", *LEARNED[:2], "background_coarse")),
    ),
    seeds=1,
    steps=600,
    learning_rate=3e-2,
)
LONGER = (
    HORSES128,
    replace(
        HORSES128,
        name="horses128-learned",
        arms=(
            "turns_affine",
            *(f"turns_affine+{source}" for source in ("paste", "bent_paste", *LEARNED[:2], *CONFINED_ARMS, "kin")),
        ),
    ),
    replace(
        MEMBRANES,
        name="membranes-learned",
        arms=("turns", *(f"turns+{source}" for source in ("fine", *LEARNED))),
        seeds=1,
    ),
    VESSELS_LONG,
    replace(HORSES128, name="horses128-counts", arms=("turns_affine", "turns_affine+fine"), images_per_class=(10, 20)),
    replace(MEMBRANES, name="membranes-counts", arms=("turns", "turns+fine"), images_per_class=(10, 20), seeds=1),
    replace(
        VESSELS_LONG,
        name="vessels-counts",
        arms=("turns_affine", "turns_affine+fine"),
        images_per_class=(10, 20),
    ),
)
OWN_MASKS = replace(  # of any set: near-twins on one side, its size by its images
    HORSES128,
    arms=(*CLASSIC, "none+fine", "turns+fine", "turns_affine+fine"),
    images_per_class=(2, 5, 10),
    size_px=None,
    seeds=3,
)
SUITES = {
    suite.name: suite
    for suite in (
        SCENES,
        Protocol("scenes-gpnn", "scenes6_64", "frozen", GPNN_ARMS, (1, 2), seen_px=128),
        FLOWERS,
        replace(FLOWERS, name="flowers-views", **MANY_VIEWS),
        DEFECTS,
        replace(DEFECTS, name="defects-learned", **BESIDE_LEARNED),
        replace(SCENES, name="scenes-learned", **BESIDE_LEARNED),
        replace(FLOWERS, name="flowers-learned", **BESIDE_LEARNED),
        CIFAR,
        replace(CIFAR, name="cifar-views", **MANY_VIEWS),
        DIGITS,
        FEW_DIGITS,
        replace(
            FEW_DIGITS,
            name="digits-counts",
            arms=("none", "none+fine", "flip_crop", "flip_crop+fine", "elastic"),
            images_per_class=(1, 2, 25),
        ),
        replace(FEW_DIGITS, name="digits-fast", arms=("none", "none+fine"), images_per_class=(5,), fit={}),
        replace(
            FEW_DIGITS,
            name="digits-learned",
            arms=(
                *("none", "none+coarse", "none+fine", "none+smooth_fine"),
                *(f"none+{source}" for source in LEARNED),
            ),
            images_per_class=(5,),
            seeds=2,
            fit={},
            bfloat16=True,
        ),
        replace(
            FEW_DIGITS,
            name="digits-imbalance-long",
            arms=(
                *("none", "none+fine", "none+fine@1", "flip_crop", "flip_crop+fine", "elastic", "elastic+fine"),
                *("cutmix", "cutmix+fine"),
            ),
            rare=(5,),
            majority=250,
        ),
        replace(DIGITS, name="digits-balanced", arms=("none", "elastic"), rare=(250,)),  # what more images would give
        SMALL,
        replace(SMALL, name="flowers-scratch", data="flowers5_160"),
        replace(SMALL, name="defects-scratch", data="neu_surface_defects"),
        MEMBRANES,
        VESSELS,
        *LONGER,
        HORSES,
        replace(HORSES, name="horses-long", arms=LONG_ARMS, images_per_class=(20,), steps=500),
        Protocol(
            "cifar-scratch",
            "cifar10_small",
            "scratch",
            arms=(
                *("none", "none+medium", "none+fine", "flip_crop", "flip_crop+medium", "flip_crop+fine"),
                *("trivial", "trivial+fine", "cutmix", "cutmix+fine"),
            ),
            images_per_class=(10,),
            splits=3,
            steps=150,
            learning_rate=3e-3,
        ),
    )
}
