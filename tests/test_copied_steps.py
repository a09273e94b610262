"""The compiled steps of a draw give what torch's give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from singan_aug.fitting import fit
from singan_aug.pyramid import draw, fields_numba
from singan_aug.pyramid.copied import steps_numba, steps_torch
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.resample import RESAMPLERS, blur, resize
from singan_aug.pyramid.sizes import Size
from tests.conftest import copies, make_photo

SIZES: list[tuple[Size, Size]] = [((20, 27), (31, 40)), ((9, 9), (9, 9)), ((6, 11), (7, 5)), ((1, 1), (4, 3))]


def _numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pieces(own: Size, size: Size, n: int = 2) -> Tensor:
    """Coordinates of a canvas made of pieces of a source."""
    blocks = torch.randint(-4, 5, (n, 2, -(-size[0] // 5), -(-size[1] // 4)), generator=_numbers()).float()
    shift = blocks.repeat_interleave(5, 2).repeat_interleave(4, 3)[..., : size[0], : size[1]]
    return steps_torch.placed(shift, own, mirrored=False)


@pytest.mark.parametrize(("own", "size"), SIZES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_canvases_are_placed_alike(own: Size, size: Size, mirrored: bool) -> None:
    shift = 3 * torch.randn(2, 2, *size, generator=_numbers())
    wanted, found = (steps.placed(shift, own, mirrored=mirrored) for steps in (steps_torch, steps_numba))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(("below", "own"), SIZES)
@pytest.mark.parametrize("size", [(31, 40), (17, 60)])
def test_coordinates_are_followed_alike(below: Size, own: Size, size: Size) -> None:
    origin = _pieces(below, (12, 15))
    wanted, found = (steps.followed(origin, below, own, size) for steps in (steps_torch, steps_numba))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("patch_px", [1, 5])
@pytest.mark.parametrize("size", [(31, 40), (2, 3)])
def test_the_same_places_are_improved_to_the_same(channels: int, patch_px: int, size: Size) -> None:
    own = (24, 33)
    origin = _pieces(own, size)
    seen = torch.randn(2, channels, *size, generator=_numbers(1))
    described = torch.randn(own[0] + 9, own[1] + 4, 16, generator=_numbers(2)).bfloat16()
    described[:2] = described[-7:] = described[:, :2] = described[:, -2:] = 1e3
    basis = torch.randn(16, channels, patch_px, patch_px, generator=_numbers(3))
    wanted, found = (
        steps.improved(seen, origin, described, steps.packed_basis(basis), 30.0) for steps in (steps_torch, steps_numba)
    )
    assert torch.equal(found, wanted)
    assert min(size) < 5 or not torch.equal(found, origin)


def test_pixels_that_fit_keep_their_places() -> None:
    origin = _pieces((24, 33), (31, 40))
    described = torch.zeros(33, 37, 16).bfloat16()
    basis = steps_numba.packed_basis(torch.ones(16, 1, 3, 3))
    assert torch.equal(steps_numba.improved(torch.zeros(2, 1, 31, 40), origin, described, basis, 0.0), origin)


@pytest.mark.parametrize("how", list(RESAMPLERS))
@pytest.mark.parametrize(("own", "size"), [*SIZES, ((40, 31), (20, 12))])
def test_images_are_resized_alike(own: Size, size: Size, how: str) -> None:
    image = torch.randn(2, 3, *own, generator=_numbers())
    torch.testing.assert_close(steps_numba.resized(image, size, how), resize(image, size, how), rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(31, 40), (3, 2)])
def test_pixels_are_copied_and_blended_alike(channels: int, size: Size) -> None:
    source = torch.rand(1, channels, 24, 33, generator=_numbers()) - 0.5
    origin = _pieces((24, 33), size)
    made: dict[str, list[Tensor]] = {"copied": [], "blended": [], "blending": [], "levels": []}
    for steps in (steps_torch, steps_numba):
        blendable = steps.blendable(source, 3.0)
        made["copied"].append(steps.copied(origin, steps.packed_pixels(source)))
        made["blended"].append(steps.blended(origin, blendable))
        made["blending"].append(steps.blending(origin, blendable))
        made["levels"].append(steps.blended_levels(origin, blendable))
    assert torch.equal(*made["copied"])
    torch.testing.assert_close(*made["blended"], rtol=0, atol=5e-6)
    for blended, copied, blending in zip(made["blended"], made["copied"], made["blending"], strict=True):
        assert blending.shape[1] == min(3, channels)
        torch.testing.assert_close(blending, (blended - copied)[:, :3], rtol=0, atol=1e-6)
    # Where a value lies half-way between two levels, rounding decides.
    assert int((made["levels"][0].int() - made["levels"][1].int()).abs().max()) <= 1
    assert float((made["levels"][0] != made["levels"][1]).float().mean()) < 0.01
    assert not torch.equal(made["copied"][0], made["blended"][0])


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("side", [1, 7, 90])
def test_what_is_smooth_is_blurred_by_a_sample_of_it(side: int, sigma_px: float) -> None:
    smooth = blur(torch.rand(1, 1, 1, side, generator=_numbers()), sigma_px)[0, 0, 0]
    places, matrix = steps_torch._blurring(side, sigma_px, torch.device("cpu"))
    torch.testing.assert_close(matrix.sum(1), torch.ones(side), rtol=0, atol=1e-6)
    wanted = blur(smooth[None, None, None], sigma_px)[0, 0, 0]
    torch.testing.assert_close(matrix @ smooth[places], wanted, rtol=0, atol=0.02)
    assert sigma_px < 2 or side < 8 or len(places) < side


@pytest.mark.parametrize("step_px", [0, 3])
def test_the_curl_of_a_stream_function(step_px: int) -> None:
    stream = torch.randn(8, 10, generator=_numbers()).double()
    across, down = stream.diff(dim=1), stream.diff(dim=0)
    wanted = 2.5 * torch.stack([across[1:] + across[:-1], -(down[:, 1:] + down[:, :-1])]) / 2
    if step_px:
        wanted = (wanted / step_px).round() * step_px
    torch.testing.assert_close(fields_numba.curl(stream.float(), 2.5, step_px)[0], wanted.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"seam_blend_px": 0.0}, {"shift_step_px": 0}])
def test_whole_draws_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    config = copies(coarsest_px=20, scale_factor=0.6, patch_px=5, **changes)
    photo = make_photo(52, 70)
    compiled = draw(fit(photo, config), 2, seed=5)
    monkeypatch.setattr(CopiedScale, "_steps", steps_torch)
    by_torch = draw(fit(photo, config), 2, seed=5)
    # Where two places are equally good, rounding decides.
    assert float(((compiled - by_torch).abs().amax(1) > 0.02).float().mean()) < 0.03


@pytest.mark.parametrize("sigma_px", [0.7, 3.0])
@pytest.mark.parametrize("size", [(31, 40), (3, 2)])
def test_low_frequencies_are_alike(sigma_px: float, size: Size) -> None:
    image = torch.randn(1, 3, *size, generator=_numbers())
    wanted, found = (steps.low_frequencies(image, sigma_px) for steps in (steps_torch, steps_numba))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(150, 190), (70, 300)])
def test_far_from_seams_blending_leaves_pixels_and_near_them_it_is_complete(size: Size) -> None:
    """The image is larger than the blocks that are left out."""
    source = torch.rand(1, 3, *size, generator=_numbers()) / 4
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    moved = (rows > size[0] // 2) & (columns > size[1] // 3)
    origin = torch.stack([rows, torch.where(moved, columns - 5, columns)])[None]
    wanted, found = (steps.blended(origin, steps.blendable(source, 3.0)) for steps in (steps_torch, steps_numba))
    # Torch leaves out nothing, nor what is left of the samples' error.
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)
    copied = source[0][:, origin[0, 0], origin[0, 1]]
    same = (found[0] == copied).all(0)
    near = F.max_pool2d(steps_torch.seams(origin).float(), 97, 1, 48)[0] > 0
    near[:, -48:] = True  # the canvas ends there, and the source goes on
    assert same[~near].all()  # to the bit
    assert (~near).any()
    assert not same.all()


@pytest.mark.parametrize(
    ("coarse", "size"), [((9, 12), (40, 52)), ((9, 12), (9, 12)), ((5, 3), (4, 11)), ((1, 1), (6, 2))]
)
def test_places_drift_alike(coarse: Size, size: Size) -> None:
    origin = _pieces((24, 33), size)
    moves = 3 * torch.randn(2, 2, *coarse, generator=_numbers())
    wanted, found = (steps.moved(origin, moves, (24, 33)) for steps in (steps_torch, steps_numba))
    # Where a move lies half-way between two pixels, rounding decides.
    assert float((found != wanted).float().mean()) < 0.01
    assert not torch.equal(found, origin)
