"""Needs MONAI: pip install ".[monai]"."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from singan_aug.errors import ImageError, LabelError, MissingPyramidError
from tests.hosts.conftest import Drawn, Labelled

monai = pytest.importorskip("monai", reason='needs monai: pip install ".[monai]"')
pytestmark = pytest.mark.filterwarnings("default")  # MONAI's own

from monai.data import Dataset, MetaTensor  # noqa: E402

from singan_aug.transforms.monai import SinGANAugment, SinGANAugmentd  # noqa: E402


def _image(labelled: Labelled) -> MetaTensor:
    return MetaTensor(torch.from_numpy(labelled.pixels.transpose(2, 0, 1).copy()), meta={"filename_or_obj": "a.png"})


def _sample(labelled: Labelled) -> dict[str, Any]:
    return {"image": _image(labelled), "label": torch.from_numpy(labelled.mask[None].copy()), "id": 3}


def test_an_image_keeps_its_type_and_metadata(labelled: Labelled, drawn: Drawn) -> None:
    out = SinGANAugment(0, p=1.0, store=labelled.store)(_image(labelled))
    assert isinstance(out, MetaTensor)
    assert out.meta["filename_or_obj"] == "a.png"
    assert np.array_equal(out.numpy().transpose(1, 2, 0), drawn.pixels(labelled.pixels))
    assert not np.array_equal(out.numpy().transpose(1, 2, 0), labelled.pixels)


def test_arrays_stay_arrays(labelled: Labelled) -> None:
    image = labelled.pixels.transpose(2, 0, 1).copy()
    out = SinGANAugment(0, p=1.0, store=labelled.store)(image)
    assert isinstance(out, np.ndarray)
    assert (out.dtype, out.shape) == (image.dtype, image.shape)


def test_an_image_as_monai_loads_it_from_a_file_with_its_axes_swapped_is_found(
    labelled: Labelled, tmp_path: Any
) -> None:
    from monai.transforms import LoadImage
    from PIL import Image

    Image.fromarray(labelled.pixels).save(tmp_path / "a.png")
    loaded = LoadImage(dtype=np.uint8, ensure_channel_first=True, image_only=True)(tmp_path / "a.png")
    assert loaded.shape == (3, 64, 48)
    out = SinGANAugment(0, p=1.0, store=labelled.store)(loaded)
    assert out.shape == loaded.shape
    assert not torch.equal(out, loaded)


def test_masks_and_further_images_follow(labelled: Labelled, drawn: Drawn) -> None:
    sample = {**_sample(labelled), "depth": torch.rand(1, *labelled.mask.shape)}
    out = SinGANAugmentd(["image", "depth"], "label", 0, p=1.0, store=labelled.store)(sample)
    assert np.array_equal(out["label"][0].numpy(), drawn.carried(labelled.mask))
    assert np.array_equal(out["depth"].numpy(), drawn.carried(sample["depth"].numpy()))
    assert np.array_equal(out["image"].numpy().transpose(1, 2, 0), drawn.pixels(labelled.pixels))
    assert out["id"] == 3
    assert torch.equal(sample["label"][0], torch.from_numpy(labelled.mask))


def test_a_mask_that_is_not_named_is_refused(labelled: Labelled) -> None:
    with pytest.raises(LabelError, match=r"'label'.*stay behind.*mask_keys='label'"):
        SinGANAugmentd("image", store=labelled.store)(_sample(labelled))


def test_masks_are_refused_where_the_pyramid_has_none(unlabelled: Labelled) -> None:
    sample = _sample(unlabelled)
    with pytest.raises(LabelError, match="singan-aug fit --masks"):
        SinGANAugmentd("image", "label", 0, p=1.0, store=unlabelled.store)(sample)
    out = SinGANAugmentd("image", "label", 0, p=1.0, store=unlabelled.store, labels="carry")(sample)
    assert not torch.equal(out["label"], sample["label"])


def test_absent_masks_and_images_are_told(labelled: Labelled) -> None:
    with pytest.raises(LabelError, match=r"mask under 'mask'.*'image', 'label'"):
        SinGANAugmentd("image", ["label", "mask"], store=labelled.store)(_sample(labelled))
    assert SinGANAugmentd("other", allow_missing_keys=True, store=labelled.store)({"id": 1}) == {"id": 1}


def test_a_volume_is_refused_and_an_unknown_image_a_miss(labelled: Labelled) -> None:
    with pytest.raises(ImageError, match=r"\[C, H, W\], got \[1, 8, 8, 8\]"):
        SinGANAugment(store=labelled.store)(torch.zeros(1, 8, 8, 8))
    with pytest.raises(MissingPyramidError, match="singan-aug fit"):
        SinGANAugment(store=labelled.store)(_image(labelled).flip(0).roll(3, 1).roll(2, 0) // 2)


def test_the_random_state_decides_and_a_copy_draws_the_same(labelled: Labelled) -> None:
    transform = SinGANAugmentd("image", "label", 0, p=1.0, store=labelled.store).set_random_state(4)
    copied = pickle.loads(pickle.dumps(transform))
    first, second = transform(_sample(labelled)), transform(_sample(labelled))
    assert not torch.equal(first["image"], second["image"])
    assert torch.equal(copied(_sample(labelled))["image"], first["image"])


# Python 3.12 and later warn of any fork beside threads, and torch has started some.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_the_workers_of_a_plain_loader_differ(labelled: Labelled) -> None:
    transform = SinGANAugment(0, p=1.0, store=labelled.store)
    data = Dataset([_image(labelled).as_tensor()] * 2, transform)
    first, second = DataLoader(data, num_workers=2, multiprocessing_context="fork")
    assert not torch.equal(first, second)
    assert transform.stats()["drawn"] == 2
