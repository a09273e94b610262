"""Sizes of every scale of a pyramid: pure arithmetic, no torch. Scale 0 is the coarsest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from singan_aug.config import FitConfig, Networks
from singan_aug.errors import ImageError, StartScaleError

__all__ = [
    "DEFAULT_START",
    "MOST_COARSE_PX",
    "SMALLEST_SIDE_PX",
    "START_WORDS",
    "Size",
    "StartScale",
    "each_start_scale",
    "given_coarsest_px",
    "read_start_scale",
    "resolve_start_scale",
    "scale_sizes",
    "scale_widths",
    "sizes_for",
    "stack_sizes",
    "start_scale_at",
    "working_size",
]

Size = tuple[int, int]  # (height, width)

StartScale = int | str  # 0 the coarsest, negative ones from the finest, or one of START_WORDS

START_WORDS = {"coarse": 0.0, "medium": 0.5, "fine": 1.0}  # how far from the coarsest to the finest scale
DEFAULT_START = "fine"  # of transforms, bank and export: what harmed least (docs/when-it-helps.md)

_NUMBER = re.compile(r"-?\d+")

MOST_COARSE_PX = 71  # short side of the coarsest scale, where it is chosen by the image
SMALLEST_SIDE_PX = 12  # below it an 11 px receptive field sees the whole side and there is nothing to rearrange


def working_size(source_size: Size, config: FitConfig) -> Size:
    """Size of the finest scale: the source's own, or shrunk so that its long side is `finest_px`.

    Raises `ImageError` where that leaves a short side under `SMALLEST_SIDE_PX`.
    """
    ratio = min(1.0, config.sizes.finest_px / max(source_size))
    height, width = (max(1, round(side * ratio)) for side in source_size)
    if min(height, width) < SMALLEST_SIDE_PX:
        raise ImageError(
            f"expected at least {SMALLEST_SIDE_PX} px on the short side, got {source_size[1]}x{source_size[0]}"
            + (f", fitted at {width}x{height}" if ratio < 1 else "")
            + ": use a larger or less elongated image"
        )
    return height, width


def scale_sizes(finest: Size, config: FitConfig, coarsest_px: int | None = None) -> tuple[Size, ...]:
    """Sizes from the coarsest to the finest scale, for an image of size `finest`.

    The count follows the released code, ceil(log(coarsest / short side) / log(factor)) + 2, and the ratio is then
    chosen so that both ends land exactly: r = (coarsest / short side)^(1 / (count - 1)). An image no larger than the
    coarsest scale has that scale alone. `coarsest_px`: the short side that this image's coarsest scale was given, where
    that is not the config's.
    """
    short, coarsest_px = min(finest), coarsest_px or config.sizes.coarsest_px
    if short <= coarsest_px:
        return (finest,)
    depth = math.ceil(math.log(coarsest_px / short) / math.log(config.sizes.scale_factor)) + 1
    ratio = (coarsest_px / short) ** (1 / depth)
    # The released code takes the ceiling; the tolerance keeps 25.000000001 from becoming 26.
    return tuple(
        (math.ceil(finest[0] * ratio**up - 1e-6), math.ceil(finest[1] * ratio**up - 1e-6))
        for up in range(depth, -1, -1)
    )


def stack_sizes(
    finest: Size, config: FitConfig, coarsest_px: int | None = None
) -> tuple[tuple[Size, ...], tuple[Size, ...]]:
    """Sizes of the generated and of the copied scales, each from the coarsest to the finest; either may be empty.

    The first copied scale has the size of the last generated one: there it finds the source's patches for what was
    generated, where that is cheapest. So has the milder start, if any.
    """
    sizes = scale_sizes(finest, config, coarsest_px)
    if config.generated is None:
        return (), sizes
    if config.copied is None:
        return sizes, ()
    count = min(config.generated.scales or len(sizes), len(sizes))
    milder = sizes[count - 1 : count] if config.generated.milder_ratio else ()
    return sizes[:count] + milder, sizes[count - 1 :]


def given_coarsest_px(coarsest: Size, finest: Size, config: FitConfig) -> int | None:
    """The short side that a fit gave the coarsest scale of an image; None where the config's own size stands.

    Raises ValueError for one that no fit gives.
    """
    if config.generated is None or not config.generated.visible_share:
        return None
    least, most = min(config.sizes.coarsest_px, *finest), max(config.sizes.coarsest_px, MOST_COARSE_PX)
    if not least <= min(coarsest) <= most:
        raise ValueError(f"expected a coarsest scale of {least} to {most} px on the short side, got {min(coarsest)}")
    return min(coarsest)


def scale_widths(count: int, networks: Networks) -> tuple[int, ...]:
    """Channels of the networks at each scale: width * 2^(scale // width_doubles_every), at most `width_max`."""
    every = networks.width_doubles_every or count
    return tuple(min(networks.width * 2 ** (scale // every), networks.width_max) for scale in range(count))


def sizes_for(sizes: tuple[Size, ...], finest: Size) -> tuple[Size, ...]:
    """The sizes of a pyramid, stretched so that the finest scale has another size or aspect."""
    tall, wide = finest[0] / sizes[-1][0], finest[1] / sizes[-1][1]
    return (*((max(1, round(h * tall)), max(1, round(w * wide))) for h, w in sizes[:-1]), finest)


def resolve_start_scale(start_scale: StartScale, count: int) -> int:
    """A start scale as one of 0..count-1; negative ones count from the finest, words mean a place between the ends.

    Raises `StartScaleError` for any other.
    """
    if isinstance(start_scale, str) and start_scale in START_WORDS:
        return start_scale_at(START_WORDS[start_scale], count)
    scale = start_scale + count if isinstance(start_scale, int) and start_scale < 0 else start_scale
    if not isinstance(scale, int) or not 0 <= scale < count:
        raise StartScaleError(
            f"expected a start scale in 0..{count - 1} (or -{count}..-1, counted from the finest; or "
            f"{', '.join(START_WORDS)}), got {start_scale}: this pyramid has {count} scale{'s' if count > 1 else ''}"
        )
    return scale


def read_start_scale(text: str) -> StartScale:
    """A start scale as a command line has it. Raises `StartScaleError`."""
    if text in START_WORDS:
        return text
    if _NUMBER.fullmatch(text):
        return int(text)
    raise StartScaleError(f"expected a start scale such as 0, -1 or {', '.join(START_WORDS)}, got {text!r}")


def each_start_scale(given: StartScale | Iterable[StartScale]) -> tuple[StartScale, ...]:
    """One start scale, or several, as several."""
    return (given,) if isinstance(given, int | str) else tuple(given)


def start_scale_at(share: float, count: int) -> int:
    """The scale that lies `share` (0 to 1) of the way from the coarsest to the finest of `count`, the nearest one.

    Half-way between two it is the finer. So one share means alike for pyramids of different heights.
    """
    return math.floor(share * (count - 1) + 0.5)
