"""Telling a transform outright which image it sees, where its pixels cannot tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from singan_aug.errors import ConfigError

__all__ = ["KeyedDataset", "SampleKey"]


class SampleKey(str):
    """Which fitted image a sample shows: the path of its file, its fingerprint, or the key of one pyramid.

    Put one beside each image of a sample, in any place; `SinGANAugment` prefers it to the image's pixels. Other
    transforms take it for a string and pass it on, and PyTorch collates it into a list.
    """

    __slots__ = ()


class KeyedDataset(Dataset[Any]):
    """A dataset whose transform is told which file each sample comes from.

    Args:
        dataset: gives (image, ...) tuples without a transform of its own, such as torchvision's `ImageFolder`.
        transform: called with the image, the `SampleKey` of its file, and whatever follows the image.
        paths: one for each sample; by default those in `dataset.samples`, `dataset.imgs` or `dataset.image_paths`.

    Items are what the transform makes of a sample, without the key.

    Raises:
        ConfigError: paths are not known, or not as many as samples.
    """

    def __init__(
        self, dataset: Any, transform: Callable[..., Any], paths: Sequence[str | os.PathLike[str]] | None = None
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.paths = [_whole(path) for path in (_paths_of(dataset) if paths is None else paths)]
        if len(self.paths) != len(dataset):
            raise ConfigError(f"expected a path for each of {len(dataset)} samples, got {len(self.paths)}")

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        image, *rest = self.dataset[index]
        changed, _, *rest = self.transform(image, SampleKey(self.paths[index]), *rest)
        return (changed, *rest)


def _whole(path: str | os.PathLike[str]) -> str:
    """With the folders that lead to it, so that the same file is meant from any working folder."""
    return str(Path(path).absolute()) if Path(path).exists() else os.fspath(path)


def _paths_of(dataset: Any) -> list[str]:
    for name in ("samples", "imgs", "image_paths"):
        found = getattr(dataset, name, None)
        if found is not None:
            return [os.fspath(item[0] if isinstance(item, tuple | list) else item) for item in found]
    raise ConfigError(
        f"expected a dataset that knows its files (`samples`, as ImageFolder has), got {type(dataset).__name__}: "
        "pass paths="
    )
