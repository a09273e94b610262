"""A picture of what training would get, before anything is fitted for good."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from singan_aug._checks import check_config, check_count, check_seed
from singan_aug.config import FitConfig
from singan_aug.dataset import find_images
from singan_aug.errors import FitDivergedError, ImageError
from singan_aug.fitting import fit
from singan_aug.images import load_image, no_images, pixels_to_pil, quiet_decoding
from singan_aug.presets import fast
from singan_aug.report import titled_rows
from singan_aug.store import DirectoryStore, make_key
from singan_aug.transforms.torchvision import SinGANAugment

__all__ = ["Preview", "make_preview"]

ELASTIC_ALPHA, ELASTIC_SIGMA = 60.0, 6.0  # pixels, of images at `SHOWN_PX`: strong, and still the same thing
SHOWN_PX = 250  # long side at which elastic deformation is applied
CELL_PX = 150


@dataclass(frozen=True)
class Preview:
    """A grid, and which images it shows."""

    picture: Image.Image
    shown: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]  # images that could not be fitted, and why

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        file = io.BytesIO()
        self.picture.save(file, "PNG")
        return file.getvalue()


def make_preview(
    folder: Path | str,  # of images, or one image
    config: FitConfig | None = None,  # the preset `fast` for None
    *,
    start_scale: Any = None,  # these three as `SinGANAugment` takes them
    strength: float | None = None,
    p: float = 0.5,
    limit: int = 4,  # how many images are shown, taken evenly from all
    epochs: int = 4,  # how often each is passed through the transform
    seed: int = 0,
) -> Preview:
    """Fit a few images, pass each through the transform as training would, and set it beside other augmentations.

    A row for each image: the source; what `epochs` epochs of training get, "as it is" where chance (1 - p) left it so;
    mirrored; deformed elastically. Pyramids are fitted into a temporary folder and forgotten.

    Raises:
        ConfigError: a setting is none.
        ImageError: there is no image, or none of the images can be fitted.
    """
    for name, value, most in (("limit", limit, 50), ("epochs", epochs, 20)):
        check_count(name, value, 1, most)
    check_seed(seed)
    config = check_config(config or fast())
    SinGANAugment(start_scale, strength=strength, p=p)  # refuses what it would refuse, before anything is fitted
    found = find_images([folder]).images
    if not found:
        raise no_images(Path(folder))
    blocks: list[tuple[Path, Image.Image]] = []
    failed: list[tuple[Path, str]] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as place, torch.random.fork_rng(devices=[]):
        augment = SinGANAugment(start_scale, strength=strength, p=p, store=place, config=config, seed=seed)
        for path in _evenly(found, limit):
            try:
                blocks.append((path, _block(path, DirectoryStore(Path(place)), augment, config, epochs, seed)))
            except (ImageError, FitDivergedError) as error:
                failed.append((path, str(error)))
    if not blocks:
        raise ImageError(f"none of {len(failed)} images could be fitted; {failed[0][0]}: {failed[0][1]}")
    picture = Image.new("RGB", (blocks[0][1].width, sum(block.height for _, block in blocks)), "white")
    top = 0
    for _, block in blocks:
        picture.paste(block, (0, top))
        top += block.height
    return Preview(picture, tuple(path for path, _ in blocks), tuple(failed))


def _block(
    path: Path, store: DirectoryStore, augment: SinGANAugment, config: FitConfig, epochs: int, seed: int
) -> Image.Image:
    with quiet_decoding():
        pixels = load_image(path).pixels
    store.save(make_key(pixels, config), fit(pixels, config), name=path.name)
    source = pixels_to_pil(pixels)
    cells = [("source", source)]
    for epoch in range(epochs):
        augment.set_epoch(epoch)
        made = augment(source)
        what = "as it is" if made.tobytes() == source.tobytes() else "variant"
        cells.append((f"epoch {epoch + 1}: {what}", made))
    cells += [("mirrored", ImageOps.mirror(source)), ("elastic deformation", _elastic(source, seed))]
    return titled_rows(path.name, [cells], source.height / source.width, columns=len(cells), cell_px=CELL_PX)


def _elastic(image: Image.Image, seed: int) -> Image.Image:
    shrunk = image.copy()
    shrunk.thumbnail((SHOWN_PX, SHOWN_PX))
    torch.manual_seed(seed)  # of a generator that `make_preview` puts back
    deformed: Image.Image = v2.ElasticTransform(ELASTIC_ALPHA, ELASTIC_SIGMA)(shrunk)
    return deformed


def _evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` of them at most, as far apart as can be: folders of classes come one after the other."""
    count = min(count, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]
