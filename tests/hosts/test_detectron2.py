"""Detectron2 is in no registry: where it is absent, its documented interface stands for it, over fvcore's own base.

Needs fvcore: pip install fvcore.
"""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from singan_aug.errors import LabelError
from singan_aug.images import pixels_to_unit, to_grey
from tests.hosts.conftest import Drawn, Labelled

pytest.importorskip("fvcore", reason="needs fvcore: pip install fvcore, or detectron2 itself")
pytestmark = pytest.mark.filterwarnings("default")

from fvcore.transforms import transform as fvcore_transform  # noqa: E402


class Augmentation:
    """As detectron2.data.transforms.Augmentation is documented: get_transform(image), applied to an input in place."""

    def __call__(self, aug_input: Any) -> Any:
        transform = self.get_transform(aug_input.image)  # type: ignore[attr-defined]
        assert isinstance(transform, fvcore_transform.Transform)
        aug_input.image = transform.apply_image(aug_input.image)
        if aug_input.sem_seg is not None:
            aug_input.sem_seg = transform.apply_segmentation(aug_input.sem_seg)
        return transform


if find_spec("detectron2") is None:
    documented = types.ModuleType("detectron2.data.transforms")
    vars(documented).update(vars(fvcore_transform) | {"Augmentation": Augmentation, "__name__": documented.__name__})
    for name in ("detectron2", "detectron2.data"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["detectron2.data.transforms"] = documented

from singan_aug.transforms.detectron2 import SinGANAugment  # noqa: E402


def _bgr(labelled: Labelled) -> np.ndarray[Any, Any]:
    return labelled.pixels[..., ::-1].copy()


def test_an_input_and_its_segmentation_are_changed_in_place(labelled: Labelled, drawn: Drawn) -> None:
    given = types.SimpleNamespace(image=_bgr(labelled), sem_seg=labelled.mask, boxes=None)
    transform = SinGANAugment(0, p=1.0, store=labelled.store)(given)
    assert np.array_equal(given.image[..., ::-1], drawn.pixels(labelled.pixels))
    assert np.array_equal(given.sem_seg, drawn.carried(labelled.mask))
    assert np.array_equal(transform.apply_segmentation(labelled.mask), given.sem_seg)  # it can be applied again


def test_polygons_become_the_outline_of_where_their_pixels_went(labelled: Labelled, drawn: Drawn) -> None:
    from singan_aug.annotations import Shape

    transform = SinGANAugment(0, p=1.0, store=labelled.store).get_transform(_bgr(labelled))
    square = np.array([[8, 6], [28, 6], [28, 20], [8, 20]], np.float64)
    moved = transform.apply_polygons([square])
    expected = drawn.carried(labelled.instances[0])
    outline = Shape(0, polygons=tuple(tuple(polygon.ravel()) for polygon in moved)).outline(expected.shape)
    assert np.mean(outline == expected.astype(bool)) > 0.995  # lines that lead to holes run over some middles of pixels
    assert transform.apply_polygons([np.array([[0, 0], [0.1, 0], [0.1, 0.1]])]) == []


def test_keypoints_follow_and_lost_ones_lie_outside(labelled: Labelled, drawn: Drawn) -> None:
    transform = SinGANAugment(0, p=1.0, store=labelled.store).get_transform(_bgr(labelled))
    rows, columns = drawn.field.numpy()
    copied = np.zeros(labelled.mask.shape, bool)
    copied[rows, columns] = True
    y, x = np.argwhere(copied)[len(np.argwhere(copied)) // 2]
    (moved,) = transform.apply_coords(np.array([[x + 0.5, y + 0.5]]))
    assert (rows[int(moved[1]), int(moved[0])], columns[int(moved[1]), int(moved[0])]) == (y, x)
    (lost,) = transform.apply_coords(np.array([[-500.0, -500.0]]))
    assert (lost < -1000).all()


def test_boxes_alone_are_refused_unless_they_are_made_anew(labelled: Labelled) -> None:
    box = np.array([[8.0, 6.0, 28.0, 20.0]])
    with pytest.raises(LabelError, match="recompute_boxes=True both to DatasetMapper and to SinGANAugment"):
        SinGANAugment(0, p=1.0, store=labelled.store).get_transform(_bgr(labelled)).apply_box(box)
    told = SinGANAugment(0, p=1.0, store=labelled.store, recompute_boxes=True).get_transform(_bgr(labelled))
    assert np.array_equal(told.apply_box(box), box)


def test_a_pyramid_without_masks_is_refused(unlabelled: Labelled) -> None:
    with pytest.raises(LabelError, match="singan-aug fit --masks"):
        SinGANAugment(0, p=1.0, store=unlabelled.store).get_transform(_bgr(unlabelled))


def test_a_grey_image_with_one_channel_keeps_its_shape_and_another_image_is_refused(labelled: Labelled) -> None:
    transform = SinGANAugment(0, p=1.0, store=labelled.store).get_transform(_bgr(labelled))
    with pytest.raises(LabelError, match=r"\[48, 64, 3\] that was drawn, got \[8, 8, 3\]"):
        transform.apply_image(np.zeros((8, 8, 3), np.uint8))
    grey = np.asarray(to_grey(pixels_to_unit(labelled.pixels)).mul(255).round().byte()).transpose(1, 2, 0)
    out = SinGANAugment(0, p=1.0, store=labelled.store).get_transform(grey).apply_image(grey)
    assert out.shape == grey.shape
    assert not np.array_equal(out, grey)


def test_numpys_generator_decides_and_chance_leaves_an_image(labelled: Labelled) -> None:
    augment, image, outs = SinGANAugment(0, p=1.0, store=labelled.store), _bgr(labelled), []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        outs.append(augment.get_transform(image).apply_image(image))
    assert np.array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])
    left = SinGANAugment(0, p=0.0, store=labelled.store).get_transform(image)
    assert isinstance(left, fvcore_transform.NoOpTransform)
