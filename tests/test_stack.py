"""Pyramids whose coarser scales are generated and whose finer ones are copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singan_aug.errors import ConfigError
from singan_aug.fitting import FitEvent, fit
from singan_aug.metrics import pieces
from singan_aug.pyramid import Pyramid, draw, reconstruct, trace
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.scale import Canvas, draw_upwards
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import make_photo, mixed

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (40, 56)
PHOTO = make_photo(*SIZE)
CLASSES = np.add.outer(np.arange(40) // 14, np.arange(56) // 20).astype(np.uint8) * 50  # 0, 50, ..., 200
CONFIG = mixed(seam_blend_px=0.0)  # every pixel of a variant is one of the source's


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    return fit(PHOTO, CONFIG, mask=CLASSES)


@pytest.fixture(scope="module")
def copied() -> Pyramid:
    """The same without the generated scale."""
    return fit(PHOTO, CONFIG.replace(generated=None), mask=CLASSES)


def _same(one: Pyramid, other: Pyramid) -> bool:
    a, b = one.tensors(), other.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_generated_scales_lie_below_copied_ones(pyramid: Pyramid) -> None:
    assert isinstance(pyramid.scales[0], GeneratedScale)
    assert all(isinstance(scale, CopiedScale) for scale in pyramid.scales[1:])
    assert pyramid.scales[0].size == pyramid.scales[1].size


@pytest.mark.parametrize("start", [0, 1, -1])
@pytest.mark.parametrize("size", [None, (31, 77), (60, 20)])
def test_origins_and_masks_are_known_from_every_start(
    pyramid: Pyramid, start: int, size: tuple[int, int] | None
) -> None:
    traced = trace(pyramid, 2, start, size, seed=3)
    height, width = size or SIZE
    assert traced.images.shape == (2, 3, height, width)
    assert traced.origins is not None
    assert traced.masks is not None
    assert traced.origins.shape == (2, 2, height, width)
    rows, columns = traced.origins.unbind(1)
    expected = torch.from_numpy(PHOTO.copy())[rows, columns].movedim(-1, 1)
    assert torch.equal(traced.levels, expected)
    assert torch.equal(traced.masks, torch.from_numpy(CLASSES).int()[rows, columns])


def test_what_looks_like_the_source_is_found_where_it_is(pyramid: Pyramid) -> None:
    scale = pyramid.scales[1]
    assert isinstance(scale, CopiedScale)
    height, width = scale.size
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    found = scale.draw(Canvas(scale.source), scale.size, []).origin
    assert found is not None
    assert torch.equal(found[0], places)
    noise = 0.02 * torch.randn(scale.source.shape, generator=torch.Generator().manual_seed(0))
    near = scale.draw(Canvas(scale.source + noise), scale.size, []).origin
    assert near is not None
    assert float((near[0] == places).all(0).float().mean()) > 0.8


def test_a_draw_that_starts_at_the_generated_scale_is_no_shift(pyramid: Pyramid) -> None:
    """Its pieces are small."""
    scales = pyramid.scales[:2]
    origin = draw_upwards(scales, [scale.size for scale in scales], [torch.Generator().manual_seed(5)]).origin
    assert origin is not None
    assert pieces(origin)[0].largest_ratio < 0.25


@pytest.mark.parametrize("start", [0, 1])
def test_a_draw_from_a_copied_scale_is_that_of_a_pyramid_that_copies_all(
    pyramid: Pyramid, copied: Pyramid, start: int
) -> None:
    assert torch.equal(draw(pyramid, 2, start + 1, seed=4), draw(copied, 2, start, seed=4))


def test_the_reconstruction_is_the_source(pyramid: Pyramid) -> None:
    assert torch.equal((reconstruct(pyramid)[0] * 255).round().byte().movedim(0, -1), torch.from_numpy(PHOTO.copy()))


def test_draws_differ_and_depend_on_seed_and_place_alone(pyramid: Pyramid) -> None:
    three = draw(pyramid, 3, seed=1)
    assert not torch.equal(three[0], three[1])
    assert torch.equal(draw(pyramid, 1, seed=1)[0], three[0])
    assert torch.equal(draw(pyramid, 3, seed=1), three)


def test_displacement_of_a_generated_start_is_that_of_its_draws(pyramid: Pyramid) -> None:
    scale = pyramid.scales[1]
    generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
    origins = draw_upwards(pyramid.scales[:2], [scale.size] * 2, generators).origin
    assert origins is not None
    height, width = scale.size
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    grow = torch.tensor([SIZE[0] / height, SIZE[1] / width])[:, None, None]
    moved = ((origins - places).float() * grow).square().sum(1).sqrt().mean((1, 2))
    assert float(moved.min()) <= pyramid.displacement_px[0] <= float(moved.max())
    assert len(pyramid.displacement_px) == len(pyramid)


@pytest.mark.parametrize("scales", [1, 2, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_split_is_fitted(scales: int, channels: int) -> None:
    steps = {} if scales == 1 else {"steps_finer": 3}
    config = mixed(scales=scales, scale_factor=0.6, **steps)
    made = fit(make_photo(30, 24, channels), config)
    generated = [isinstance(scale, GeneratedScale) for scale in made.scales]
    assert sum(generated) == min(scales, len(generated) - 1)
    assert generated == sorted(generated, reverse=True)
    for start in range(len(made)):
        traced = trace(made, 1, start)
        assert traced.images.shape == (1, channels, 30, 24)
        assert traced.origins is not None


def test_an_image_of_one_scale_has_one_of_each(pyramid: Pyramid) -> None:
    made = fit(make_photo(14, 18), CONFIG)
    assert [type(scale) for scale in made.scales] == [GeneratedScale, CopiedScale]
    assert draw(made, 2, size=(20, 30)).shape == (2, 3, 20, 30)


def test_what_is_stored_draws_the_same_to_the_bit(pyramid: Pyramid, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    manifest = store.save(make_key(PHOTO, CONFIG, CLASSES), pyramid)
    assert manifest.weights_dtype == "float16"
    loaded = store.load(manifest.key)
    assert _same(loaded, pyramid)
    for start in range(len(pyramid)):
        assert torch.equal(draw(loaded, 2, start, seed=8), draw(pyramid, 2, start, seed=8))


def test_a_fit_depends_on_image_and_config_alone(pyramid: Pyramid) -> None:
    assert _same(fit(PHOTO, CONFIG, mask=CLASSES), pyramid)
    assert not _same(fit(PHOTO, CONFIG.replace(seed=1), mask=CLASSES), pyramid)


def test_a_mask_changes_no_pixel(pyramid: Pyramid) -> None:
    assert torch.equal(draw(fit(PHOTO, CONFIG), 2), draw(pyramid, 2))


def test_events_count_all_scales() -> None:
    events: list[FitEvent] = []
    made = fit(PHOTO, CONFIG, on_event=events.append)
    assert {event.scale for event in events} == set(range(len(made)))
    assert {event.scales for event in events} == {len(made)}
    shares = [event.share for event in events]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_the_generated_scale_learns() -> None:
    """Its reconstruction error falls."""
    config = CONFIG.replace(objective_weight=0.0)
    errors = [fit(PHOTO, config.replace(steps_coarsest=n)).provenance["reconstruction_rmse"][0] for n in (2, 100)]
    assert errors[1] < 0.8 * errors[0]


def test_a_milder_start_draws_nearer_to_the_source_and_lets_others_pass() -> None:
    milder = fit(PHOTO, CONFIG.replace(milder_ratio=0.25, anchor="blurred", anchor_blur_px=1.0, anchor_shift_px=1.0))
    without = fit(PHOTO, CONFIG.replace(anchor="blurred", anchor_blur_px=1.0, anchor_shift_px=1.0))
    assert len(milder) == len(without) + 1
    assert [scale.size for scale in milder.scales[:3]] == [milder.scales[0].size] * 3
    assert torch.equal(draw(milder, 2, 0, seed=5), draw(without, 2, 0, seed=5))
    assert torch.equal(draw(milder, 2, 2, seed=5), draw(without, 2, 1, seed=5))

    def generated(start: int) -> torch.Tensor:
        generators = [generator_for(5, i) for i in range(8)]
        return milder.scales[start].draw(None, milder.scales[start].size, generators).image

    spread = [float(generated(start).std(0).mean()) for start in (0, 1)]
    assert 0 < spread[1] < 0.5 * spread[0]


def test_a_milder_start_is_stored_without_tensors_of_its_own(tmp_path: Path) -> None:
    config = CONFIG.replace(milder_ratio=0.25, anchor="blurred", anchor_blur_px=1.0, anchor_shift_px=1.0)
    made, store, key = fit(PHOTO, config), DirectoryStore(tmp_path), make_key(PHOTO, config)
    store.save(key, made)
    loaded = store.load(str(key))
    assert not any(name.startswith("scales.1.") for name in made.tensors())
    for start in range(len(made)):
        assert torch.equal(draw(loaded, 1, start, seed=2), draw(made, 1, start, seed=2))


def test_a_milder_start_needs_one_generated_scale_with_an_anchor() -> None:
    with pytest.raises(ConfigError, match="milder_ratio does not apply"):
        CONFIG.replace(milder_ratio=0.5, anchor="none")
    with pytest.raises(ConfigError, match="milder_ratio does not apply"):
        CONFIG.replace(milder_ratio=0.5, anchor="blurred", scales=2)


def test_what_was_generated_is_searched_for_with_patches_of_its_own_side(tmp_path: Path) -> None:
    config = CONFIG.replace(patch_px=5, search_patch_px=9)
    made, store, key = fit(PHOTO, config), DirectoryStore(tmp_path), make_key(PHOTO, config)
    assert [scale.stored()["basis"].shape[-1] for scale in made.scales[1:3]] == [9, 5]
    store.save(key, made)
    assert torch.equal(draw(store.load(str(key)), 1), draw(made, 1))
