"""Realism against diversity: SIFID, LPIPS and pixel diversity as one field of the config varies.

`--metrics` names a folder that holds inception_stem.safetensors and lpips_alex.safetensors. All values are measured in
one run, on the same photos, with the same seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks._photos import images_in, opened, setting, unit, variants_of
from benchmarks._result import Row, say, write
from singan_aug import fit
from singan_aug.metrics import InceptionStem, LpipsAlex, lpips, pixel_diversity, sifid
from singan_aug.presets import PRESETS, preset

STARTS = (0, 1)


def main() -> None:
    """Parse, fit, draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="fast")
    parser.add_argument("--knob", default="shift_px=1.6,2.4,3.2,4,5", metavar="FIELD=VALUE,...")
    parser.add_argument("--limit", type=int, help="photos at most")
    parser.add_argument("--draws", type=int, default=5, help="draws that are scored, at each start scale")
    parser.add_argument("--diversity-draws", type=int, default=20, help="draws for pixel diversity")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stem = InceptionStem.load(options.metrics / "inception_stem.safetensors")
    alex = LpipsAlex.load(options.metrics / "lpips_alex.safetensors")
    name, _, values = options.knob.partition("=")
    paths = images_in(options.photos)[: options.limit]
    rows: list[Row] = []
    for value in values.split(","):
        config = preset(options.preset, **dict([setting(f"{name}={value}")]))
        measured: dict[int, list[tuple[float, float, float]]] = {start: [] for start in STARTS}
        for place, path in enumerate(paths):
            photo = opened(path)
            pyramid = fit(photo, config)
            source = unit(photo.resize(pyramid.size[::-1], Image.Resampling.BICUBIC))
            for start in STARTS:
                seeds = range(1000 * place, 1000 * place + max(options.draws, options.diversity_draws))
                variants = variants_of(pyramid, start, seeds).images
                scored = variants[: options.draws]
                realism = float(sifid(source, scored, stem).mean())
                apart = float(lpips(source, scored, alex).mean())
                measured[start].append((realism, pixel_diversity(variants[: options.diversity_draws], source), apart))
        for start in STARTS:
            realism, diversity, apart = np.mean(measured[start], axis=0)
            rows.append(
                {
                    "what": options.preset,
                    name: getattr(config, name),
                    "start_scale": start,
                    "photos": len(paths),
                    "sifid_mean": round(float(realism), 4),
                    "pixel_diversity_mean": round(float(diversity), 4),
                    "lpips_to_source_mean": round(float(apart), 4),
                }
            )
            say(f"{name}={value}, start scale {start}: SIFID {realism:.3f}, diversity {diversity:.2f}")
    write("knob", rows, seeds=[1000 * place for place in range(len(paths))])


if __name__ == "__main__":
    main()
