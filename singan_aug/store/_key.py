"""By what a pyramid is found: the fingerprint of an image, and the key made of it and the config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from singan_aug.config import FitConfig
from singan_aug.images import Mask, Pixels, contiguous, image_and_mask, is_grey, to_pixels, turn_pixels
from singan_aug.store._checks import digest_of_config
from singan_aug.store._manifest import FORMAT_VERSION

__all__ = ["Fingerprint", "Key", "abbreviated", "fingerprint", "make_key"]


@dataclass(frozen=True)
class Fingerprint:
    """Which picture this is, and which way round it is held."""

    digest: str  # 32 hexadecimal digits, equal for all eight flips and quarter turns of a picture
    turn_code: int  # images.turn(image, turn_code) is the orientation that was hashed


@dataclass(frozen=True)
class Key:
    """Where the pyramid of (pixels, config) lives. `str(key)` is the key itself, "FINGERPRINT-DIGEST"."""

    fingerprint: Fingerprint
    digest: str  # 16 hexadecimal digits over the config, the format version and, with a mask, its pixels

    def __str__(self) -> str:
        return f"{self.fingerprint.digest}-{self.digest}"


def fingerprint(image: Any) -> Fingerprint:
    """Fingerprint of an image's decoded pixels (anything `images.to_pixels` takes).

    Equal pixels only: one changed value gives another fingerprint. The same for grey as one channel or as three equal
    ones, without regard to a fourth channel (alpha, mask), and for a picture however it is flipped or turned, so that
    a pipeline that ignores a file's EXIF rotation, or flips before it augments, still finds the pyramid.
    Raises `ImageError`.
    """
    pixels = to_pixels(image)
    pixels = pixels[..., :1] if is_grey(pixels) else pixels[..., :3]
    hashed = [(_digest(turn_pixels(pixels, code)), code) for code in _upright_turns(pixels)]
    return Fingerprint(*min(hashed))


def make_key(image: Any, config: FitConfig, mask: Any = None) -> Key:
    """Key over the decoded pixels, the whole config, the store's format version and the mask fitted with the image.

    `image` and `mask` are what `fit` takes. Raises `ImageError`.
    """
    pixels, classes = image_and_mask(image, mask)
    found = fingerprint(pixels)
    rest = digest_of_config(config, FORMAT_VERSION, masked=classes is not None)
    if classes is not None:
        rest.update(_digest(turn_pixels(classes[..., None].astype("<i4"), found.turn_code)).encode())
    return Key(found, rest.hexdigest())


SHORT, SHORT_DIGEST = 12, 4  # digits of an abbreviated key


def abbreviated(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each of sorted keys, and the digits that name it among them: a few of the fingerprint, and with a dash a few of
    the rest where an image has several pyramids.
    """
    before, here = "", ""
    for after in _with_end(keys):
        if here:
            yield here, _shortest(here, before, after)
            before = here
        here = after


def _with_end(keys: Iterable[str]) -> Iterator[str]:
    yield from keys
    yield ""


def _shortest(key: str, *neighbours: str) -> str:
    same = [_shared(key, other) for other in neighbours]
    image = max([SHORT, *(count + 1 for count in same if count < 32)])
    twins = [count for count in same if count >= 32]
    return key[:image] if not twins else f"{key[:image]}-{key[33:][: max(SHORT_DIGEST, max(twins) - 32)]}"


def _shared(one: str, other: str) -> int:
    """How many digits they begin alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _digest(pixels: Pixels | Mask) -> str:
    shape = "x".join(str(side) for side in pixels.shape)
    hasher = xxhash.xxh3_128(shape.encode())
    hasher.update(contiguous(pixels).data)
    return hasher.hexdigest()


def _upright_turns(pixels: Pixels) -> list[int]:
    """The turns that bring a picture into its standard orientation: one, or several where it is symmetric.

    First moments of brightness about the centre decide, in exact integers: a flip negates one, swapping the axes swaps
    them. Standard is: both non-negative, the vertical one not smaller.
    """
    flat = pixels.reshape(len(pixels), -1)
    exact = np.uint32 if 255 * max(flat.shape) < 2**32 else np.int64  # narrower is faster
    down = int(np.add.reduce(flat, axis=1, dtype=exact) @ _positions(flat.shape[0], 1))
    right = int(np.add.reduce(flat, axis=0, dtype=exact) @ _positions(*pixels.shape[1:]))
    if down and right and abs(down) != abs(right):
        swap, first, second = (0, down, right) if abs(down) > abs(right) else (4, right, down)
        return [swap | (first < 0) << 1 | (second < 0)]
    turns = []
    for swap in (0, 4):
        first, second = (right, down) if swap else (down, right)
        if abs(first) < abs(second):
            continue
        for flips in range(4):
            if (-first if flips & 2 else first) >= 0 and (-second if flips & 1 else second) >= 0:
                turns.append(swap | flips)
    return turns


@lru_cache(maxsize=64)  # images of a dataset have few sizes
def _positions(side: int, channels: int) -> NDArray[np.int64]:
    """Twice the distance from the centre, of each value along a side."""
    return np.repeat(2 * np.arange(side, dtype=np.int64) - (side - 1), channels)
