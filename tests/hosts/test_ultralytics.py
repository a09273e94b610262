"""Needs Ultralytics 8.4.118 or newer (AGPL-3.0): pip install ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singan_aug.errors import LabelError
from tests.hosts.conftest import Drawn, Labelled


@pytest.fixture(autouse=True, scope="module")
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        pytest.importorskip("ultralytics", reason="needs ultralytics: pip install ultralytics")
        yield


pytestmark = pytest.mark.filterwarnings("default")


def _sample(labelled: Labelled, boxes: int = 1) -> dict[str, Any]:
    from ultralytics.utils.instance import Instances

    around = np.array([[0.28, 0.27, 0.31, 0.29]] * boxes, np.float32).reshape(-1, 4)
    nothing = np.zeros((0, 1000, 2), np.float32)
    instances = Instances(around, segments=nothing, bbox_format="xywh", normalized=True)
    return {"img": labelled.pixels[..., ::-1].copy(), "cls": np.zeros((boxes, 1), np.float32), "instances": instances}


def _wrapped(labelled: Labelled, **changes: Any) -> Any:
    from ultralytics.data.augment import Albumentations

    from singan_aug.transforms.albumentations import SinGANAugment

    wrapped = Albumentations(p=1.0, transforms=[SinGANAugment(0, p=1.0, store=labelled.store, **changes)])
    assert wrapped.transform is not None
    return wrapped


def test_its_wrapper_hands_boxes_to_us_so_that_they_are_refused_where_things_move(labelled: Labelled) -> None:
    wrapped = _wrapped(labelled)
    assert wrapped.contains_spatial
    with pytest.raises(LabelError, match="instance masks or polygons beside the boxes"):
        wrapped(_sample(labelled))


def test_an_image_without_objects_is_drawn(labelled: Labelled, drawn: Drawn) -> None:
    out = _wrapped(labelled)(_sample(labelled, boxes=0))
    assert np.array_equal(out["img"], drawn.pixels(labelled.pixels))  # in BGR, as it came


def test_a_semantic_mask_follows(labelled: Labelled, drawn: Drawn) -> None:
    out = _wrapped(labelled)({**_sample(labelled, boxes=0), "semantic_mask": labelled.mask.copy()})
    assert np.array_equal(out["semantic_mask"], drawn.carried(labelled.mask))


def test_a_checkpoint_keeps_the_transform(labelled: Labelled) -> None:
    import albumentations as A

    from singan_aug.transforms.albumentations import SinGANAugment

    kept = A.from_dict(A.to_dict(SinGANAugment("fine", p=0.5, store=Path(labelled.store))))
    assert isinstance(kept, SinGANAugment)
    assert kept.store == labelled.store
