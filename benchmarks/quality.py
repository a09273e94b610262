"""How good the variants of the presets are: SIFID, LPIPS, incoherence, pieces and pixel diversity, beside other
programs' samples.

`--metrics` names a folder that holds inception_stem.safetensors and lpips_alex.safetensors, `--peer NAME=FOLDER` one
sample of each photo, named as the photo is. A photo larger than the pyramid is compared at the pyramid's size.
Draw i of the p-th photo has the seed 1000 p + i: photos that shared seeds would share what is random in a draw.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from benchmarks._photos import Variants, images_in, opened, setting, unit, variants_of
from benchmarks._result import Row, say, spread, write
from singan_aug import FitConfig, draw, fit
from singan_aug.errors import SinGANAugError
from singan_aug.metrics import (
    InceptionStem,
    KnownPatches,
    LpipsAlex,
    incoherence,
    lpips,
    pieces,
    pixel_diversity,
    sifid,
)
from singan_aug.presets import PRESETS, preset

__all__ = ["Networks", "Scores", "first_seeds", "peer_folder", "row_of_peer", "score_variants"]

SEEDS_APART = 1000
SHEET_DRAWS = (3, 2, 1)  # of the first start scale, the second, the third
SHEET_PX, GAP_PX, LABEL_PX = 1400, 4, 16
MEANS = (
    *("lpips_to_source", "lpips_between", "pixel_diversity", "incoherence"),
    *("largest_piece_ratio", "pieces_in_half", "unmoved_ratio"),
)


@dataclass(frozen=True)
class Networks:
    """What scores."""

    stem: InceptionStem
    alex: LpipsAlex

    @classmethod
    def load(cls, folder: Path) -> Networks:
        """Those of a folder. Raises as each network does."""
        return cls(
            InceptionStem.load(folder / "inception_stem.safetensors"),
            LpipsAlex.load(folder / "lpips_alex.safetensors"),
        )


@dataclass
class Scores:
    """What was measured at one start scale, or of one peer; one entry for each photo, or for each draw of a photo."""

    sifid: list[list[float]] = field(default_factory=list)
    lpips_to_source: list[float] = field(default_factory=list)
    lpips_between: list[float] = field(default_factory=list)
    incoherence: list[float] = field(default_factory=list)
    largest_piece_ratio: list[float] = field(default_factory=list)  # of draws that copy pixels
    pieces_in_half: list[float] = field(default_factory=list)
    unmoved_ratio: list[float] = field(default_factory=list)
    pixel_diversity: list[float] = field(default_factory=list)
    draw_ms: list[float] = field(default_factory=list)

    def row(self, what: str, **more: Any) -> Row:
        """Means over everything, the median over all images scored, the spread over photos of their means."""
        row = {"what": what, **more, "photos": len(self.sifid)}
        row |= {"sifid_mean": _rounded(np.mean(self.sifid)), "sifid_median": _rounded(np.median(self.sifid))}
        for name in MEANS:
            if values := getattr(self, name):
                row[f"{name}_mean"] = _rounded(np.mean(values))
        return row | {"sifid": spread([float(np.mean(values)) for values in self.sifid])}


def main() -> None:
    """Parse, fit, draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--peer", action="append", default=[], type=peer_folder, metavar="NAME=FOLDER")
    parser.add_argument("--limit", type=int, help="photos at most")
    parser.add_argument("--draws", type=int, default=5, help="draws that are scored, at each start scale")
    parser.add_argument("--starts", type=int, nargs="+", default=[0, 1, 2], help="start scales")
    parser.add_argument("--diversity-draws", type=int, default=50, help="draws for pixel diversity")
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=["fast"])
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="field of every config")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a picture of sources and draws")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write the scored draws as STEM_I.png, by scale")
    options = parser.parse_args()
    if any(not 2 <= count <= SEEDS_APART for count in (options.draws, options.diversity_draws)):
        parser.error(f"expected 2 to {SEEDS_APART} draws")
    torch.set_num_threads(1)
    try:
        configs = {name: preset(name, **dict(setting(text) for text in options.set)) for name in options.presets}
        networks = Networks.load(options.metrics)
    except SinGANAugError as error:
        parser.error(str(error))
    photos = {path.stem: opened(path) for path in images_in(options.photos)[: options.limit]}
    if not photos:
        parser.error(f"no images in {options.photos}")
    rows, strips = [], [[(name, photo)] for name, photo in photos.items()]
    for name, config in configs.items():
        rows += _rows_of_preset(name, photos, config, networks, options, strips)
    rows += [row_of_peer(name, folder, photos, networks) for name, folder in options.peer]
    rows += _rows_of_references(list(photos.values()), networks)
    if options.sheet:
        _sheet(strips).save(options.sheet)
        say(f"wrote {options.sheet}")
    write("quality", rows, seeds=first_seeds(photos))


def _rows_of_preset(
    what: str,
    photos: dict[str, Image.Image],
    config: FitConfig,
    networks: Networks,
    options: argparse.Namespace,
    strips: list[list[tuple[str, Image.Image]]],  # of each photo, what the sheet shows: draws are added
) -> list[Row]:
    """One row a start scale."""
    scores = {start: Scores() for start in options.starts}
    shown = dict(zip(options.starts, SHEET_DRAWS, strict=False))
    fit_sec = []
    draw(fit(next(iter(photos.values())), config))  # warm-up
    for first_seed, strip, (name, photo) in zip(first_seeds(photos), strips, photos.items(), strict=True):
        started_sec = time.process_time()
        pyramid = fit(photo, config)
        fit_sec.append(time.process_time() - started_sec)
        source = photo.resize(pyramid.size[::-1], Image.Resampling.BICUBIC) if _size(photo) != pyramid.size else photo
        known = KnownPatches.of(unit(source))
        for start, scored in scores.items():
            seeds = range(first_seed, first_seed + max(options.draws, options.diversity_draws))
            variants = variants_of(pyramid, start, seeds)
            scored.draw_ms += variants.draw_ms
            score_variants(scored, unit(source), known, variants, options.draws, options.diversity_draws, networks)
            pictures = [_picture(variant) for variant in variants.images[: options.draws]]
            strip += [(f"{what}, start scale {start}", picture) for picture in pictures[: shown.get(start, 0)]]
            if options.export:
                place = options.export / what if len(options.presets) > 1 else options.export
                _export(pictures, place / f"start{start}", name)
        means = ", ".join(f"{np.mean(scored.sifid[-1]):.3f}" for scored in scores.values())
        say(f"{what}, {name}: fit {fit_sec[-1]:.2f} process-seconds, SIFID {means}")
    return [
        scored.row(what, start_scale=start) | {"fit_sec": spread(fit_sec), "draw_ms": spread(scored.draw_ms)}
        for start, scored in scores.items()
    ]


def first_seeds(photos: Mapping[str, Image.Image]) -> list[int]:
    """Of each photo."""
    return [SEEDS_APART * i for i in range(len(photos))]


def score_variants(
    scores: Scores,
    source: Tensor,  # [1, 3, H, W] in [0, 1]
    known: KnownPatches,  # of the source
    variants: Variants,
    draws: int,  # how many of them are scored
    diversity_draws: int,  # how many for pixel diversity
    networks: Networks,
) -> None:
    """Add the scores of one photo's variants; pieces are those of all that copy pixels."""
    scored = variants.images[:draws]
    scores.sifid.append(sifid(source, scored, networks.stem).tolist())
    scores.lpips_to_source += lpips(source, scored, networks.alex).tolist()
    scores.lpips_between += lpips(scored[:-1], scored[1:], networks.alex).tolist()
    scores.incoherence += incoherence(known, scored).tolist()
    scores.pixel_diversity.append(pixel_diversity(variants.images[:diversity_draws], source))
    for found in pieces(variants.origins) if variants.origins is not None else ():
        scores.largest_piece_ratio.append(found.largest_ratio)
        scores.pieces_in_half.append(found.in_half)
        scores.unmoved_ratio.append(found.unmoved_ratio)


def row_of_peer(what: str, folder: Path, photos: dict[str, Image.Image], networks: Networks) -> Row:
    """SIFID at the sample's own size, all else at the photo's."""
    scores = Scores()
    for path in images_in(folder):
        if path.stem in photos:
            source, sample = unit(photos[path.stem]), unit(opened(path))
            scores.sifid.append(sifid(source, sample, networks.stem).tolist())
            if sample.shape != source.shape:
                sample = functional.interpolate(sample, source.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
            scores.lpips_to_source += lpips(source, sample, networks.alex).tolist()
            scores.incoherence += incoherence(source, sample).tolist()
    if not scores.sifid:
        raise SystemExit(f"{folder}: no image there is named as one of the photos")
    say(f"{what}: SIFID {np.mean(scores.sifid):.3f}")
    return scores.row(what)


def _rows_of_references(photos: list[Image.Image], networks: Networks) -> list[Row]:
    """What SIFID says of images whose quality needs no measuring."""
    others = {
        "JPEG quality 90": [_as_jpeg(photo, quality=90) for photo in photos],
        "mirror image": [ImageOps.mirror(photo) for photo in photos],
        "another photo": [*photos[1:], photos[0]],
    }
    rows = []
    for what, images in others.items():
        pairs = zip(photos, images, strict=True)
        values = [sifid(unit(photo), unit(image), networks.stem).tolist() for photo, image in pairs]
        rows.append(Scores(sifid=values).row(what))
        say(f"{what}: SIFID {rows[-1]['sifid_mean']:.3f}")
    return rows


def _sheet(strips: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """One line of pictures for each photo, each under its label."""
    width = SHEET_PX // max(len(strip) for strip in strips) - GAP_PX
    heights = [max(round(width * image.height / image.width) for _, image in strip) for strip in strips]
    sheet = Image.new("RGB", (SHEET_PX, sum(heights) + len(strips) * (LABEL_PX + GAP_PX)), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for strip, height in zip(strips, heights, strict=True):
        for i, (label, image) in enumerate(strip):
            pen.text((i * (width + GAP_PX), top + 2), label, fill="black")
            small = image.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (i * (width + GAP_PX), top + LABEL_PX))
        top += height + LABEL_PX + GAP_PX
    return sheet


def _export(pictures: Iterable[Image.Image], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{name}_{i}.png")


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def _picture(unit: Tensor) -> Image.Image:
    """[3, H, W] in [0, 1] as RGB."""
    return Image.fromarray((unit * 255).round().byte().movedim(0, -1).numpy())


def _as_jpeg(image: Image.Image, *, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def peer_folder(text: str) -> tuple[str, Path]:
    """NAME=FOLDER of a command line."""
    name, equals, folder = text.partition("=")
    if not (name and equals and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text!r}")
    return name, Path(folder)


def _rounded(value: Any) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
