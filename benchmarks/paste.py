"""What a redrawn rim does to a paste: the step at the edge, and a sheet of source, plain paste, harmonised."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import singan_aug
from benchmarks._photos import images_in, opened
from benchmarks._result import Row, say, spread, write
from benchmarks.report import PLOTS
from singan_aug import fast, fit, make_key, open_store
from singan_aug.images import to_pixels, unit_to_pil
from singan_aug.transforms._paste import Cutout, Pasted, PasteSettings, PasteSource, cut_out
from singan_aug.transforms._source import Settings

PHOTOS = Path(singan_aug.__file__).parent / "photos"
SHEET = PLOTS / "paste.jpg"
# Object and its ellipse (left, top, right, bottom) in shares of its photo; the photo it is pasted into.
PASTES = (
    ("dandelion", (0.10, 0.09, 0.47, 0.55), "dandelion"),
    ("dandelion", (0.10, 0.09, 0.47, 0.55), "landscape"),
    ("coffee", (0.13, 0.04, 0.80, 0.97), "brick"),
    ("gravel", (0.40, 0.40, 0.75, 0.60), "brick"),
)
SEEDS = 5
CELL = (256, 171)


def main() -> None:
    """Paste, measure, write the sheet and the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paste", description=__doc__)
    parser.parse_args()
    torch.set_num_threads(1)
    photos = {path.stem: opened(path) for path in images_in(PHOTOS)}
    rows: list[Row] = []
    sheet = Image.new("RGB", (3 * CELL[0], len(PASTES) * CELL[1]))
    with tempfile.TemporaryDirectory() as store:
        for target in {target for _, _, target in PASTES}:
            pixels = to_pixels(photos[target])
            open_store(store).save(make_key(pixels, fast()), fit(pixels, fast()))
        for line, (name, ellipse, target) in enumerate(PASTES):
            objects = _cut(photos[name], ellipse)
            source = PasteSource(Settings("medium", store=store, p=1.0), objects, PasteSettings(zoom=(0.5, 0.8)))
            made, took_ms = [], []
            for seed in range(SEEDS):
                started_sec = time.process_time()
                pasted = source.paste(photos[target], seed)
                assert pasted is not None
                took_ms.append((time.process_time() - started_sec) * 1000)
                made.append(pasted)
            rows.append(
                {
                    "what": "paste",
                    "object": name,
                    "into": target,
                    **_steps(photos[target], made),
                    "paste_ms": spread(took_ms[1:]),
                }
            )
            shown = photos[target], unit_to_pil(made[0].naive), unit_to_pil(made[0].image)
            for column, picture in enumerate(shown):
                sheet.paste(picture.resize(CELL, Image.Resampling.LANCZOS), (column * CELL[0], line * CELL[1]))
            say(f"{name} into {target}")
    sheet.save(SHEET, quality=88)
    write("paste", rows, seeds=list(range(SEEDS)))


def _cut(photo: Image.Image, ellipse: tuple[float, float, float, float]) -> list[Cutout]:
    mask = Image.new("L", photo.size)
    box = [share * side for share, side in zip(ellipse, (*photo.size, *photo.size), strict=True)]
    ImageDraw.Draw(mask).ellipse(box, fill=1)
    return cut_out(photo, mask)


def _steps(target: Image.Image, made: list[Pasted]) -> Row:
    """Mean difference of neighbours, in 8-bit steps: across the edge of what was pasted, and anywhere in the target."""
    source = torch.from_numpy(np.array(target)).movedim(-1, 0) / 255
    everywhere = torch.ones(source.shape[1:], dtype=torch.bool)
    across = [everywhere[:, 1:], everywhere[1:]]
    return {
        "plain_step": spread([_step(each.naive, _edge(each.mask)) for each in made]),
        "harmonised_step": spread([_step(each.image, _edge(each.mask)) for each in made]),
        "usual_step": round(_step(source, across), 2),
    }


def _edge(mask: Tensor) -> list[Tensor]:
    return [mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]]


def _step(image: Tensor, pairs: list[Tensor]) -> float:
    differences = [(image[:, :, 1:] - image[:, :, :-1]).abs(), (image[:, 1:] - image[:, :-1]).abs()]
    found = torch.cat([each[:, where].flatten() for each, where in zip(differences, pairs, strict=True)])
    return float(found.mean() * 255)


if __name__ == "__main__":
    main()
