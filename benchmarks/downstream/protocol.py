"""What is compared, and how: one frozen value for each suite, written into its result."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import xxhash

__all__ = [
    "MIX_RATIO",
    "OWN_ARMS",
    "OWN_MASK_ARMS",
    "SINGAN",
    "SOURCES",
    "STRONG",
    "SUITES",
    "Arm",
    "Protocol",
    "parse_arm",
]

TURNS = ("turns", "turns_elastic", "turns_affine", "turns_cutmix", "turns_paste")
STRONG = ("none", "flip", "flip_crop", "elastic", "colour", "trivial", "rand", "cutmix", *TURNS)
IN_BATCH = {"cutmix": "flip_crop", "turns_cutmix": "turns", "turns_paste": "turns"}  # and on which views they come
SINGAN = ("coarse", "medium", "fine")  # start scales
OTHER_PRESETS = ("smooth",)  # than fast, whose name is left out
SOURCES = (
    *("duplicates", "reconstruction", *SINGAN, "fine_apart", "gpnn"),  # apart: fine, the mask stays behind
    *(f"{preset}_{start}" for preset in OTHER_PRESETS for start in SINGAN),
)
MIX_RATIO = 0.5


@dataclass(frozen=True)
class Arm:
    """One way to make a training batch.

    With probability `mix_ratio` an image is replaced by one of its variants from `source`; whatever comes then goes
    through `strong`: none, flip (mirror), flip_crop (mirror and RandomResizedCrop), and after that colour
    (ColorJitter), trivial or rand (TrivialAugmentWide, RandAugment) or cutmix (in the batch); or, customary for
    writing, elastic (small turns, shifts and zooms, then ElasticTransform). Masks go where their images go; with them
    trivial, rand, cutmix and elastic are not to be had. For masks there are turns (mirror, and quarter turns where the
    protocol has them), and after it turns_elastic (ElasticTransform of the protocol's strength), turns_affine
    (RandomAffine, then ColorJitter), turns_cutmix and turns_paste (figures of the batch's other images, Ghiasi et al.
    2021).
    """

    name: str
    strong: str
    source: str | None  # None: images as they are
    mix_ratio: float
    most: int | None = None  # variants of an image that are seen, as of a bank that holds so many; None: all there are

    @property
    def bases(self) -> tuple[str, ...]:
        """What it is compared with, the first of these that there is: the same with copies, without, nothing."""
        if self.source not in (None, "duplicates"):
            return f"{self.strong}+duplicates", self.strong
        return (self.strong,) if self.source else ("none",) if self.strong != "none" else ()

    @property
    def sets(self) -> tuple[tuple[str, str | None], ...]:
        """The sets of views that it draws from: of the images, and of their variants."""
        strong = IN_BATCH.get(self.strong, self.strong)
        return ((strong, None), (strong, self.source)) if self.source else ((strong, None),)


def parse_arm(name: str) -> Arm:
    """STRONG, or STRONG+SOURCE[@RATIO][#MOST]: `trivial+medium@0.25`, `none+fine#8`. Raises ValueError."""
    sources = "|".join(sorted(SOURCES, reverse=True))
    match = re.fullmatch(
        rf"({'|'.join(sorted(STRONG, reverse=True))})(?:\+({sources})(?:@(0\.\d+|1))?(?:#([1-9]\d*))?)?", name
    )
    if not match:
        raise ValueError(f"expected an arm such as trivial, trivial+medium@0.25 or none+fine#8, got {name!r}")
    strong, source, ratio, most = match.groups()
    return Arm(name, strong, source, 0.0 if source is None else float(ratio or MIX_RATIO), int(most) if most else None)


FROZEN_ARMS = (
    *("none", "none+duplicates", "none+reconstruction", "none+coarse", "none+medium", "none+fine", "none+fine@1"),
    *("flip_crop", "flip_crop+coarse", "flip_crop+medium", "flip_crop+fine", "flip_crop+fine@1"),
    *("trivial", "trivial+coarse", "trivial+medium", "trivial+fine", "trivial+fine@1"),
    *("rand", "rand+medium", "rand+fine", "rand+fine@1"),
)
SCRATCH_ARMS = ("none", "none+fine", "flip", "flip+fine", "trivial", "trivial+fine", "cutmix", "cutmix+fine")
GPNN_ARMS = ("none", "none+gpnn", "none+fine", "flip_crop", "flip_crop+gpnn", "flip_crop+fine")
OWN_MASK_ARMS = ("none", "none+fine", "flip", "flip+fine", "colour", "colour+fine")
OWN_ARMS = ("none", "none+coarse", "none+medium", "none+fine", "trivial", "trivial+fine", "rand", "rand+fine")


@dataclass(frozen=True)
class Protocol:
    """A suite. Nothing in it is chosen by looking at test images: every arm has the same steps, rate and decay."""

    name: str
    data: str  # which set (data.py)
    model: str  # frozen: a linear head on EfficientNet-Lite0's features; scratch: SmallNetwork; masks: TinyUNet, or,
    # of crops, FoldedUNet
    arms: tuple[str, ...] = FROZEN_ARMS
    images_per_class: tuple[int, ...] = (1, 2, 5, 10, 25)
    rare: tuple[int, ...] = ()  # images of one class, in turn with the splits, while every other class has
    majority: int = 0  # so many: then images_per_class is not used, and batches hold as many of each class
    size_px: int | None = None  # images are shrunk to a square of this side; None: they are left as they are
    seen_px: int | None = None  # side at which the frozen network sees them
    crop_px: int | None = None  # side of the crops that a U-Net is trained on, anywhere; it is tested on whole images
    ordered: float | None = None  # this share of the images is tested, the last in the order of names, and the one
    # before them is left out: slices of a stack. None: a test folder, or by near-twins
    pool_per_class: int = 50  # training images per class from which splits choose
    test_per_class: int = 100
    splits: int = 5  # choices of training images, nested: one image of each class is among the two, and so on
    seeds: int = 5  # of initial weights and batches, for each split
    views: int = 16  # of each image that an arm sees, those of its variants among them; made once for all runs
    width: int = 24  # channels of the first layer of a network from scratch (a TinyUNet: a third)
    steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    flips: bool = True  # whether a mirror image is of its class
    quarter_turns: bool = False  # whether a turned one is
    elastic: tuple[float, float] = (0.0, 1.0)  # alpha and sigma in pixels of turns_elastic, chosen by tuning.py
    fit: dict[str, Any] = field(default_factory=dict)  # fields of the fast preset that are changed

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def digest(self) -> str:
        """Of what the cells depend on: not of how many arms, splits, seeds or counts there are."""
        held = asdict(replace(self, arms=(), images_per_class=(), rare=(), splits=0))
        return xxhash.xxh3_64_hexdigest(json.dumps(held, sort_keys=True).encode())

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of a class, or of the rare class."""
        return self.rare or self.images_per_class


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
FLOWERS = Protocol("flowers", "flowers5_160", "frozen", size_px=128, seen_px=128)
CIFAR = Protocol(
    "cifar",
    "cifar10_small",
    "frozen",
    arms=(*FROZEN_ARMS, "none+gpnn", "flip_crop+gpnn"),
    size_px=32,
    seen_px=96,
)
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
SUITES = {
    suite.name: suite
    for suite in (
        Protocol("scenes", "scenes6_64", "frozen", seen_px=128),
        Protocol("scenes-gpnn", "scenes6_64", "frozen", GPNN_ARMS, (1, 2), seen_px=128),
        FLOWERS,
        replace(FLOWERS, name="flowers-views", **MANY_VIEWS),
        Protocol("defects", "neu_surface_defects", "frozen", size_px=128, seen_px=128),
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
        *(
            replace(suite, name=f"{suite.name}-counts", arms=CLASSIC, images_per_class=(1, 10, 20))
            for suite in (MEMBRANES, VESSELS)
        ),
        replace(
            VESSELS,
            name="horses128",
            data="weizmann_horses",
            arms=(*_mask_arms("coarse"), "turns_cutmix", "turns_paste"),
            size_px=128,
            ordered=None,
            quarter_turns=False,
        ),
        HORSES,
        replace(HORSES, name="horses-long", arms=OWN_MASK_ARMS, images_per_class=(20,), steps=500),
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
