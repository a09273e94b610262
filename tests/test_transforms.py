"""What a transform promises beyond the contract of all adapters: chance, seeds, keys, counts, epochs, validation."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import warnings
from multiprocessing import context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from singan_aug import KeyedDataset, SampleKey, SinGANAugment, draw, fast, fit, make_key, open_store
from singan_aug.bank import Bank, draw_bank
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError, UnchangedWarning
from singan_aug.images import Pixels
from tests.conftest import make_photo

PHOTOS = [make_photo(36, 48, seed=seed) for seed in range(4)]
UNKNOWN = make_photo(36, 48, seed=99)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("transforms")
    for i, pixels in enumerate(PHOTOS):
        Image.fromarray(pixels).save(folder / f"{i}.png")
        open_store(folder / "store").save(make_key(pixels, fast()), fit(pixels))
    return str(folder / "store")


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)


def test_by_default_a_draw_starts_at_the_finest_scale(store: str) -> None:
    transform = SinGANAugment(store=store, p=1.0)
    pyramid = fit(PHOTOS[0])
    expected = draw(pyramid, start_scale=-1, seed=5)
    out = transform.transform(_tensor(PHOTOS[0]).float() / 255, {"seed": 5})
    assert torch.equal(out, expected[0])


def test_the_number_of_scales_is_there_to_ask(store: str) -> None:
    assert SinGANAugment(store=store, p=1.0).scales(Image.fromarray(PHOTOS[1])) == len(fit(PHOTOS[1]))
    with pytest.raises(MissingPyramidError):
        SinGANAugment(store=store, p=1.0).scales(UNKNOWN)


# Chance


@pytest.mark.parametrize(("given", "expected"), [({"p": 0.3}, 30), ({}, 50)])
def test_p_decides_how_many_are_replaced_and_stats_count_them(given: Any, expected: int, store: str) -> None:
    transform = SinGANAugment(0, store=store, **given)
    image = _tensor(PHOTOS[0])
    torch.manual_seed(0)
    changed = sum(transform(image) is not image for _ in range(100))
    assert abs(changed - expected) < 15
    stats = transform.stats()
    assert (stats["drawn"], stats["left by p"], stats["no pyramid"]) == (changed, 100 - changed, 0)


@pytest.mark.parametrize("p", [-0.1, 1.5, "1", None, float("nan")])
def test_a_p_outside_0_to_1_is_refused(p: Any, store: str) -> None:
    with pytest.raises(ConfigError, match=r"p in 0\.\.1"):
        SinGANAugment(p=p, store=store)


# Validation


def test_eval_makes_it_the_identity(store: str) -> None:
    image, unknown = _tensor(PHOTOS[0]), _tensor(UNKNOWN)
    for pipeline in (SinGANAugment(0, store=store, p=1.0), torch.nn.Sequential(SinGANAugment(0, store=store, p=1.0))):
        pipeline.eval()
        assert pipeline(image) is image
        assert pipeline(unknown) is unknown
        pipeline.train()
        assert not torch.equal(pipeline(image), image)


# Counts


class Photos(Dataset[Tensor]):
    def __init__(self, transform: Any, pixels: list[Pixels]) -> None:
        self.transform, self.pixels = transform, pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(_tensor(self.pixels[index]))
        return image


def _loaded(transform: Any, workers: int, start: str | None = None, epochs: int = 1, **options: Any) -> list[Tensor]:
    """The images of each epoch, stacked in the order of the dataset."""
    loader = DataLoader(
        Photos(transform, PHOTOS),
        batch_size=1,
        num_workers=workers,
        multiprocessing_context=start if workers else None,
        persistent_workers=bool(workers) and options.get("persistent", False),
    )
    found = []
    for epoch in range(epochs):
        if "seed" in options:
            transform.set_epoch(epoch)
        found.append(torch.cat(list(loader)))
    return found


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_what_workers_draw_is_counted_in_the_main_process(start: str, store: str) -> None:
    transform = SinGANAugment(0, store=store, p=1.0)
    _loaded(transform, 2, start, epochs=2)
    assert transform.stats()["drawn"] == 2 * len(PHOTOS)


def test_a_copy_counts_for_itself(store: str) -> None:
    transform = SinGANAugment(0, store=store, p=1.0)
    other = pickle.loads(pickle.dumps(transform))
    third = copy.deepcopy(transform)
    other(_tensor(PHOTOS[0]))
    assert [each.stats()["drawn"] for each in (transform, other, third)] == [0, 1, 0]


# A fixed seed


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_a_fixed_seed_gives_the_same_for_any_number_of_workers(workers: int, store: str) -> None:
    transform = SinGANAugment((0, 2), p=0.8, seed=3, store=store)
    alone = _loaded(transform, 0, epochs=3, seed=True)
    torch.manual_seed(workers)
    beside = _loaded(transform, workers, "fork", epochs=3, seed=True, persistent=True)
    assert all(torch.equal(first, second) for first, second in zip(alone, beside, strict=True))
    assert not torch.equal(alone[0], alone[1])
    assert not torch.equal(alone[1], alone[2])


def test_epochs_reach_spawned_workers(store: str) -> None:
    transform = SinGANAugment(0, seed=3, store=store, p=1.0)
    alone = _loaded(transform, 0, epochs=2, seed=True)
    beside = _loaded(transform, 2, "spawn", epochs=2, seed=True, persistent=True)
    assert all(torch.equal(first, second) for first, second in zip(alone, beside, strict=True))


def test_fixed_seeds_differ_by_seed_image_and_place_in_a_batch(store: str) -> None:
    image = _tensor(PHOTOS[0])
    first, second = (SinGANAugment(0, seed=seed, store=store, p=1.0) for seed in (1, 2))
    assert torch.equal(first(image), first(image))
    assert not torch.equal(first(image), second(image))
    drawn = first(torch.stack([image, image]))
    assert torch.equal(drawn[0], first(image))
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("seed", [1.5, "1", True])
def test_a_seed_that_is_no_int_is_refused(seed: Any, store: str) -> None:
    with pytest.raises(ConfigError, match="seed to be a whole number"):
        SinGANAugment(seed=seed, store=store, p=1.0)


# Video


def test_frames_of_a_video_share_a_draw_and_videos_of_a_batch_do_not(store: str) -> None:
    frame = _tensor(PHOTOS[0])
    video = tv_tensors.Video(torch.stack([frame] * 3))
    out = SinGANAugment(0, store=store, p=1.0)(video)
    assert isinstance(out, tv_tensors.Video)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    assert not torch.equal(out[0], frame)
    batch = SinGANAugment(0, store=store, p=1.0)(tv_tensors.Video(torch.stack([video, video])))
    assert torch.equal(batch[1][0], batch[1][2])
    assert not torch.equal(batch[0][0], batch[1][0])


def test_frames_unlike_the_first_stay_in_range(store: str) -> None:
    frame = _tensor(PHOTOS[0])
    frames = torch.stack([frame, torch.zeros_like(frame), torch.full_like(frame, 255)])
    for _ in range(5):  # blending over seams brightens and darkens
        dark, light = SinGANAugment(0, store=store, p=1.0)(tv_tensors.Video(frames))[1:]
        assert dark.max() < 128 < light.min()


@pytest.mark.parametrize("kind", [torch.Tensor, tv_tensors.Image, tv_tensors.Video])
@pytest.mark.parametrize("shape", [(0, 3, 20, 20), (2, 0, 3, 20, 20)])
def test_a_batch_of_nothing_comes_back(kind: type[Tensor], shape: tuple[int, ...], store: str) -> None:
    nothing = torch.zeros(shape).as_subclass(kind)
    out = SinGANAugment(0, store=store, p=1.0)(nothing)
    assert type(out) is kind
    assert out.shape == shape


# Labels

COPIES = fast(seam_blend_px=0)  # so that every pixel of a variant is one of the source's
MASK = (PHOTOS[0][..., 0] > 100).astype(np.uint8) * 7
MARKED = np.where(MASK[..., None] > 0, PHOTOS[0] | 1, PHOTOS[0] & 254)  # the lowest bit of a colour is its mask


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = open_store(tmp_path_factory.mktemp("copies"))
    store.save(make_key(MARKED, COPIES), fit(MARKED, COPIES))
    return store.location


def test_masks_follow_the_pixels_of_their_image(copies: str) -> None:
    image, mask = tv_tensors.Image(_tensor(MARKED)), tv_tensors.Mask(torch.from_numpy(MASK.copy()))
    out, carried, label = SinGANAugment(0, store=copies, labels="carry", p=1.0)(image, mask, 5)
    assert isinstance(carried, tv_tensors.Mask)
    assert not torch.equal(out, image)
    assert torch.equal(carried, (out[0] & 1) * 7)
    assert label == 5


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("scale", [2, 3])
def test_masks_follow_in_images_larger_than_their_pyramid(turned: bool, scale: int, copies: str) -> None:
    large = np.kron(PHOTOS[1], np.ones((scale, scale, 1), np.uint8))
    mask = np.kron((PHOTOS[1][..., 0] > 100).astype(np.uint8) * 7, np.ones((scale, scale), np.uint8))
    large = np.where(mask[..., None] > 0, large | 1, large & 254)
    config = COPIES.replace(finest_px=PHOTOS[1].shape[1])
    open_store(copies).save(make_key(large, config), fit(large, config))
    if turned:
        large, mask = np.rot90(large).copy(), np.rot90(mask).copy()
    image = tv_tensors.Image(_tensor(large))
    out, carried = SinGANAugment(0, store=copies, labels="carry", p=1.0)(image, tv_tensors.Mask(torch.from_numpy(mask)))
    assert not torch.equal(out, image)
    assert torch.equal(carried, (out[0] & 1) * 7)


@pytest.mark.parametrize("format", ["XYXY", "XYWH", "CXCYWH"])
def test_boxes_are_those_of_the_instances_beside_them(format: str, copies: str) -> None:
    masks = torch.zeros(2, 36, 48, dtype=torch.bool)
    masks[0, 4:10, 6:20] = True
    masks[1, 15:30, 3:19] = True
    corners = tv_tensors.BoundingBoxes([[6, 4, 20, 10], [3, 15, 19, 30]], format="XYXY", canvas_size=(36, 48))
    boxes = v2.functional.convert_bounding_box_format(tv_tensors.wrap(corners.float(), like=corners), new_format=format)
    sample = {"image": tv_tensors.Image(_tensor(MARKED)), "boxes": boxes, "masks": tv_tensors.Mask(masks)}
    out = SinGANAugment(0, store=copies, labels="carry", p=1.0)(sample)
    assert out["boxes"].format == boxes.format
    found = v2.functional.convert_bounding_box_format(out["boxes"], new_format="XYXY")
    for box, mask in zip(found.tolist(), out["masks"], strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if mask.any() else [0] * 4
        assert box == [int(edge) for edge in expected]


def test_boxes_alone_pass_where_the_layout_is_kept_and_are_refused_elsewhere(copies: str) -> None:
    boxes = tv_tensors.BoundingBoxes([[6, 4, 20, 10]], format="XYXY", canvas_size=(36, 48))
    with pytest.raises(LabelError, match="instance masks"):
        SinGANAugment(0, store=copies, labels="carry", p=1.0)(tv_tensors.Image(_tensor(MARKED)), boxes)
    still = COPIES.replace(shift_px=0.01)
    open_store(copies).save(make_key(MARKED, still), fit(MARKED, still))
    out = SinGANAugment(0, store=copies, config=still, p=1.0)(tv_tensors.Image(_tensor(MARKED)), boxes)
    assert torch.equal(out[1], boxes)


@pytest.mark.parametrize("format", ["XYWHR", "CXCYWHR", "XYXYXYXY"])
def test_rotated_boxes_are_refused_where_things_move(format: str, copies: str) -> None:
    edges = torch.arange(8.0 if format == "XYXYXYXY" else 5.0)[None]
    boxes = tv_tensors.BoundingBoxes(edges, format=format, canvas_size=(36, 48))
    masks = tv_tensors.Mask(torch.ones(1, 36, 48, dtype=torch.bool))
    with pytest.raises(LabelError, match=f"upright boxes.*{format}"):
        SinGANAugment(0, store=copies, config=COPIES, labels="carry", p=1.0)(
            tv_tensors.Image(_tensor(MARKED)), boxes, masks
        )
    still = COPIES.replace(shift_px=0.01)
    open_store(copies).save(make_key(MARKED, still), fit(MARKED, still))
    out = SinGANAugment(0, store=copies, config=still, p=1.0)(tv_tensors.Image(_tensor(MARKED)), boxes, masks)
    assert torch.equal(out[1], boxes)


def test_keypoints_follow_their_pixels_or_leave_the_image(copies: str) -> None:
    points = tv_tensors.KeyPoints([[[10.0, 12.0], [20.0, 5.0]], [[3.0, 20.0], [40.0, 30.0]]], canvas_size=(36, 48))
    moved = 0
    for seed in range(5):
        torch.manual_seed(seed)
        image, out = SinGANAugment(0, store=copies, config=COPIES, labels="carry", p=1.0)(
            tv_tensors.Image(_tensor(MARKED)), points
        )
        assert out.shape == points.shape
        for (x, y), (x0, y0) in zip(out.reshape(-1, 2).tolist(), points.reshape(-1, 2).int().tolist(), strict=True):
            if x < 0:
                continue
            around = image[:, max(0, round(y) - 3) : round(y) + 4, max(0, round(x) - 3) : round(x) + 4].flatten(1)
            before = torch.from_numpy(MARKED[max(0, y0 - 3) : y0 + 4, max(0, x0 - 3) : x0 + 4].reshape(-1, 1, 3))
            assert (before == around.T).all(-1).any()
            moved += (x, y) != (x0, y0)
    assert moved


def test_a_pyramid_fitted_with_a_mask_lets_labels_follow_unasked(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.save(make_key(MARKED, COPIES, mask=MASK), fit(MARKED, COPIES, mask=MASK))
    image, mask = tv_tensors.Image(_tensor(MARKED)), tv_tensors.Mask(torch.from_numpy(MASK.copy()))
    out, carried = SinGANAugment(0, store=tmp_path, p=1.0)(image, mask)
    assert not torch.equal(out, image)
    assert torch.equal(carried, (out[0] & 1) * 7)


def test_labels_of_which_image_must_be_clear(copies: str) -> None:
    mask = tv_tensors.Mask(torch.from_numpy(MASK.copy()))
    image = tv_tensors.Image(_tensor(MARKED))
    transform = SinGANAugment(0, store=copies, labels="carry", p=1.0)
    with pytest.raises(LabelError, match="got 2 images"):
        transform(image, image, mask)
    with pytest.raises(LabelError, match="got a batch"):
        transform(tv_tensors.Image(image[None]), mask)


def test_labels_are_left_alone_after_eval(copies: str) -> None:
    image, mask = tv_tensors.Image(_tensor(MARKED)), tv_tensors.Mask(torch.from_numpy(MASK.copy()))
    assert SinGANAugment(0, store=copies, p=1.0).eval()(image, mask)[1] is mask


def test_a_large_image_is_as_sharp_after_as_before(tmp_path: Path) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)  # nothing of it outlives a resize
    config = COPIES.replace(finest_px=60)
    open_store(tmp_path).save(make_key(fine, config), fit(fine, config))
    out = SinGANAugment(-1, store=tmp_path, p=1.0)(_tensor(fine))
    assert not torch.equal(out, _tensor(fine))
    assert float(out.float().std()) > 0.98 * fine.std()


# Keys


def _names(folder: str) -> list[str]:
    """What may name the first photo: its file, its fingerprint and its key."""
    key = str(make_key(PHOTOS[0], fast()))
    return [str(Path(folder).parent / "0.png"), key[:32], key]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["path", "fingerprint", "key"])
def test_a_key_beside_an_image_gives_what_its_pixels_give(which: int, store: str) -> None:
    transform = SinGANAugment(0, seed=1, store=store, p=1.0)
    image, label = Image.fromarray(PHOTOS[0]), object()
    key = SampleKey(_names(store)[which])
    out = transform({"image": image, "key": key, "label": label})
    assert np.array_equal(out["image"], transform(image))
    assert out["key"] is key
    assert out["label"] is label


def test_keys_of_several_images_belong_to_them_in_order(store: str) -> None:
    keys = [SampleKey(str(make_key(pixels, fast()))) for pixels in PHOTOS[:2]]
    images = [tv_tensors.Image(_tensor(pixels)) for pixels in PHOTOS[:2]]
    transform = SinGANAugment(0, store=store, p=1.0)
    drawn = transform(images, keys)[0]
    assert transform.stats()["drawn"] == 2
    assert not torch.equal(drawn[0], drawn[1])
    with pytest.raises(ConfigError, match="each of 3 images"):
        transform([*images, images[0]], keys)


def test_a_collated_batch_takes_a_list_of_keys(store: str) -> None:
    batch = torch.stack([_tensor(pixels) for pixels in PHOTOS[:2]])
    transform = SinGANAugment(0, seed=1, store=store, p=1.0)
    keys = [SampleKey(str(make_key(pixels, fast()))) for pixels in PHOTOS[:2]]
    assert torch.equal(transform(batch, keys)[0], transform(batch))
    with pytest.raises(ConfigError, match="each of 2 images"):
        transform(batch, [*keys, keys[0]])


def test_a_key_without_a_pyramid_is_a_miss_that_names_it(store: str) -> None:
    with pytest.raises(MissingPyramidError, match="0" * 32):
        SinGANAugment(0, store=store, p=1.0)(Image.fromarray(PHOTOS[0]), SampleKey("0" * 32))
    with pytest.raises(MissingPyramidError, match=r"nowhere\.png"):
        SinGANAugment(0, store=store, p=1.0)(Image.fromarray(PHOTOS[0]), SampleKey("nowhere.png"))


class Listed(Dataset[Any]):
    def __init__(self) -> None:
        self.samples: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, target = self.samples[index]
        return Image.open(path).convert("RGB"), target


def test_a_keyed_dataset_hands_its_files_to_the_transform(store: str) -> None:
    dataset = Listed()
    dataset.samples = [(str(Path(store).parent / f"{i}.png"), 10 + i) for i in range(4)]
    transform = SinGANAugment(0, seed=1, store=store, p=1.0)
    keyed = KeyedDataset(dataset, v2.Compose([transform, v2.PILToTensor()]))
    image, target = keyed[2]
    assert target == 12
    assert torch.equal(image, v2.PILToTensor()(transform(Image.fromarray(PHOTOS[2]))))
    assert len(keyed) == 4


def test_a_keyed_dataset_means_the_same_files_from_any_folder(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Path(store).parent
    monkeypatch.chdir(files)
    keyed = KeyedDataset([(Image.fromarray(PHOTOS[2]), 7)], SinGANAugment(0, seed=1, store=store, p=1.0), ["2.png"])
    here = v2.functional.pil_to_tensor(keyed[0][0])
    monkeypatch.chdir(tmp_path)
    assert keyed.paths == [str(files / "2.png")]
    assert torch.equal(v2.functional.pil_to_tensor(keyed[0][0]), here)


def test_a_keyed_dataset_needs_a_path_for_each_sample(store: str) -> None:
    dataset = Listed()
    dataset.samples = [("a.png", 0)]
    with pytest.raises(ConfigError, match="each of 1 samples, got 2"):
        KeyedDataset(dataset, SinGANAugment(store=store, p=1.0), ["a.png", "b.png"])
    with pytest.raises(ConfigError, match="pass paths="):
        KeyedDataset([(1, 2)], SinGANAugment(store=store, p=1.0))


# Devices


def test_a_device_that_is_none_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match=r"device.*'gpu'"):
        SinGANAugment(device="gpu", store=store, p=1.0)


def _draw_on_cuda(store: str, answers: Any) -> None:
    try:
        SinGANAugment(0, device="cuda", store=store, p=1.0)(_tensor(PHOTOS[0]))
    except ConfigError as error:
        answers.put(str(error))


def test_cuda_in_a_forked_worker_is_an_error_that_names_the_ways_out(store: str) -> None:
    forked: context.ForkContext = multiprocessing.get_context("fork")
    answers = forked.SimpleQueue()
    process = forked.Process(target=_draw_on_cuda, args=(store, answers))
    process.start()
    message = answers.get()
    process.join()
    assert "multiprocessing_context='spawn'" in message
    assert "after collation" in message


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_is_drawn_on_the_gpu(store: str) -> None:
    batch = torch.stack([_tensor(pixels) for pixels in PHOTOS]).cuda()
    drawn = SinGANAugment(0, device="cuda", store=store, p=1.0)(batch)
    assert drawn.device == batch.device
    assert all(not torch.equal(after, before) for after, before in zip(drawn, batch, strict=True))


# Falling back


def test_an_image_left_unchanged_is_counted_each_time_and_told_once(store: str) -> None:
    transform = SinGANAugment(0, store=store, on_miss="pass", p=1.0)
    with pytest.warns(UnchangedWarning, match="no pyramid for this image"):
        transform(_tensor(UNKNOWN))
    with warnings.catch_warnings(action="error"):
        transform(_tensor(UNKNOWN))
        transform(_tensor(UNKNOWN))
    assert transform.stats()["no pyramid"] == 3


# Images that were changed before they got here, and the bank

LARGE = make_photo(120, 160, seed=7)


@pytest.fixture(scope="module")
def altered(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = open_store(tmp_path_factory.mktemp("altered"))
    for pixels in (LARGE, make_photo(120, 160, seed=8)):
        store.save(make_key(pixels, fast()), fit(pixels))
    return store.location


ALTERED: dict[str, Any] = {
    "cropped": lambda image: v2.functional.crop(image, 6, 10, 108, 140),
    "resized": lambda image: v2.functional.resize(image, [90, 120], antialias=True),
    "grey": lambda image: v2.functional.rgb_to_grayscale(image, num_output_channels=3),
    "BGR": lambda image: image.flip(0),
    "cropped, flipped and resized": lambda image: v2.functional.resize(
        v2.functional.hflip(v2.functional.crop(image, 6, 10, 108, 140)), [72, 96], antialias=True
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_was_done_to_an_image_is_done_to_its_variant(name: str, altered: str) -> None:
    image = _tensor(LARGE).float() / 255
    (drawn,) = draw(fit(LARGE), start_scale=0, seed=5)
    expected = ALTERED[name](drawn).clamp(0, 1)
    found = ALTERED[name](image).clamp(0, 1)
    out = SinGANAugment(0, store=altered, p=1.0).transform(found, {"seed": 5})
    assert out.shape == found.shape
    error = float((out - expected).square().mean().sqrt())
    assert error < 0.3 * float((found - expected).square().mean().sqrt())  # of what telling them apart takes


def test_labels_beside_a_crop_are_refused(altered: str) -> None:
    crop = tv_tensors.Image(_tensor(LARGE)[:, 6:114, 10:150])
    with pytest.raises(LabelError, match="before the crop"):
        SinGANAugment(0, store=altered, labels="carry", p=1.0)(crop, tv_tensors.Mask(torch.zeros(108, 140)))


def test_a_crop_too_small_to_be_sure_of_is_a_miss(altered: str) -> None:
    with pytest.raises(MissingPyramidError):
        SinGANAugment(0, store=altered, p=1.0)(_tensor(LARGE)[:, :60, :80])


def test_a_key_does_not_make_another_image_out_of_a_crop(altered: str) -> None:
    key = SampleKey(str(make_key(LARGE, fast())))
    crop = _tensor(LARGE)[:, 6:114, 10:150]
    assert torch.equal(
        SinGANAugment(0, store=altered, seed=1, p=1.0)(crop, key)[0],
        SinGANAugment(0, store=altered, seed=1, p=1.0)(crop),
    )
    with pytest.raises(MissingPyramidError, match=str(key)):
        SinGANAugment(0, store=altered, p=1.0)(_tensor(make_photo(108, 140, seed=8)), key)


@pytest.mark.parametrize("turned", [False, True])
def test_variants_come_from_the_bank_where_it_has_them(turned: bool, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.save(make_key(PHOTOS[0], fast()), fit(PHOTOS[0]))
    draw_bank(store, variants=3, start_scale=[0])
    image = _tensor(PHOTOS[0])
    image = image.rot90(1, [1, 2]) if turned else image
    transform = SinGANAugment(0, store=tmp_path, p=1.0)
    seen = {transform(image).numpy().tobytes() for _ in range(40)}
    assert len(seen) == 3
    assert transform.stats()["from the bank"] == 40
    assert transform.stats()["drawn"] == 0
    bank = Bank(store)
    kept = [bank.variant(str(make_key(PHOTOS[0], fast())), 0, seed) for seed in range(40)]
    quarters = int(turned)
    assert {_tensor(each.pixels).rot90(quarters, [1, 2]).numpy().tobytes() for each in kept if each is not None} == seen
    live = SinGANAugment(0, store=tmp_path, bank=False, p=1.0)
    assert live(image).numpy().tobytes() not in seen
    SinGANAugment(1, store=tmp_path, p=1.0)(image)  # a start scale that the bank lacks is drawn live
