"""Structure-level data augmentation from single images.

Fit one small generative pyramid per image (SinGAN, Shaham et al., ICCV 2019), keep it in a store, draw variants in a
training pipeline. Names are loaded on first use, so that a command that needs no network starts without torch, and
torchvision's transforms are loaded only when one is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from singan_aug._version import __version__

if TYPE_CHECKING:
    from singan_aug import errors as errors
    from singan_aug.bank import draw_bank as draw_bank
    from singan_aug.config import FitConfig as FitConfig
    from singan_aug.dataset import fit_dataset as fit_dataset
    from singan_aug.fitting import fit as fit
    from singan_aug.fitting import fit_batch as fit_batch
    from singan_aug.presets import best as best
    from singan_aug.presets import fast as fast
    from singan_aug.presets import learned as learned
    from singan_aug.presets import paper as paper
    from singan_aug.presets import smooth as smooth
    from singan_aug.pyramid import Pyramid as Pyramid
    from singan_aug.pyramid import draw as draw
    from singan_aug.pyramid import reconstruct as reconstruct
    from singan_aug.store import make_key as make_key
    from singan_aug.store import open_store as open_store
    from singan_aug.transforms.keys import KeyedDataset as KeyedDataset
    from singan_aug.transforms.keys import SampleKey as SampleKey
    from singan_aug.transforms.torchvision import SinGANAugment as SinGANAugment
    from singan_aug.transforms.torchvision_paste import SinGANPaste as SinGANPaste
    from singan_aug.transforms.torchvision_paste import cut_out as cut_out

__all__ = [
    "FitConfig",
    "KeyedDataset",
    "Pyramid",
    "SampleKey",
    "SinGANAugment",
    "SinGANPaste",
    "__version__",
    "best",
    "cut_out",
    "draw",
    "draw_bank",
    "errors",
    "fast",
    "fit",
    "fit_batch",
    "fit_dataset",
    "learned",
    "make_key",
    "open_store",
    "paper",
    "reconstruct",
    "smooth",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=["errors"],
    submod_attrs={
        "bank": ["draw_bank"],
        "config": ["FitConfig"],
        "dataset": ["fit_dataset"],
        "fitting": ["fit", "fit_batch"],
        "presets": ["best", "fast", "learned", "paper", "smooth"],
        "pyramid": ["Pyramid", "draw", "reconstruct"],
        "store": ["make_key", "open_store"],
        "transforms.keys": ["KeyedDataset", "SampleKey"],
        "transforms.torchvision": ["SinGANAugment"],
        "transforms.torchvision_paste": ["SinGANPaste", "cut_out"],
    },
)


def __dir__() -> list[str]:
    return list(__all__)
