"""save_clip(): a sequence of pictures as a file that plays: GIF, WebP or MP4."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from singan_aug.errors import ConfigError, ImageError
from singan_aug.images import unit_to_pil

__all__ = ["CLIP_SUFFIXES", "save_clip"]

CLIP_SUFFIXES = (".gif", ".webp", ".mp4")
WEBP_QUALITY = 80
MP4_QUALITY = 7  # of imageio-ffmpeg, 0 to 10


def save_clip(frames: Tensor, path: Path | str, *, fps: float = 15.0, loop: bool = True) -> None:
    """Write pictures, float [n, C, H, W] in [0, 1], into a file that plays them.

    Args:
        frames: as `animate` and `interpolate` give them.
        path: of a .gif (256 colours; plays everywhere), .webp (smaller), or .mp4 (H.264, smallest; needs the extra
            "video"). MP4 has even sides: an odd one loses its last row or column.
        fps: pictures a second, 1 to 50.
        loop: whether it begins anew at its end; players decide that of MP4.

    Raises `ConfigError`: another ending, `fps` out of range, or MP4 without the extra; `ImageError`: no such pictures;
    OSError where the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in CLIP_SUFFIXES or not 1 <= fps <= 50:
        raise ConfigError(
            f"expected a file {', '.join(CLIP_SUFFIXES)} and 1 to 50 pictures a second, got {path.name} and {fps!r}"
        )
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or not len(frames):
        raise ImageError(f"expected pictures [n, 1 or 3, H, W], got {list(frames.shape)}")
    pictures = [unit_to_pil(frame).convert("RGB") for frame in frames]
    if path.suffix.lower() == ".mp4":
        _save_mp4(pictures, path, fps)
        return
    first, *rest = pictures
    options: dict[str, Any] = {"quality": WEBP_QUALITY} if path.suffix.lower() == ".webp" else {"optimize": False}
    if loop:
        options["loop"] = 0  # for ever
    unit_ms = 10 if path.suffix.lower() == ".gif" else 1
    first.save(path, save_all=True, append_images=rest, duration=_durations_ms(len(pictures), fps, unit_ms), **options)


def _durations_ms(count: int, fps: float, unit_ms: int) -> list[int]:
    """How long each picture is shown: whole units that a format counts in, and as many in all as they should be."""
    ends = [round(k * 1000 / fps / unit_ms) for k in range(count + 1)]
    return [unit_ms * (end - begin) for begin, end in pairwise(ends)]


def _save_mp4(pictures: list[Image.Image], path: Path, fps: float) -> None:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ConfigError('MP4 needs imageio-ffmpeg: pip install "singan-aug[video]", or write .gif or .webp') from None
    width, height = (side // 2 * 2 for side in pictures[0].size)
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, quality=MP4_QUALITY, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for picture in pictures:
            writer.send(np.ascontiguousarray(np.asarray(picture)[:height, :width]))
    finally:
        writer.close()
