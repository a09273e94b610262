"""What a prior is worth: the trained preset from random weights, from the shipped prior, and from one of the photos.

At equal steps, a few photos. The dataset's prior is learned from all photos of the folder, those that are scored
included: that is how `prior="dataset"` is used. `--metrics` names a folder that holds inception_stem.safetensors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks._photos import images_in, opened, setting, unit, variants_of
from benchmarks._result import Row, say, spread, write
from singan_aug import FitConfig, fit
from singan_aug.config import trained
from singan_aug.dataset import PRIOR_IMAGES, prior_images
from singan_aug.fitting import train_prior
from singan_aug.images import load_image
from singan_aug.metrics import InceptionStem, pixel_diversity, sifid

STARTS = (0, 1, 2)


def main() -> None:
    """Parse, learn, fit, draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=4, help="photos at most that are fitted, evenly out of the folder")
    parser.add_argument("--draws", type=int, default=5, help="draws that are scored, at each start scale")
    parser.add_argument("--diversity-draws", type=int, default=20, help="draws for pixel diversity")
    parser.add_argument("--prior-steps", type=int, default=2000, help="steps at each depth of the dataset's prior")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="field of the config")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = trained(**dict(setting(text) for text in options.set))
    stem = InceptionStem.load(options.metrics / "inception_stem.safetensors")
    paths = images_in(options.photos)
    paths = paths[:: max(1, len(paths) // options.limit)][: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        learned, learning_sec = _learned(options.photos, config, options.prior_steps, Path(folder))
        rows: list[Row] = [{"what": "learning the dataset's prior", "process_sec": learning_sec}]
        for what, prior in (("random weights", None), ("photos", "photos"), ("dataset", learned)):
            rows += _rows(what, paths, config.replace(prior=prior), stem, options)
    write("prior", rows, seeds=[0])


def _learned(photos: Path, config: FitConfig, steps: int, folder: Path) -> tuple[str, float]:
    """The prior of the photos, and the process seconds it took to learn."""
    images = [load_image(path).pixels for path in prior_images([photos], config)[:PRIOR_IMAGES]]
    started_sec = time.process_time()
    prior = train_prior(images, config, steps=steps)
    spent_sec = time.process_time() - started_sec
    prior.save(folder / "dataset.safetensors")
    say(f"prior of {len(images)} photos: {spent_sec:.0f} process-seconds")
    return str(folder / "dataset.safetensors"), round(spent_sec, 1)


def _rows(
    what: str, paths: list[Path], config: FitConfig, stem: InceptionStem, options: argparse.Namespace
) -> list[Row]:
    """One row a start scale."""
    fit_sec, rmse = [], []
    scores: dict[int, list[list[float]]] = {start: [] for start in STARTS}
    diversity: dict[int, list[float]] = {start: [] for start in STARTS}
    for path in paths:
        photo = opened(path)
        started_sec = time.process_time()
        pyramid = fit(photo, config)
        fit_sec.append(time.process_time() - started_sec)
        rmse.append(pyramid.provenance["reconstruction_rmse"][-1])
        source = unit(photo.resize(pyramid.size[::-1], Image.Resampling.BICUBIC))
        for start in STARTS:
            variants = variants_of(pyramid, start, range(max(options.draws, options.diversity_draws)))[0]
            scores[start].append(sifid(source, variants[: options.draws], stem).tolist())
            diversity[start].append(pixel_diversity(variants[: options.diversity_draws], source))
        means = ", ".join(f"{np.mean(scores[start][-1]):.2f}" for start in STARTS)
        say(f"{what}, {path.stem}: {fit_sec[-1]:.1f} process-seconds, SIFID {means}")
    return [
        {
            "what": f"trained, prior: {what}",
            "start_scale": start,
            "photos": len(paths),
            "sifid_mean": round(float(np.mean(scores[start])), 4),
            "sifid": spread([float(np.mean(each)) for each in scores[start]]),
            "pixel_diversity_mean": round(float(np.mean(diversity[start])), 4),
            "reconstruction_rmse": spread(rmse),
            "fit_sec": spread(fit_sec),
        }
        for start in STARTS
    ]


if __name__ == "__main__":
    main()
