"""What is compared, and how: an arm, and a frozen protocol that is written into each result."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import xxhash

__all__ = [
    "CONFINED",
    "IN_BATCH",
    "MILDER",
    "MIXED",
    "MIX_RATIO",
    "OF_OTHERS",
    "OTHER_PRESETS",
    "PASTES",
    "PLAIN_PASTE",
    "SINGAN",
    "SOURCES",
    "STRONG",
    "TURNS",
    "Arm",
    "Protocol",
    "parse_arm",
]

TURNS = ("turns", "turns_elastic", "turns_affine", "turns_cutmix", "turns_paste")
STRONG = ("none", "flip", "flip_crop", "elastic", "colour", "trivial", "rand", "cutmix", *TURNS)
IN_BATCH = {"cutmix": "flip_crop", "turns_cutmix": "turns", "turns_paste": "turns"}  # and on which views they come
SINGAN = ("coarse", "medium", "fine")  # start scales
OTHER_PRESETS = ("smooth", "learned")  # than fast, whose name is left out
MIXED = "mixed"  # every start scale in turn
MILDER = "milder"  # of learned: the start scale above the coarsest, of the same network
CONFINED = ("mask", "background")  # what alone changes, with the preset fast
PLAIN_PASTE = "paste"
PASTES = (PLAIN_PASTE, "singan_paste", "variant_paste", "bent_paste")  # objects of the other images: plain, redrawn, of
# variants; and variants of plain pastes
OF_OTHERS = (*PASTES, "kin")  # what is made of other images too; kin: a variant whose patches are theirs too
SOURCES = (
    *("duplicates", "reconstruction", *SINGAN, MIXED, "fine_apart", "gpnn"),  # apart: fine, the mask stays behind
    *(f"{preset}_{start}" for preset in OTHER_PRESETS for start in (*SINGAN, MIXED)),
    f"learned_{MILDER}",
    *(f"{part}_{start}" for part in CONFINED for start in SINGAN),
    *OF_OTHERS,
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


@dataclass(frozen=True)
class Protocol:
    """A suite. Nothing in it is chosen by looking at test images: every arm has the same steps, rate and decay."""

    name: str
    data: str  # which set (data.py)
    model: str  # frozen: a linear head on EfficientNet-Lite0's features; scratch: SmallNetwork; masks: TinyUNet, or,
    # of crops, FoldedUNet
    arms: tuple[str, ...]
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
    network: str | None = None  # name of another network that is trained
    bfloat16: bool = False  # the frozen network looks, SmallNetwork learns in it, as a U-Net of crops always does
    fit: dict[str, Any] = field(default_factory=dict)  # fields of the fast preset that are changed

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def digest(self) -> str:
        """Of what the cells depend on: not of how many arms, splits, seeds or counts there are."""
        held = asdict(replace(self, arms=(), images_per_class=(), rare=(), splits=0))
        if self.network is None:  # what was made before there were others stays
            del held["network"]
        if not self.bfloat16:
            del held["bfloat16"]
        return xxhash.xxh3_64_hexdigest(json.dumps(held, sort_keys=True).encode())

    def seen(self, source: str) -> int:
        """Variants of an image from `source` that any arm sees: more need not be drawn."""
        shares = [arm.mix_ratio for arm in map(parse_arm, self.arms) if arm.source == source]
        return max(1, round(self.views * max(shares, default=1.0)))

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of a class, or of the rare class."""
        return self.rare or self.images_per_class
