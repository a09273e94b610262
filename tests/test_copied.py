"""Pyramids that copy patches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from singan_aug.config import Copied, FitConfig
from singan_aug.errors import ConfigError
from singan_aug.fitting import FitEvent, fit
from singan_aug.images import to_signed
from singan_aug.metrics import pieces
from singan_aug.presets import fast, smooth
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.pyramid.copied.coordinates import SEAM_LIMIT
from singan_aug.pyramid.copied.drift import drifted
from singan_aug.pyramid.copied.scale import SETTLED, CopiedScale, descriptor_basis
from singan_aug.pyramid.copied.shifts import random_shift
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.scale import draw_upwards
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import copied_of, copies, make_photo

SIZE = (52, 70)
PHOTO = make_photo(*SIZE)


def patches(**changes: Any) -> FitConfig:
    values = {
        "coarsest_px": 20,
        "scale_factor": 0.6,
        "shift_px": 3.0,
        "shift_step_px": 5,
        "seam_blend_px": 0.0,
    }
    return copies(**{**values, **changes})


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    return fit(PHOTO, patches())


@pytest.fixture(scope="module")
def settled() -> Pyramid:
    return fit(PHOTO, patches(seam_passes=12))


def _floors(pyramid: Pyramid) -> list[CopiedScale]:
    return [scale for scale in pyramid.scales if isinstance(scale, CopiedScale)]


def _origin(pyramid: Pyramid, start: int, seed: int = 0) -> torch.Tensor:
    """[2, H, W]: where a draw's pixels come from in the source."""
    scales = pyramid.scales[start:]
    canvas = draw_upwards(scales, [scale.size for scale in scales], [generator_for(seed, 0)])
    assert canvas.origin is not None
    return canvas.origin[0]


def _identity(size: tuple[int, int]) -> torch.Tensor:
    return torch.stack(torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij"))


def _levels(image: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in (image * 255).round().byte().flatten(1).T.tolist()]


def test_it_remembers_the_source_to_the_bit(pyramid: Pyramid) -> None:
    assert np.array_equal((reconstruct(pyramid)[0] * 255).round().byte().movedim(0, -1).numpy(), PHOTO)


@pytest.mark.parametrize("start", [0, 1, -1])
def test_every_pixel_of_a_draw_is_a_pixel_of_the_source(pyramid: Pyramid, start: int) -> None:
    known = {tuple(pixel) for pixel in PHOTO.reshape(-1, 3).tolist()}
    assert set(_levels(draw(pyramid, start_scale=start, seed=3)[0])) <= known


def test_a_draw_is_the_source_at_its_origin(pyramid: Pyramid) -> None:
    rows, columns = _origin(pyramid, 0)
    copied = torch.from_numpy(PHOTO.copy()).movedim(-1, 0)[:, rows, columns] / 255
    torch.testing.assert_close(draw(pyramid, seed=0)[0], copied, rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_draws_differ_from_the_source_and_from_each_other(pyramid: Pyramid, start: int) -> None:
    first, second = draw(pyramid, 2, start_scale=start)
    source = reconstruct(pyramid)[0]
    assert all(float((a - b).abs().mean()) > 0.01 for a, b in ((first, second), (first, source), (second, source)))


def test_without_a_shift_a_draw_at_the_finest_scale_is_the_source() -> None:
    still = fit(PHOTO, patches(shift_px=0.0))
    assert torch.equal(draw(still, start_scale=-1), reconstruct(still))


def test_a_larger_shift_makes_draws_more_varied() -> None:
    spreads = [float(draw(fit(PHOTO, patches(shift_px=px)), 8).std(0).mean()) for px in (1.5, 3.0, 6.0)]
    assert spreads[0] < spreads[1] < spreads[2]


def test_a_finer_start_moves_pixels_less_far(pyramid: Pyramid) -> None:
    moved = [
        np.mean([float((_origin(pyramid, start, seed) - _identity(SIZE)).abs().float().mean()) for seed in range(6)])
        for start in range(len(pyramid))
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > 1.5 * moved[-1]


def test_pixels_are_copied_in_coherent_pieces(pyramid: Pyramid) -> None:
    origin = _origin(pyramid, 0)
    together = (origin[1, :, 1:] - origin[1, :, :-1] == 1) & (origin[0, :, 1:] == origin[0, :, :-1])
    assert float(together.float().mean()) > 0.5


def test_smooth_bends_where_fast_cuts() -> None:
    def cut(config: FitConfig) -> float:
        """The share of pixels whose right neighbour comes from more than two pixels away from where it should."""
        pyramid = fit(PHOTO, config)
        steps = torch.stack([_origin(pyramid, len(pyramid) - 1, seed).diff(dim=2) for seed in range(4)])
        return float(((steps - torch.tensor([0, 1])[:, None, None]).abs().amax(1) > 2).float().mean())

    assert cut(smooth()) < cut(fast()) / 2


def test_the_same_seed_gives_the_same_pixels(pyramid: Pyramid) -> None:
    assert torch.equal(draw(pyramid, 2, seed=5), draw(pyramid, 2, seed=5))


def test_a_draw_does_not_depend_on_how_many_are_made(pyramid: Pyramid) -> None:
    assert torch.equal(draw(pyramid, 19, seed=5)[17], draw(pyramid, 18, seed=5)[17])


@pytest.mark.parametrize("start", [0, 1, 2])
def test_nor_does_one_whose_seams_are_settled(settled: Pyramid, start: int) -> None:
    several = draw(settled, 3, start_scale=start, seed=5)
    assert torch.equal(several[:1], draw(settled, 1, start_scale=start, seed=5))
    assert torch.equal(several, draw(settled, 4, start_scale=start, seed=5)[:3])


def test_a_fit_and_a_draw_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draw(fit(PHOTO, patches()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("size", [(52, 140), (90, 40), (7, 9), (1, 1)])
def test_any_size_from_any_start_scale(pyramid: Pyramid, start: int, size: tuple[int, int]) -> None:
    drawn = draw(pyramid, start_scale=start, size=size)
    assert drawn.shape == (1, 3, *size)
    assert set(_levels(drawn[0])) <= {tuple(pixel) for pixel in PHOTO.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("size", [(52, 140), (90, 40), (7, 9), (1, 1)])
def test_any_size_with_settled_seams(settled: Pyramid, size: tuple[int, int]) -> None:
    assert draw(settled, size=size).shape == (1, 3, *size)


def _visible(scale: CopiedScale, how: Copied, seed: int) -> float:
    """How unlike neighbouring pixels of a draw's start are to those that stand beside them in the source."""
    origin = replace(scale, how=how)._begin(scale.size, [generator_for(seed, 0)])
    shown = scale._copied(origin)
    total = 0.0
    for dim in (0, 1):
        onward = origin.clone()
        onward[:, dim] = (onward[:, dim] + 1).clamp(max=scale.size[dim] - 1)
        n = scale.size[dim] - 1
        beside = scale._copied(onward).narrow(2 + dim, 0, n)
        total += float((beside - shown.narrow(2 + dim, 1, n)).square().mean())
    return total


def test_settled_seams_show_less(pyramid: Pyramid) -> None:
    scale = _floors(pyramid)[0]
    fallen, settled = ([_visible(scale, copied_of(patches(seam_passes=n)), seed) for seed in range(8)] for n in (0, 12))
    assert np.mean(settled) < 0.8 * np.mean(fallen)


def test_settled_seams_keep_the_variety_of_draws(pyramid: Pyramid, settled: Pyramid) -> None:
    assert float(draw(settled, 8).std(0).mean()) > 0.7 * float(draw(pyramid, 8).std(0).mean())


def test_seams_of_large_canvases_are_left_where_they_fall(pyramid: Pyramid, settled: Pyramid) -> None:
    size = (100, SETTLED // 100 + 20)
    assert torch.equal(draw(settled, start_scale=-1, size=size), draw(pyramid, start_scale=-1, size=size))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels(channels: int) -> None:
    photo = make_photo(30, 40, channels)
    assert draw(fit(photo, patches()), 2).shape == (2, channels, 30, 40)


@pytest.mark.parametrize("size", [(12, 12), (12, 50), (21, 20)])
def test_small_images(size: tuple[int, int]) -> None:
    small = fit(make_photo(*size), patches())
    assert all(draw(small, start_scale=k).shape[-2:] == size for k in range(len(small)))


def test_attempts_and_seeds_do_not_disturb_what_is_stored(tmp_path: Path, pyramid: Pyramid) -> None:
    store, key = DirectoryStore(tmp_path), make_key(PHOTO, pyramid.config)
    manifest = store.save(key, pyramid)
    loaded = store.load(str(key))
    assert manifest.weights_dtype == "float16"
    assert manifest.weights_bytes < 2 * PHOTO.size + 40_000
    assert torch.equal(draw(loaded, 3, seed=1), draw(pyramid, 3, seed=1))


def test_blending_changes_little_and_not_the_pieces() -> None:
    exact, blended = fit(PHOTO, patches()), fit(PHOTO, patches(seam_blend_px=3.0))
    assert torch.equal(_origin(exact, 0, 4), _origin(blended, 0, 4))
    change = (draw(exact, seed=4) - draw(blended, seed=4)).abs()
    assert 0 < float(change.max()) <= 0.5 * SEAM_LIMIT / (2 * math.e) ** 0.5 + 1e-6  # the largest x exp(-(x / limit)^2)


def test_blending_leaves_the_inside_of_a_piece_alone() -> None:
    still = fit(PHOTO, patches(shift_px=0.0, seam_blend_px=3.0))
    torch.testing.assert_close(draw(still, start_scale=-1), reconstruct(still), rtol=0, atol=1e-6)  # sums reordered


def test_blending_makes_a_seam_in_a_gradient_fainter() -> None:
    ramp = np.repeat(np.linspace(60, 190, 64).round().astype(np.uint8)[None], 48, axis=0)
    scale = _floors(fit(np.dstack([ramp] * 3), patches(seam_blend_px=3.0)))[-1]
    origin = _identity(scale.size)
    origin[1, :, 32:] -= 6  # a step of some 12 levels in the middle
    exact = scale._copied(origin[None])
    blended = scale.image_at(origin[None])
    steps = [float((image[0, :, :, 32] - image[0, :, :, 31]).abs().mean()) for image in (exact, blended)]
    assert steps[1] < 0.6 * steps[0]
    torch.testing.assert_close(blended[..., :10], exact[..., :10], rtol=0, atol=2e-3)  # a quarter of a level


def test_patches_have_a_middle() -> None:
    with pytest.raises(ConfigError, match="patch_px: expected an odd number"):
        fit(PHOTO, patches(patch_px=4))


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_without_a_shift_a_draw_is_the_source_however_scales_are_resized(resample: str) -> None:
    still = fit(PHOTO, patches(shift_px=0.0, resample=resample))
    assert torch.equal(draw(still, start_scale=-1), reconstruct(still))


def test_a_fit_reports_each_scale_once() -> None:
    events: list[FitEvent] = []
    fitted = fit(PHOTO, patches(), on_event=events.append)
    assert [(event.scale, event.step, event.steps) for event in events] == [(k, 1, 1) for k in range(len(fitted))]
    assert events[-1].share == 1.0


def test_the_basis_is_orthonormal_and_exact_in_half_precision(pyramid: Pyramid) -> None:
    for scale in _floors(pyramid):
        flat = scale.basis.flatten(1)
        torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat)), rtol=0, atol=2e-3)  # 11 bits
        assert torch.equal(scale.basis.half().float(), scale.basis)


def test_the_basis_holds_more_of_the_patches_than_any_other() -> None:
    image = to_signed(PHOTO)
    patches_px = torch.nn.functional.unfold(image, 5)[0].T
    spread = patches_px - patches_px.mean(0)
    kept = spread @ descriptor_basis(image, 5, 8, generator_for(0)).flatten(1).T
    other = spread @ torch.linalg.qr(torch.randn(75, 8, generator=generator_for(1)))[0]
    assert float(kept.square().sum()) > 0.8 * float(spread.square().sum())
    assert float(kept.square().sum()) > 2 * float(other.square().sum())


def test_shifts_neither_crowd_nor_thin_out() -> None:
    config = copied_of(patches(shift_px=6.0, shift_step_px=0))
    shifts = torch.cat([random_shift((40, 60), generator_for(i), 0, config) for i in range(20)])
    (rows_down, rows_right), (columns_down, columns_right) = (
        torch.gradient(shifts[:, axis], dim=(1, 2)) for axis in (0, 1)
    )
    inner = (slice(None), slice(1, -1), slice(1, -1))
    shear = (rows_right.abs() + columns_down.abs())[inner].mean()
    assert float((rows_down + columns_right)[inner].abs().mean()) < 0.05 * float(shear)


def test_shifts_have_the_deviation_and_steps_of_the_config() -> None:
    config = copied_of(patches(shift_px=6.0, shift_step_px=4, shift_decay=0.5))
    shifts = torch.stack([random_shift((40, 60), generator_for(i), 0, config) for i in range(200)])
    assert set((shifts % 4).unique().tolist()) == {0.0}
    assert float(shifts.std()) == pytest.approx(6.0, rel=0.25)  # bicubic between cells smooths some of it away
    finer = torch.stack([random_shift((40, 60), generator_for(i), 1, config) for i in range(200)])
    assert float(finer.std()) == pytest.approx(3.0, rel=0.35)


def test_a_drift_breaks_up_large_pieces_at_the_finest_scale() -> None:
    still, drifting = fit(PHOTO, patches()), fit(PHOTO, patches(drift_px=1.0))
    assert torch.equal(_origin(still, -1), _origin(drifting, -1))  # nothing is taken over where a draw starts
    largest = [pieces(_origin(each, 0)[None])[0].largest_ratio for each in (still, drifting)]
    assert largest[1] < 0.8 * largest[0]


def test_a_drift_moves_by_whole_pixels_within_the_source() -> None:
    unmoved = torch.stack(torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij"))[None]
    moves = drifted(unmoved, (90, 120), 2.0, [generator_for(0)]) - unmoved
    assert 1.0 < float(moves.float().square().mean().sqrt()) < 3.0
    assert float((moves[..., 1:] == moves[..., :-1]).float().mean()) > 0.8  # smoothly
    assert torch.equal(drifted(unmoved, (90, 120), 2.0, [generator_for(0)]) - unmoved, moves)
    assert bool(((unmoved + moves >= 0) & (unmoved + moves < torch.tensor([90, 120])[:, None, None])).all())


def test_a_drift_leaves_small_pieces_where_they_are() -> None:
    rows, columns = torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij")
    checks = 5 * ((rows // 2 + columns // 2) % 2)  # squares of 2 px that were moved to and fro
    crumbs = torch.stack([rows, (columns + checks) % 120])[None]
    assert torch.equal(drifted(crumbs, (90, 120), 2.0, [generator_for(0)]), crumbs)
