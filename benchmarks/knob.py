"""From "layout kept" to "new layout": realism against how different variants are, along a knob of each preset.

`learned` is turned by the share of its noise and shift that a draw takes (`milder_ratio`), `fast` by its shift. The
controls have no network: noise on the source at the size of the generated scale (as GPNN begins), the source deformed
there, or what enters the network, deformed and with noise as there; the same search and the same copied scales follow.
Peers have no knob: a point each.

`--metrics` and `--peer` as in benchmarks.quality. All is measured in one run, on the same photos, with the same seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks._photos import images_in, opened, unit, variants_of
from benchmarks._result import Row, say, write
from benchmarks.quality import Networks, Scores, first_seeds, peer_folder, row_of_peer, score_variants
from singan_aug import Pyramid, fit
from singan_aug.metrics import KnownPatches
from singan_aug.presets import fast, learned
from singan_aug.pyramid.generated.networks import Generator
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.resample import resize

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.25)  # of the noise and the shift of `learned`
SHIFTS_PX = (1.2, 1.6, 2.0, 2.5, 3.2)  # of `fast`
DEFORMED_PX = (1.2, 1.6, 2.0, 2.4)  # the source, with a little noise
LITTLE_NOISE = 0.3
NOISES = (0.5, 1.0, 1.5, 2.0, 3.0)  # on the source
Arm = tuple[
    str, float, Callable[[Image.Image, Pyramid], Pyramid]
]  # what, its knob, what is drawn from at start scale 0


class NoNetwork(Generator):
    """In a generator's place: what enters, and the noise."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, entering: Tensor, noise: Tensor) -> Tensor:
        """[N, C, H, W]."""
        return entering + noise


def main() -> None:
    """Parse, fit, draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--peer", action="append", default=[], type=peer_folder, metavar="NAME=FOLDER")
    parser.add_argument("--every", type=int, default=1, help="every so many-th photo alone")
    parser.add_argument("--draws", type=int, default=2, help="draws that are scored")
    parser.add_argument("--diversity-draws", type=int, default=10, help="draws for pixel diversity")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = Networks.load(options.metrics)
    photos = {path.stem: opened(path) for path in images_in(options.photos)[:: options.every]}
    fitted = {name: fit(photo, learned()) for name, photo in photos.items()}
    known: dict[str, KnownPatches] = {}  # of each photo, at the size that all arms have
    rows: list[Row] = []
    for what, knob, draws_from in _arms():
        scores = Scores()
        for (name, photo), first_seed in zip(photos.items(), first_seeds(photos), strict=True):
            pyramid = draws_from(photo, fitted[name])
            source = unit(photo.resize(pyramid.size[::-1], Image.Resampling.BICUBIC))
            variants = variants_of(pyramid, 0, range(first_seed, first_seed + options.diversity_draws))
            known[name] = known.get(name) or KnownPatches.of(source)
            score_variants(scores, source, known[name], variants, options.draws, options.diversity_draws, networks)
        rows.append(scores.row(what, knob=knob))
        say(f"{what}, {knob}: SIFID {rows[-1]['sifid_mean']:.3f}, LPIPS {rows[-1]['lpips_to_source_mean']:.3f}")
    rows += [row_of_peer(name, folder, photos, networks) for name, folder in options.peer]
    write("knob", rows, seeds=first_seeds(photos))


def _arms() -> Iterator[Arm]:
    for ratio in RATIOS:
        yield "learned", ratio, partial(_turned, ratio)
    for ratio in RATIOS[:-1]:
        yield "no network, what enters it", ratio, partial(_turned, ratio, network=False)
    for noise in NOISES:
        yield "no network, noise on the source", noise, partial(_of_source, noise, 0.0)
    for shift_px in DEFORMED_PX:
        yield "no network, the source deformed", shift_px, partial(_of_source, LITTLE_NOISE, shift_px)
    for shift_px in SHIFTS_PX:
        yield "fast", shift_px, partial(_shifted, shift_px)


def _shifted(shift_px: float, photo: Image.Image, _learned: Pyramid) -> Pyramid:
    return fit(photo, fast(shift_px=shift_px))


def _turned(ratio: float, _photo: Image.Image, pyramid: Pyramid, *, network: bool = True) -> Pyramid:
    first, *above = pyramid.scales
    assert isinstance(first, GeneratedScale)
    turned = first.milder(ratio)
    return replace(pyramid, scales=(turned if network else replace(turned, generator=NoNetwork()), *above))


def _of_source(noise: float, shift_px: float, _photo: Image.Image, pyramid: Pyramid) -> Pyramid:
    first, *above = pyramid.scales
    assert isinstance(first, GeneratedScale)
    source = resize(pyramid.scales[-1].reconstruct(), first.size, first.resample)
    amplitude = torch.full_like(first.amplitude, noise)
    control = replace(first, generator=NoNetwork(), amplitude=amplitude, entering=source, shift_px=shift_px)
    return replace(pyramid, scales=(control, *above))


if __name__ == "__main__":
    main()
