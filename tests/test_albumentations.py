"""What the Albumentations adapter promises beyond tests/contracts/test_adapters.py."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from singan_aug.errors import ConfigError, LabelError, MissingPyramidError
from singan_aug.fitting import fit
from singan_aug.presets import fast
from singan_aug.store import DirectoryStore, make_key
from singan_aug.transforms.torchvision import SinGANAugment as Torchvision
from tests.conftest import make_photo, quick

if find_spec("albumentations") is None:
    pytest.skip('needs albumentations: pip install ".[albumentations]"', allow_module_level=True)

from singan_aug.transforms.albumentations import SinGANAugment

A = importlib.import_module("albumentations")  # after the adapter, which keeps it off the network

TINY = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
SIZE = (26, 34)
RGB = make_photo(*SIZE)
GREY = make_photo(*SIZE, channels=1, seed=1)
UNKNOWN = make_photo(*SIZE, seed=99)
ARRAYS: dict[str, Callable[[], Any]] = {
    "uint8": lambda: RGB.copy(),
    "uint8, read-only": lambda: RGB,
    "uint8, reversed in memory": lambda: RGB[::-1].copy()[::-1],
    "float32": lambda: RGB.astype(np.float32) / 255,
    "uint8 [H, W]": lambda: GREY[..., 0].copy(),
    "uint8 [H, W, 1]": lambda: GREY.copy(),
    "float32 [H, W]": lambda: GREY[..., 0].astype(np.float32) / 255,
    "float32 [H, W, 1]": lambda: GREY.astype(np.float32) / 255,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = DirectoryStore(tmp_path_factory.mktemp("albumentations") / "store")
    for pixels in (RGB, GREY):
        store.save(make_key(pixels, TINY), fit(pixels, TINY))
    return store.location


def _tensor(array: Any) -> torch.Tensor:
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return torch.from_numpy(planes.copy())


# What comes out


@pytest.mark.parametrize("name", ARRAYS)
def test_shape_and_dtype_are_kept_in_a_pipeline(name: str, folder: str) -> None:
    image, untouched = ARRAYS[name](), ARRAYS[name]()
    out = A.Compose([SinGANAugment(store=folder, p=1)], seed=1)(image=image)["image"]
    assert (out.shape, out.dtype) == (image.shape, image.dtype)
    assert out.flags["C_CONTIGUOUS"]
    assert 0 <= out.min() <= out.max() <= (255 if image.dtype == np.uint8 else 1)
    assert not np.array_equal(out, image)
    assert np.array_equal(image, untouched)


@pytest.mark.parametrize("start_scale", [0, 1, -1])
@pytest.mark.parametrize("name", ARRAYS)
def test_the_torchvision_adapter_gives_the_same_pixels(name: str, start_scale: int, folder: str) -> None:
    image = ARRAYS[name]()
    out = SinGANAugment(start_scale, store=folder).apply(image, seed=2**62 + 11)
    other = Torchvision(start_scale, store=folder).transform(_tensor(image), {"seed": 2**62 + 11})
    assert torch.equal(_tensor(out), other)


def test_no_images_are_no_error(folder: str) -> None:
    none = RGB[None][:0]
    assert SinGANAugment(store=folder).apply_to_images(none, seed=1) is none


def test_a_second_image_is_drawn_under_its_own_name(folder: str) -> None:
    pipeline = A.Compose([SinGANAugment(store=folder, p=1)], additional_targets={"other": "image"}, seed=3)
    out = pipeline(image=RGB, other=RGB.copy())
    assert np.array_equal(out["image"], out["other"])  # Albumentations gives them the same parameters
    assert not np.array_equal(out["image"], RGB)


def test_labels_pass_as_the_same_objects(folder: str) -> None:
    label = object()
    out = A.Compose([SinGANAugment(store=folder, p=1)])(image=RGB, label=label, path="a.png")
    assert out["label"] is label
    assert out["path"] == "a.png"


def test_it_stands_first_in_a_pipeline(folder: str) -> None:
    alone = A.Compose([SinGANAugment(1, store=folder, p=1)], seed=4)(image=RGB)["image"]
    flipped = A.Compose([SinGANAugment(1, store=folder, p=1), A.HorizontalFlip(p=1)], seed=4)(image=RGB)["image"]
    assert np.array_equal(flipped, alone[:, ::-1])


def test_p_leaves_some_images_alone(folder: str) -> None:
    pipeline = A.Compose([SinGANAugment(store=folder)], seed=5)
    kept = [np.array_equal(pipeline(image=RGB)["image"], RGB) for _ in range(30)]
    assert any(kept)
    assert not all(kept)


# What is refused


@pytest.mark.filterwarnings("ignore:.*no pyramid")
@pytest.mark.parametrize(("on_miss", "error"), [("error", MissingPyramidError), ("pass", LabelError)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_mask_given_as_an_image_is_refused_where_things_move(
    folder: str, on_miss: Any, error: type[Exception], kind: Any
) -> None:
    mask = (RGB[..., 0] > 100).astype(kind)
    transform = SinGANAugment(0, store=folder, p=1, on_miss=on_miss)
    for targets in ({"image": RGB, "other": mask}, {"image": mask, "other": RGB}):
        with pytest.raises(error, match="looks like a mask" if error is LabelError else "if this is a mask"):
            A.Compose([transform], additional_targets={"other": "image"})(**targets)


def test_a_photo_without_a_pyramid_beside_another_passes(folder: str) -> None:
    pipeline = A.Compose([SinGANAugment(0, store=folder, p=1, on_miss="pass")], additional_targets={"other": "image"})
    with pytest.warns(UserWarning, match="no pyramid"):
        out = pipeline(image=RGB, other=UNKNOWN)
    assert not np.array_equal(out["image"], RGB)
    assert np.array_equal(out["other"], UNKNOWN)


ASIDE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what is passed, and what Compose has to know for it
    "mask": ({"mask": RGB[..., 0].copy()}, {}),
    "masks": ({"masks": [RGB[..., 0].copy()]}, {}),
    "bboxes": (
        {"bboxes": np.array([[1.0, 2.0, 9.0, 9.0]]), "labels": [1]},
        {"bbox_params": A.BboxParams("pascal_voc", label_fields=["labels"])},
    ),
    "keypoints": ({"keypoints": np.array([[3.0, 4.0]])}, {"keypoint_params": A.KeypointParams("xy")}),
    "second_mask": (  # the successor wants a mask beside it
        {"second_mask": RGB[..., 0].copy(), "mask": RGB[..., 0].copy()},
        {"additional_targets": {"second_mask": "mask"}},
    ),
}


@pytest.mark.parametrize("name", ASIDE)
def test_what_would_not_follow_the_structure_is_refused(name: str, folder: str) -> None:
    aside, known = ASIDE[name]
    for on_miss in ("error", "pass"):
        pipeline = A.Compose([SinGANAugment(0, store=folder, on_miss=on_miss, p=1)], **known)
        with pytest.raises(LabelError, match="start scale 0 move pixels by"):
            pipeline(image=RGB, **aside)


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
@pytest.mark.parametrize("name", ASIDE)
def test_labels_of_an_image_that_stays_are_left_alone(name: str, folder: str) -> None:
    aside, known = ASIDE[name]
    out = A.Compose([SinGANAugment(0, store=folder, on_miss="pass", p=1)], **known)(image=UNKNOWN, **aside)
    assert np.array_equal(out["image"], UNKNOWN)
    assert all(np.allclose(out[each], aside[each]) for each in aside)


def test_a_volume_is_refused(folder: str) -> None:
    with pytest.raises(LabelError, match="got volume"):
        A.Compose([SinGANAugment(store=folder, p=1)])(volume=np.stack([RGB, RGB]))


def test_a_replay_refuses_alike(folder: str) -> None:
    replay = A.ReplayCompose([SinGANAugment(0, store=folder, p=1)])(image=RGB)["replay"]
    with pytest.raises(LabelError, match="start scale 0 move pixels by"):
        A.ReplayCompose.replay(replay, image=RGB, mask=RGB[..., 0].copy())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"start_scale": "2"}, ConfigError, "start_scale.*int"),
        ({"on_miss": "skip"}, ConfigError, "on_miss.*'skip'"),
        ({"p": 1.5}, ValueError, "p\n.*less than or equal to 1"),
        ({"store": 3}, ValueError, "store"),
        ({"config": {"width": -1}}, ValueError, "width"),
        ({"config": "fast"}, ValueError, "config"),
    ],
)
def test_a_wrong_argument_is_refused_when_it_is_given(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SinGANAugment(**arguments)


def test_a_miss_is_an_error_in_a_pipeline(folder: str) -> None:
    with pytest.raises(MissingPyramidError, match="singan-aug fit"):
        A.Compose([SinGANAugment(store=folder, p=1)])(image=UNKNOWN)


# Seeds, and how it travels


def test_the_seed_of_compose_decides(folder: str) -> None:
    def two(seed: int) -> list[Any]:
        pipeline = A.Compose([SinGANAugment(store=folder, p=1)], seed=seed)
        return [pipeline(image=RGB)["image"] for _ in range(2)]

    assert np.array_equal(two(1), two(1))
    assert not any(np.array_equal(first, second) for first, second in combinations([*two(1), *two(2)], 2))


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
@pytest.mark.parametrize("config", [None, TINY, fast()], ids=["no config", "a config", "the default config"])
@pytest.mark.parametrize("given", [True, False])
def test_a_saved_pipeline_loads(
    config: Any, given: bool, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGAN_AUG_STORE", folder)
    store = Path(folder) if given else None
    pipeline = A.Compose([SinGANAugment(-1, store, config, "pass", p=0.75)])
    A.save(pipeline, str(tmp_path / "pipeline.json"))
    for loaded in (A.load(str(tmp_path / "pipeline.json")), A.from_dict(A.to_dict(pipeline))):
        (before,), (after,) = pipeline.transforms, loaded.transforms
        assert type(after) is SinGANAugment
        for name in ("start_scale", "store", "config", "on_miss", "p"):
            assert getattr(after, name) == getattr(before, name)
        assert np.array_equal(after.apply(RGB, seed=6), before.apply(RGB, seed=6))


def test_a_replay_gives_the_same_pixels(folder: str) -> None:
    out = A.ReplayCompose([SinGANAugment(store=folder, p=1), A.HorizontalFlip(p=0.5)])(image=RGB)
    assert np.array_equal(A.ReplayCompose.replay(out["replay"], image=RGB)["image"], out["image"])


@pytest.mark.parametrize("copied", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copied_pipeline_draws_the_same(copied: Callable[[Any], Any], folder: str) -> None:
    pipeline = A.Compose([SinGANAugment(store=folder, p=1)], seed=7)
    assert np.array_equal(copied(pipeline)(image=RGB)["image"], pipeline(image=RGB)["image"])


class Repeated(Dataset[torch.Tensor]):
    """One image many times, as a user's dataset would give it."""

    def __init__(self, pipeline: Any, length: int) -> None:
        self.pipeline, self.length = pipeline, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(self.pipeline(image=RGB.copy())["image"])


def _epochs(folder: str, *, loader: int, compose: int | None, p: float = 1.0, length: int = 4) -> list[torch.Tensor]:
    """Two epochs of images, drawn in turn by two workers."""
    dataset = Repeated(A.Compose([SinGANAugment(store=folder, p=p)], seed=compose), length)
    generator = torch.Generator().manual_seed(loader)
    batches = DataLoader(dataset, num_workers=2, generator=generator, multiprocessing_context="fork")
    return [batch[0] for _ in range(2) for batch in batches]


# Python 3.12 and later warn of any fork beside threads, and torch has started some.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_in_a_loader_both_seeds_count_and_no_two_draws_are_alike(folder: str) -> None:
    drawn = _epochs(folder, loader=0, compose=1)
    again, other, third = (_epochs(folder, loader=i, compose=j) for i, j in ((0, 1), (0, 2), (1, 1)))
    assert all(torch.equal(first, second) for first, second in zip(drawn, again, strict=True))
    assert not any(torch.equal(first, second) for first, second in combinations([*drawn, *other, *third], 2))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("compose", [None, 1])
def test_workers_and_epochs_decide_apart_which_images_to_leave(compose: int | None, folder: str) -> None:
    drawn = _epochs(folder, loader=0, compose=compose, p=0.5, length=40)
    kept = [np.array_equal(image.numpy(), RGB) for image in drawn]
    streams = [kept[start : start + 40][worker::2] for start in (0, 40) for worker in (0, 1)]
    assert not any(first == second for first, second in combinations(streams, 2))  # alike by chance: 6 in 2**20


def test_importing_it_keeps_albumentations_off_the_network() -> None:
    code = (
        "import os\nfor name in ('NO_ALBUMENTATIONS_UPDATE', 'ALBUMENTATIONS_NO_TELEMETRY'):\n"
        "    os.environ.pop(name, None)\n"
        "import singan_aug.transforms.albumentations\n"
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'], os.environ['ALBUMENTATIONS_NO_TELEMETRY'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "1"]


# Labels that follow

COPIES = fast(coarsest_px=12, seam_blend_px=0)  # so that every pixel of a variant is one of the source's
MASK = (RGB[..., 0] > 100).astype(np.uint8) * 7
MARKED = np.where(MASK[..., None] > 0, RGB | 1, RGB & 254)  # the lowest bit of a colour is its mask


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = DirectoryStore(tmp_path_factory.mktemp("copies") / "store")
    store.save(make_key(MARKED, COPIES), fit(MARKED, COPIES))
    return store.location


def _carrying(copies: str, **compose: Any) -> Any:
    return A.Compose([SinGANAugment(0, store=copies, labels="carry", p=1)], seed=3, **compose)


def test_masks_follow_their_pixels(copies: str) -> None:
    out = _carrying(copies)(image=MARKED, mask=MASK, masks=[MASK, (MASK == 0).astype(np.uint8)])
    assert not np.array_equal(out["image"], MARKED)
    assert np.array_equal(out["mask"], (out["image"][..., 0] & 1) * 7)
    assert np.array_equal(out["masks"][0], out["mask"])
    assert np.array_equal(out["masks"][1], out["mask"] == 0)


def test_boxes_are_those_of_the_carried_instances(copies: str) -> None:
    instances = np.zeros((2, *SIZE), np.uint8)
    instances[0, 4:10, 6:20] = 1
    instances[1, 15:22, 3:9] = 1
    params = A.BboxParams("pascal_voc", label_fields=["labels"])
    given = {"bboxes": np.array([[6.0, 4, 20, 10], [3, 15, 9, 22]]), "labels": np.array([5, 9])}
    out = _carrying(copies, bbox_params=params)(image=MARKED, masks=instances, **given)
    survivors = [label for label, mask in zip([5, 9], out["masks"], strict=True) if mask.any()]
    assert [int(label) for label in out["labels"]] == survivors
    assert len(out["bboxes"]) == len(survivors) > 0
    for box, label in zip(out["bboxes"], out["labels"], strict=True):
        rows, columns = np.nonzero(out["masks"][[5, 9].index(int(label))])
        assert np.allclose(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=1e-3)


def test_boxes_alone_are_refused_where_things_move(copies: str) -> None:
    params = A.BboxParams("pascal_voc", label_fields=["labels"])
    with pytest.raises(LabelError, match="instance masks"):
        _carrying(copies, bbox_params=params)(image=MARKED, bboxes=np.array([[6.0, 4, 20, 10]]), labels=[1])


@pytest.mark.filterwarnings("ignore:label_fields are set:UserWarning")
def test_keypoints_follow_their_pixels(copies: str) -> None:
    points = np.array([[10.0, 12.0], [20.0, 5.0], [3.0, 20.0], [30.0, 13.0]])
    params = A.KeypointParams("xy", label_fields=["names"])
    moved = 0
    for seed in range(5):
        augment = SinGANAugment(0, store=copies, labels="carry", p=1)
        out = A.Compose([augment], seed=seed, keypoint_params=params)(
            image=MARKED, keypoints=points, names=np.arange(len(points))
        )
        assert len(out["keypoints"]) == len(out["names"])
        for (x, y), name in zip(out["keypoints"], out["names"], strict=True):
            x0, y0 = points[int(name)].astype(int)
            before = MARKED[max(0, y0 - 3) : y0 + 4, max(0, x0 - 3) : x0 + 4].reshape(-1, 1, 3)
            y1, x1 = round(float(y)), round(float(x))
            around = out["image"][max(0, y1 - 3) : y1 + 4, max(0, x1 - 3) : x1 + 4].reshape(-1, 3)
            assert (before == around).all(-1).any()
            moved += (x, y) != (x0, y0)
    assert moved


def test_image_path_says_which_image_it_is(folder: str, tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    pipeline = A.Compose([SinGANAugment(0, store=folder, p=1)], seed=4, strict=True)
    named = pipeline(image=RGB, image_path=str(tmp_path / "photo.png"))
    assert named["image_path"] == str(tmp_path / "photo.png")
    again = A.Compose([SinGANAugment(0, store=folder, p=1)], seed=4)(image=RGB)
    assert np.array_equal(named["image"], again["image"])
    with pytest.raises(MissingPyramidError, match="nowhere"):
        pipeline(image=RGB, image_path="nowhere.png")


def test_images_are_frames_of_one_clip_and_move_alike(copies: str) -> None:
    darker = (MARKED * 0.6).astype(np.uint8)  # was never fitted: the first frame decides
    images = np.stack([MARKED, darker, MARKED])
    out = A.Compose([SinGANAugment(0, store=copies, p=1)], seed=2)(images=images)["images"]
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    assert not np.array_equal(out[0], MARKED)
    assert np.array_equal(out[0], out[2])
    drawn = SinGANAugment(0, store=copies).apply_to_images(images, seed=5)
    clip = tv_tensors.Video(torch.stack([_tensor(image) for image in images]))
    video = Torchvision(0, store=copies, p=1.0).transform(clip, {"seed": 5})
    assert all(torch.equal(_tensor(one), torch.as_tensor(other)) for one, other in zip(drawn, video, strict=True))


def test_masks_follow_the_frames_of_a_clip(copies: str) -> None:
    out = _carrying(copies)(images=np.stack([MARKED, MARKED]), mask=MASK)
    assert np.array_equal(out["mask"], (out["images"][0][..., 0] & 1) * 7)
    assert np.array_equal(out["images"][0], out["images"][1])


@pytest.mark.filterwarnings("ignore:label_fields are set:UserWarning")
@pytest.mark.parametrize("removes", [True, False])
def test_lost_keypoints_are_removed_where_the_pipeline_wants_it(removes: bool, copies: str) -> None:
    points = np.array([[float(x), float(y)] for y in range(SIZE[0]) for x in range(SIZE[1])])
    params = A.KeypointParams("xy", label_fields=["names"], remove_invisible=removes)
    out = _carrying(copies, keypoint_params=params)(image=MARKED, keypoints=points, names=np.arange(len(points)))
    if removes:
        assert 0 < len(out["keypoints"]) < len(points)
        assert len(out["names"]) == len(out["keypoints"])
        return
    assert out["keypoints"].shape == points.shape
    assert 0 < (out["keypoints"] < -1000).all(1).sum() < len(points)  # so far that padding will not bring them back


@pytest.mark.filterwarnings("ignore::singan_aug.errors.UnchangedWarning")
def test_a_miss_hands_on_contiguous_arrays(folder: str) -> None:
    pipeline = A.Compose([SinGANAugment(0, store=folder, on_miss="pass", p=1)])
    out = pipeline(image=UNKNOWN[:, ::-1], mask=UNKNOWN[:, ::-1, 0])
    assert np.array_equal(out["image"], UNKNOWN[:, ::-1])
    assert out["image"].flags.c_contiguous
    assert out["mask"].flags.c_contiguous


def test_a_relative_store_is_saved_by_its_absolute_path(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(folder).parent)
    assert SinGANAugment(store=Path(folder).name).store == folder
