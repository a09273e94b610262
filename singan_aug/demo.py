"""The whole path on the photos that come with the package: fit, store, draw in a DataLoader, contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.utils import make_grid

from singan_aug.config import FitConfig
from singan_aug.dataset import FitReport, OnEvent, find_images, fit_dataset
from singan_aug.images import load_image, unit_to_pil
from singan_aug.report import contact_sheet
from singan_aug.store import Store, make_key
from singan_aug.transforms.torchvision import SinGANAugment

__all__ = ["DemoResult", "run_demo"]

START_SCALE = 2
BATCH_PX = 128


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    report: FitReport
    sheet: Image.Image  # source, reconstruction and variants at each start scale
    batch: Image.Image  # one batch of the DataLoader


class _Photos(Dataset[Tensor]):
    """A user's dataset: decode, transform."""

    def __init__(self, paths: list[Path], transform: v2.Compose) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.open(self.paths[index]).convert("RGB"))
        return image


def run_demo(
    store: Store, config: FitConfig, *, jobs: int | None = None, on_event: OnEvent | None = None
) -> DemoResult:
    """Fit the packaged photos into `store`, and draw from them in a pipeline: the same pictures each time.

    Raises what `fit_dataset` raises.
    """
    with as_file(files("singan_aug") / "photos") as folder:
        paths = list(find_images([folder]).images)
        report = fit_dataset(paths, store, config, jobs=jobs, on_event=on_event)
        augment = SinGANAugment(start_scale=START_SCALE, store=store.location, config=config, p=1.0, seed=0)
        to_tensor = [v2.ToImage(), v2.Resize((BATCH_PX, BATCH_PX)), v2.ToDtype(torch.float32, scale=True)]
        pipeline = v2.Compose([augment, *to_tensor])
        loader = DataLoader(_Photos(paths, pipeline), batch_size=len(paths), num_workers=2)
        batch = unit_to_pil(make_grid(next(iter(loader))))
        entries = []
        for path in paths:
            pyramid = store.load(str(make_key(load_image(path).pixels, config)))
            entries.append((path.name, Image.open(path).convert("RGB"), pyramid))
    return DemoResult(report, contact_sheet(entries), batch)
