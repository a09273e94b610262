"""Many images at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from singan_aug.dataset import fit_dataset
from singan_aug.errors import ImageError
from singan_aug.fitting import fit, fit_batch
from singan_aug.pyramid import Pyramid, reconstruct
from singan_aug.store import open_store
from tests.conftest import copies, make_photo, mixed, quick

PHOTOS = [make_photo(30, 40, seed=seed) for seed in range(3)]
BATCHED = {"copied": copies(coarsest_px=16, scale_factor=0.5, patch_px=5), "generated": quick(), "mixed": mixed()}


def _same(one: Pyramid, other: Pyramid) -> bool:
    a, b = one.tensors(), other.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for i, photo in enumerate(PHOTOS):
        Image.fromarray(photo).save(place / f"{i}.png")
    return place


@pytest.mark.parametrize("sort", sorted(BATCHED))
@pytest.mark.parametrize("batch_images", [1, 2, 16])
def test_a_batch_gives_what_single_fits_give(sort: str, batch_images: int) -> None:
    images = [*PHOTOS, make_photo(24, 20, 1)]
    fitted = fit_batch(images, BATCHED[sort], batch_images=batch_images)
    for image, pyramid in zip(images, fitted, strict=True):
        assert isinstance(pyramid, Pyramid)
        assert _same(pyramid, fit(image, BATCHED[sort]))
        assert torch.equal(reconstruct(pyramid), reconstruct(fit(image, BATCHED[sort])))


def test_an_image_that_cannot_be_fitted_stops_no_other() -> None:
    fitted = fit_batch([PHOTOS[0], np.zeros((30, 30), np.uint8), PHOTOS[1]], BATCHED["copied"])
    assert [type(each) for each in fitted] == [Pyramid, ImageError, Pyramid]


def test_a_batch_holds_as_many_images_as_it_may() -> None:
    taken: list[int] = []

    class Images(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            taken.append(place)
            return super().__getitem__(place)

    ended: list[tuple[int, int]] = []
    fit_batch(
        Images(PHOTOS), BATCHED["copied"], batch_images=2, on_event=lambda i, event: ended.append((i, max(taken)))
    )
    assert all(most <= 1 for i, most in ended if i < 2)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_images"):
        fit_batch(PHOTOS, batch_images=0)


def test_a_dataset_in_batches_is_the_same_store(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (30, 30)).save(folder / "black.png")
    config = BATCHED["copied"]
    stores = [open_store(tmp_path / name) for name in ("one", "many")]
    reports = [
        fit_dataset([folder], stores[0], config, jobs=1),
        fit_dataset([folder], stores[1], config, batch_images=2),
    ]
    assert [(o.path, o.status, o.key) for o in reports[0].outcomes] == [
        (o.path, o.status, o.key) for o in reports[1].outcomes
    ]
    for key in stores[0].keys():
        assert _same(stores[0].load(key), stores[1].load(key))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_on_a_gpu_is_as_good_as_one_on_the_cpu() -> None:
    fitted = fit_batch(PHOTOS, BATCHED["copied"], device="cuda")
    for image, pyramid in zip(PHOTOS, fitted, strict=True):
        assert isinstance(pyramid, Pyramid)
        assert pyramid.device.type == "cpu"
        assert torch.equal(reconstruct(pyramid), reconstruct(fit(image, BATCHED["copied"])))
