"""Image files: decoded by fixed rules."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from singan_aug.errors import ImageError
from singan_aug.images.arrays import ALPHA_MODES, WIDE_INTEGER_MODES, Pixels, exif_orientation, is_grey, to_pixels

__all__ = ["IMAGE_SUFFIXES", "LoadedImage", "decoded", "load_image", "map_images", "quiet_decoding"]

T = TypeVar("T")
# What a walk through a folder takes for an image; a file named outright is tried whatever its suffix.
IMAGE_SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
IN_FLIGHT_PX = 48_000_000  # decoded at once: threads of many cores shall not hold as many large images


@dataclass(frozen=True)
class LoadedImage:
    """A decoded file: its pixels, upright, and what had to be done to get them."""

    pixels: Pixels  # [H, W, 1 or 3]
    notes: tuple[str, ...]  # one clause for each conversion, "" left out


def load_image(path: Path | str) -> LoadedImage:
    """Decode one file by fixed rules, the ones torchvision's `ImageFolder` follows, but for these:

    EXIF rotation is applied; 16-bit values are divided by 257, floats in [0, 1] multiplied by 255; of several frames
    the first is taken; transparency is dropped; an RGB image whose three channels are equal counts as grey.

    Raises `ImageError` that says what was found: not an image, truncated, empty, unreadable, too large.
    """
    return decoded(path, _decode)


def decoded(path: Path | str, decode: Callable[[Image.Image], T], what: str = "an image") -> T:
    """`decode` of a file that Pillow has opened. Raises `ImageError` for whatever is no image, or too large a one."""
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"expected {what}, got an empty file (0 bytes): restore or delete it")
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            return decode(image)
    except ImageError:
        raise
    except FileNotFoundError:
        found = "a link to nothing" if path.is_symlink() else "no such file"
        raise ImageError(f"expected {what}, got {found}: restore or remove it") from None
    except PermissionError:
        raise ImageError("no permission to read it: change its mode or owner") from None
    except IsADirectoryError:
        raise ImageError("expected a file, got a folder") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the latter where warnings are errors
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageError(f"more than {limit:.0f} million pixels: shrink it first") from None
    except UnidentifiedImageError:
        raise ImageError("not an image that Pillow can read: convert it to PNG or JPEG") from None
    except MemoryError:
        raise ImageError("too large for this machine's memory: shrink it first") from None
    except Exception as error:  # whatever Pillow's decoders raise on damaged files: a dozen types, no common base
        raise ImageError(f"broken or truncated ({error}): restore it from its source") from None


def map_images(look: Callable[[Path, LoadedImage | ImageError], T], paths: Iterable[Path]) -> list[T]:
    """`look` at every file, decoded as `load_image` does, or at the error that it would raise; several at once, but no
    more than fit into `IN_FLIGHT_PX`, or one that is larger.
    """
    room = _Room(IN_FLIGHT_PX)

    def load_and_look(path: Path) -> T:
        with room.taken(_pixel_count(path)):
            try:
                loaded: LoadedImage | ImageError = load_image(path)
            except ImageError as error:
                loaded = error
            return look(path, loaded)

    with quiet_decoding(), ThreadPoolExecutor() as pool:
        return list(pool.map(load_and_look, paths))


def _pixel_count(path: Path) -> int:
    """By the file's header; 0 where it cannot be read, as `load_image` then says."""
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except Exception:  # as `decoded`
        return 0


class _Room:
    """A number of things that threads may hold together; whoever wants more than all of it holds it alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Wait until there is room for so many."""
        count = min(count, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Without Pillow's warnings of odd metadata and large files; `load_image` looks at the size itself.

    The filters of warnings belong to the whole process: this is for whoever decodes, around all threads that do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _decode(image: Image.Image) -> LoadedImage:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    image.load()
    if image.mode in WIDE_INTEGER_MODES:
        notes.append("16-bit values divided by 257; loaders that clip them, as torchvision's does, show another image")
    elif image.mode == "F":
        notes.append("floats multiplied by 255")
    elif image.mode in ALPHA_MODES or "transparency" in image.info:
        notes.append("transparency dropped")
    elif image.mode not in {"L", "RGB", "1", "P"}:
        notes.append(f"{image.mode} converted to RGB")
    if exif_orientation(image) != 1:
        notes.append("turned upright by its EXIF tag")
        image = ImageOps.exif_transpose(image)
    pixels = to_pixels(image)[..., :3]
    if pixels.shape[-1] == 3 and is_grey(pixels):
        pixels = pixels[..., :1]
    return LoadedImage(np.ascontiguousarray(pixels), tuple(notes))
