"""Incoherence of patches, and pieces by origins, on images whose answers are known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from singan_aug.errors import ConfigError, ImageError
from singan_aug.fitting import fit
from singan_aug.images import load_image, to_signed, to_unit
from singan_aug.metrics import KnownPatches, Pieces, incoherence, pieces
from singan_aug.metrics import coherence as module
from singan_aug.metrics.patches import nearest_patches
from singan_aug.presets import fast
from singan_aug.pyramid import trace
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")


def _photo(height: int = 44, width: int = 52, seed: int = 0) -> Tensor:
    return to_unit(to_signed(make_photo(height, width, seed=seed)))


def _stripes(height: int = 40, width: int = 40, period: int = 4) -> Tensor:
    columns = (torch.arange(width) // (period // 2) % 2).float()
    return columns.expand(1, 3, height, width).clone()


# Incoherence


def test_an_image_has_nothing_that_it_has_not() -> None:
    assert incoherence(_photo(), _photo()).tolist() == [0]


def test_a_crop_of_the_source_has_nothing_new() -> None:
    assert float(incoherence(_photo(), _photo()[..., 5:30, 9:40])) == 0


def test_stripes_that_go_on_have_nothing_new_however_large() -> None:
    assert float(incoherence(_stripes(), _stripes(60, 80))) == 0


@pytest.mark.parametrize("height", [31, 40])
def test_a_cut_through_stripes_is_seen_by_every_patch_across_it(height: int) -> None:
    """Half a period is left out at column 20: of the 34 columns of patches of 7 px six lie across, by 1 to 6 px."""
    cut = torch.cat([_stripes(height)[..., :20], _stripes(height, 44)[..., 22:42]], -1)
    assert float(incoherence(_stripes(), cut)) == pytest.approx(6 / 34)


def test_another_image_is_new_almost_everywhere() -> None:
    assert float(incoherence(_stripes(), _stripes().transpose(-1, -2))) == 1


def test_the_limit_is_what_the_definition_says() -> None:
    """The 95 % quantile over the source's patches of the distance to the nearest one 12 px or more away."""
    source = _photo(34, 30)
    patches = torch.nn.functional.unfold(source.double(), 7)[0].T
    rows, columns = torch.meshgrid(torch.arange(28), torch.arange(24), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    near = ((rows[:, None] - rows).abs() < 12) & ((columns[:, None] - columns).abs() < 12)
    distances = torch.cdist(patches, patches).square().masked_fill(near, torch.inf)
    assert KnownPatches.of(source).limit == pytest.approx(float(distances.amin(1).quantile(0.95)), rel=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_every_patch_is_decided_as_an_exhaustive_search_decides_it(noise: float) -> None:
    source = _photo()
    draw = (source + noise * torch.randn(source.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    known = KnownPatches.of(source)
    sets = [torch.nn.functional.unfold(image - 0.5, 7)[0].T for image in (draw, source)]
    picked = module._picked(len(sets[0]), known.sampled, 0)
    nearest, _ = nearest_patches(sets[0][picked], sets[1])
    assert float(incoherence(known, draw)) == pytest.approx(float((nearest > known.limit).double().mean()), abs=1e-3)


def test_patches_are_sampled_where_there_are_many() -> None:
    draw = torch.cat([_photo()[..., :26], 1 - _photo()[..., 26:]], -1)
    all_of_them = float(incoherence(_photo(), draw))
    few = KnownPatches.of(_photo(), sampled=400)
    sampled = [float(incoherence(few, draw, seed=seed)) for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert sampled[0] == pytest.approx(all_of_them, abs=0.1)  # four standard errors of a share of 400


def test_a_batch_scores_as_its_images() -> None:
    draws = torch.cat([_photo(), 1 - _photo(), _photo(seed=3)])
    one_by_one = [float(incoherence(_photo(), draw[None])) for draw in draws]
    assert incoherence(KnownPatches.of(_photo()), draws).tolist() == one_by_one


def test_what_has_no_incoherence() -> None:
    with pytest.raises(ImageError, match="one source, got 2"):
        incoherence(_photo().repeat(2, 1, 1, 1), _photo())
    with pytest.raises(ImageError, match="side of at least 31 px"):
        incoherence(_photo(30, 30), _photo())
    with pytest.raises(ImageError, match="draws of at least 7 px"):
        incoherence(_photo(), _photo(6, 30))
    with pytest.raises(ImageError, match="divide by 255"):
        incoherence(_photo(), (_photo() * 255).byte())
    with pytest.raises(ConfigError, match="patch_px of at least 1"):
        KnownPatches.of(_photo(), patch_px=0)


def test_incoherence_agrees_with_an_independent_scorer() -> None:
    """Figures of a program that shares no line with this one, which took the same 1,500 places."""
    folder = os.environ.get("SINGAN_AUG_DATA")
    if not folder or not (Path(folder) / "places50").exists():
        pytest.skip("SINGAN_AUG_DATA names no folder with places50")
    photos = Path(folder) / "places50"
    for name, expected in (("1", 0.019), ("11", 0.004), ("13", 0.024), ("15", 0.025)):
        real, fake = (
            to_unit(to_signed(load_image(str(photos / path)).pixels))
            for path in (f"real/{name}.jpg", f"singan/{name}.png")
        )
        assert float(incoherence(real, fake)) == pytest.approx(expected, abs=1e-3)


# Pieces


def _still(height: int, width: int) -> Tensor:
    return torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None]


def test_an_unmoved_picture_is_one_piece() -> None:
    assert pieces(_still(6, 8)) == (Pieces(largest_ratio=1.0, in_half=1, unmoved_ratio=1.0, count=1),)


def test_a_picture_moved_as_a_whole_is_one_piece() -> None:
    assert pieces(_still(6, 8) + 3) == (Pieces(largest_ratio=1.0, in_half=1, unmoved_ratio=0.0, count=1),)


def test_pieces_by_hand() -> None:
    """Ten columns: 4 unmoved, 3 shifted, 3 unmoved again, which hang together with nothing."""
    origins = _still(5, 10)
    origins[:, 1, :, 4:7] += 2
    assert pieces(origins) == (Pieces(largest_ratio=0.4, in_half=2, unmoved_ratio=0.7, count=3),)


def test_a_corner_does_not_hold_pieces_together() -> None:
    origins = _still(4, 4)
    origins[:, :, :2, :2] += 5
    origins[:, :, 2:, 2:] += 5
    assert pieces(origins) == (Pieces(largest_ratio=0.25, in_half=2, unmoved_ratio=0.5, count=4),)


def test_a_piece_that_winds_is_one() -> None:
    """A spiral joins parts that a pass over rows meets one by one."""
    spiral = ["#######", "#.....#", "#.###.#", "#.#...#", "#.#####", "#......"]
    origins = _still(6, 7)
    marked = torch.tensor([[sign == "#" for sign in line] for line in spiral])
    origins[:, 0, marked] += 1
    found = pieces(origins)[0]
    assert found.count == 2
    assert found.largest_ratio == pytest.approx(int(marked.sum()) / 42)


def test_pieces_agree_with_scipy() -> None:
    from scipy.ndimage import label

    rng = torch.Generator().manual_seed(0)
    shift = torch.randint(0, 3, (30, 40), generator=rng)
    areas = []
    for value in range(3):
        labels, _ = label((shift == value).numpy())
        areas += torch.bincount(torch.from_numpy(labels).long().flatten())[1:].tolist()
    origins = _still(30, 40)
    origins[:, 0] += shift
    found = pieces(origins)[0]
    assert found.count == len(areas)
    assert found.largest_ratio == max(areas) / 1200


def test_a_pyramid_that_copies_draws_in_pieces() -> None:
    pyramid = fit(make_photo(48, 60), fast())
    found = {start: pieces(trace(pyramid, 3, start, seed=1).origins) for start in (0, len(pyramid) - 1)}  # type: ignore[arg-type]
    for each in (*found[0], *found[len(pyramid) - 1]):
        assert 0 < each.largest_ratio <= 1
        assert 1 <= each.in_half <= each.count


@pytest.mark.parametrize("origins", [torch.zeros(2, 4, 4), torch.zeros(1, 3, 4, 4).long(), torch.zeros(1, 2, 4, 4)])
def test_what_is_no_field_of_origins(origins: Tensor) -> None:
    with pytest.raises(ImageError, match="expected origins as integers"):
        pieces(origins)
