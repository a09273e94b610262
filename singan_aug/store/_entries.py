"""What backends share that keep an entry as two files: manifest and weights, verified whenever they are read."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from singan_aug.errors import CorruptPyramidError, MissingPyramidError
from singan_aug.images.descriptor import encoded
from singan_aug.store._base import Store
from singan_aug.store._checks import MANIFEST_BYTES, WEIGHTS_BYTES, contradiction
from singan_aug.store._key import Key
from singan_aug.store._leftovers import KEY
from singan_aug.store._manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    Manifest,
    checksum,
    described,
    intact,
)

if TYPE_CHECKING:
    from singan_aug.pyramid import Pyramid

__all__ = ["EntryStore"]


class EntryStore(Store):
    """Pyramids as files: a backend says how they are read and put."""

    @abstractmethod
    def read(self, key: str, file_name: str, limit_bytes: int) -> bytes:
        """One of the two files of an entry. Raises `MissingPyramidError`, `CorruptPyramidError`."""

    def read_weights(self, manifest: Manifest) -> bytes:
        """Those of an entry, of which nothing is verified yet. Raises as `read` does."""
        return self.read(manifest.key, WEIGHTS_NAME, WEIGHTS_BYTES)

    @abstractmethod
    def put(self, key: str, manifest: bytes, weights: bytes) -> None:
        """Keep an entry's two files as they are, whole or not at all. Raises `StoreWriteError`."""

    def path_of(self, key: str, file_name: str) -> str:
        """What a message calls a file of an entry."""
        return f"{self.location}/pyramids/{key[:2]}/{key}/{file_name}"

    def check_format(self) -> None:
        """Raises `StoreFormatError`, `CorruptPyramidError`."""

    def files(self, key: str) -> tuple[Manifest, bytes, bytes]:
        """The manifest, its bytes and those of the weights, all verified. Raises as `load` does."""
        while True:
            text = self._text(key)
            manifest = self._parsed(key, text)
            try:
                return manifest, text, self._weights(manifest)
            except CorruptPyramidError:
                if self._text(key) == text:  # else it was replaced between the reading of its two files
                    raise

    def manifest(self, key: str) -> Manifest:
        """What is known of a pyramid; one flipped byte in its file is noticed."""
        return self._parsed(key, self._text(key))

    def _text(self, key: str) -> bytes:
        self.check_format()
        self.refuse_odd_key(key)
        return self.read(key, MANIFEST_NAME, MANIFEST_BYTES)

    def _parsed(self, key: str, data: bytes) -> Manifest:
        path = self.path_of(key, MANIFEST_NAME)
        try:
            manifest = Manifest.from_json(data.decode(errors="replace"), path)
        except CorruptPyramidError as error:
            raise CorruptPyramidError(f"{error}: {self.remedy(key)}") from None
        if manifest.key != key:
            raise CorruptPyramidError(f"{path}: it describes {manifest.key}, not {key}: {self.remedy(key)}")
        wrong = contradiction(manifest)
        if wrong:
            raise CorruptPyramidError(f"{path}: {wrong}: {self.remedy(key)}")
        return manifest

    def descriptor(self, key: str) -> str:
        """The manifest's checksum is verified, and nothing else of it read."""
        return described(self._text(key).decode(errors="replace"), key, self.path_of(key, MANIFEST_NAME))

    def load(self, key: str) -> Pyramid:
        """The pyramid, its checksums verified. Where another process replaces it meanwhile, the new one."""
        from singan_aug.store._codec import decode  # torch: not needed to list, find or remove

        manifest = self.manifest(key)
        while True:
            try:
                return decode(self._weights(manifest), manifest, self.path_of(key, WEIGHTS_NAME))
            except CorruptPyramidError:
                before, manifest = manifest, self.manifest(key)
                if manifest == before:  # else it was replaced between the reading of its two files
                    raise

    def check(self, key: str, *, deep: bool = False) -> None:
        """Every byte of the two files against its checksum, as they lie there, not as this machine has copies."""
        while not deep:
            text = self._text(key)
            try:
                values = self._intact(key, text)
                weights = self.read(key, WEIGHTS_NAME, WEIGHTS_BYTES)
                self._refuse_other(key, weights, values.get("weights_bytes"), values.get("weights_checksum"))
            except CorruptPyramidError:
                if self._text(key) == text:  # else it was replaced between the reading of its two files
                    raise
            else:
                return
        self.load(key)

    def _intact(self, key: str, text: bytes) -> dict[str, Any]:
        path = self.path_of(key, MANIFEST_NAME)
        try:
            values = intact(text.decode(errors="replace"), path)
        except CorruptPyramidError as error:
            raise CorruptPyramidError(f"{error}: {self.remedy(key)}") from None
        if values.get("key") != key:
            raise CorruptPyramidError(f"{path}: it describes {values.get('key')}, not {key}: {self.remedy(key)}")
        return values

    def _weights(self, manifest: Manifest) -> bytes:
        weights = self.read_weights(manifest)
        self._refuse_other(manifest.key, weights, manifest.weights_bytes, manifest.weights_checksum)
        return weights

    def _refuse_other(self, key: str, weights: bytes, length: Any, guard: Any) -> None:
        path = self.path_of(key, WEIGHTS_NAME)
        if len(weights) != length:
            raise CorruptPyramidError(f"{path}: expected {length} bytes, got {len(weights)}: " + self.remedy(key))
        if checksum(weights) != guard:
            raise CorruptPyramidError(f"{path}: its checksum is not the manifest's: " + self.remedy(key))

    def save(
        self, key: Key, pyramid: Pyramid, *, name: str = "", source_size: tuple[int, int] | None = None
    ) -> Manifest:
        """Whole or not at all. A pyramid under the same key is replaced."""
        from singan_aug.store._codec import descriptor_of, encode

        weights, dtype = encode(pyramid)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            key=str(key),
            fingerprint=key.fingerprint.digest,
            turn_code=key.fingerprint.turn_code,
            name=name,
            source_size=source_size or pyramid.size,
            channels=pyramid.channels,
            scale_sizes=tuple(scale.size for scale in pyramid.scales),
            displacement_px=pyramid.displacement_px,
            mask_values=pyramid.mask_values,
            config=pyramid.config,
            provenance=dict(pyramid.provenance),
            created_at=datetime.now(UTC).isoformat(),
            weights_dtype=dtype,
            weights_bytes=len(weights),
            weights_checksum=checksum(weights),
            descriptor=encoded(descriptor_of(pyramid, key.fingerprint.turn_code)),
        )
        self.put(str(key), manifest.to_json().encode(), weights)
        return manifest

    def missing(self, key: str) -> MissingPyramidError:
        """The error for a key that is not there."""
        return MissingPyramidError(f"no pyramid {key} in {self.location}: `{self.command('ls')}` lists those it has")

    def refuse_odd_key(self, key: str) -> None:
        """Raise `MissingPyramidError` for what can be no key."""
        if not KEY.fullmatch(key):
            raise MissingPyramidError(f"expected a key such as `{self.command('ls')}` prints, got {key!r}")

    def remedy(self, key: str) -> str:
        """What to do about a broken entry."""
        return f"remove it with `{self.command('rm', key)}` and fit the image again"
