"""The preset `paper` run to its end: seconds, noise amplitudes, losses and errors of each scale, and what it draws.

A photo takes tens of minutes. Its pyramid and what was noted while it was fitted stay in `--work`, so a run that was
stopped goes on with the next photo; the result is written anew after each. With `--minutes` a fit ends unfinished when
they are over, or at SIGTERM: what its scales took and lost is written, and what the rest would take, extrapolated;
nothing is drawn. The state of its training stays in `--work` too. `--metrics` names a folder that holds
inception_stem.safetensors and lpips_alex.safetensors. Draw i of the p-th photo has the seed 1000 p + i.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks._photos import images_in, opened, unit, variants_of
from benchmarks._result import Row, say, spread, write
from singan_aug import FitConfig, Pyramid, fit, make_key, open_store, paper
from singan_aug.errors import SinGANAugError
from singan_aug.fitting import FitEvent
from singan_aug.fitting.checkpoint import Checkpoint, identity_of
from singan_aug.fitting.fitting import fit_work
from singan_aug.fitting.generated.fitter import fit_generated
from singan_aug.images import image_and_mask, resize_pixels, to_signed
from singan_aug.metrics import InceptionStem, KnownPatches, LpipsAlex, incoherence, lpips, pixel_diversity, sifid
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import stack_sizes, working_size
from singan_aug.store import Store

SEEDS_APART = 1000
LAST_REPORTS = 10  # of a scale's losses, averaged: one report is noise
SHOWN = ("sifid", "lpips_to_source", "lpips_between", "pixel_diversity", "incoherence")


@dataclass(frozen=True)
class Scorer:
    """What scores, and how many draws."""

    stem: InceptionStem
    alex: LpipsAlex
    draws: int
    diversity_draws: int


def main() -> None:
    """Parse, fit, draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="keeps what is finished")
    parser.add_argument("--size", type=int, default=64, help="long side in pixels")
    parser.add_argument("--names", nargs="+", metavar="STEM", help="of the photos, in this order; all by default")
    parser.add_argument("--limit", type=int, default=3, help="photos at most")
    parser.add_argument("--minutes", type=float, help="of a photo's fit at most, in wall time")
    parser.add_argument("--steps", type=int, help="iterations of each scale instead of the recipe's, to try things")
    parser.add_argument("--draws", type=int, default=10, help="draws that are scored, at each start scale")
    parser.add_argument("--diversity-draws", type=int, default=50, help="draws for pixel diversity")
    parser.add_argument("--result", type=Path, metavar="FILE", help="instead of results/paper.json")
    options = parser.parse_args()
    if any(not 2 <= count <= SEEDS_APART for count in (options.draws, options.diversity_draws)):
        parser.error(f"expected 2 to {SEEDS_APART} draws")
    torch.set_num_threads(1)
    config = paper(finest_px=options.size)
    if options.steps:
        config = config.replace(steps_coarsest=options.steps, steps_finer=options.steps)
    try:
        stem = InceptionStem.load(options.metrics / "inception_stem.safetensors")
        alex = LpipsAlex.load(options.metrics / "lpips_alex.safetensors")
        paths = _chosen(images_in(options.photos), options.names)[: options.limit]
    except (SinGANAugError, ValueError) as error:
        parser.error(str(error))
    scorer = Scorer(stem, alex, options.draws, options.diversity_draws)
    store = open_store(options.work)
    scale_rows: list[Row] = []
    draw_rows: list[Row] = []
    for place, path in enumerate(paths):
        pyramid, of_scales = _fitted(opened(path), path.stem, config, store, options.minutes)
        scale_rows += of_scales
        draw_rows += _scored(path, pyramid, SEEDS_APART * place, scorer) if pyramid else []
        seeds = [SEEDS_APART * i for i in range(place + 1)]
        write("paper", [*scale_rows, *draw_rows, *_means(draw_rows)], seeds=seeds, path=options.result)


def _chosen(paths: list[Path], names: list[str] | None) -> list[Path]:
    """The photos of these names, in their order. Raises `ValueError` for a name without a photo."""
    by_name = {path.stem: path for path in paths}
    if missing := [name for name in names or () if name not in by_name]:
        raise ValueError(f"expected photos named {', '.join(missing)}, found {', '.join(by_name) or 'none'}")
    return [by_name[name] for name in names or by_name]


def _fitted(
    photo: Image.Image, name: str, config: FitConfig, store: Store, minutes: float | None
) -> tuple[Pyramid | None, list[Row]]:
    """The pyramid and a row for each scale: of an earlier run where there is one, else fitted and kept. No pyramid and
    the rows of what was trained where the minutes were too few."""
    key = make_key(photo, config)
    notes = Path(store.location) / f"{key}.json"
    if notes.exists():
        say(f"{name}: fitted before")
        return store.load(str(key)), json.loads(notes.read_text())
    diary = Diary(name, minutes)
    state = Path(store.location) / f"{key}.state"
    try:
        pyramid = fit(photo, config, on_event=diary.note, checkpoint=state)
    except OutOfTime:
        return None, diary.unfinished(photo, config, trained_so_far(photo, config, state))
    store.save(key, pyramid, name=name)
    rows = diary.rows(pyramid)
    notes.write_text(json.dumps(rows))  # last: where it is, the pyramid is
    state.unlink(missing_ok=True)
    return store.load(str(key)), rows


def trained_so_far(photo: Image.Image, config: FitConfig, state: Path) -> list[Row]:
    """What is known of each scale whose training had ended when the state of a fit was kept."""
    assert config.generated is not None
    pixels, _ = image_and_mask(photo, None)
    real = to_signed(resize_pixels(pixels, working_size(pixels.shape[:2], config)))
    sizes = stack_sizes((real.shape[2], real.shape[3]), config)
    kept = Checkpoint(state, identity_of(real, sizes, config))
    ended = int(kept.state["scale"]) if kept.state else 0
    if not ended:
        return []
    resample, seeds = config.sizes.resample, (config.seed, kept.attempt)
    scales = fit_generated(real, sizes[0][:ended], config.generated, resample, seeds, lambda *_: None, kept)
    errors = [scale.reconstruct() - resize(real, scale.size, resample) for scale in scales]
    return [
        {
            "size": f"{scale.size[0]}x{scale.size[1]}",
            "noise_amplitude": round(float(scale.amplitude.mean()), 5),
            "reconstruction_rmse": round(float(error.square().mean().sqrt()) / 2, 5),
        }
        for scale, error in zip(scales, errors, strict=True)
    ]


class OutOfTime(Exception):
    """The minutes of a fit are over."""


class Diary:
    """Process seconds and losses of each scale, as a fit reports them."""

    def __init__(self, name: str, minutes: float | None = None) -> None:
        self.name = name
        self._ends_sec = None if minutes is None else time.monotonic() + 60 * minutes
        self._attempt = -1
        self._last: FitEvent | None = None
        self._sec: dict[int, list[float]] = {}  # of each scale: process seconds an iteration, between reports
        self._losses: dict[int, list[dict[str, float]]] = {}
        self._at_sec = time.process_time()
        if minutes is not None:
            signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        """The next report ends the fit."""
        self._ends_sec = 0.0

    def note(self, event: FitEvent) -> None:
        """What `fit` calls every few iterations. Raises `OutOfTime`."""
        now_sec, last = time.process_time(), self._last
        if event.attempt != self._attempt:  # the first report, or all begins again after a fit that diverged
            self._attempt, self._sec, self._losses, last = event.attempt, {}, {}, None
        if last is not None and event.scale == last.scale:  # the first one of a scale would count what prepares it too
            spent_sec = (now_sec - self._at_sec) / (event.step - last.step)
            self._sec.setdefault(event.scale, []).append(spent_sec)
        self._losses.setdefault(event.scale, []).append(dict(event.losses))
        self._last, self._at_sec = event, now_sec
        if event.step % (event.steps // 4 or 1) == 0:
            say(f"{self.name}: scale {event.scale + 1} of {event.scales}, iteration {event.step}")
        if self._ends_sec is not None and time.monotonic() > self._ends_sec:
            raise OutOfTime

    def unfinished(self, photo: Image.Image, config: FitConfig, ended: list[Row]) -> list[Row]:
        """One a scale that was timed in this run, then one of the whole. `ended`: more about the scales so far.

        Seconds of scales that were not reached follow from those of the last that was, by their multiply-adds.
        """
        last = self._last
        if last is None:
            return []
        work = fit_work(working_size((photo.height, photo.width), config), len(photo.getbands()), config)
        rows: list[Row] = []
        whole_sec = load_sec = 0.0
        for k, of_scale in enumerate(work):
            if k in self._sec:
                rows.append(self._row(k) | (ended[k] if k < len(ended) else {}))
                load_sec = float(np.median(self._sec[k])) * of_scale.steps / of_scale.load
            whole_sec += of_scale.load * load_sec
        whole: Row = {"what": "unfinished fit", "photo": self.name, "scales": last.scales}
        whole |= {"finished_scales": last.scale, "iterations_per_scale": last.steps, "iterations_of_last": last.step}
        return [*rows, whole | {"work_done": round(last.share, 6), "hours_to_the_end": round(whole_sec / 3600, 2)}]

    def _row(self, k: int) -> Row:
        """What training told of a scale."""
        last = self._losses[k][-LAST_REPORTS:]
        return {
            "what": "scale",
            "photo": self.name,
            "scale": k,
            "iteration_sec": spread(self._sec[k]),
            **{f"loss_{name}": round(float(np.mean([each[name] for each in last])), 5) for name in last[0]},
        }

    def rows(self, pyramid: Pyramid) -> list[Row]:
        """One a scale, and one of the whole."""
        errors = pyramid.provenance["reconstruction_rmse"]
        tensors = pyramid.tensors()
        rows: list[Row] = []
        for k, scale in enumerate(pyramid.scales):
            rows.append(
                {
                    **self._row(k),
                    "size": f"{scale.size[0]}x{scale.size[1]}",
                    "noise_amplitude": round(float(tensors[f"scales.{k}.amplitude"].mean()), 5),
                    "reconstruction_rmse": errors[k],
                }
            )
        steps = self._last.steps if self._last else 0
        whole = {"what": "fit", "photo": self.name, "scales": len(pyramid), "iterations_per_scale": steps}
        return [*rows, whole | {name: pyramid.provenance[name] for name in ("attempt", "process_sec")}]


def _scored(path: Path, pyramid: Pyramid, first_seed: int, scorer: Scorer) -> list[Row]:
    """One row a start scale."""
    source = unit(opened(path).resize(pyramid.size[::-1], Image.Resampling.BICUBIC))
    known = KnownPatches.of(source)
    rows = []
    for start in range(len(pyramid)):
        seeds = range(first_seed, first_seed + max(scorer.draws, scorer.diversity_draws))
        variants = variants_of(pyramid, start, seeds)
        scored = variants.images[: scorer.draws]
        measured = {
            "sifid": sifid(source, scored, scorer.stem),
            "lpips_to_source": lpips(source, scored, scorer.alex),
            "lpips_between": lpips(scored[:-1], scored[1:], scorer.alex),
            "incoherence": incoherence(known, scored),
        }
        diversity = pixel_diversity(variants.images[: scorer.diversity_draws], source)
        row: Row = {"what": "draws", "photo": path.stem, "start_scale": start}
        row |= {name: spread(values.tolist()) for name, values in measured.items()}
        row |= {"pixel_diversity": round(diversity, 4), "draw_ms": spread(variants.draw_ms)}
        rows.append(row | {f"{name}_mean": round(float(values.mean()), 4) for name, values in measured.items()})
        say(f"{path.stem}, start scale {start}: SIFID {rows[-1]['sifid_mean']:.3f}, diversity {diversity:.3f}")
    return rows


def _means(draw_rows: list[Row]) -> list[Row]:
    """One row a start scale: means over the photos whose pyramids have it."""
    means: list[Row] = []
    for start in sorted({row["start_scale"] for row in draw_rows}):
        rows = [row for row in draw_rows if row["start_scale"] == start]
        row: Row = {"what": "draws, mean over photos", "start_scale": start, "photos": len(rows)}
        for name in SHOWN:
            of_photo = name if name == "pixel_diversity" else f"{name}_mean"
            row[f"{name}_mean"] = round(float(np.mean([each[of_photo] for each in rows])), 4)
        means.append(row)
    return means


if __name__ == "__main__":
    main()
