"""What augmentation costs a ResNet-style loader: torchvision's own, and SinGANAugment, live and from a bank.

Each image is decoded by Pillow, augmented, cropped, flipped, made a float tensor and normalised; in batches of 32.
Every arm sees the same files in the same order. The arms take turns, so that a ratio compares neighbours in time.
`images_per_sec` is by the clock and wants an idle machine; `process_ms`, processor time for one image without workers,
does not. Where live drawing takes long, its arm sees the first of the others' images alone.

The last rows say what a live draw's time goes into: by cProfile, which makes Python's own share look larger, for images
in memory whose pyramids have been opened.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks._result import Row, say, spread, write
from singan_aug import SinGANAugment, fit_dataset
from singan_aug.bank import draw_bank
from singan_aug.pyramid.sizes import DEFAULT_START, read_start_scale

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp"}
BATCH = 32
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
REFERENCE = "TrivialAugmentWide"
LIVE = "SinGANAugment, live"
LIVE_AS_IT_COMES = "SinGANAugment, live, p=0.5"  # the default
LIVE_SHARE = 8  # a live arm sees one image in so many
PROFILED = 24  # images, each drawn from as often as a live arm has passes
PARTS = {  # of a live draw: functions by module and name, none of which calls another
    "finding the pyramid": {("arrays", "to_pixels"), ("_finder", "find")},
    "shifting regions": {("shifts", "random_shift")},
    "copying pixels": {("steps_numba", "placed"), ("steps_numba", "copied")},
    "mending seams": {("improving_numba", "improved")},
    "blending over seams, rounding": {("scale", "levels_at")},
    "larger images at their own size": {("_variant", "_redrawn")},
    "making the PIL image": {("_variant", "held_as")},
}


@dataclass(frozen=True)
class Arm:
    """A loader under measurement."""

    what: str
    loader: DataLoader[Any]
    images: int


class Photos(Dataset[torch.Tensor]):
    """Files on the disk, decoded and transformed when asked for."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def main() -> None:
    """Parse, fit, draw, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos64", type=Path, metavar="FOLDER", help="photos for crops of 64 px")
    parser.add_argument("--photos224", type=Path, metavar="FOLDER", help="photos for crops of 224 px")
    parser.add_argument("--limit", type=int, default=256, help="photos of each folder, spread over it")
    parser.add_argument("--images", type=int, default=512, help="images in one pass over a loader")
    parser.add_argument("--repeats", type=int, default=15, help="passes of each arm")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--start-scale", type=read_start_scale, default=DEFAULT_START)
    parser.add_argument("--variants", type=int, default=8, help="of each photo in the bank")
    parser.add_argument("--no-live", action="store_true", help="leave live drawing out (it takes minutes)")
    options = parser.parse_args()
    if not (options.photos64 or options.photos224):
        parser.error("expected --photos64 FOLDER, --photos224 FOLDER or both")
    torch.set_num_threads(1)
    rows = []
    for photos, crop_px in ((options.photos64, 64), (options.photos224, 224)):
        if photos:
            paths = _spread_out([p for p in sorted(photos.rglob("*")) if p.suffix.lower() in SUFFIXES], options.limit)
            if not paths:
                parser.error(f"no images in {photos}")
            rows += _rows(paths, crop_px, options)
    write("pipeline", rows, seeds=[0])


def _spread_out(paths: list[Path], limit: int) -> list[Path]:
    return [paths[i * len(paths) // limit] for i in range(limit)] if len(paths) > limit else paths


def _rows(paths: list[Path], crop_px: int, options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        live, banked = Path(folder, "live"), Path(folder, "banked")
        report = fit_dataset(paths, str(live))
        if report.failed:
            raise SystemExit(f"{report.failed[0].path}: {report.failed[0].message}")
        shutil.copytree(live, banked)
        draw_bank(str(banked), variants=options.variants, start_scale=[options.start_scale])
        say(f"{crop_px} px: {len(paths)} photos fitted and drawn from")
        augmentations: dict[str, list[Any]] = {
            "none": [],
            REFERENCE: [v2.TrivialAugmentWide()],
            "RandAugment": [v2.RandAugment()],
            "SinGANAugment, bank": [SinGANAugment(options.start_scale, store=banked, p=1.0)],
        }
        if not options.no_live:
            augmentations[LIVE] = [SinGANAugment(options.start_scale, store=live, p=1.0)]
            augmentations[LIVE_AS_IT_COMES] = [SinGANAugment(options.start_scale, store=live)]
        rows = []
        for workers in options.workers:
            arms = [_arm(what, some, paths, crop_px, workers, options.images) for what, some in augmentations.items()]
            rows += _measured(arms, crop_px, workers, options.repeats)
            del arms  # and their workers
        if not options.no_live:
            rows += _parts(paths[:PROFILED], augmentations[LIVE][0], crop_px, options.repeats)
    return rows


def _arm(what: str, augmentation: list[Any], paths: list[Path], crop_px: int, workers: int, images: int) -> Arm:
    transform = v2.Compose(
        [
            *augmentation,
            v2.RandomResizedCrop(crop_px),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, DEVIATION),
        ]
    )
    count = max(BATCH, images // LIVE_SHARE) if what in (LIVE, LIVE_AS_IT_COMES) else images
    seen = list(itertools.islice(itertools.cycle(paths), count))
    loader = DataLoader(Photos(seen, transform), BATCH, num_workers=workers, persistent_workers=workers > 0)
    return Arm(what, loader, count)


def _measured(arms: list[Arm], crop_px: int, workers: int, repeats: int) -> list[Row]:
    """One row for each arm: rates, and how they compare with the reference's of the same round."""
    wall: dict[str, list[float]] = {arm.what: [] for arm in arms}
    process: dict[str, list[float]] = {arm.what: [] for arm in arms}
    for round_ in range(-1, repeats):  # the first starts workers and is not counted
        turn = round_ % len(arms)
        for arm in arms[turn:] + arms[:turn]:
            torch.manual_seed(round_)
            wall_sec, process_sec = time.perf_counter(), time.process_time()
            for batch in arm.loader:
                assert batch.shape[1:] == (3, crop_px, crop_px)
            if round_ >= 0:
                wall[arm.what].append(arm.images / (time.perf_counter() - wall_sec))
                process[arm.what].append((time.process_time() - process_sec) / arm.images * 1000)
    rows = []
    for arm in arms:
        row: Row = {"what": arm.what, "crop_px": crop_px, "workers": workers, "images_per_sec": spread(wall[arm.what])}
        row["rate_ratio"] = spread([a / b for a, b in zip(wall[arm.what], wall[REFERENCE], strict=True)])
        if workers == 0:
            row["process_ms"] = spread(process[arm.what])
            ratios = [b / a for a, b in zip(process[arm.what], process[REFERENCE], strict=True)]
            row["process_rate_ratio"] = spread(ratios)
        rows.append(row)
        rate, ratio = row["images_per_sec"]["median"], row["rate_ratio"]["median"]
        say(f"{crop_px} px, {workers} workers, {arm.what}: {rate:.0f}/s, {ratio:.2f} of {REFERENCE}'s")
    return rows


def _parts(paths: list[Path], augment: SinGANAugment, crop_px: int, repeats: int) -> list[Row]:
    """One row for each part of a live draw: milliseconds an image, and the share of the whole."""
    images = [Image.open(path).convert("RGB") for path in paths]
    for image in images:  # opens the pyramids
        augment(image)
    profile = cProfile.Profile()
    with profile:
        for image in images * repeats:
            augment.forward(image)
    spent_ms: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    whole_ms = 0.0
    for (file, _, name), (_, _, _, cumulative_sec, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        each_ms = 1000 * cumulative_sec / (len(images) * repeats)
        if (Path(file).parent.name, Path(file).stem, name) == ("transforms", "torchvision", "forward"):
            whole_ms = each_ms
        for part, functions in PARTS.items():
            if (Path(file).stem, name) in functions:
                spent_ms[part] += each_ms
    spent_ms["Python around it"] = whole_ms - sum(spent_ms.values())
    return [
        {"what": f"a live draw: {part}", "crop_px": crop_px, "ms": round(ms, 3), "share": round(ms / whole_ms, 3)}
        for part, ms in spent_ms.items()
    ]


if __name__ == "__main__":
    main()
