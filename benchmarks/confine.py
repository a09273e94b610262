"""What confining a draw costs, how large it leaves objects, and a sheet: source, draw, and both ways to confine it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

import singan_aug
from benchmarks._photos import opened
from benchmarks._result import Row, say, spread, write
from benchmarks.report import PLOTS
from singan_aug import draw, fast, fit
from singan_aug.images import unit_to_pil
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.confine import MARGIN_PX, Confinement, draw_confined, object_of

PHOTOS = Path(singan_aug.__file__).parent / "photos"
SHEET = PLOTS / "confine.jpg"
MARGINS_PX = (0.0, MARGIN_PX)
STARTS = ("fine", "medium")
SEEDS = range(12)
SHOWN = ("medium", 3)  # start scale and seed of the sheet
CELL = (256, 171)
Bits = NDArray[np.bool_]
T = TypeVar("T")


def main() -> None:
    """Draw, measure, write the sheet and the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confine", description=__doc__)
    parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    scenes = {
        "dandelion": _ellipse("dandelion", 0.10, 0.09, 0.47, 0.55),
        "coffee": _ellipse("coffee", 0.13, 0.04, 0.80, 0.97),
        "brick": _scratched(),
    }
    sheet = Image.new("RGB", (4 * CELL[0], len(scenes) * CELL[1]))
    for line, (name, (image, mask)) in enumerate(scenes.items()):
        pyramid = fit(image, fast(finest_px=256), mask=mask.astype(np.uint8))
        rows += _rows(name, pyramid)
        start, seed = SHOWN
        confined = [draw_confined(pyramid, 1, start, seed, Confinement(how))[0].image for how in ("mask", "background")]
        pictures = [_outlined(image, mask), *map(unit_to_pil, [draw(pyramid, 1, start, seed=seed)[0], *confined])]
        for column, picture in enumerate(pictures):
            sheet.paste(picture.resize(CELL, Image.Resampling.LANCZOS), (column * CELL[0], line * CELL[1]))
        say(name)
    sheet.save(SHEET, quality=88)
    write("confine", rows, seeds=list(SEEDS))


def _rows(name: str, pyramid: Pyramid) -> list[Row]:
    region, rows = object_of(pyramid), []
    for start in STARTS:
        for margin_px in MARGINS_PX:
            how, areas, changed, ratios = Confinement("mask", margin_px), [], [], []
            for seed in SEEDS:
                plain_ms, _ = _timed(partial(draw, pyramid, 1, start, seed=seed))
                took_ms, made = _timed(partial(draw_confined, pyramid, 1, start, seed, how))
                moved = region[made[0].field[0], made[0].field[1]]
                ratios.append(took_ms / plain_ms)
                areas.append(float(moved.sum() / region.sum()))
                changed.append(float((moved ^ region).sum() / region.sum()))
            row: Row = {"what": "confine", "object": name, "start_scale": start, "margin_px": margin_px}
            rows.append(
                row | {"area_ratio": spread(areas), "shape_changed": spread(changed), "time_ratio": spread(ratios[1:])}
            )
    return rows


def _timed(make: Callable[[], T]) -> tuple[float, T]:
    started_sec = time.process_time()
    made = make()
    return (time.process_time() - started_sec) * 1000, made


def _ellipse(name: str, *sides: float) -> tuple[Image.Image, Bits]:
    """A photo, and an ellipse in it: left, top, right, bottom in shares."""
    photo = opened(PHOTOS / f"{name}.jpg")
    mask = Image.new("1", photo.size)
    box = [share * side for share, side in zip(sides, (*photo.size, *photo.size), strict=True)]
    ImageDraw.Draw(mask).ellipse(box, fill=1)
    return photo, np.asarray(mask)


def _scratched() -> tuple[Image.Image, Bits]:
    """Bricks with a scratch, which is painted on."""
    photo = opened(PHOTOS / "brick.jpg")
    mask = Image.new("1", photo.size)
    ImageDraw.Draw(mask).line([(40, 60), (90, 90), (150, 100), (210, 160)], fill=1, width=7)
    bits = np.asarray(mask)
    return Image.fromarray(np.where(bits[..., None], np.asarray(photo) // 3, np.asarray(photo))), bits


def _outlined(image: Image.Image, mask: Bits) -> Image.Image:
    region: Tensor = torch.from_numpy(mask.copy()).float()[None, None]
    edge = (torch.nn.functional.max_pool2d(region, 3, 1, 1) - region)[0, 0].numpy() > 0
    return Image.fromarray(np.where(edge[..., None], np.array([255, 60, 60], np.uint8), np.asarray(image)))


if __name__ == "__main__":
    main()
