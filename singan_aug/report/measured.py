"""One pyramid as a report shows it: its pictures, and what its draws measure at each start scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from singan_aug.errors import SinGANAugError
from singan_aug.images import (
    Mask,
    load_image,
    quiet_decoding,
    resize_pixels,
    to_signed,
    to_unit,
    turn_between,
    unit_to_pil,
)
from singan_aug.metrics import KnownPatches, incoherence, pieces, pixel_diversity, sifid
from singan_aug.metrics.scoring import Networks
from singan_aug.pyramid import Pyramid, Traced, reconstruct, trace
from singan_aug.store import Manifest, fingerprint, open_store
from singan_aug.web import embedded

__all__ = ["MEASURES", "Entry", "Look", "measure"]

MEASURES = {  # of draws from one start scale: what a reader sees, and which end is worse; None: neither
    "sifid": ("SIFID", "high"),
    "incoherence": ("incoherence", "high"),
    "diversity": ("pixel diversity", "low"),
    "displacement": ("displacement, % of the short side", None),
    "largest_piece": ("largest piece, % of the picture", None),
}
SAMPLED = 400  # patches of each draw of which incoherence is taken: several draws make up for it
LADDER = ((320, 85), (256, 80), (224, 75), (192, 70), (160, 60), (128, 50), (112, 40), (96, 30))  # long side, quality
BAD_MEMORY = 0.1  # root mean square error of a reconstruction, of the range, that is told as a fault
COLOURS = ((230, 85, 13), (49, 130, 189), (49, 163, 84), (117, 107, 177), (214, 39, 120), (188, 189, 34))


@dataclass(frozen=True)
class Look:
    """What to draw and how large the pictures may be."""

    variants: int  # drawn, measured and shown, at each start scale
    seed: int
    weights: Path | None  # folder of those of SIFID; without it SIFID is left out
    entry_bytes: int  # of the pictures of one pyramid, about


@dataclass(frozen=True)
class Entry:
    """What is told of one pyramid."""

    key: str
    name: str
    classes: tuple[str, ...]
    about: str  # size, preset and cost, in words
    faults: tuple[str, ...]  # why it should be looked at first
    measures: tuple[dict[str, float], ...]  # of each start scale, by the names of `MEASURES`
    pictures: dict[str, Any]  # data URIs: source, mask, reconstruction, and of each start scale variants and masks
    process_sec: float  # that its fit took
    stored_bytes: int


def measure(location: str, key: str, source: Path | None, class_name: str, look: Look) -> Entry | tuple[str, str]:
    """Draw from one pyramid of a store and measure; or its key, and why it cannot be."""
    try:
        store = open_store(location)
        manifest, pyramid = store.manifest(key), store.load(key)
        original = reconstruct(pyramid) if source is None else _original(source, manifest, pyramid)
        drawn = [trace(pyramid, look.variants, start, seed=look.seed) for start in range(len(pyramid))]
        measures = _measures(manifest, pyramid, original, drawn, look)
    except (SinGANAugError, OSError) as error:
        return key, str(error)
    tags = [f"mask value {value}" for value in pyramid.mask_values if value != 0]
    return Entry(
        key=key,
        name=manifest.name or key[:12],
        classes=(*([class_name] if class_name else []), *tags),
        about=f"{pyramid.size[1]} x {pyramid.size[0]} px, {len(pyramid)} scales",
        faults=_faults(manifest),
        measures=tuple(measures),
        pictures=_pictures(pyramid, original, drawn, look.entry_bytes),
        process_sec=float(manifest.provenance.get("process_sec", 0.0)),
        stored_bytes=manifest.weights_bytes,
    )


def _original(path: Path, manifest: Manifest, pyramid: Pyramid) -> Tensor:
    """[1, C, H, W] in [0, 1]: the source image at the size of its pyramid, held as that is."""
    with quiet_decoding():
        pixels = load_image(path).pixels
    turned = turn_between(to_signed(pixels), fingerprint(pixels).turn_code, manifest.turn_code)
    held = np.ascontiguousarray(((turned[0].movedim(0, -1) + 1) * 127.5).round().byte().numpy())
    return to_unit(to_signed(resize_pixels(held, pyramid.size)))


def _measures(
    manifest: Manifest, pyramid: Pyramid, original: Tensor, drawn: Sequence[Traced], look: Look
) -> list[dict[str, float]]:
    """Without what the images are too small or too flat for."""
    stem = None if look.weights is None else _networks(look.weights).stems[0]
    known = None
    if max(original.shape[-2:]) >= 31:
        known = KnownPatches.of(original, sampled=SAMPLED)
    rows = []
    for start, traced in enumerate(drawn):
        row = {}
        images = traced.levels / 255
        if stem is not None and min(images.shape[-2:]) >= 9:
            row["sifid"] = float(sifid(original, images, stem).mean())
        if known is not None:
            row["incoherence"] = float(incoherence(known, images).mean())
        if len(images) > 1 and float(original.std()) > 0:
            row["diversity"] = pixel_diversity(images, original)
        if manifest.displacement_px:
            row["displacement"] = 100 * manifest.displacement_px[start] / min(pyramid.size)
        if traced.origins is not None:
            row["largest_piece"] = 100 * float(np.mean([found.largest_ratio for found in pieces(traced.origins)]))
        rows.append({name: round(value, 4) for name, value in row.items()})
    return rows


def _faults(manifest: Manifest) -> tuple[str, ...]:
    faults = []
    errors = manifest.provenance.get("reconstruction_rmse") or [0.0]
    if errors[-1] > BAD_MEMORY:
        faults.append(f"the reconstruction is off by {errors[-1]:.2f} of the range")
    if manifest.provenance.get("attempt"):
        faults.append("the first attempt to fit it diverged")
    return tuple(faults)


def _pictures(pyramid: Pyramid, original: Tensor, drawn: Sequence[Traced], entry_bytes: int) -> dict[str, Any]:
    """As large and as fine as `entry_bytes` allow, or the smallest that there are."""
    pictures: dict[str, Any] = {}
    for long_px, quality in LADDER:
        size = _fitting(pyramid.size, long_px)

        def shown(unit: Tensor, size: tuple[int, int] = size, quality: int = quality) -> str:
            picture = unit_to_pil(unit).resize(size, Image.Resampling.LANCZOS)
            return embedded(picture, quality=quality)

        def overlay(mask: Mask, size: tuple[int, int] = size) -> str:
            return embedded(_tinted(mask, pyramid.mask_values).resize(size, Image.Resampling.NEAREST))

        whole = None if pyramid.mask is None else np.array(pyramid.mask_values)[pyramid.mask.numpy()]
        pictures = {
            "source": shown(original[0]),
            "mask": None if whole is None else overlay(whole),
            "reconstruction": shown(reconstruct(pyramid)[0]),
            "scales": [
                {
                    "variants": [shown(image) for image in traced.images],
                    "masks": [] if traced.masks is None else [overlay(mask.numpy()) for mask in traced.masks],
                }
                for traced in drawn
            ],
        }
        if _length(pictures) <= entry_bytes:
            break
    return pictures


def _fitting(size: tuple[int, int], long_px: int) -> tuple[int, int]:
    """(width, height) of a picture of (height, width) whose long side is `long_px` at most."""
    ratio = min(1.0, long_px / max(size))
    return max(1, round(size[1] * ratio)), max(1, round(size[0] * ratio))


def _tinted(mask: Mask, values: Sequence[int]) -> Image.Image:
    """RGBA: a colour for each value but 0, which is clear."""
    colours = np.zeros((*mask.shape, 4), np.uint8)
    for i, value in enumerate(value for value in values if value != 0):
        colours[mask == value] = (*COLOURS[i % len(COLOURS)], 255)
    return Image.fromarray(colours)


def _length(pictures: Any) -> int:
    if isinstance(pictures, dict):
        return sum(map(_length, pictures.values()))
    if isinstance(pictures, list):
        return sum(map(_length, pictures))
    return len(pictures or "")


@lru_cache(maxsize=1)
def _networks(folder: Path) -> Networks:
    return Networks.load(folder)
