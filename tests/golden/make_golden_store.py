"""Write the golden store of the current format, cache/golden/v<FORMAT_VERSION>.

    python -m tests.golden.make_golden_store            refuses to touch one that exists
    python -m tests.golden.make_golden_store --replace  before the format's first release only

A golden store that was released never changes: it stands for the stores that users have.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from singan_aug import Pyramid, draw, fit, reconstruct
from singan_aug.config import Copied, FitConfig, Generated, Networks, Noise, Objective, Schedule, Sizes
from singan_aug.images import Mask, Pixels, mask_to_pil
from singan_aug.presets import paper
from singan_aug.pyramid.sizes import Size
from singan_aug.store import FORMAT_VERSION, DirectoryStore, fingerprint, make_key

GOLDEN = Path(__file__).parents[2] / "cache" / "golden"
SIZE = (24, 36)  # height, width of the image
SEED = 7  # of the recorded draws
PIXELS_EACH = 8  # recorded of every draw
OTHER_SIZE = (30, 31)  # of the draw that changes size and aspect

SIZES = Sizes(coarsest_px=14, finest_px=36, scale_factor=0.55, resample="bicubic")
COPIED = Copied(
    patch_px=5,
    descriptor_dims=8,
    completeness=5e-3,
    match_tolerance=1e-2,
    shift_px=3.75,
    shift_decay=0.9,
    shift_cells=4,
    shift_step_px=3,
    seam_passes=0,
    seam_blend_px=3.0,
)
SEARCH = {"search_passes": 2, "search_nearness": 0.15}
SCHEDULE = Schedule(steps_coarsest=30, generator_updates=1, batch=2, learning_rate=5e-3, decay="step", beta1=0.5)
GENERATED = Generated(
    scales=1,
    networks=Networks(block="conv", layers=5, width=8, batch_norm=False, padding="reflect"),
    noise=Noise(
        anchor="blurred", anchor_blur_px=1.5, anchor_shift_px=0.8, noise_coarsest=0.5, noise_coarsest_shared=False
    ),
    objective=Objective(loss="wgan_gp", critic_updates=1, penalty_weight=0.1, reconstruction_weight=10.0),
    schedule=SCHEDULE,
)
CONFIGS = {
    "copied": FitConfig(sizes=SIZES, copied=COPIED, seed=11),
    "generated, then copied": FitConfig(
        sizes=SIZES, generated=GENERATED, copied=COPIED.model_copy(update=SEARCH), seed=11
    ),
    "generated": paper(
        coarsest_px=14,
        finest_px=36,
        scale_factor=0.55,
        width=8,
        width_max=8,
        steps_coarsest=30,
        steps_finer=20,
        learning_rate=5e-3,
        seed=11,
    ),
}
MASKED = {"generated, then copied"}
# Patches are copied from the best place: where two are as good, another machine's rounding may choose the other one.
MAY_DIFFER = {"copied": 0.25, "generated, then copied": 0.4, "generated": 0.0}


def _picture() -> Pixels:
    """A sky over a striped field with a disk: no flip or turn of it equals another."""
    height, width = SIZE
    rows, columns = np.mgrid[0:height, 0:width]
    sky = np.stack([120 + 3 * rows, 150 + 2 * rows, 230 - rows], axis=-1)
    field = np.stack([60 + 8 * (columns % 5), 110 + 12 * ((rows + columns) % 4), 40 + 2 * rows], axis=-1)
    image = np.where((rows < 13)[..., None], sky, field)
    image[np.hypot(rows - 8, columns - 25) < 5] = (240, 90, 30)
    return image.astype(np.uint8)


def _mask() -> Mask:
    """What is on the picture: sky 0, field 3, disk 200 and a void 255 where it touches the edge of the field."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    mask = np.where(rows < 13, 0, 3)
    mask[np.hypot(rows - 8, columns - 25) < 5] = 200
    mask[12:14, 20:30] = 255
    return mask.astype(np.int32)


def _recorded(image: Tensor) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    height, width = image.shape[-2:]
    places = sorted({(int(rng.integers(height)), int(rng.integers(width))) for _ in range(PIXELS_EACH)})
    return [{"at": [y, x], "value": [round(v, 6) for v in image[0, :, y, x].tolist()]} for y, x in places]


def _expected(sort: str, pyramid: Pyramid, key: str) -> dict[str, Any]:
    starts: list[tuple[int, Size | None]] = [(k, None) for k in range(len(pyramid))]
    draws = [
        {
            "start_scale": start_scale,
            "size": size,
            "seed": SEED,
            "pixels": _recorded(draw(pyramid, start_scale=start_scale, size=size, seed=SEED)),
        }
        for start_scale, size in [*starts, (1, OTHER_SIZE)]
    ]
    return {
        "sort": sort,
        "key": key,
        "scale_sizes": [scale.size for scale in pyramid.scales],
        "may_differ_ratio": MAY_DIFFER[sort],
        "reconstruction": _recorded(reconstruct(pyramid)),
        "draws": draws,
    }


def _laid_out(expected: dict[str, Any]) -> str:
    """JSON with one pixel a line."""
    text = json.dumps(expected, indent=1)
    return re.sub(r"\[[^][{}]*\]|\{[^{}]*?\"at\"[^{}]*\}", lambda found: " ".join(found[0].split()), text)


def main(replace: bool) -> None:
    place = GOLDEN / f"v{FORMAT_VERSION}"
    if place.exists() and not replace:
        raise SystemExit(f"{place} exists, and a released golden store never changes")
    shutil.rmtree(place, ignore_errors=True)
    pixels = _picture()
    assert len({fingerprint(np.ascontiguousarray(turned)).turn_code for turned in (pixels, pixels[::-1])}) == 2
    place.mkdir(parents=True)
    Image.fromarray(pixels).save(place / "image.png", optimize=True)
    store = DirectoryStore(place / "store")
    mask_to_pil(_mask()).save(place / "mask.png", optimize=True)
    keys = {}
    for sort, config in CONFIGS.items():
        mask = _mask() if sort in MASKED else None
        key = make_key(pixels, config, mask)
        store.save(key, fit(pixels, config, mask=mask), name="image.png", source_size=SIZE)
        keys[sort] = str(key)
    for empty in ("claims", "partial"):
        shutil.rmtree(place / "store" / empty)
    pyramids = [_expected(sort, store.load(key), key) for sort, key in keys.items()]
    expected = {"image": "image.png", "mask": "mask.png", "tolerance": "1/255", "pyramids": pyramids}
    (place / "golden.json").write_text(_laid_out(expected) + "\n")


if __name__ == "__main__":
    main(replace="--replace" in sys.argv[1:])
