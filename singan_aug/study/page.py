"""The page of a user study: which images it shows, and the one HTML file that holds them all.

Two protocols, Shaham et al. (ICCV 2019), section 4.1. Paired: a fake beside its real image, which of the two is the
fake? Unpaired: one image, real or fake? Each is shown for one second; participants may take their time to answer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from singan_aug._checks import check_count, check_number
from singan_aug.errors import ImageError
from singan_aug.images import load_image, pixels_to_pil, quiet_decoding
from singan_aug.web import embedded, rendered

__all__ = ["Study", "make_study"]

EXPOSURE_SEC = 1.0
TRIALS = 50
TRIALS_FOR_A_CHECK = 10  # one attention check for so many trials
CHECKS = 5  # different images for them; more checks repeat these
CHECK_TILES = 6  # rows and columns into which the image of an attention check is cut
SAME_SHAPE = 0.02  # relative difference of aspect ratios up to which two images have one


@dataclass(frozen=True)
class Study:
    """One study."""

    html: str  # the whole page
    id: str  # of its images and settings; the page and each answer carry it
    paired_trials: int  # attention checks come on top
    unpaired_trials: int  # half of them real


def make_study(
    pairs: Mapping[Path, Sequence[Path]],  # of each real image its fakes
    *,
    trials: int = TRIALS,
    exposure_sec: float = EXPOSURE_SEC,
    max_size: int = 512,  # of the long side: larger images are shrunk
    seed: int = 0,
) -> Study:
    """Choose images, bring each real image to the size of its fake, so that sharpness tells nothing, and fill the page.

    A participant sees `trials` pairs; then `trials` real images and as many fakes, never a fake and its own real image.
    There are fewer trials where there are fewer images. The page draws order and sides anew for each participant.

    Raises:
        ConfigError: a number out of range.
        ImageError: no pairs, or a file that is no image.
    """
    check_count("trials", trials, 1, 1000)
    check_number("exposure_sec", exposure_sec, 0.05, 60)
    check_count("max_size", max_size, 16, 4096)
    rng = random.Random(seed)
    chosen = _chosen(pairs, trials, rng)
    images: list[dict[str, str]] = []
    sources: list[dict[str, Any]] = []
    checks: list[dict[str, int]] = []
    for real, fakes in chosen.items():
        opened, pictures = _opened(real), [_shrunk(_opened(fake), max_size) for fake in fakes]
        added = _added(images, real.name, _as_large_as(opened, pictures[0], max_size))
        names = [path.name for path in fakes]
        sources.append({"real": added, "fakes": [_added(images, *each) for each in zip(names, pictures, strict=True)]})
        if len(checks) < CHECKS:
            tiles = _tiles_shuffled(_shrunk(opened, max_size), rng)
            checks.append({"real": added, "fake": _added(images, f"check of {real.name}", tiles)})
    paired = min(trials, sum(map(len, chosen.values())))
    unpaired = min(trials, len(chosen) // 2)
    content: dict[str, Any] = {
        "trials": {"paired": paired, "unpaired": unpaired},
        "exposure_ms": round(exposure_sec * 1000),
        "trials_for_a_check": TRIALS_FOR_A_CHECK,
        "sources": sources,
        "checks": checks,
        "images": images,
    }
    content["id"] = hashlib.sha256(repr(content).encode()).hexdigest()[:12]
    return Study(rendered("singan_aug.study", "study.html", study=content), content["id"], paired, 2 * unpaired)


def _chosen(pairs: Mapping[Path, Sequence[Path]], trials: int, rng: random.Random) -> dict[Path, list[Path]]:
    """Up to twice as many real images as trials, one fake of each; of few real images more fakes, up to the trials."""
    reals = sorted(real for real, fakes in pairs.items() if fakes)
    if not reals:
        raise ImageError("expected at least one real image with a fake, got none")
    rng.shuffle(reals)
    left = {real: rng.sample(list(pairs[real]), len(pairs[real])) for real in reals[: 2 * trials]}
    chosen: dict[Path, list[Path]] = {real: [fakes.pop()] for real, fakes in left.items()}
    while sum(map(len, chosen.values())) < trials and any(left.values()):
        for real, fakes in left.items():
            if fakes and sum(map(len, chosen.values())) < trials:
                chosen[real].append(fakes.pop())
    return chosen


def _opened(path: Path) -> Image.Image:
    try:
        with quiet_decoding():
            return pixels_to_pil(load_image(path).pixels).convert("RGB")
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _shrunk(image: Image.Image, max_px: int) -> Image.Image:
    ratio = max_px / max(image.size)
    if ratio >= 1:
        return image
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _as_large_as(real: Image.Image, fake: Image.Image, max_px: int) -> Image.Image:
    """`real` at the size of `fake`, if the two have one aspect ratio."""
    ratio = (real.width / real.height) / (fake.width / fake.height)
    return _shrunk(real, max_px) if abs(ratio - 1) > SAME_SHAPE else real.resize(fake.size, Image.Resampling.BICUBIC)


def _tiles_shuffled(image: Image.Image, rng: random.Random) -> Image.Image:
    """Cut into tiles that are put together in another order, some upside down: nobody who looks takes it for real."""
    pixels = np.asarray(image)
    rows, columns = (max(1, side // CHECK_TILES) for side in pixels.shape[:2])
    places = [(row, column) for row in range(CHECK_TILES) for column in range(CHECK_TILES)]
    made = pixels.copy()
    for (row, column), (other, another) in zip(places, rng.sample(places, len(places)), strict=True):
        tile = pixels[other * rows : (other + 1) * rows, another * columns : (another + 1) * columns]
        made[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = tile[:: rng.choice((1, -1))]
    return Image.fromarray(made)


def _added(images: list[dict[str, str]], name: str, image: Image.Image) -> int:
    images.append({"name": name, "uri": embedded(image)})
    return len(images) - 1
