"""Downloads a public set for `--own`, by torchvision's own code and checksums: `python -m benchmarks.downstream.fetch`.

Nothing else in this package downloads; the sets' licences are their owners'.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets

from benchmarks._result import say

__all__ = ["SETS", "main"]


def _folder(of_classes: str) -> Callable[[Any, Path], Path]:
    """Sets that lie as folders of images, one for each class, once they are unpacked."""
    return lambda _, root: root / of_classes


def _archive(parts: Any, root: Path) -> Path:
    """Sets that torchvision holds as arrays: written as one .npz."""
    train, test = parts
    folder = root / type(train).__name__.lower()
    folder.mkdir(exist_ok=True)
    held = {"x_train": train.data, "y_train": train.targets, "x_test": test.data, "y_test": test.targets}
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in held.items()}
    np.savez_compressed(folder / "set.npz", classes=np.array(train.classes), **arrays)
    return folder


def _whole(made: Callable[..., Any]) -> Callable[[Path], Any]:
    return lambda root: made(root, download=True)


def _parted(made: Callable[..., Any]) -> Callable[[Path], Any]:
    return lambda root: (made(root, train=True, download=True), made(root, train=False, download=True))


# Of each set what downloads it, and where its classes are then.
SETS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Path], Path]]] = {
    "caltech101": (_whole(datasets.Caltech101), _folder("caltech101/101_ObjectCategories")),
    "cifar10": (_parted(datasets.CIFAR10), _archive),
    "dtd": (_whole(datasets.DTD), _folder("dtd/dtd/images")),
    "eurosat": (_whole(datasets.EuroSAT), _folder("eurosat/2750")),
    "fashion": (_parted(datasets.FashionMNIST), _archive),
    "mnist": (_parted(datasets.MNIST), _archive),
}


def main(arguments: Sequence[str] | None = None) -> Path:
    """Download one, and say how to use it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.downstream.fetch", description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("folder", type=Path, help="where to")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    download, place = SETS[options.set]
    found = place(download(options.folder), options.folder)
    say(f"python -m benchmarks.downstream --own {found}")
    return found


if __name__ == "__main__":
    main()
