"""Which images to fit where not all can be: some that stand for the others of their class, the most useful first."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singan_aug._checks import check_count
from singan_aug.errors import ConfigError, ImageError
from singan_aug.images import LoadedImage, map_images
from singan_aug.images.descriptor import cell_means

__all__ = ["Choice"]

CELLS = 8  # a side, of what images are compared by
MOST_CLUSTERS = 64  # of a class that is ranked as a whole; a random order after so many
Features = NDArray[np.float32]  # [N, D]


@dataclass(frozen=True)
class Choice:
    """What to choose of the images of each class, which is the folder they lie in."""

    representatives: int | None = None  # so many at most; all where it is None
    class_balance: bool = False  # of each class as many as the smallest has
    embeddings: Path | None = None  # .npy, [N, D], a row for each image, by sorted path; else mean colours

    def __post_init__(self) -> None:
        if self.representatives is not None:
            check_count("representatives", self.representatives)

    def of(self, images: Sequence[Path]) -> list[Path]:
        """The images to fit, those that stand for most others first, classes in turn. The same for the same images.

        An image that cannot be read is chosen too, so that it is named.

        Raises:
            ConfigError: embeddings are no numbers, or not as many rows as images; scipy is not installed.
        """
        features = _features(images) if self.embeddings is None else _embedded(self.embeddings, images)
        classes: dict[Path, list[Path]] = {}
        for path in images:
            if path in features:
                classes.setdefault(path.parent, []).append(path)
        smallest = min(map(len, classes.values()), default=0)
        ranked = []
        for paths in classes.values():
            count = min(len(paths), self.representatives or len(paths), smallest if self.class_balance else len(paths))
            ranked.append([paths[place] for place in _representatives([features[path] for path in paths], count)])
        unreadable = [path for path in images if path not in features]
        return unreadable + [path for turn in zip_longest(*ranked) for path in turn if path is not None]


def _features(images: Sequence[Path]) -> Mapping[Path, Features]:
    def look(path: Path, image: LoadedImage | ImageError) -> tuple[Path, Features | None]:
        if isinstance(image, ImageError):
            return path, None
        means = cell_means(image.pixels[..., :3], CELLS)
        return path, np.broadcast_to(means, (CELLS, CELLS, 3)).astype(np.float32).ravel()

    return {path: found for path, found in map_images(look, images) if found is not None}


def _embedded(file: Path, images: Sequence[Path]) -> Mapping[Path, Features]:
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"expected a .npy file of numbers for --embeddings, got {file}: {error}") from None
    if not isinstance(rows, np.ndarray):
        raise ConfigError(f"expected one array of numbers for --embeddings, a .npy file, got an archive: {file}")
    if rows.ndim != 2 or len(rows) != len(images) or not np.issubdtype(rows.dtype, np.number):
        raise ConfigError(
            f"expected a row of numbers for each of {len(images)} images, in the order of their sorted paths, "
            f"got {file} of shape {rows.shape} and type {rows.dtype}"
        )
    values = np.asarray(rows, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ConfigError(f"expected finite numbers, got others in {file}")
    return dict(zip(sorted(images), values, strict=True))


def _representatives(features: Sequence[Features], count: int) -> list[int]:
    """Places of so many, the most useful first.

    Of some, the images nearest to the centres of k-means, those of the largest clusters first. Of all, in such an order
    that however many come first stand for the rest: those of one cluster, of two, of four, ...
    """
    if count < len(features):
        return _nearest(_data(features), count)
    order: dict[int, None] = {}
    clusters = 1
    while clusters < min(len(features), MOST_CLUSTERS + 1):
        order |= dict.fromkeys(_nearest(_data(features), clusters))
        clusters *= 2
    return list(order | dict.fromkeys(map(int, np.random.default_rng(0).permutation(len(features)))))


def _data(features: Sequence[Features]) -> NDArray[np.float64]:
    data = np.stack(features).astype(np.float64)
    return data + np.random.default_rng(0).normal(0, 1e-6, data.shape)  # equal images must not make clusters empty


def _nearest(data: NDArray[np.float64], count: int) -> list[int]:
    """Places of the rows nearest to the centres of k-means, those of the largest clusters first."""
    try:
        from scipy.cluster.vq import kmeans2
    except ImportError:
        raise ConfigError('to choose images, install "singan-aug[choose]"') from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of clusters that are empty
        centres, labels = kmeans2(data, count, minit="++", seed=0)
    sizes = np.bincount(labels, minlength=count)
    chosen: list[int] = []
    for cluster in np.argsort(-sizes, kind="stable"):
        distances = ((data - centres[cluster]) ** 2).sum(axis=1)
        distances[chosen] = np.inf  # each image once, where a cluster is empty
        chosen.append(int(distances.argmin()))
    return chosen
