"""A prior learned from the dataset's own images, once for a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from singan_aug.config import FitConfig
from singan_aug.dataset._events import OnEvent, Progress
from singan_aug.dataset._find import find_images
from singan_aug.errors import ImageError
from singan_aug.images import LoadedImage, load_image, map_images, quiet_decoding, refuse_constant
from singan_aug.pyramid.sizes import working_size
from singan_aug.store import Store, fingerprint

if TYPE_CHECKING:
    from singan_aug.fitting import FitEvent

__all__ = ["PRIOR_IMAGES", "prior_images", "with_known_prior", "with_learned_prior"]

PRIOR_IMAGES = 32  # that a dataset's own prior is learned from


def prior_images(paths: Iterable[Path | str], config: FitConfig, *, limit: int | None = None) -> list[Path]:
    """The images that a prior can be learned from, sorted by fingerprint, each picture once.

    Whatever they are called and wherever they lie, the same images come in the same order. `limit` bounds how many are
    looked at. Images that could not be fitted are left out.
    """

    def look(path: Path, image: LoadedImage | ImageError) -> tuple[str, Path] | None:
        if isinstance(image, ImageError):
            return None
        try:
            working_size(image.pixels.shape[:2], config)
            refuse_constant(image.pixels)
        except ImageError:
            return None
        return fingerprint(image.pixels).digest, path

    looked = map_images(look, find_images(paths).images[:limit])
    return [path for _, path in sorted(dict(sorted(filter(None, looked), reverse=True)).items())]


def with_known_prior(config: FitConfig, store: Store) -> FitConfig:
    """The config with the store's own prior in place of "dataset", where one was learned."""
    if config.prior == "dataset" and (path := _dataset_prior(config, store)).exists():
        return config.replace(prior=str(path))
    return config


def with_learned_prior(
    config: FitConfig, store: Store, images: Sequence[Path], steps: int, device: str, notify: OnEvent
) -> FitConfig:
    """The same, learned first: images added later start from it too, so that no key changes."""
    path = _dataset_prior(config, store)
    store.prepare()
    with store.claim(f"prior-{path.stem}", wait=True):
        if images and not path.exists():
            from singan_aug.fitting import train_prior

            def send(event: FitEvent) -> None:
                notify(Progress(path, event))

            with quiet_decoding():
                pixels = [load_image(each).pixels for each in images]
            train_prior(pixels, config, steps=steps, device=device, on_event=send).save(path)
    return with_known_prior(config, store)


def _dataset_prior(config: FitConfig, store: Store) -> Path:
    """Where a store keeps the prior learned from its images, one for each recipe."""
    return Path(store.location) / "priors" / f"{config.digest()}.safetensors"
