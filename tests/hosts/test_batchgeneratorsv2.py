"""Needs batchgeneratorsv2: pip install batchgeneratorsv2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from singan_aug.errors import ImageError, LabelError
from tests.hosts.conftest import Drawn, Labelled

pytest.importorskip("batchgeneratorsv2", reason="needs batchgeneratorsv2: pip install batchgeneratorsv2")
pytestmark = pytest.mark.filterwarnings("default")

from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms  # noqa: E402

from singan_aug.transforms.batchgeneratorsv2 import SinGANAugment  # noqa: E402


def _sample(labelled: Labelled) -> dict[str, Any]:
    image = torch.from_numpy(labelled.pixels.transpose(2, 0, 1).copy()).float() / 255
    return {"image": image, "segmentation": torch.from_numpy(labelled.mask[None].astype(np.int16))}


def test_segmentations_and_regression_targets_follow(labelled: Labelled, drawn: Drawn) -> None:
    sample = {**_sample(labelled), "regression_target": torch.rand(1, *labelled.mask.shape)}
    out = ComposeTransforms([SinGANAugment(0, p=1.0, store=labelled.store)])(**sample)
    assert torch.equal(out["image"], drawn.last.image)
    assert np.array_equal(out["segmentation"][0].numpy(), drawn.carried(labelled.mask))
    assert np.array_equal(out["regression_target"].numpy(), drawn.carried(sample["regression_target"].numpy()))
    assert out["segmentation"].dtype == torch.int16


def test_numpys_generator_decides(labelled: Labelled) -> None:
    transform, outs = SinGANAugment(0, p=1.0, store=labelled.store), []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        outs.append(transform(**_sample(labelled))["image"])
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_what_cannot_follow_is_refused(labelled: Labelled, unlabelled: Labelled) -> None:
    with pytest.raises(LabelError, match="got bbox"):
        SinGANAugment(store=labelled.store)(**_sample(labelled), bbox=torch.zeros(1, 4))
    with pytest.raises(LabelError, match="singan-aug fit --masks"):
        SinGANAugment(0, p=1.0, store=unlabelled.store)(**_sample(unlabelled))
    with pytest.raises(ImageError, match=r"\[C, H, W\], got \[1, 4, 8, 8\]"):
        SinGANAugment(store=labelled.store)(image=torch.zeros(1, 4, 8, 8))


def test_chance_leaves_a_sample_as_it_is(labelled: Labelled) -> None:
    sample = _sample(labelled)
    out = SinGANAugment(0, p=0.0, store=labelled.store)(**sample)
    assert out["image"] is sample["image"]
    assert out["segmentation"] is sample["segmentation"]
