"""SinGANPaste: the object's pixels are where its labels say, what it hides is gone, the rest stays to the bit."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from singan_aug import fast, fit, make_key, open_store
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError
from singan_aug.images import to_signed
from singan_aug.pyramid.edge import edge_weight, redraw_edge
from singan_aug.transforms.torchvision_paste import Cutout, SinGANPaste, cut_out
from tests.conftest import make_photo

PHOTO = make_photo(64, 80, seed=3)
MARK = np.array([250, 5, 245], np.uint8)  # a colour that no photo has
needs_albumentations = pytest.mark.skipif(find_spec("albumentations") is None, reason="needs albumentations")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("paste"))
    open_store(folder).save(make_key(PHOTO, fast()), fit(PHOTO, fast()))
    return folder


@pytest.fixture(scope="module")
def objects() -> list[Cutout]:
    pixels, mask = make_photo(40, 40, seed=8).copy(), np.zeros((40, 40), np.uint8)
    mask[10:24, 12:30] = 7
    pixels[mask == 7] = MARK
    return cut_out(pixels, mask)


def _paste(store: str, objects: list[Cutout], **changes: Any) -> SinGANPaste:
    plain = {"p": 1.0, "light": 0.0, "edge_px": 0.0, "zoom": (1.0, 1.0)}
    return SinGANPaste(objects, store=store, **{**plain, **changes})


def _marked(image: Any) -> np.ndarray:
    found: np.ndarray = (np.asarray(image).astype(int) == MARK).all(-1)
    return found


# Objects


def test_each_connected_part_of_each_value_is_an_object() -> None:
    mask = np.zeros((40, 48), np.int32)
    mask[2:8, 2:8] = 1
    mask[20:30, 30:40] = 1
    mask[30, 40] = 1  # touches at a corner
    mask[20:30, 2:8] = 5
    mask[0, 47] = 9  # a speck
    found = cut_out(make_photo(40, 48), mask)
    assert [(each.value, each.area_px) for each in found] == [(1, 36), (1, 101), (5, 60)]
    assert found[0].centre == pytest.approx((5 / 40, 5 / 48))
    assert [each.value for each in cut_out(make_photo(40, 48), mask, value=3)] == [3, 3, 3]


def test_an_object_holds_its_own_pixels() -> None:
    photo, mask = make_photo(40, 48), np.zeros((40, 48), bool)
    mask[10:20, 20:30] = True
    (cut,) = cut_out(photo, mask)
    assert np.array_equal(cut.pixels[cut.mask], photo[mask])


# Harmonised


def test_only_the_rim_is_redrawn() -> None:
    pyramid = fit(PHOTO, fast())
    pasted = torch.zeros(pyramid.size, dtype=torch.bool)
    pasted[20:40, 25:50] = True
    composite = torch.where(pasted, torch.tensor([0.9, -0.9, 0.9])[None, :, None, None], to_signed(PHOTO))
    made = redraw_edge(pyramid, composite, pasted)
    changed = (made != composite).any(1)[0]
    assert changed.any()
    assert not changed[edge_weight(pasted, 2.0) == 0].any()
    assert not changed[24:36, 29:46].any()
    assert not changed[:15].any()
    assert torch.equal(made, redraw_edge(pyramid, composite, pasted))
    assert torch.equal(redraw_edge(pyramid, composite, pasted, edge_px=0), composite)


def test_where_nothing_is_foreign_nothing_changes() -> None:
    pyramid = fit(PHOTO, fast())
    source, pasted = to_signed(PHOTO), torch.zeros(pyramid.size, dtype=torch.bool)
    pasted[20:40, 25:50] = True
    assert torch.equal(redraw_edge(pyramid, source, torch.zeros_like(pasted)), source)
    # What is found in the region is what it shows already, but for blending.
    assert (redraw_edge(pyramid, source, pasted) - source).abs().mean() < 0.02


def test_what_does_not_fit_the_pyramid_is_told() -> None:
    with pytest.raises(ValueError, match="the pyramid's size"):
        redraw_edge(fit(PHOTO, fast()), to_signed(PHOTO)[..., 1:], torch.zeros(64, 80, dtype=torch.bool))


# torchvision


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_of_classes_says_where_the_object_is(store: str, objects: list[Cutout], seed: int) -> None:
    torch.manual_seed(seed)
    mask = tv_tensors.Mask(torch.ones(64, 80, dtype=torch.uint8))
    image, made = _paste(store, objects)(Image.fromarray(PHOTO), mask)
    assert isinstance(image, Image.Image)
    assert set(made.unique().tolist()) == {1, 7}
    assert np.array_equal(_marked(image), made.numpy() == 7)
    assert np.array_equal(np.asarray(image)[made.numpy() == 1], PHOTO[made.numpy() == 1])


def test_instances_boxes_and_what_else_is_of_each_are_brought_up_to_date(store: str, objects: list[Cutout]) -> None:
    masks = torch.zeros(2, 64, 80, dtype=torch.bool)
    masks[0, :, :40], masks[1, :, 40:] = True, True
    target = {
        "masks": tv_tensors.Mask(masks),
        "boxes": tv_tensors.BoundingBoxes([[0, 0, 40, 64], [40, 0, 80, 64]], format="XYXY", canvas_size=(64, 80)),
        "labels": torch.tensor([2, 3]),
        "iscrowd": torch.tensor([1, 1]),
        "image_id": torch.tensor([5]),
    }
    torch.manual_seed(0)
    image, made = _paste(store, objects)(tv_tensors.Image(torch.from_numpy(PHOTO.copy()).movedim(-1, 0)), target)
    own = _marked(image.movedim(0, -1).numpy())
    assert isinstance(made["masks"], tv_tensors.Mask)
    assert np.array_equal(made["masks"][2].numpy(), own)
    assert torch.equal(made["masks"].sum(0), torch.ones(64, 80))  # nothing overlaps, nothing is lost
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    assert made["boxes"][2].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert (made["labels"].tolist(), made["iscrowd"].tolist()) == ([2, 3, 7], [1, 1, 0])
    assert made["image_id"].tolist() == [5]


def test_a_hidden_object_goes_and_one_that_is_cut_gets_a_smaller_box(store: str, objects: list[Cutout]) -> None:
    transform = _paste(store, objects, seed=1)
    image, _ = transform(Image.fromarray(PHOTO), tv_tensors.Mask(torch.zeros(64, 80, dtype=torch.uint8)))
    rows, columns = (np.flatnonzero(_marked(image).any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    masks = torch.zeros(2, 64, 80, dtype=torch.bool)
    masks[0, top + 2 : bottom - 2, left + 2 : right - 2] = True  # under the object
    masks[1, top:bottom, : left + 3] = True  # its last columns are
    boxes = [[left + 2, top + 2, right - 2, bottom - 2], [0, top, left + 3, bottom]]
    held = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(64, 80))
    _, with_masks, kept = transform(Image.fromarray(PHOTO), tv_tensors.Mask(masks), held)
    assert kept.tolist() == [[0, top, left, bottom], [left, top, right, bottom]]
    assert len(with_masks) == 2
    _, alone = transform(Image.fromarray(PHOTO), held)
    assert alone.tolist() == [[0, top, left + 3, bottom], [left, top, right, bottom]]


def test_objects_lie_where_they_may(store: str, objects: list[Cutout]) -> None:
    classes = torch.zeros(64, 80, dtype=torch.uint8)
    classes[:, 40:] = 4
    for seed in range(5):
        _, made = _paste(store, objects, allowed=4, seed=seed)(Image.fromarray(PHOTO), tv_tensors.Mask(classes))
        assert (made[:, :40] == 0).all()
        assert (made == 7).any()
    nowhere = _paste(store, objects, allowed=9, seed=0)
    _, made = nowhere(Image.fromarray(PHOTO), tv_tensors.Mask(classes))
    assert torch.equal(made, classes)
    assert nowhere.stats()["no place"] == 1


def test_near_means_where_the_object_lay(store: str, objects: list[Cutout]) -> None:
    middles = []
    for seed in range(8):
        mask = tv_tensors.Mask(torch.zeros(64, 80, dtype=torch.uint8))
        _, made = _paste(store, objects, where="near", seed=seed)(Image.fromarray(PHOTO), mask)
        middles.append([np.flatnonzero((made == 7).any(axis).numpy()).mean() for axis in (1, 0)])
    assert np.abs(np.mean(middles, 0) / [64, 80] - objects[0].centre).max() < 0.12


def test_a_seed_fixes_a_paste_and_an_epoch_changes_it(store: str, objects: list[Cutout]) -> None:
    transform = _paste(store, objects, seed=3, edge_px=2.0, light=0.5)
    sample = Image.fromarray(PHOTO), tv_tensors.Mask(torch.zeros(64, 80, dtype=torch.uint8))
    first, again = transform(*sample), transform(*sample)
    assert np.array_equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    transform.set_epoch(1)
    assert not torch.equal(first[1], transform(*sample)[1])
    assert transform.eval()(*sample)[0] is sample[0]


def test_the_light_of_the_new_place_is_taken_over(store: str) -> None:
    dark, mask = np.full((40, 40, 3), 20, np.uint8), np.zeros((40, 40), bool)
    mask[12:28, 12:28] = True
    dark[mask] = 60
    sample = Image.fromarray(PHOTO), tv_tensors.Mask(torch.zeros(64, 80, dtype=torch.uint8))
    means = []
    for light in (0.0, 0.5, 1.0):
        image, made = _paste(store, cut_out(dark, mask), light=light, seed=0)(*sample)
        means.append(np.asarray(image)[made.numpy() == 1].mean())
    assert means[0] == pytest.approx(60)
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ((), "masks or boxes beside the image, got none"),
        (({"boxes": tv_tensors.BoundingBoxes([[0, 0, 4, 4]], format="XYXY", canvas_size=(64, 80)),
           "depth": torch.tensor([1.0])},), "got depth of as many entries"),
        ((Image.new("RGB", (80, 64)), tv_tensors.Mask(torch.zeros(64, 80))), "one image beside"),
    ],
)  # fmt: skip
def test_what_would_be_false_is_refused(store: str, objects: list[Cutout], labels: Any, told: str) -> None:
    with pytest.raises(LabelError, match=told):
        _paste(store, objects)(Image.fromarray(PHOTO), *labels)


@pytest.mark.parametrize(
    "changes", [{"where": "up"}, {"zoom": (2.0, 1.0)}, {"light": 2}, {"edge_px": -1}, {"p": 2}, {"objects": []}]
)
def test_wrong_arguments_are_told(store: str, objects: list[Cutout], changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        SinGANPaste(**{"objects": objects, "store": store, **changes})


def test_an_image_without_a_pyramid_is_told_or_passed(store: str, objects: list[Cutout]) -> None:
    unknown = Image.fromarray(make_photo(50, 60, seed=77)), tv_tensors.Mask(torch.zeros(50, 60, dtype=torch.uint8))
    with pytest.raises(MissingPyramidError):
        _paste(store, objects)(*unknown)


# Albumentations


@needs_albumentations
def test_albumentations_masks_and_boxes_are_brought_up_to_date(store: str, objects: list[Cutout]) -> None:
    import albumentations as A

    from singan_aug.transforms.albumentations_paste import SinGANPaste as Paste

    transform = Paste(objects, store=store, p=1.0, light=0.0, edge_px=0.0, zoom=(1.0, 1.0))
    compose = A.Compose([transform], bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]), seed=1)
    masks = np.zeros((2, 64, 80), np.uint8)
    masks[0, :, :40], masks[1, :, 40:] = 1, 1
    boxes = [[0, 0, 40, 64], [40, 0, 80, 64]]
    made = compose(image=PHOTO, mask=masks[1] * 2, masks=masks, bboxes=boxes, labels=[2, 3])
    own = _marked(made["image"])
    assert own.sum() == objects[0].area_px
    assert np.array_equal(made["mask"], np.where(own, 7, masks[1] * 2))
    assert np.array_equal(made["masks"][2], own)
    assert (made["masks"].sum(0) == 1).all()
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    assert made["bboxes"][2] == pytest.approx([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1e-3)
    assert made["labels"] == [2, 3, 7]
    with pytest.raises(LabelError, match="label fields without a box"):
        compose(image=PHOTO, bboxes=np.zeros((0, 4)), labels=[])


@needs_albumentations
def test_albumentations_refuses_what_would_be_false(store: str, objects: list[Cutout]) -> None:
    import albumentations as A

    from singan_aug.transforms.albumentations_paste import SinGANPaste as Paste

    transform = Paste(objects, store=store, p=1.0)
    with pytest.raises(LabelError, match="beside the image, got none"):
        transform(image=PHOTO)
    points = A.Compose([transform], keypoint_params=A.KeypointParams("xy"))
    with pytest.raises(LabelError, match="got keypoints"):
        points(image=PHOTO, mask=np.zeros((64, 80), np.uint8), keypoints=[[3, 4]])


@needs_albumentations
def test_both_libraries_paste_alike(store: str, objects: list[Cutout]) -> None:
    from singan_aug.transforms.albumentations_paste import SinGANPaste as Paste

    ours = SinGANPaste(objects, store=store, p=1.0)._source.paste(PHOTO, 4)
    theirs = Paste(objects, store=store)._source.paste(PHOTO, 4)
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours.image, theirs.image)
    assert torch.equal(ours.mask, theirs.mask)
