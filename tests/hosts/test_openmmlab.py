"""Needs MMEngine and MMCV (mmcv-lite will do), and MMDetection for instance masks: see docs/hosts/openmmlab.md."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from singan_aug.errors import LabelError
from tests.hosts.conftest import Drawn, Labelled

for name in ("mmengine", "mmcv"):
    pytest.importorskip(name, reason=f"needs {name}: see docs/hosts/openmmlab.md")
pytestmark = pytest.mark.filterwarnings("default")


class _NoOperators(types.ModuleType):
    """Stands for MMCV's compiled operators, which pipelines never call and mmcv-lite does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


if find_spec("mmcv._ext") is None:
    sys.modules["mmcv._ext"] = _NoOperators("mmcv._ext")

from mmcv.transforms import Compose, LoadAnnotations, LoadImageFromFile  # noqa: E402
from mmengine.registry import TRANSFORMS  # noqa: E402

from singan_aug.transforms.openmmlab import SinGANAugment  # noqa: E402

needs_mmdet = pytest.mark.skipif(find_spec("mmdet") is None, reason="needs mmdet: pip install mmdet")
needs_mmseg = pytest.mark.skipif(find_spec("mmseg") is None, reason="needs mmsegmentation: pip install mmsegmentation")


def _write(labelled: Labelled, folder: Path) -> dict[str, Any]:
    Image.fromarray(labelled.pixels).save(folder / "a.png")
    Image.fromarray(labelled.mask).save(folder / "a_mask.png")
    return {"img_path": str(folder / "a.png"), "seg_map_path": str(folder / "a_mask.png"), "seg_fields": []}


def _augment(labelled: Labelled, **changes: Any) -> dict[str, Any]:
    return {"type": "SinGANAugment", "start_scale": 0, "p": 1.0, "store": labelled.store, **changes}


def test_a_segmentation_follows_the_image_of_mmcvs_own_pipeline(
    labelled: Labelled, drawn: Drawn, tmp_path: Path
) -> None:
    load = LoadAnnotations(with_bbox=False, with_label=False, with_seg=True)
    out = Compose([LoadImageFromFile(), load, TRANSFORMS.build(_augment(labelled))])(_write(labelled, tmp_path))
    assert np.array_equal(out["img"][..., ::-1], drawn.pixels(labelled.pixels))
    assert np.array_equal(out["gt_seg_map"], drawn.carried(labelled.mask))
    assert not np.array_equal(out["img"][..., ::-1], labelled.pixels)


def test_numpys_generator_decides(labelled: Labelled) -> None:
    transform, outs = SinGANAugment(0, p=1.0, store=labelled.store), []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        outs.append(transform({"img": labelled.pixels[..., ::-1].copy()})["img"])
    assert np.array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])


def test_what_cannot_follow_is_refused(labelled: Labelled, unlabelled: Labelled) -> None:
    image = labelled.pixels[..., ::-1].copy()
    with pytest.raises(LabelError, match="instance masks or polygons beside the boxes"):
        SinGANAugment(0, p=1.0, store=labelled.store)({"img": image, "gt_bboxes": np.ones((1, 4), np.float32)})
    with pytest.raises(LabelError, match="got gt_keypoints"):
        SinGANAugment(store=labelled.store)({"img": image, "gt_keypoints": np.zeros((1, 3, 2))})
    with pytest.raises(LabelError, match="singan-aug fit --masks"):
        SinGANAugment(0, p=1.0, store=unlabelled.store)({"img": image, "gt_seg_map": labelled.mask})


def _polygon(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [float(x) for x in (left, top, right, top, right, bottom, left, bottom)]


@needs_mmdet
@pytest.mark.parametrize("poly2mask", [True, False])
def test_mmdetections_pipeline_gets_masks_that_follow_and_boxes_around_them(
    labelled: Labelled, drawn: Drawn, tmp_path: Path, poly2mask: bool
) -> None:
    from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs
    from mmdet.registry import TRANSFORMS
    from mmdet.structures.bbox import HorizontalBoxes

    boxes = [(8, 6, 28, 20), (34, 26, 58, 42)]
    instances = [
        {"bbox": list(box), "bbox_label": i, "ignore_flag": 0, "mask": [_polygon(*box)]} for i, box in enumerate(boxes)
    ]
    sample = {**_write(labelled, tmp_path), "instances": instances, "img_id": 1}
    load = LoadAnnotations(with_bbox=True, with_mask=True, poly2mask=poly2mask)
    out = Compose([LoadImageFromFile(), load, TRANSFORMS.build(_augment(labelled))])(sample)
    expected = np.stack([drawn.carried(mask) for mask in labelled.instances])
    kept = expected.any((1, 2))
    assert np.array_equal(out["gt_masks"].to_ndarray(), expected[kept])
    assert isinstance(out["gt_bboxes"], HorizontalBoxes)
    assert out["gt_bboxes_labels"].tolist() == np.flatnonzero(kept).tolist()
    for box, mask in zip(out["gt_bboxes"].tensor.tolist(), expected[kept], strict=True):
        rows, columns = np.nonzero(mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    packed = PackDetInputs()(out)
    assert len(packed["data_samples"].gt_instances) == kept.sum()


@needs_mmdet
def test_an_instance_of_which_nothing_is_left_is_removed_everywhere(labelled: Labelled) -> None:
    from mmdet.structures.mask import BitmapMasks

    empty = np.stack([labelled.instances[0], np.zeros_like(labelled.mask)])
    out = SinGANAugment(-1, p=1.0, store=labelled.store)(
        {
            "img": labelled.pixels[..., ::-1].copy(),
            "gt_masks": BitmapMasks(empty, 48, 64),
            "gt_bboxes": np.zeros((2, 4), np.float32),
            "gt_bboxes_labels": np.array([5, 6]),
            "gt_ignore_flags": np.array([False, True]),
        }
    )
    assert [len(out[name]) for name in ("gt_masks", "gt_bboxes", "gt_ignore_flags")] == [1, 1, 1]
    assert out["gt_bboxes_labels"].tolist() == [5]


@needs_mmseg
def test_mmsegmentations_registry_finds_it_and_its_pipeline_takes_it(
    labelled: Labelled, drawn: Drawn, tmp_path: Path
) -> None:
    from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs
    from mmseg.registry import TRANSFORMS

    sample = {**_write(labelled, tmp_path), "reduce_zero_label": False}
    pipeline = [LoadImageFromFile(), LoadAnnotations(), TRANSFORMS.build(_augment(labelled)), PackSegInputs()]
    out = Compose(pipeline)(sample)
    assert np.array_equal(out["data_samples"].gt_sem_seg.data[0].numpy(), drawn.carried(labelled.mask))
