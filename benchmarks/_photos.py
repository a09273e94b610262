"""Photos, variants of them, and settings of the config: what the suites that score variants share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from singan_aug import Pyramid
from singan_aug.pyramid import trace

__all__ = ["Variants", "images_in", "opened", "setting", "unit", "variants_of"]

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp"}


def images_in(folder: Path) -> list[Path]:
    """In the order of their numbers where they are named by numbers, then by name."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda path: (not path.stem.isdecimal(), path.stem.zfill(12), path.name))


def opened(path: Path) -> Image.Image:
    """As RGB."""
    return Image.open(path).convert("RGB")


def unit(image: Image.Image) -> Tensor:
    """RGB as [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(image)).movedim(-1, 0)[None] / 255


@dataclass(frozen=True)
class Variants:
    """Draws, one for each seed."""

    images: Tensor  # [N, C, H, W] in [0, 1] as a file of 8 bits holds them
    origins: Tensor | None  # int64 [N, 2, H, W]; None where pixels are not copied
    draw_ms: list[float]  # process milliseconds of each


def variants_of(pyramid: Pyramid, start_scale: int, seeds: Iterable[int]) -> Variants:
    """One draw for each seed, timed. `trace` is what `draw` calls."""
    draws, draw_ms = [], []
    for seed in seeds:
        started_sec = time.process_time()
        draws.append(trace(pyramid, 1, start_scale=start_scale, seed=seed))
        draw_ms.append((time.process_time() - started_sec) * 1000)
    origins = [drawn.origins for drawn in draws if drawn.origins is not None]
    images = torch.cat([drawn.images for drawn in draws])
    return Variants((images * 255).round() / 255, torch.cat(origins) if origins else None, draw_ms)


def setting(text: str) -> tuple[str, Any]:
    """A field of the config and its value, as JSON where it is JSON: 3, 0.5, true, or a word."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
