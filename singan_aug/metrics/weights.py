"""The weights that SIFID and LPIPS read: where they are published, and their conversion to safetensors.

Published are pickles of PyTorch. They are downloaded when asked for and never otherwise, compared with a known SHA-256
before anything reads them, then read with `weights_only=True`, which builds tensors and runs no code of the file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from singan_aug.errors import ConfigError

__all__ = ["ALEX", "PUBLISHED", "STEM", "Published", "alex_from_published", "fetch_weights", "stem_from_published"]

STEM, ALEX = "inception_stem.safetensors", "lpips_alex.safetensors"  # what a folder of weights holds

# Names in torch-fidelity's InceptionV3, in the order of metrics/frechet.py: CONVOLUTIONS.
STEM_LAYERS = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
ALEX_LAYERS = (0, 3, 6, 8, 10)


@dataclass(frozen=True)
class Published:
    """A file on the network, and what it has to be."""

    url: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """Of the file: what the folder of downloads holds it as."""
        return self.url.rpartition("/")[2]


INCEPTION = Published(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    95_628_359,
)
ALEXNET = Published(
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    244_408_911,
)
HEADS = Published(
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/alex.pth",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    6_009,
)
PUBLISHED = (INCEPTION, ALEXNET, HEADS)


def fetch_weights(
    folder: Path,
    *,
    on_file: Callable[[Published, bool], None] = lambda *_: None,
    opener: Callable[..., object] | None = None,
) -> tuple[Path, Path]:
    """Download what is published (340 MB), check it, write the two files that the metrics read; return their paths.

    A published file that lies in `folder` already, put there by hand say, is checked and not downloaded.

    Args:
        folder: made if it is missing. Published files are removed from it once they are converted.
        on_file: told of each file before it is fetched, and whether it is there.
        opener: opens a URL for reading; `urllib.request.urlopen` by default.

    Raises:
        ConfigError: a file is not the one that was published.
        OSError: the network or the disk failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for published in PUBLISHED:
        path = folder / published.name
        on_file(published, path.exists())
        if not path.exists():
            _download(published, path, opener or urllib.request.urlopen)
        _check(path, published)
    held = [torch.load(folder / each.name, map_location="cpu", weights_only=True) for each in PUBLISHED]
    save_file(stem_from_published(held[0]), folder / STEM)
    save_file(alex_from_published(held[1], held[2]), folder / ALEX)
    for published in PUBLISHED:
        (folder / published.name).unlink()
    return folder / STEM, folder / ALEX


def stem_from_published(inception: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `InceptionStem.load` reads, of the state of torch-fidelity's InceptionV3.

    The BatchNorm there may have a scale, here it has none: the scale is taken into the convolution and the mean.
    """
    stem = {}
    for i, layer in enumerate(STEM_LAYERS):
        gain = inception[f"{layer}.bn.weight"]
        stem[f"conv{i}.weight"] = (inception[f"{layer}.conv.weight"] * gain[:, None, None, None]).contiguous()
        stem[f"conv{i}.beta"] = inception[f"{layer}.bn.bias"].clone()
        stem[f"conv{i}.mean"] = inception[f"{layer}.bn.running_mean"] * gain
        stem[f"conv{i}.var"] = inception[f"{layer}.bn.running_var"].clone()
    return stem


def alex_from_published(alexnet: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `LpipsAlex.load` reads, of the states of torchvision's AlexNet and of LPIPS v0.1."""
    names = [f"features.{i}.{part}" for i in ALEX_LAYERS for part in ("weight", "bias")]
    held = {name: alexnet[name].contiguous() for name in names}
    return held | {f"lin{i}.weight": heads[f"lin{i}.model.1.weight"].contiguous() for i in range(len(ALEX_LAYERS))}


def _download(published: Published, path: Path, opener: Callable[..., object]) -> None:
    """Written aside and renamed, so that an interrupted download is none."""
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        with opener(published.url, timeout=60) as answer, aside.open("wb") as file:  # type: ignore[attr-defined]
            shutil.copyfileobj(answer, file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _check(path: Path, published: Published) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published.sha256:
        raise ConfigError(
            f"{path}: expected {published.size_bytes} bytes of SHA-256 {published.sha256}, got {path.stat().st_size} "
            f"of {found}: delete it, and fetch it again from {published.url}"
        )
