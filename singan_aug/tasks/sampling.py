"""sample(): variants of any size and aspect, panoramas too."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from singan_aug.errors import ConfigError
from singan_aug.images import to_unit
from singan_aug.pyramid import Pyramid, draw
from singan_aug.pyramid.copied.region import Imitation
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.fields import deformed, random_field
from singan_aug.pyramid.generated.scale import SHIFT_CELLS, GeneratedScale, MilderStart
from singan_aug.pyramid.noise import derive_seed, generator_for
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import Canvas, draw_upwards
from singan_aug.pyramid.sizes import Size, StartScale, resolve_start_scale, sizes_for
from singan_aug.pyramid.threads import one_thread
from singan_aug.tasks._entering import redrawn

__all__ = ["sample"]

HOW = Imitation(passes=(4, 2, 1), nearness=(1.0, 0.0), completeness=0.05, unrest=0.3)
PAIRS = 400_000_000  # patches times places that the first search may compare: seconds
MOST_STRETCH = (3.0, 1.5)  # of one copy of the source, down and across: a scene has its sky above, and goes on sideways
OVERLAP = 0.3  # of a copy of the source with the next one, which it fades into
MOST_SIDE_PX = 16_384
MOST_PX = 2**26


def sample(
    pyramid: Pyramid, variants: int = 1, size: Size | None = None, *, start_scale: StartScale = 0, seed: int = 0
) -> Tensor:
    """Variants of any size and aspect, float [N, C, *size] in [0, 1].

    For the pyramid's own size it is what `draw` gives. `draw` takes other sizes too, and stretches the layout; here a
    larger canvas is laid out with copies of the source side by side, each about as large as it was and fading into the
    next, deformed at random, and then redrawn. So a panorama of 3000 px has mountains as large as the photo's, and more
    of them.

    All of the canvas is one: there are no tiles that could show where they meet. Memory is 140 to 170 bytes a pixel
    where scales copy, beside what the pyramid takes; networks work on 2^18 pixels at a time, rows after rows.

    Args:
        pyramid: of any preset.
        variants: how many (N). The i-th depends on (seed, i) alone.
        size: (height, width), each 16 to 16384, their product up to 2^26; the pyramid's by default.
        start_scale: as `draw` takes it. Where scales copy and the canvas is large, patches are first searched at a
            coarser scale than that, and what moves is as small as the start scale says.
        seed: same seed, same pixels on one device.

    Raises `StartScaleError`: no such scale; `ConfigError`: `variants` or `size` is out of range.
    """
    start = resolve_start_scale(start_scale, len(pyramid))
    if variants < 1:
        raise ConfigError(f"expected variants of at least 1, got {variants!r}")
    if size is not None and (not 16 <= min(size) <= max(size) <= MOST_SIDE_PX or math.prod(size) > MOST_PX):
        raise ConfigError(f"expected a size of 16 to {MOST_SIDE_PX} px a side, at most {MOST_PX} in all, got {size!r}")
    if size is None or tuple(size) == pyramid.size:
        return draw(pyramid, variants, start, seed=seed)
    with torch.no_grad(), one_thread():
        made = [_sampled(pyramid, size, start, derive_seed(seed, i)) for i in range(variants)]
    return to_unit(torch.cat(made))


def _sampled(pyramid: Pyramid, size: Size, start: int, seed: int) -> Tensor:
    """[1, C, *size] in [-1, 1]."""
    sizes = sizes_for(tuple(scale.size for scale in pyramid.scales), size)
    first, generator = pyramid.scales[start], generator_for(seed, "layout")
    if isinstance(first, MilderStart):
        first = first.begins
    resample = pyramid.config.sizes.resample
    if isinstance(first, GeneratedScale):
        generated = [first, *(each for each in pyramid.scales[start + 1 :] if isinstance(each, GeneratedScale))]
        if start or first.z_star is None:
            entering = side_by_side(resize(first.entering, first.size, resample), sizes[start])
            if first.shift_px:
                cells = round(SHIFT_CELLS * min(sizes[start]) / min(first.size)) or 1
                field = random_field(sizes[start], generator, first.shift_px, cells)
                entering = deformed(entering, field.to(entering.device))
            canvas = draw_upwards(generated, sizes[start:][: len(generated)], [generator], Canvas(entering))
        else:
            canvas = draw_upwards(generated, sizes[: len(generated)], [generator])
        if len(generated) == len(pyramid.scales) - start:
            return canvas.image
        return redrawn(pyramid, resize(canvas.image, size, resample), _lowest_copied(pyramid), HOW, seed)
    assert isinstance(first, CopiedScale)
    cells = round(first.how.shift_cells * min(sizes[start]) / min(first.size)) or 1
    deviation_px = first.how.shift_px * first.how.shift_decay**first.index
    field = random_field(sizes[start], generator, deviation_px, cells).to(first.source.device)
    laid_out = deformed(side_by_side(first.source, sizes[start]), field)
    lower = max(
        k
        for k in range(start + 1)
        if k == _lowest_copied(pyramid) or math.prod(sizes[k]) * math.prod(pyramid.scales[k].size) <= PAIRS
    )
    return redrawn(pyramid, resize(laid_out, size, resample), lower, HOW, seed)


def _lowest_copied(pyramid: Pyramid) -> int:
    return next(k for k, scale in enumerate(pyramid.scales) if isinstance(scale, CopiedScale))


def side_by_side(image: Tensor, size: Size) -> Tensor:
    """[1, C, *size]: copies of an image, [1, C, h, w], side by side; where two meet one fades into the other."""
    down, across = (
        _laid(side, own, times, image)
        for side, own, times in zip(size, image.shape[2:], copies(size, (image.shape[2], image.shape[3])), strict=True)
    )
    return down @ image @ across.T


def _laid(side: int, own: int, times: int, image: Tensor) -> Tensor:
    """[side, own], of the kind of `image`: what each place along the canvas takes from each along the image."""
    places = torch.arange(side, dtype=image.dtype, device=image.device)
    along = (places + 0.5) / side * (times - (times - 1) * OVERLAP)  # in sides of the image
    copy = (along / (1 - OVERLAP)).floor().clamp(max=times - 1)
    within = along - copy * (1 - OVERLAP)
    faded = torch.where(copy > 0, (within / OVERLAP).clamp(max=1), 1.0)
    faded = faded.square() * (3 - 2 * faded)  # from the copy before, without a bend at either end
    laid = image.new_zeros(side, own)
    for where, share in ((within, faded), (within + 1 - OVERLAP, 1 - faded)):
        place = (where * own - 0.5).clamp(0, own - 1)
        low = place.floor()
        for each, part in ((low, 1 - place + low), ((low + 1).clamp(max=own - 1), place - low)):
            laid[places.long(), each.long()] += share * part
    return laid


def copies(size: Size, own: Size) -> tuple[int, int]:
    """How many copies of a source there are, down and across: one as long as it need not be stretched more than that,
    else as many as are least stretched or shrunk. Across they are also as wide as a single row is high."""
    down = _copies(size[0], own[0], MOST_STRETCH[0])
    stretch = min(max(1.0, size[0] / own[0]), MOST_STRETCH[1]) if down == 1 else 1.0
    return down, _copies(size[1], own[1] * stretch, MOST_STRETCH[1] / stretch)


def _copies(side: float, own: float, most: float) -> int:
    return 1 if side <= most * own else max(2, round((side / own - OVERLAP) / (1 - OVERLAP)))
