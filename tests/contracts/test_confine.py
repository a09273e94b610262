"""What `confine` promises, whatever the framework: checked by colour. An object's pixels alone are red above 128."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import tv_tensors

from singan_aug.bank import draw_bank
from singan_aug.errors import ConfigError, LabelError
from singan_aug.fitting import fit
from singan_aug.images import Pixels, to_pixels, turn_pixels
from singan_aug.presets import fast
from singan_aug.pyramid.confine import Confinement, distance_px
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import make_photo, mixed, quick

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (56, 72)
MARGIN_PX = 5
MODES = ("mask", "background")
Mask = NDArray[np.uint8]


def _coded(size: tuple[int, int] = SIZE, seed: int = 0) -> tuple[Pixels, Mask]:
    """A photo whose red says what a pixel belongs to, and a mask of two objects, 1 and 2."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    mask = np.zeros(size, np.uint8)
    mask[np.hypot(rows - 0.45 * height, columns - 0.3 * width) < 0.22 * height] = 1
    mask[np.hypot(rows - 0.6 * height, (columns - 0.75 * width) / 1.5) < 0.15 * height] = 2
    pixels = make_photo(height, width, seed=seed).copy()
    pixels[..., 0] = np.where(mask > 0, 170 + pixels[..., 0] // 4, pixels[..., 0] // 4)
    return pixels, mask


PIXELS, MASK = _coded()


def _is_object(pixels: Pixels) -> NDArray[np.bool_]:
    return np.asarray(pixels[..., 0] > 128)


def _chw(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0)))


def _hwc(tensor: Any) -> Pixels:
    return np.ascontiguousarray(np.moveaxis(np.asarray(tensor), 0, -1))


def _torchvision(transform: Any, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    image, moved = transform(Image.fromarray(pixels), tv_tensors.Mask(torch.from_numpy(mask)))
    return np.asarray(image), np.asarray(moved)


def _albumentations(transform: Any, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    out = transform(image=pixels, mask=mask)
    return out["image"], out["mask"]


def _kornia(transform: Any, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    augmentation = importlib.import_module("kornia.augmentation")
    pipeline = augmentation.AugmentationSequential(transform, data_keys=["input", "mask"])
    image, moved = pipeline(_chw(pixels)[None] / 255, torch.from_numpy(mask)[None, None].float())
    return _hwc((image[0] * 255).round().byte()), np.asarray(moved[0, 0]).astype(np.uint8)


def _monai(transform: Any, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    out = transform({"image": _chw(pixels), "label": torch.from_numpy(mask)[None]})
    return _hwc(out["image"]), np.asarray(out["label"][0])


def _batchgenerators(transform: Any, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    out = transform(image=_chw(pixels), segmentation=torch.from_numpy(mask)[None])
    return _hwc(out["image"]), np.asarray(out["segmentation"][0])


def _openmmlab(transform: Any, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    out = transform({"img": pixels[..., ::-1].copy(), "gt_seg_map": mask})
    return out["img"][..., ::-1], out["gt_seg_map"]


ADAPTERS: dict[str, tuple[str, Callable[..., tuple[Pixels, Mask]]]] = {  # what it needs, and how it is called
    "torchvision": ("torchvision", _torchvision),
    "albumentations": ("albumentations", _albumentations),
    "kornia": ("kornia", _kornia),
    "monai": ("monai", _monai),
    "batchgeneratorsv2": ("batchgeneratorsv2", _batchgenerators),
    "openmmlab": ("mmcv", _openmmlab),
}
NEEDS_FITTED_MASK = {"kornia"}  # masks come after their images
EACH = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(needs) is None, reason=f"needs {needs}"))
    for name, (needs, _) in ADAPTERS.items()
]


def _make(name: str, start_scale: Any, **options: Any) -> Any:
    module = importlib.import_module(f"singan_aug.transforms.{name}")
    if name == "monai":
        return module.SinGANAugmentd("image", "label", start_scale, p=1.0, **options)
    return module.SinGANAugment(start_scale, p=1.0, **options)


def _saved(folder: Path, pixels: Pixels, mask: Mask | None, config: Any = None) -> str:
    store, config = DirectoryStore(folder), config or fast()
    store.save(make_key(pixels, config, mask), fit(pixels, config, mask=mask))
    return store.location


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _saved(tmp_path_factory.mktemp("plain"), PIXELS, None)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _saved(tmp_path_factory.mktemp("masked"), PIXELS, MASK)


def _check(mode: str, before: Pixels, mask: Mask, after: Pixels, moved: Mask, margin_px: int = MARGIN_PX) -> None:
    """Labels by colour, and what stays, to the pixel."""
    assert np.array_equal(_is_object(after), moved > 0)
    assert not np.array_equal(before, after)
    same = (before == after).all(-1)
    if mode == "mask":
        assert same[(mask == 0) & (moved == 0)].all()
        far = distance_px(torch.from_numpy(mask > 0), margin_px + 1).numpy() > margin_px
        assert same[far].all()
        assert (moved[far] == 0).all()
    else:
        assert same[mask > 0].all()
        assert np.array_equal(mask, moved)


@pytest.mark.parametrize("start_scale", [0, "fine"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EACH)
def test_labels_follow_by_colour_and_the_rest_stays(
    name: str, mode: Any, start_scale: Any, plain: str, masked: str
) -> None:
    store = masked if name in NEEDS_FITTED_MASK else plain
    transform = _make(name, start_scale, store=store, confine=mode, confine_margin_px=MARGIN_PX)
    grew = 0
    for seed in range(4):
        torch.manual_seed(seed)
        np.random.seed(seed)
        after, moved = ADAPTERS[name][1](transform, PIXELS, MASK)
        _check(mode, PIXELS, MASK, after, moved)
        grew += int((moved[MASK == 0] > 0).sum())
    assert (grew > 0) == (mode == "mask")


@pytest.mark.parametrize("mode", MODES)
def test_every_adapter_gives_the_same_pixels(mode: Any, plain: str) -> None:
    from singan_aug.transforms.torchvision import SinGANAugment

    seed = 2**61 + 5
    options = {"store": plain, "confine": mode, "confine_margin_px": MARGIN_PX}
    transform = SinGANAugment(0, p=1.0, **options)
    region = torch.from_numpy(MASK > 0)
    variant = transform._source.variant(Image.fromarray(PIXELS), seed, labelled=True, region=region)
    assert variant is not None
    field = variant.field
    assert field is not None
    for name in ("albumentations", "torchvision"):
        source = _make(name, 0, **options)._source
        again = source.variant(torch.from_numpy(PIXELS.copy()).movedim(-1, 0), seed, labelled=True, region=region)
        assert torch.equal(again.image, variant.image)
        assert torch.equal(again.field, field)


# Masks and other labels in torchvision and Albumentations


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [SIZE, (112, 144)], ids=["own", "larger than its pyramid"])
def test_boxes_instances_and_points_follow(mode: Any, size: tuple[int, int], tmp_path: Path) -> None:
    pixels, mask = _coded(size)
    store = _saved(tmp_path, pixels, None, fast(finest_px=72))
    instances = np.stack([mask == 1, mask == 2])
    middles = [[float(np.argwhere(each)[:, axis].mean().round()) for axis in (1, 0)] for each in instances]
    transform = _make("torchvision", "medium", store=store, confine=mode, confine_margin_px=MARGIN_PX)
    torch.manual_seed(3)
    image, moved, boxes, points = transform(
        tv_tensors.Image(_chw(pixels)),
        tv_tensors.Mask(torch.from_numpy(instances)),
        tv_tensors.BoundingBoxes(torch.zeros(2, 4), format="XYXY", canvas_size=size),  # type: ignore[call-overload, unused-ignore]
        tv_tensors.KeyPoints(torch.tensor(middles), canvas_size=size),
    )
    carried = np.asarray(np.asarray(moved).any(0), np.uint8)
    _check(mode, pixels, np.asarray(mask > 0, np.uint8), _hwc(image), carried)
    for (left, top, right, bottom), each in zip(boxes.tolist(), np.asarray(moved), strict=True):
        rows, columns = np.nonzero(each)
        assert [left, top, right, bottom] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    for (x, y), middle in zip(points.tolist(), middles, strict=True):
        assert mode == "mask" or [x, y] == middle
        assert _is_object(_hwc(image))[round(y), round(x)]


def test_a_float_image_keeps_its_own_values_where_it_stays(plain: str) -> None:
    image = _chw(PIXELS).double() / 255 + 1e-4  # found by its nearest levels
    out, _ = _make("torchvision", 0, store=plain, confine="mask")(image, tv_tensors.Mask(torch.from_numpy(MASK)))
    assert torch.equal(out[:, -3:], image[:, -3:])  # far from any object


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "F", "RGBA"])
def test_images_of_any_mode_keep_their_own_values_where_they_stay(mode: str, tmp_path: Path) -> None:
    if mode in ("I;16", "F"):
        grey = PIXELS[..., 0]
        image = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.float32) / 255)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
    store = _saved(tmp_path, to_pixels(image)[..., :3], None)
    out, moved = _make("torchvision", 0, store=store, confine="mask")(image, tv_tensors.Mask(torch.from_numpy(MASK)))
    same = np.asarray(out) == np.asarray(image)
    assert out.mode == mode
    assert same[(MASK == 0) & (np.asarray(moved) == 0)].all()
    assert not same.all()


@pytest.mark.parametrize(("mode", "value"), [("mask", 0), ("background", 1)])
@pytest.mark.parametrize("name", ["torchvision", "albumentations"])
def test_where_nothing_could_change_the_very_image_stays_and_is_counted(
    name: str, mode: Any, value: int, plain: str
) -> None:
    transform = _make(name, 0, store=plain, confine=mode)
    after, moved = ADAPTERS[name][1](transform, PIXELS, np.full(SIZE, value, np.uint8))
    assert np.array_equal(after, PIXELS)
    assert (moved == value).all()
    assert transform.stats()["nothing to change"] == 1
    assert transform.stats()["drawn"] == 0


def test_an_empty_list_of_masks_means_that_there_is_no_object(masked: str) -> None:
    transform = _make("albumentations", 0, store=masked, confine="mask")
    empty: list[Any] = [[], np.zeros((0, *SIZE), np.uint8)]
    for none in empty:
        assert np.array_equal(transform(image=PIXELS, masks=none)["image"], PIXELS)
    out, _ = _make("torchvision", 0, store=masked, confine="mask")(
        Image.fromarray(PIXELS), tv_tensors.Mask(torch.zeros(0, *SIZE))
    )
    assert np.array_equal(np.asarray(out), PIXELS)


def test_without_an_object_the_background_is_drawn_as_ever(plain: str) -> None:
    empty = np.zeros(SIZE, np.uint8)
    outs = []
    for options in ({"confine": "background"}, {"labels": "carry"}):
        torch.manual_seed(1)
        outs.append(_torchvision(_make("torchvision", 0, store=plain, **options), PIXELS, empty)[0])
    assert np.array_equal(outs[0], outs[1])


# Which mask


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [0, 3, 6])
def test_without_a_mask_beside_the_image_that_of_its_pyramid_counts(mode: Any, code: int, masked: str) -> None:
    """However the image is turned."""
    pixels, mask = turn_pixels(PIXELS, code), turn_pixels(MASK[..., None], code)[..., 0]
    transform = _make("torchvision", 0, store=masked, confine=mode, confine_margin_px=MARGIN_PX)
    torch.manual_seed(2)
    alone = np.asarray(transform(Image.fromarray(np.ascontiguousarray(pixels))))
    torch.manual_seed(2)
    beside, moved = _torchvision(transform, np.ascontiguousarray(pixels), np.ascontiguousarray(mask))
    assert np.array_equal(alone, beside)
    _check(mode, pixels, mask, alone, moved)


def test_without_any_mask_it_is_refused(plain: str) -> None:
    with pytest.raises(LabelError, match=r"mask to confine to, got none.*fit --masks"):
        _make("torchvision", 0, store=plain, confine="mask")(Image.fromarray(PIXELS))


def test_crops_and_pyramids_that_generate_are_refused(masked: str, tmp_path: Path) -> None:
    crop = Image.fromarray(np.ascontiguousarray(PIXELS[4:, 6:]))
    with pytest.raises(LabelError, match="put SinGANAugment before the crop"):
        _make("torchvision", 0, store=masked, confine="mask")(crop)
    config = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
    store = _saved(tmp_path, PIXELS, None, config)
    with pytest.raises(LabelError, match="which generates them: fit it with the preset"):
        _torchvision(_make("torchvision", -1, store=store, confine="mask"), PIXELS, MASK)


def test_a_mask_of_another_size_is_refused(plain: str) -> None:
    with pytest.raises(LabelError, match="size"):
        _torchvision(_make("torchvision", 0, store=plain, confine="mask"), PIXELS, MASK[:-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confine": "object"}, "expected confine to be 'mask' or 'background', got 'object'"),
        ({"confine": "mask", "confine_margin_px": -1}, r"expected confine_margin_px in 0\.\.256, got -1"),
        ({"confine_margin_px": float("nan")}, "got nan"),
    ],
)
@pytest.mark.parametrize("name", ["torchvision", "albumentations", "kornia"])
def test_other_values_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _make(name, 0, **options)


# What carries origins through a start that generates


@pytest.mark.parametrize("mode", MODES)
def test_a_learned_start_is_confined_too(mode: Any, tmp_path: Path) -> None:
    store = _saved(tmp_path, PIXELS, MASK, mixed())
    transform = _make("torchvision", 0, store=store, confine=mode, confine_margin_px=MARGIN_PX)
    torch.manual_seed(0)
    _check(mode, PIXELS, MASK, *_torchvision(transform, PIXELS, MASK))


# The bank


@pytest.mark.parametrize("mode", MODES)
def test_a_bank_holds_what_a_live_draw_gives(mode: Any, tmp_path: Path) -> None:
    store = _saved(tmp_path, PIXELS, MASK)
    report = draw_bank(store, variants=3, start_scale=0, confine=mode, confine_margin_px=MARGIN_PX)
    assert (report.variants, report.failed) == (3, ())
    transform = _make("torchvision", 0, store=store, confine=mode, confine_margin_px=MARGIN_PX)
    variant = transform._source.variant(Image.fromarray(PIXELS), 7)
    assert transform.stats()["from the bank"] == 1
    after, moved = to_pixels(variant.image), MASK[variant.field[0], variant.field[1]]
    _check(mode, PIXELS, MASK, after, moved)
    for other in ({}, {"confine": mode}, {"confine": MODES[mode == "mask"], "confine_margin_px": MARGIN_PX}):
        transform = _make("torchvision", 0, store=store, **other)
        transform(Image.fromarray(PIXELS))
        assert transform.stats()["from the bank"] == 0


def test_a_bank_of_another_confinement_is_dropped_or_kept_by_what_is_asked(tmp_path: Path) -> None:
    store = _saved(tmp_path, PIXELS, MASK)
    draw_bank(store, variants=2, start_scale=0)
    with pytest.raises(ConfigError, match=r"drop 2 variants.*another confinement"):
        draw_bank(store, confine="mask")
    draw_bank(store, confine="mask", drop=True)
    assert draw_bank(store).drawn == 0  # as the bank has it
    assert draw_bank(store, confine="none", drop=True).drawn == 2


def test_a_pyramid_without_a_mask_fails_alone_in_a_confined_bank(tmp_path: Path) -> None:
    store = _saved(tmp_path, PIXELS, MASK)
    _saved(tmp_path, make_photo(*SIZE), None)
    report = draw_bank(store, variants=1, start_scale=0, confine="mask")
    assert report.variants == 1
    assert "without one: fit images with their masks" in report.failed[0][1]
    other = _saved(tmp_path / "other", PIXELS, None)
    with pytest.raises(LabelError, match="fit --masks"):
        draw_bank(other, confine="mask")


def test_a_confinement_is_checked() -> None:
    assert Confinement.of(None, 8.0) is None
    assert Confinement.of("mask", 8) == Confinement("mask", 8.0)


def test_distances_are_euclidean() -> None:
    region = torch.zeros(9, 12, dtype=torch.bool)
    region[4, 3] = region[8, 11] = True
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(12.0), indexing="ij")
    exact = torch.minimum((rows - 4).hypot(columns - 3), (rows - 8).hypot(columns - 11))
    torch.testing.assert_close(distance_px(region, 5), exact.clamp(max=5))
    assert (distance_px(torch.zeros(3, 4, dtype=torch.bool), 5) == 5).all()
