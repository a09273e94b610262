"""A segment of the perceptual index: of up to 65,536 images, in files that are mapped and never change."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from singan_aug.images.descriptor import CELLS, DESCRIPTOR_BYTES
from singan_aug.lookup._crop_hashes import CropHashes

__all__ = ["MOST_IMAGES", "DamagedSegmentError", "Row", "Segment"]

MOST_IMAGES = 2**16  # of a segment: its hashes are sorted in memory, 40 MB of them
_AT_ONCE = 256  # images whose hashes are made together

Row = tuple[bytes, NDArray[np.uint8]]  # fingerprint of an image, and its descriptor

_TYPES = {
    "fingerprints": "S32",
    "checks": "<u8",
    "levels": "<f4",
    "hashes": "<u8",
    "owners": "<u4",
    "turn_codes": "u1",
}
_DESCRIPTORS = "descriptors"  # of all files the one that is not read as a whole


class DamagedSegmentError(Exception):
    """A file of a segment is not as it was written: whoever meets it makes the index again."""


@dataclass(frozen=True)
class Segment:
    """What is known of some images, by fingerprint in ascending order."""

    name: str  # 32 hexadecimal digits: the checksum of all its files, descriptors by way of `checks`
    fingerprints: NDArray[np.bytes_]  # [N]
    descriptors: NDArray[np.uint8]  # [N, DESCRIPTOR_BYTES]
    checks: NDArray[np.uint64]  # [N]: XXH3-64 of each descriptor
    crop_hashes: CropHashes
    alive: NDArray[np.bool_]  # [N]: whether the store still has a pyramid of the image

    def __len__(self) -> int:
        return len(self.fingerprints)

    @classmethod
    def of(cls, rows: Iterable[Row], folder: Path | None) -> Segment | None:
        """Made of images in ascending order; into files of a folder where one is given. None of no images.

        Raises OSError where files cannot be written.
        """
        file: BinaryIO = io.BytesIO() if folder is None else (folder / _DESCRIPTORS).open("wb")
        fingerprints: list[bytes] = []
        checks: list[int] = []
        hashed: list[CropHashes] = []
        with file:
            images = iter(rows)
            while some := list(islice(images, _AT_ONCE)):
                descriptors = np.stack([descriptor for _, descriptor in some])
                file.write(descriptors.data)
                grey = descriptors[:, : CELLS**2].reshape(-1, CELLS, CELLS)
                hashed.append(CropHashes.of(grey, first=len(fingerprints)))
                fingerprints += [fingerprint for fingerprint, _ in some]
                checks += [xxhash.xxh3_64_intdigest(each.tobytes()) for each in descriptors]
            in_memory = file.getvalue() if isinstance(file, io.BytesIO) else b""
        if not fingerprints:
            return None
        arrays = {
            "fingerprints": np.array(fingerprints, dtype="S32"),
            "checks": np.array(checks, dtype="<u8"),
            **vars(CropHashes.joined(hashed)),
        }
        if folder is None:
            return cls._made(arrays, np.frombuffer(in_memory, dtype=np.uint8))
        for name, dtype in _TYPES.items():
            (folder / name).write_bytes(arrays[name].astype(dtype).tobytes())
        return cls.mapped(folder)

    @classmethod
    def mapped(cls, folder: Path) -> Segment:
        """Out of its files, of which processes share the memory. Raises OSError, `DamagedSegmentError`."""
        try:
            # "c": numbers of arrays that can be written to are those that functions were compiled for
            arrays = {name: np.asarray(np.memmap(folder / name, dtype, "c")) for name, dtype in _TYPES.items()}
            return cls._made(arrays, np.asarray(np.memmap(folder / _DESCRIPTORS, np.uint8, "c")))
        except ValueError:  # an empty file, or one that ends within a number
            raise DamagedSegmentError(f"{folder}: a file is cut short") from None

    @classmethod
    def _made(cls, arrays: dict[str, NDArray[Any]], descriptors: NDArray[np.uint8]) -> Segment:
        hasher = xxhash.xxh3_128()
        for name in _TYPES:
            hasher.update(arrays[name].view(np.uint8).data)
        fingerprints, checks = arrays.pop("fingerprints"), arrays.pop("checks")
        count, crops = len(fingerprints), CropHashes(**arrays)
        if descriptors.size != count * DESCRIPTOR_BYTES or len(checks) != count or not crops.is_of(count):
            raise DamagedSegmentError("its arrays do not fit each other")
        shaped = descriptors.reshape(count, DESCRIPTOR_BYTES)
        return cls(hasher.hexdigest(), fingerprints, shaped, checks, crops, np.ones(count, dtype=np.bool_))

    def where(self, alive: NDArray[np.bool_]) -> Segment:
        """With images that are there, and others that are not."""
        return replace(self, alive=alive)

    def span(self, start: str) -> slice:
        """The rows whose fingerprints begin so."""
        low, high = np.searchsorted(self.fingerprints, [start.encode(), f"{start}g".encode()])
        return slice(int(low), int(high))

    def rows(self) -> Iterator[Row]:
        """Of the images that are there. Raises `DamagedSegmentError`."""
        for place in np.flatnonzero(self.alive):
            yield bytes(self.fingerprints[place]), self.descriptor(int(place))

    def descriptor(self, place: int) -> NDArray[np.uint8]:
        """Of one image. Raises `DamagedSegmentError` where it is not the one that was written."""
        found: NDArray[np.uint8] = self.descriptors[place]
        if xxhash.xxh3_64_intdigest(found.tobytes()) != self.checks[place]:
            raise DamagedSegmentError(f"{self.name}: the descriptor of {self.fingerprints[place]!r} is another one")
        return found
