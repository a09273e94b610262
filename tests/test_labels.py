"""Labels that ride along: traced draws, joint fits with a mask, displacement, and carrying by a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, ImageError, LabelError, StartScaleError
from singan_aug.fitting import fit
from singan_aug.images import inverse_turn, resize_mask, to_mask, turn, turn_between, turn_pixels
from singan_aug.pyramid import Pyramid, draw, keeps_layout, trace
from singan_aug.pyramid.copied.displacement import layout_start_scale, measure_displacement, nearest_origins
from singan_aug.pyramid.noise import generator_for
from singan_aug.store import fingerprint, make_key
from singan_aug.transforms._labels import boxes_of, carry_boxes, carry_keypoints, carry_mask, sample_field
from tests.conftest import copies, make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (40, 56)
PHOTO = make_photo(*SIZE)
CLASSES = np.add.outer(np.arange(40) // 14, np.arange(56) // 20).astype(np.uint8) * 50  # 0, 50, ..., 200


def patches(**changes: Any) -> FitConfig:
    values = {"coarsest_px": 20, "scale_factor": 0.6, "shift_px": 3.0, "shift_step_px": 5}
    return copies(**{**values, "seam_blend_px": 0.0, **changes})


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    return fit(PHOTO, patches(), mask=CLASSES)


def _identity(height: int, width: int) -> torch.Tensor:
    return torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))


# Tracing


@pytest.mark.parametrize("size", [None, (30, 61)])
@pytest.mark.parametrize("start", [0, -1])
def test_a_trace_is_a_draw_with_its_origins(pyramid: Pyramid, start: int, size: tuple[int, int] | None) -> None:
    traced = trace(pyramid, 3, start, size, seed=2)
    assert torch.equal(traced.images, draw(pyramid, 3, start, size, seed=2))
    assert traced.origins is not None
    assert traced.origins.dtype == torch.int64
    assert traced.origins.shape == (3, 2, *(size or SIZE))
    source = torch.from_numpy(PHOTO.copy()).movedim(-1, 0) / 255
    copied = torch.stack([source[:, rows, columns] for rows, columns in traced.origins])
    torch.testing.assert_close(traced.images, copied, rtol=0, atol=1e-6)


def test_a_kind_that_generates_pixels_has_no_origins(fast_like: Pyramid) -> None:
    traced = trace(fast_like, 2, seed=3)
    assert traced.origins is None
    assert traced.masks is None
    assert torch.equal(traced.images, draw(fast_like, 2, seed=3))


# Joint fits


@pytest.mark.parametrize("size", [None, (25, 83)])
def test_a_mask_follows_the_pixels(pyramid: Pyramid, size: tuple[int, int] | None) -> None:
    traced = trace(pyramid, 2, size=size, seed=4)
    assert traced.origins is not None
    assert traced.masks is not None
    expected = torch.from_numpy(CLASSES)[traced.origins[:, 0], traced.origins[:, 1]].int()
    assert torch.equal(traced.masks, expected)
    assert not torch.equal(traced.masks[0], traced.masks[1])
    assert pyramid.mask_values == (0, 50, 100, 150, 200)


def test_a_mask_changes_no_pixel_of_a_draw(pyramid: Pyramid) -> None:
    assert torch.equal(draw(fit(PHOTO, patches()), 2, seed=1), draw(pyramid, 2, seed=1))


def test_a_grey_image_takes_a_mask() -> None:
    traced = trace(fit(PHOTO[..., 0], patches(), mask=CLASSES), 2)
    assert traced.images.shape == (2, 1, *SIZE)
    assert traced.masks is not None
    assert set(traced.masks.unique().tolist()) <= set(CLASSES.flatten().tolist())


@pytest.mark.parametrize("values", [[0, 255], [-1, 26001, 2**31 - 1], range(3, 259)], ids=["void", "wide", "256"])
def test_any_values_survive_shrinking(values: Any) -> None:
    """The mask is larger than `finest_px`: bicubic shrinking, as of the image, would make up values."""
    legal = np.array(list(values))
    mask = legal[np.arange(40 * 56).reshape(40, 56) // 3 % len(legal)]
    fitted = fit(PHOTO, patches(finest_px=30), mask=mask)
    traced = trace(fitted, 2)
    assert fitted.mask_values == tuple(legal.tolist())
    assert traced.masks is not None
    assert traced.masks.shape == (2, 21, 30)
    assert set(traced.masks.unique().tolist()) <= set(legal.tolist())


def test_a_mask_is_shrunk_to_the_middle_of_each_cell() -> None:
    mask = np.arange(36, dtype=np.int32).reshape(6, 6)
    assert resize_mask(mask, (2, 2)).tolist() == [[7, 10], [25, 28]]
    assert np.array_equal(resize_mask(mask, (6, 6)), mask)


def test_a_fourth_channel_is_a_mask(pyramid: Pyramid) -> None:
    masks = trace(fit(np.dstack([PHOTO, CLASSES]), patches()), 2, seed=6).masks
    expected = trace(pyramid, 2, seed=6).masks
    assert masks is not None
    assert expected is not None
    assert torch.equal(masks, expected)
    assert make_key(np.dstack([PHOTO, CLASSES]), patches()) == make_key(PHOTO, patches(), CLASSES)


def test_every_kind_of_mask_is_the_same_mask() -> None:
    indices = (CLASSES // 50).astype(np.uint8)
    palette = Image.fromarray(indices, "L").convert("P")
    palette.putdata(indices.flatten().tolist())
    kinds = [indices, indices.astype(np.int64), torch.from_numpy(indices), Image.fromarray(indices), palette]
    assert all(np.array_equal(to_mask(kind), indices) for kind in kinds)
    assert all(to_mask(kind).dtype == np.int32 for kind in kinds)
    black_and_white = Image.fromarray(indices > 1)
    assert black_and_white.mode == "1"
    assert np.array_equal(to_mask(black_and_white), to_mask(indices > 1))
    assert set(to_mask(black_and_white).flatten().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (CLASSES[:, :-1], "mask of the image's size, 56x40, got 55x40"),
        (CLASSES / 255, "mask of integers, got float64"),
        (np.dstack([CLASSES] * 3), r"shape \[H, W\], got \[40, 56, 3\]"),
        (Image.fromarray(PHOTO.copy()), "got mode RGB: save class numbers"),
        (np.arange(40 * 56).reshape(40, 56), "at most 256 different values, got 2240"),
        (CLASSES.astype(np.int64) * 2**30, "at most 32 bits"),
    ],
    ids=["size", "float", "channels", "RGB", "values", "wide"],
)
def test_other_masks_are_refused(mask: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        fit(PHOTO, patches(), mask=mask)


def test_two_masks_are_refused() -> None:
    with pytest.raises(ImageError, match="expected one mask"):
        fit(np.dstack([PHOTO, CLASSES]), patches(), mask=CLASSES)


def test_generators_refuse_a_mask_and_name_the_kind_that_takes_one() -> None:
    with pytest.raises(ConfigError, match="copies the finer scales"):
        fit(PHOTO, quick(), mask=CLASSES)


def test_the_key_depends_on_the_mask_and_the_fingerprint_does_not() -> None:
    plain, masked = make_key(PHOTO, patches()), make_key(PHOTO, patches(), CLASSES)
    other = CLASSES.copy()
    other[3, 4] += 1
    assert plain.fingerprint == masked.fingerprint == fingerprint(PHOTO)
    assert len({plain.digest, masked.digest, make_key(PHOTO, patches(), other).digest}) == 3
    turned = make_key(turn_pixels(PHOTO, 6), patches(), turn_pixels(CLASSES[..., None], 6)[..., 0])
    assert str(turned) == str(masked)


# Displacement


@pytest.mark.parametrize("config", [patches(), quick()], ids=["patches", "convolutional"])
def test_displacement_is_measured_when_a_pyramid_is_fitted(config: FitConfig) -> None:
    first, again = fit(PHOTO, config), fit(PHOTO, config)
    assert len(first.displacement_px) == len(first)
    assert first.displacement_px == again.displacement_px
    assert all(0 <= px < max(SIZE) for px in first.displacement_px)


def test_displacement_is_the_mean_distance_to_the_origin(pyramid: Pyramid) -> None:
    """At the finest start the measured draw is a whole one, so the mean of others is close."""
    origins = trace(pyramid, 16, -1, seed=9).origins
    assert origins is not None
    moved = (origins - _identity(*SIZE)).float().square().sum(1).sqrt().mean((1, 2))
    assert float(moved.min()) <= pyramid.displacement_px[-1] <= float(moved.max())


@pytest.mark.parametrize("start", [0, 1, 2])
def test_displacement_is_that_of_a_typical_draw(pyramid: Pyramid, start: int) -> None:
    """Single draws differ by a quarter or more; what is stored lies close to their mean."""
    scale = pyramid.scales[start]
    generators = [generator_for(99, i) for i in range(40)]
    origins = scale.draw(None, scale.size, generators).origin
    assert origins is not None
    far = (origins - _identity(*scale.size)).float().square().sum(1).sqrt().mean((1, 2)) * SIZE[0] / scale.size[0]
    assert float(far.std()) > 0.15 * float(far.mean())
    assert pyramid.displacement_px[start] == pytest.approx(float(far.mean()), rel=0.25)


def test_displacement_grows_with_the_shift_and_without_one_there_is_none() -> None:
    at = [fit(PHOTO, patches(shift_px=px, shift_step_px=1)).displacement_px[-1] for px in (0.0, 1.5, 6.0)]
    assert at[0] == 0.0 < at[1] < at[2]


def test_displacement_counts_in_pixels_of_the_finest_scale() -> None:
    """The same arrangement measured alone, and under a scale three times as large."""
    small, scales = patches(coarsest_px=20, finest_px=28), fit(PHOTO, patches(coarsest_px=20, finest_px=28)).scales
    alone = measure_displacement(scales[:1], small.seed)[0]
    larger = fit(PHOTO, patches(coarsest_px=20)).scales[-1]
    factor = larger.size[0] / scales[0].size[0]
    assert larger.size[1] / scales[0].size[1] == factor
    assert measure_displacement([scales[0], larger], small.seed)[0] == pytest.approx(alone * factor, abs=0.02)


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-2, 5)])
def test_nearest_patches_find_a_known_shift(shift: tuple[int, int]) -> None:
    source = torch.from_numpy(make_photo(48, 64).copy()).movedim(-1, 0)[None] / 127.5 - 1
    drawn = source.roll(shift, dims=(-2, -1)) + 0.02 * torch.randn(
        1, 3, 48, 64, generator=torch.Generator().manual_seed(0)
    )
    places = _identity(48, 64)[:, 12:36:4, 12:52:4]
    found = nearest_origins(drawn, source, places)[0] - places
    right = (found[0] == -shift[0]) & (found[1] == -shift[1])
    assert float(right.float().mean()) > 0.95


def test_where_all_patches_are_equal_nothing_has_moved() -> None:
    flat, places = torch.zeros(1, 3, 20, 20), _identity(20, 20)[:, ::3, ::3]
    assert torch.equal(nearest_origins(flat, flat, places)[0], places)


def test_start_scales_that_keep_the_layout() -> None:
    moved = (40.0, 6.0, 7.0, 2.0)
    kept = [keeps_layout(moved, (200, 300), start, 0.03) for start in (0, 1, 2, 3, -1)]
    assert kept == [False, True, False, True, True]
    assert layout_start_scale(moved, (200, 300), 0.03) == 3
    assert layout_start_scale(moved, (200, 300), 0.2) == 0
    assert layout_start_scale(moved, (200, 300), 0.001) is None
    assert not keeps_layout((), (200, 300), 0)
    with pytest.raises(StartScaleError):
        keeps_layout(moved, (200, 300), 4)


# Carrying


@pytest.mark.parametrize("own", range(8))
@pytest.mark.parametrize("wanted", [0, 3, 5])
def test_a_field_is_turned_with_the_image(pyramid: Pyramid, own: int, wanted: int) -> None:
    """A sample is the fitted picture in another orientation: copying its own pixels gives the turned variant."""
    traced = trace(pyramid, seed=8)
    assert traced.origins is not None
    source = torch.from_numpy(PHOTO.copy()).movedim(-1, 0) / 255
    sample = turn_between(source, own, wanted)
    field = sample_field(traced.origins[0], SIZE, (sample.shape[1], sample.shape[2]), own, wanted)
    variant = turn_between(traced.images[0], own, wanted)
    torch.testing.assert_close(carry_mask(sample, field), variant, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 56), (80, 112), (97, 131), (31, 60)])
def test_a_field_of_no_shift_is_the_identity_at_any_size(size: tuple[int, int]) -> None:
    assert torch.equal(sample_field(_identity(*SIZE), SIZE, size), _identity(*size))


def test_pieces_stay_pieces_in_a_larger_sample(pyramid: Pyramid) -> None:
    origins = trace(pyramid, seed=8).origins
    assert origins is not None
    field = sample_field(origins[0], SIZE, (120, 168))
    assert torch.equal(field[:, 1::3, 1::3] // 3, origins[0])  # the middles
    steps = field[1, :, 1:] - field[1, :, :-1]
    small = origins[0, 1, :, 1:] - origins[0, 1, :, :-1]
    assert float((steps == 1).float().mean()) >= float((small == 1).float().mean())


def test_a_field_from_a_draw_of_another_size(pyramid: Pyramid) -> None:
    origins = trace(pyramid, size=(20, 28), seed=8).origins
    assert origins is not None
    field = sample_field(origins[0], SIZE, (20, 28))
    assert torch.equal(field, origins[0] // 2)


def test_boxes_of_masks() -> None:
    masks = torch.zeros(3, 9, 12, dtype=torch.bool)
    masks[0, 2:5, 3:11] = True
    masks[2, 8, 0] = True
    boxes, survives = boxes_of(masks)
    assert boxes.tolist() == [[3, 2, 11, 5], [0, 0, 0, 0], [0, 8, 1, 9]]
    assert survives.tolist() == [True, False, True]
    assert boxes_of(masks[:0])[0].shape == (0, 4)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(LabelError, match=r"\[9, 12\]"):
        carry_mask(torch.zeros(9, 11), _identity(9, 12))


def test_boxes_alone_pass_only_where_the_layout_is_kept() -> None:
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0]])
    assert torch.equal(carry_boxes(boxes, keeps_layout=True), boxes)
    assert len(carry_boxes(boxes[:0], keeps_layout=False)) == 0
    with pytest.raises(LabelError, match="outlines, or take a start scale"):
        carry_boxes(boxes, keeps_layout=False)


def test_points_follow_the_pixel_they_lie_in() -> None:
    field = _identity(20, 30)
    field[1, :, 10:20] -= 10  # the left third again in the middle
    field[:, :, 20:] = torch.tensor([15, 25])[:, None, None]  # and one pixel all over the right
    points = torch.tensor([[4.25, 6.5], [14.5, 3.5], [25.5, 15.75], [0.0, 0.0], [30.0, 20.0]])
    carried, visible = carry_keypoints(points, field)
    assert visible.tolist() == [True, False, True, True, False]
    torch.testing.assert_close(carried[[0, 1, 3]], points[[0, 1, 3]])  # of two copies the nearer; none: left alone
    torch.testing.assert_close(carried[2], points[2])
    field[:, :, :10] = torch.tensor([19, 29])[:, None, None]
    moved, seen = carry_keypoints(points[:1], field)
    assert seen.tolist() == [True]
    torch.testing.assert_close(moved, torch.tensor([[14.25, 6.5]]))  # the fraction of a pixel is kept
    assert carry_keypoints(points[:0], field)[0].shape == (0, 2)


def test_points_of_a_draw_land_on_the_same_pixel(pyramid: Pyramid) -> None:
    origins = trace(pyramid, seed=8).origins
    assert origins is not None
    source = torch.from_numpy(PHOTO.copy()).movedim(-1, 0).float()
    variant = carry_mask(source, origins[0])
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([56.0, 40.0])
    carried, visible = carry_keypoints(points, origins[0], tolerance_px=0.7072)  # the middle of its own pixel
    assert 5 < int(visible.sum()) < 40
    before, after = points[visible].floor().long(), carried[visible].floor().long()
    exact = (source[:, before[:, 1], before[:, 0]] == variant[:, after[:, 1], after[:, 0]]).all(0)
    assert float(exact.float().mean()) > 0.8  # the rest lie within half a pixel of the one that was copied


def test_turn_codes_are_inverted(pyramid: Pyramid) -> None:
    origins = trace(pyramid, seed=8).origins
    assert origins is not None
    for code in range(8):
        turned = sample_field(origins[0], SIZE, SIZE if code < 4 else SIZE[::-1], code, 0)
        back = sample_field(turned, SIZE if code < 4 else SIZE[::-1], SIZE, 0, code)
        assert torch.equal(back, origins[0])
        assert torch.equal(turn(turn(origins, code), inverse_turn(code)), origins)


# Large images


def _two_pieces(slope: float, shift: int) -> torch.Tensor:
    """Origins [2, 40, 60]: right of a line that leans to the right, all is copied from further left."""
    rows, columns = _identity(40, 60)
    return torch.stack([rows, torch.where(columns > 15 + slope * rows, columns - shift, columns)])


def test_edges_of_pieces_run_aslant_in_a_larger_sample() -> None:
    """Not in steps as large as a pixel of the draw; and pieces are cut, not bent into each other."""
    field = sample_field(_two_pieces(0.5, 8), (40, 60), (400, 600))
    moved = torch.arange(600) - field[1]
    assert set(moved.unique().tolist()) == {0, 80}
    edge = (moved == 0).int().argmin(1)[40:360]
    steps = edge.diff()
    assert int(steps.abs().max()) < 10 < int(edge[-1] - edge[0])
    assert float((steps != 0).float().mean()) > 0.2  # of twenty rows that one step of the draw takes, several move


def test_small_displacements_bend_in_a_larger_sample() -> None:
    rows, columns = _identity(40, 60)
    origins = torch.stack([rows, (columns + columns // 9).clamp(max=59)])  # one pixel further every nine
    field = sample_field(origins, (40, 60), (400, 600))
    across = field[1, :, :500].diff(dim=1)
    assert int(across.min()) >= 0
    assert int(across.max()) <= 3  # in steps of the draw it would jump by 11
