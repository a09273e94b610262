"""VariantSource: which pyramid belongs to an image, and a pure draw from it. Every adapter reduces to this."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, MissingPyramidError
from singan_aug.images import Pixels, to_pixels, turn_between
from singan_aug.pyramid import draw
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import Fingerprint, MemoryStore, default_location, fingerprint, open_store

__all__ = ["OnMiss", "VariantSource"]

OnMiss = Literal["error", "pass"]


class VariantSource:
    """Finds the pyramid of an image by its pixels and draws from it. Never fits.

    It pickles: what it has loaded stays behind, and each process loads for itself.
    """

    def __init__(
        self,
        start_scale: int,
        *,
        store: str | None,  # folder; the default store for None
        config: FitConfig | None,  # pyramids of this config alone; the one fitted last for None
        on_miss: OnMiss,
    ) -> None:
        if not isinstance(start_scale, int) or isinstance(start_scale, bool):
            raise ConfigError(f"expected start_scale to be an int, got {start_scale!r}")
        if on_miss not in get_args(OnMiss):
            raise ConfigError(f"expected on_miss to be 'error' or 'pass', got {on_miss!r}")
        self.start_scale = start_scale
        self.on_miss = on_miss
        self.config = config
        self.location = str(store) if store is not None else str(default_location())
        self._store = MemoryStore(open_store(self.location))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_store"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._store = MemoryStore(open_store(self.location))

    @one_thread()
    def variant(self, image: Any, seed: int) -> Tensor | None:
        """A variant of one image, [C, H, W] in [0, 1] on the CPU, with the image's own height, width and orientation.

        `image` is anything `images.to_pixels` takes. None on a miss with on_miss="pass".
        Raises `MissingPyramidError` on a miss otherwise, `ImageError`, `StartScaleError`, and what `Store.load` raises.
        """
        pixels = to_pixels(image)
        identity = fingerprint(pixels)
        key = self._store.latest(identity.digest, self.config)
        if key is None:
            if self.on_miss == "pass":
                return None
            raise MissingPyramidError(self._explain_miss(identity, pixels))
        pyramid = self._store.load(key)
        drawn = draw(pyramid, start_scale=self.start_scale, seed=seed)
        turned = turn_between(drawn, self._store.manifest(key).turn_code, identity.turn_code)
        return resize(turned, (pixels.shape[0], pixels.shape[1]), pyramid.config.resample)[0].clamp(0.0, 1.0)

    def _explain_miss(self, identity: Fingerprint, pixels: Pixels) -> str:
        height, width, channels = pixels.shape
        fitted = "" if self.config is None else " with this config"
        return (
            f"no pyramid{fitted} for this image (fingerprint {identity.digest}, {width}x{height}, "
            f"{channels} channel{'s' if channels > 1 else ''}) in the store {self.location}: images are found by their "
            "exact pixels, so put SinGANAugment first, before any resize or crop; fit the image with "
            f"`singan-aug fit PATH --cache {self.location}`, or pass on_miss='pass' to leave such images as they are"
        )
