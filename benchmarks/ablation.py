"""What each part of a generated scale is worth at equal cost: upsampling, blocks, schedule, noise, objective.

Every arm is fitted to the same photos from the same seeds, with as many steps as take the processor seconds that its
base takes: how many is found beforehand by short fits of both. `--metrics` names a folder that holds
inception_stem.safetensors. `--work` names a file that keeps each finished fit, so that a run that was stopped goes on;
`--collect` writes what it holds so far, and with `--keep` the last result's rows of questions
it holds less of. Seed s of the p-th photo draws with seeds from 10000 p + 100 s.

A fit *diverged* where losses or draws became non-finite; it *collapsed* where the diversity at its last generated
scale, from start scale 0, is under a tenth of the base's median for that photo.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks._ablation_rows import rows_of, with_kept
from benchmarks._arms import ARMS, FINEST_PX, QUESTIONS, STEPS, Arm, config_of
from benchmarks._photos import images_in, opened, unit, variants_of
from benchmarks._result import RESULTS, Row, say, write
from benchmarks._stack import Parts, Trained, fit_stack, own_parts
from singan_aug import Pyramid, fit
from singan_aug.errors import FitDivergedError, SinGANAugError
from singan_aug.metrics import InceptionStem, KnownPatches, incoherence, pixel_diversity, sifid
from singan_aug.pyramid.resample import resize

PHOTO_SEEDS, FIT_SEEDS = 10_000, 100  # how far apart the seeds of draws are
SCORED, DIVERSE, SEARCHED = 3, 8, 2  # draws for SIFID, for diversity, for incoherence
SHORT, REPEATS = 8, 2  # steps of a fit that tells what one costs, and how often; the least of these counts
SHORT_OF_PRESET = 40  # whose steps are cheap beside all else that a fit does


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo at the finest size."""

    name: str
    image: Image.Image

    @cached_property
    def source(self) -> Tensor:
        """[1, 3, H, W] in [0, 1]."""
        return unit(self.image)

    @cached_property
    def known(self) -> KnownPatches:
        """Its patches."""
        return KnownPatches.of(self.source)


class Work:
    """Finished cells and calibrations, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.cells: dict[tuple[str, str, int], Row] = {}
        self.ratios: dict[str, float] = {}  # steps that an arm gets for one of its base
        for line in lines:
            self._take(json.loads(line))

    def keep(self, row: Row) -> None:
        """Note it, on disk too."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._take(row)

    def _take(self, row: Row) -> None:
        if "photo" in row:
            self.cells[row["arm"], row["photo"], row["seed"]] = row
        else:
            self.ratios[row["arm"]] = row["ratio"]


def main() -> None:
    """Parse, fit, draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FILE", help="keeps what is finished")
    parser.add_argument("--names", nargs="+", metavar="STEM", help="of the photos; the first five by default")
    parser.add_argument("--seeds", type=int, default=5, help="fits of each photo by each arm")
    parser.add_argument("--questions", nargs="+", choices=sorted(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--collect", action="store_true", help="fit nothing, write what there is")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the last result's rows of questions it has more fits of",
    )
    parser.add_argument("--result", type=Path, metavar="FILE", help="instead of results/ablation.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        stem = InceptionStem.load(options.metrics / "inception_stem.safetensors")
    except SinGANAugError as error:
        parser.error(str(error))
    paths = {path.stem: path for path in images_in(options.photos)}
    names = options.names or list(paths)[:5]
    if not names or not set(names) <= paths.keys():
        parser.error(f"expected photos out of {', '.join(paths) or 'none'}, got {', '.join(names) or 'none'}")
    chosen = [Photo(name, _shrunk(opened(paths[name]))) for name in names]
    work = Work(options.work)
    arms = list(dict.fromkeys(arm for question in options.questions for arm in QUESTIONS[question].values()))
    if not options.collect:
        with own_parts():
            _fit_all(arms, chosen, options.seeds, work, stem)
    rows = rows_of(list(work.cells.values()))
    if options.keep:
        rows = with_kept(rows, json.loads((RESULTS / "ablation.json").read_text()))
    write("ablation", rows, seeds=list(range(options.seeds)), path=options.result)


def _fit_all(arms: Sequence[str], chosen: Sequence[Photo], seeds: int, work: Work, stem: InceptionStem) -> None:
    """Every cell that there is not yet, seed by seed, so that a run that is stopped has compared all arms alike."""
    for arm in arms:
        _calibrate(arm, chosen[0], work)
    for seed in range(seeds):
        for place, photo in enumerate(chosen):
            for arm in arms:
                if (arm, photo.name, seed) not in work.cells:
                    work.keep(_cell(arm, photo, seed, PHOTO_SEEDS * place + FIT_SEEDS * seed, work, stem))


def _shrunk(image: Image.Image) -> Image.Image:
    """To the finest size: then nothing is resized before it is fitted or scored."""
    ratio = min(1.0, FINEST_PX / max(image.size))
    return image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.LANCZOS)


def _calibrate(name: str, photo: Photo, work: Work) -> None:
    """Find how many steps take what the base's take, from short fits of both to one photo, in turn."""
    arm = ARMS[name]
    if name in work.ratios:
        return
    ratio, short = 1.0, SHORT_OF_PRESET if arm.preset else SHORT
    if arm.short is not None:
        _calibrate(arm.short, photo, work)
        ratio = work.ratios[arm.short]
    elif name != arm.base:
        before, base, own = (
            min(times)
            for times in zip(
                *(
                    (
                        _fit_sec(arm.base, photo, 1),
                        _fit_sec(arm.base, photo, 1 + short),
                        _fit_sec(name, photo, 1 + short),
                    )
                    for _ in range(REPEATS)
                ),
                strict=True,
            )
        )
        ratio = round((base - before) / (own - before), 3)
    work.keep({"arm": name, "ratio": ratio})
    say(f"{name}: {ratio} steps for one of {arm.base}")


def _fit_sec(arm: str, photo: Photo, steps: int) -> float:
    started_sec = time.process_time()
    _fitted(ARMS[arm], photo, seed=0, steps=steps)
    return time.process_time() - started_sec


def _fitted(arm: Arm, photo: Photo, *, seed: int, steps: int) -> tuple[Pyramid, Trained]:
    config = config_of(arm, seed=seed, steps=steps)
    if arm.preset and arm.parts == Parts():
        return fit(photo.image, config), Trained(())  # crops and the milder start included
    return fit_stack(photo.image, config, arm.parts)


def _cell(name: str, photo: Photo, seed: int, first_seed: int, work: Work, stem: InceptionStem) -> Row:
    """One fit and its scores; without scores where it diverged."""
    arm = ARMS[name]
    steps = max(1, round(STEPS[arm.base] * work.ratios[name]))
    cell: Row = {"arm": name, "photo": photo.name, "seed": seed, "steps": steps, "diverged": 0}
    started_sec = time.process_time()
    try:
        pyramid, trained = _fitted(arm, photo, seed=seed, steps=steps)
    except FitDivergedError:
        return cell | {"diverged": 1, "fit_sec": time.process_time() - started_sec}
    cell["fit_sec"] = time.process_time() - started_sec
    cell["norms"] = [[stage, scale, values] for (stage, scale), values in trained.norms.items()]
    cell["gains"] = trained.gains
    count = arm.scales
    starts = range(len(pyramid) if name == arm.base else count)  # above, nothing of the arm plays a part
    seeds = range(first_seed, first_seed + DIVERSE)
    cell["finest"] = _scores(pyramid, photo.source, photo.known, starts, seeds, stem)
    below = replace(pyramid, scales=pyramid.scales[:count])
    small = resize(photo.source, below.size).clamp(0, 1)
    cell["generated"] = _scores(below, small, KnownPatches.of(small), [0], seeds, stem)
    sifids = ", ".join(f"{value:.3f}" for value in cell["finest"]["sifid"])
    say(f"{name}, {photo.name}, seed {seed}: {cell['fit_sec']:.2f} process-seconds, SIFID {sifids}")
    return cell


def _scores(
    pyramid: Pyramid,
    source: Tensor,  # [1, 3, H, W] in [0, 1] of the pyramid's size
    known: KnownPatches,  # of it
    starts: Iterable[int],
    seeds: Sequence[int],
    stem: InceptionStem,
) -> dict[str, list[float]]:
    """Of each start scale the mean over draws; incoherence of the first."""
    scores: dict[str, list[float]] = {"sifid": [], "diversity": [], "incoherence": []}
    for start in starts:
        draws = variants_of(pyramid, start, seeds).images
        scores["sifid"].append(round(float(sifid(source, draws[:SCORED], stem).mean()), 5))
        scores["diversity"].append(round(pixel_diversity(draws, source), 5))
        if not scores["incoherence"]:  # it takes longest: of the first start scale alone
            scores["incoherence"].append(round(float(incoherence(known, draws[:SEARCHED]).mean()), 5))
    return scores


if __name__ == "__main__":
    main()
