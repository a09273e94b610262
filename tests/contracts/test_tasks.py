"""Every task keeps the same promises, on pyramids whose scales copy, generate, and do both."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

import singan_aug
from singan_aug import cli, tasks
from singan_aug.config import FitConfig
from singan_aug.errors import ConfigError, ImageError, StartScaleError
from singan_aug.fitting import fit
from singan_aug.images import pixels_to_unit
from singan_aug.presets import fast
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.pyramid.copied import region
from singan_aug.pyramid.generated import networks
from singan_aug.pyramid.resample import resize
from singan_aug.tasks import sampling
from tests.conftest import PHOTO_SIZE, copies, make_photo, mixed, quick_paper

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTO = make_photo(*PHOTO_SIZE)
OTHER = make_photo(30, 44, seed=5)
PRESETS: dict[str, Callable[[], FitConfig]] = {
    "copied": lambda: copies(coarsest_px=12, scale_factor=0.6),
    "mixed": mixed,
    "generated": quick_paper,
}
MASK = np.zeros(PHOTO_SIZE, np.uint8)
MASK[12:22, 18:32] = 255
MASK.setflags(write=False)
PASTED = np.where(MASK[..., None] > 0, PHOTO[::-1, ::-1], PHOTO)
PASTED.setflags(write=False)


@cache
def _pyramid(name: str, channels: int = 3) -> Pyramid:
    return fit(make_photo(*PHOTO_SIZE, channels=channels), PRESETS[name]())


# Of each task that an image enters: how it is called, and whether all of its picture may change.
ENTERED: dict[str, Callable[..., Tensor]] = {
    "harmonize": lambda pyramid, **options: tasks.harmonize(pyramid, PASTED, MASK, **options),
    "edit": lambda pyramid, **options: tasks.edit(pyramid, PASTED, MASK, **options),
    "inpaint": lambda pyramid, **options: tasks.inpaint(pyramid, PHOTO, MASK, **options),
    "paint": lambda pyramid, **options: tasks.paint(pyramid, OTHER, **options),
    "style": lambda pyramid, **options: tasks.style(pyramid, OTHER, **options),
}
WITH_MASK = ("harmonize", "edit", "inpaint")
# Of each task that needs no other image.
DRAWN: dict[str, Callable[..., Tensor]] = {
    "sample": lambda pyramid, **options: tasks.sample(pyramid, 1, (36, 70), **options),
    "super_resolution": lambda pyramid, **options: tasks.super_resolution(pyramid, 1.5, **options),
    "animate": lambda pyramid, **options: tasks.animate(pyramid, frames=12, **options),
    "interpolate": lambda pyramid, seed=0, **options: tasks.interpolate(pyramid, seed, seed + 1, frames=5, **options),
}
every_drawn = pytest.mark.parametrize("task", DRAWN)
every_task = pytest.mark.parametrize("task", ENTERED)
every_preset = pytest.mark.parametrize("preset", PRESETS)


def test_every_task_is_here() -> None:
    assert set(tasks.__all__) == {*ENTERED, *DRAWN, "save_clip"}


@pytest.mark.parametrize("name", tasks.__all__)
def test_each_public_name_says_what_it_does(name: str) -> None:
    explained = inspect.getdoc(getattr(tasks, name)) or ""
    assert "Raises" in explained
    assert "[0, 1]" in explained


@every_preset
@every_task
def test_a_picture_is_what_the_same_arguments_give(task: str, preset: str) -> None:
    pyramid, state = _pyramid(preset), torch.get_rng_state()
    first, again = (ENTERED[task](pyramid, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())
    size = pyramid.size if task in WITH_MASK else OTHER.shape[:2]
    assert first.shape == (1, 3, *size)
    assert first.dtype == torch.float32
    assert 0 <= first.min() < first.max() <= 1
    assert not first.is_inference()


@every_task
def test_noise_comes_of_the_seed(task: str) -> None:
    one, other = (ENTERED[task](_pyramid("generated"), seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_another_seed_fills_another_way() -> None:
    photo, mask = make_photo(64, 80), np.zeros((64, 80), np.uint8)
    mask[20:40, 30:50] = 1
    one, other = (tasks.inpaint(fit(photo, fast()), photo, mask, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)


@every_task
def test_inputs_and_pyramid_stay_as_they_are(task: str) -> None:
    pyramid = _pyramid("copied")  # arrays that are passed in cannot be written to
    before = {name: tensor.clone() for name, tensor in pyramid.tensors().items()}
    ENTERED[task](pyramid)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pyramid.tensors().items())


@every_preset
@pytest.mark.parametrize("task", WITH_MASK)
def test_only_the_mask_and_its_edge_change(task: str, preset: str) -> None:
    made = ENTERED[task](_pyramid(preset))[0].mul(255).round().byte()
    given = torch.from_numpy((PHOTO if task == "inpaint" else PASTED).copy()).movedim(-1, 0)
    reach = {"harmonize": 7, "edit": 10, "inpaint": 2}[task]
    rows, columns = np.nonzero(MASK)
    down, right = np.indices(PHOTO_SIZE)
    far = np.min(np.hypot(down[..., None] - rows, right[..., None] - columns), -1) > reach
    assert far.any()
    assert torch.equal(made[:, far], given[:, far])
    assert not torch.equal(made[:, MASK > 0], given[:, MASK > 0])


@every_task
def test_a_list_gives_what_each_gives_alone(task: str) -> None:
    pyramid, one = _pyramid("copied"), OTHER if task not in WITH_MASK else PASTED
    other = np.ascontiguousarray(one[:, ::-1])
    masks = [[MASK, MASK]] if task in WITH_MASK else []
    function = getattr(tasks, task)
    together = function(pyramid, [one, other], *masks)
    alone = [function(pyramid, each, *(mask[:1] for mask in masks)) for each in (one, other)]
    assert torch.equal(together, torch.cat(alone))


@every_task
def test_grey_pyramids_take_colour_and_the_other_way_round(task: str) -> None:
    assert ENTERED[task](_pyramid("copied", 1)).shape[1] == 1
    grey = PHOTO[..., :1]
    masks = [MASK] if task in WITH_MASK else []
    assert getattr(tasks, task)(_pyramid("copied"), grey, *masks).shape[1] == 3


@every_task
def test_pil_array_and_tensor_are_one_image(task: str) -> None:
    pyramid, image = _pyramid("copied"), OTHER if task not in WITH_MASK else PASTED
    kinds = [image, Image.fromarray(image), torch.from_numpy(image.copy()).movedim(-1, 0)]
    masks: list[Any] = [MASK, Image.fromarray(MASK), torch.from_numpy(MASK.copy()) > 0]
    own = [[mask] if task in WITH_MASK else [] for mask in masks]
    first, *others = [getattr(tasks, task)(pyramid, kind, *mask) for kind, mask in zip(kinds, own, strict=True)]
    assert all(torch.equal(first, each) for each in others)


# Drawn


@every_preset
@every_drawn
def test_what_is_drawn_is_what_the_same_arguments_give(task: str, preset: str) -> None:
    pyramid, state = _pyramid(preset), torch.get_rng_state()
    first, again, other = (DRAWN[task](pyramid, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())
    if task != "super_resolution" or preset == "generated":  # scales that copy enlarge without noise
        assert not torch.equal(first, other)
    assert first.shape[1:] == (3, *{"sample": (36, 70), "super_resolution": (54, 72)}.get(task, PHOTO_SIZE))
    assert first.dtype == torch.float32
    assert 0 <= first.min() < first.max() <= 1
    assert not first.is_inference()


@every_drawn
def test_drawing_leaves_the_pyramid_as_it_is(task: str) -> None:
    pyramid = _pyramid("copied")
    before = {name: tensor.clone() for name, tensor in pyramid.tensors().items()}
    DRAWN[task](pyramid)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pyramid.tensors().items())


@pytest.mark.parametrize("task", ["sample", "animate", "interpolate"])
def test_drawn_tasks_refuse_a_start_scale_that_there_is_not(task: str) -> None:
    with pytest.raises(StartScaleError, match="expected a start scale"):
        DRAWN[task](_pyramid("copied"), start_scale=9)


@every_preset
@pytest.mark.parametrize("size", [(36, 96), (72, 48), (18, 24), (20, 90)])
@pytest.mark.parametrize("start_scale", ["coarse", "medium", "fine"])
def test_samples_have_any_size_from_any_start_scale(preset: str, size: tuple[int, int], start_scale: str) -> None:
    made = tasks.sample(_pyramid(preset), 2, size, start_scale=start_scale, seed=1)
    assert made.shape == (2, 3, *size)
    assert not torch.equal(made[0], made[1])
    assert torch.equal(made[:1], tasks.sample(_pyramid(preset), 1, size, start_scale=start_scale, seed=1))


@every_preset
def test_a_sample_of_the_own_size_is_a_draw(preset: str) -> None:
    pyramid = _pyramid(preset)
    assert torch.equal(tasks.sample(pyramid, 2, pyramid.size, seed=5), draw(pyramid, 2, seed=5))


def test_samples_do_not_depend_on_how_much_is_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [tasks.sample(_pyramid(preset), 1, (60, 130), start_scale=1) for preset in PRESETS]
    for module, name, few in ((region, "AT_ONCE_PX", 700), (networks, "STRIP_PX", 700), (region, "EXHAUSTIVE", 1)):
        monkeypatch.setattr(module, name, few)
        if name == "STRIP_PX":
            in_parts = [tasks.sample(_pyramid(preset), 1, (60, 130), start_scale=1) for preset in PRESETS]
            for one, other in zip(whole, in_parts, strict=True):
                assert torch.allclose(one, other, atol=1e-5)
    by_rows = tasks.sample(_pyramid("copied"), 1, (60, 130), start_scale=1)
    monkeypatch.setattr(region, "AT_ONCE_PX", 2**17)
    assert torch.allclose(by_rows, tasks.sample(_pyramid("copied"), 1, (60, 130), start_scale=1), atol=1e-5)


@every_preset
def test_an_animation_comes_back_without_a_jump(preset: str) -> None:
    frames = tasks.animate(_pyramid(preset), frames=30, seed=2)
    step = (frames.roll(-1, 0) - frames).abs().mean((1, 2, 3))
    assert step.min() > 0  # it moves
    assert step[-1] < 2.5 * step[:-1].median()
    assert (frames.roll(-15, 0) - frames).abs().mean() > 1.5 * step.median()


def test_a_pyramid_of_one_scale_moves_too() -> None:
    small = fit(make_photo(20, 24), fast())
    assert len(small) == 1
    assert tasks.animate(small, frames=3).shape == (3, 3, 20, 24)


SLOPING = (0.4 * PHOTO + np.linspace(0, 150, 48)[:, None]).astype(np.uint8)  # its sides do not go with each other
SLOPING[24:] //= 2


@cache
def _sloping(preset: str) -> Pyramid:
    return fit(SLOPING, PRESETS[preset]())


@every_preset
@pytest.mark.parametrize("start_scale", [0, 1])
def test_a_panorama_has_no_seam_where_copies_or_strips_meet(
    preset: str, start_scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((region, "AT_ONCE_PX"), (networks, "STRIP_PX")):
        monkeypatch.setattr(module, name, 10 * 600)  # strips of 10 rows
    made = tasks.sample(_sloping(preset), 1, (36, 600), start_scale=start_scale, seed=4)
    begins = [600 / 12.2 * 0.7 * k for k in range(1, 17)]  # 17 copies of 48 px: where one fades into the next
    columns = [round(begin + part * 0.3 * 600 / 12.2) for begin in begins for part in (0, 1)]
    assert not _has_seams(made, 3, columns)
    photo = pixels_to_unit(SLOPING)
    cut = (photo[..., 0] - photo[..., -1]).abs().mean()  # where it would begin anew
    assert (made[..., 1:] - made[..., :-1]).abs().mean((0, 1, 2)).max() < cut / 3
    assert not _has_seams(made, 2, [10, 20, 30])


def test_the_sky_of_a_panorama_has_nothing_but_sky() -> None:
    photo = Image.open(Path(singan_aug.__file__).parent / "photos" / "landscape.jpg")
    made = tasks.sample(fit(photo, fast(finest_px=96)), 1, (64, 1400), seed=3)
    assert made[0, 2, :10].min() > 0.7  # the photo's has 0.82, rocks 0.4 and less


def test_copies_side_by_side_are_what_they_were_but_where_they_fade() -> None:
    image = torch.rand(1, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    wide = sampling.side_by_side(image, (20, 180))  # six copies, 4.5 wide: each 40 px, the next one begins 28 px on
    for k, (left, right) in enumerate([(0, 28), *[(12, 28)] * 4, (12, 40)]):
        assert torch.allclose(wide[..., 28 * k + left : 28 * k + right], image[..., left:right], atol=1e-4)
    low, high = torch.minimum(image[..., 28:], image[..., :12]), torch.maximum(image[..., 28:], image[..., :12])
    fade = wide[..., 28:40]
    assert ((fade > low - 1e-4) & (fade < high + 1e-4)).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((20, 60), (1, 1)),
        ((60, 40), (1, 1)),
        ((20, 80), (1, 2)),
        ((20, 180), (1, 6)),
        ((30, 180), (1, 4)),
        ((90, 40), (6, 1)),
    ],
)
def test_copies_are_about_as_large_as_the_source(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert sampling.copies(size, (20, 40)) == expected


def test_seams_are_found_where_there_are_some() -> None:
    photo = pixels_to_unit(SLOPING)[None]
    assert _has_seams(photo.repeat(1, 1, 1, 9), 3, [48 * k for k in range(1, 9)])
    assert _has_seams(torch.cat([photo[..., :10, :], photo[..., 26:, :]], 2), 2, [10])


def _has_seams(image: Tensor, axis: int, borders: list[int]) -> bool:
    """Whether pixels differ more from the next ones, down or across, where parts meet than they do elsewhere."""
    steps = (image.roll(-1, axis) - image).abs().mean((0, 1, 5 - axis))[:-1]
    here = torch.zeros(len(steps), dtype=torch.bool)
    here[[border - 1 for border in borders]] = True
    error = steps[~here].std() / len(borders) ** 0.5  # of the mean of so many
    return bool(steps[here].mean() > steps[~here].mean() + 2.5 * error)


def test_a_calmer_walk_stays_nearer_to_the_source() -> None:
    pyramid = _pyramid("generated")
    off = [
        (tasks.animate(pyramid, frames=12, alpha=alpha, beta=0.8) - reconstruct(pyramid)).abs().mean()
        for alpha in (0.05, 0.9)
    ]
    assert off[1] < 0.7 * off[0]


def test_interpolation_ends_at_draws_where_all_is_generated() -> None:
    pyramid = _pyramid("generated")
    made = tasks.interpolate(pyramid, 7, 9, frames=4, start_scale=1)
    for at, seed in ((0, 7), (-1, 9)):
        assert torch.allclose(made[at], draw(pyramid, 1, 1, seed=seed)[0], atol=1e-5)


@every_preset
@pytest.mark.parametrize("factor", [2.0, 3.3])
def test_what_is_enlarged_is_the_image_once_it_is_small_again(preset: str, factor: float) -> None:
    pyramid = _pyramid(preset)
    made = tasks.super_resolution(pyramid, factor)
    assert made.shape == (1, 3, round(36 * factor), round(48 * factor))
    source = pixels_to_unit(PHOTO)[None] if preset != "generated" else reconstruct(pyramid)
    assert (resize(made, pyramid.size) - source).abs().mean() < 0.01
    bicubic = resize(source, (made.shape[2], made.shape[3])).clamp(0, 1)
    assert _sharpness(made) > 1.05 * _sharpness(bicubic)


def _sharpness(image: Tensor) -> float:
    return float((image[..., 1:] - image[..., :-1]).abs().mean())


def test_detail_of_the_source_comes_back() -> None:
    large = make_photo(96, 128, seed=3)
    truth = pixels_to_unit(large)[None]
    small = resize(truth, (48, 64)).clamp(0, 1)
    pyramid = fit(small[0], fast())
    made, bicubic = tasks.super_resolution(pyramid, 2), resize(small, (96, 128))
    assert (made - truth).square().mean() < 0.9 * (bicubic - truth).square().mean()


def test_a_list_is_enlarged_one_by_one() -> None:
    pyramid, mirrored = _pyramid("copied"), np.ascontiguousarray(PHOTO[:, ::-1])
    together = tasks.super_resolution(pyramid, 2, [PHOTO, mirrored])
    assert torch.equal(together[:1], tasks.super_resolution(pyramid, 2))
    assert torch.equal(together[1:], tasks.super_resolution(pyramid, 2, mirrored))


@pytest.mark.parametrize(
    "call",
    [
        lambda pyramid: tasks.sample(pyramid, 0),
        lambda pyramid: tasks.sample(pyramid, 1, (8, 100)),
        lambda pyramid: tasks.sample(pyramid, 1, (16_000, 16_000)),
        lambda pyramid: tasks.super_resolution(pyramid, 1.0),
        lambda pyramid: tasks.super_resolution(pyramid, 17),
        lambda pyramid: tasks.animate(pyramid, frames=1),
        lambda pyramid: tasks.animate(pyramid, alpha=0),
        lambda pyramid: tasks.animate(pyramid, beta=1),
        lambda pyramid: tasks.interpolate(pyramid, 0, 1, frames=1),
        lambda pyramid: tasks.save_clip(torch.zeros(2, 3, 16, 16), "clip.avi"),
        lambda pyramid: tasks.save_clip(torch.zeros(2, 3, 16, 16), "clip.gif", fps=0),
    ],
)
def test_numbers_out_of_range_are_refused(call: Callable[[Pyramid], object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        call(_pyramid("copied"))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_clip_has_all_pictures_and_plays_for_ever(suffix: str, tmp_path: Path) -> None:
    frames = tasks.animate(_pyramid("copied"), frames=6)
    tasks.save_clip(frames, tmp_path / f"clip{suffix}", fps=10)
    with Image.open(tmp_path / f"clip{suffix}") as clip:
        assert (getattr(clip, "n_frames", 1), clip.size, clip.info["loop"]) == (6, (48, 36), 0)
        clip.seek(5)
        shown = np.asarray(clip.convert("RGB"), np.float32) / 255
    assert np.abs(shown - frames[5].movedim(0, -1).numpy()).mean() < 0.06


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_clip_plays_as_fast_as_it_should(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    tasks.save_clip(torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0)), path, fps=15)
    shown_ms = []
    with Image.open(path) as clip:
        for k in range(30):
            clip.seek(k)
            clip.load()
            shown_ms.append(clip.info["duration"])
    assert sum(shown_ms) == 2000  # GIF counts in hundredths of a second: 60 and 70 ms in turn


def test_an_mp4_has_all_pictures(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")
    tasks.save_clip(tasks.animate(_pyramid("copied"), frames=6), tmp_path / "clip.mp4", fps=10)
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "clip.mp4"))
    assert (count, seconds) == (6, pytest.approx(0.6, abs=0.05))


def test_without_the_extra_an_mp4_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"singan-aug\[video\]"):
        tasks.save_clip(torch.zeros(2, 3, 16, 16), tmp_path / "clip.mp4")


# Refused


@every_task
def test_a_start_scale_that_there_is_not_is_refused(task: str) -> None:
    with pytest.raises(StartScaleError, match="expected a start scale"):
        ENTERED[task](_pyramid("copied"), start_scale=9)


@every_task
def test_nothing_enters_where_noise_alone_does(task: str) -> None:
    with pytest.raises(StartScaleError, match="noise alone"):
        ENTERED[task](_pyramid("generated"), start_scale=0)


@every_task
def test_what_is_no_image_is_refused(task: str) -> None:
    masks = [MASK] if task in WITH_MASK else []
    with pytest.raises(ImageError, match="expected a PIL image"):
        getattr(tasks, task)(_pyramid("copied"), "photo.png", *masks)
    with pytest.raises(ImageError, match="empty list"):
        getattr(tasks, task)(_pyramid("copied"), [], *masks)


@pytest.mark.parametrize("task", WITH_MASK)
@pytest.mark.parametrize(
    ("image", "mask", "why"),
    [
        (PASTED, np.zeros_like(MASK), "empty"),
        (PASTED, MASK[:-1], "of its image's size, 48x36, got 48x35"),
        (PASTED[:-1], MASK[:-1], "48x36, got 48x35"),
        ([PASTED, PASTED], [MASK], "as many"),
    ],
)
def test_images_and_masks_that_do_not_belong_together_are_refused(task: str, image: Any, mask: Any, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        getattr(tasks, task)(_pyramid("copied"), image, mask)


@pytest.mark.parametrize("task", WITH_MASK)
def test_a_photo_is_no_mask(task: str) -> None:
    image = PHOTO if task == "inpaint" else PASTED
    with pytest.raises(ImageError, match="is it a photo"):
        getattr(tasks, task)(_pyramid("copied"), image, Image.fromarray(make_photo(*PHOTO_SIZE, seed=9)))


def test_where_a_mask_is_transparent_it_marks_nothing() -> None:
    white = np.full((*PHOTO_SIZE, 4), 255, np.uint8)
    white[..., 3] = MASK
    made = tasks.inpaint(_pyramid("copied"), PHOTO, Image.fromarray(white))
    assert torch.equal(made, ENTERED["inpaint"](_pyramid("copied")))


def test_there_is_nothing_to_fill_all_of_an_image_with() -> None:
    with pytest.raises(ImageError, match="leaves some"):
        tasks.inpaint(_pyramid("copied"), PHOTO, np.ones(PHOTO_SIZE, bool))


@pytest.mark.parametrize("task", ["harmonize", "edit"])
def test_without_a_difference_there_is_nothing_to_find(task: str) -> None:
    with pytest.raises(ImageError, match="without a difference"):
        getattr(tasks, task)(_pyramid("copied"), PHOTO)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("harmonize", {"own_colours": 1.5}),
        ("harmonize", {"edge_px": -1}),
        ("edit", {"edge_px": 99}),
        ("paint", {"colours": 1}),
    ],
)
def test_options_out_of_range_are_refused(task: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        ENTERED[task](_pyramid("copied"), **options)


def test_lists_of_several_sizes_are_refused() -> None:
    with pytest.raises(ImageError, match="one size"):
        tasks.style(_pyramid("copied"), [OTHER, PHOTO])


# What each does


def test_what_was_altered_is_found() -> None:
    found = tasks.edit(_pyramid("copied"), PASTED)
    given = tasks.edit(_pyramid("copied"), PASTED, MASK)
    assert (found - given).abs().mean() < 0.01


def test_what_is_filled_in_comes_from_outside_of_the_mask() -> None:
    marked = PHOTO.copy()
    marked[12:22, 18:32] = (255, 0, 255)
    made = tasks.inpaint(fit(marked, copies(coarsest_px=12)), marked, MASK)[0]
    filled = made[:, 12:22, 18:32]
    assert (filled[1] - torch.minimum(filled[0], filled[2])).min() > -0.4  # nothing of the magenta, where it is -1


def test_own_colours_are_kept_as_far_as_asked() -> None:
    red = PHOTO.copy()
    red[MASK > 0] = (250, 5, 5)
    kept = [
        tasks.harmonize(_pyramid("copied"), red, MASK, own_colours=share)[0, 0, 17, 25] for share in (0.0, 0.6, 1.0)
    ]
    assert kept == sorted(kept)
    assert kept[2] > kept[0] + 0.2


def test_a_painting_in_few_colours_is_painted_in_them() -> None:
    assert not torch.equal(tasks.paint(_pyramid("copied"), OTHER), tasks.paint(_pyramid("copied"), OTHER, colours=3))


def test_style_takes_the_colours_of_the_pyramid() -> None:
    dark = (OTHER // 4).astype(np.uint8)
    made = tasks.style(_pyramid("copied"), dark)
    assert abs(float(made.mean()) - PHOTO.mean() / 255) < 0.05


# The command line


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, pixels in {
        "photo": PHOTO,
        "pasted": PASTED,
        "mask": MASK,
        "other": OTHER,
        "turned": np.rot90(PHOTO),
    }.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


INPUTS = {
    "harmonize": ["--paste", "pasted.png", "--mask", "mask.png"],
    "edit": ["--edited", "pasted.png", "--mask", "mask.png"],
    "inpaint": ["--mask", "mask.png"],
    "paint": ["--painting", "other.png"],
    "style": ["--layout", "other.png"],
}


def _run(files: Path, *arguments: str) -> Result:
    """In the folder of the files; a bad run is one line and no traceback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(files)
        result = CliRunner().invoke(cli.app, [*arguments, "--store", "store"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code:
        assert len(result.stderr.splitlines()) == 1
    return result


@every_task
def test_a_command_fits_and_writes_what_the_function_gives(task: str, files: Path) -> None:
    assert _run(files, task, "photo.png", *INPUTS[task]).exit_code == 2  # there is no store
    result = _run(files, task, "photo.png", *INPUTS[task], "--fit", "--seed", "2")
    (path,) = result.stdout.split()
    expected = ENTERED[task](fit(PHOTO, fast()), seed=2)[0]
    made = pixels_to_unit(np.array(Image.open(files / path)))
    assert torch.allclose(made, expected, atol=0.003)
    (files / path).write_bytes(b"another file")
    assert _run(files, task, "photo.png", *INPUTS[task]).exit_code == 2
    assert _run(files, task, "photo.png", *INPUTS[task], "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["sample", "photo.png", "--size", "90x40", "-n", "2"], 2),
        (["super-resolution", "photo.png", "--factor", "2"], 1),
        (["animate", "photo.png", "--frames", "4", "--out", "a.gif"], 1),
        (["interpolate", "photo.png", "--frames", "4", "--out", "deep/i.webp"], 1),
    ],
)
def test_what_is_drawn_is_written(arguments: list[str], written: int, files: Path) -> None:
    before = {path for path in files.rglob("*.*") if path.suffix in (".png", ".gif", ".webp")}
    assert _run(files, *arguments, "--fit").exit_code == 0
    made = {path for path in files.rglob("*.*") if path.suffix in (".png", ".gif", ".webp")} - before
    assert len(made) == written
    size = {"sample": (90, 40), "super-resolution": (96, 72)}.get(arguments[0], (48, 36))
    for path in made:
        with Image.open(path) as picture:
            assert picture.size == size


def test_a_turned_copy_takes_inputs_that_lie_as_it_does(files: Path) -> None:
    Image.fromarray(np.rot90(MASK)).save(files / "turned_mask.png")
    assert _run(files, "inpaint", "photo.png", "--mask", "mask.png", "--fit").exit_code == 0
    assert _run(files, "inpaint", "turned.png", "--mask", "turned_mask.png").exit_code == 0
    upright, turned = (
        np.array(Image.open(files / f"pictures/{name}_inpainted.png")) for name in ("mask", "turned_mask")
    )
    assert np.array_equal(np.rot90(upright), turned)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["edit", "photo.png", "--edited", "missing.png", "--fit"], "missing.png"),
        (["edit", "missing.png", "--edited", "pasted.png", "--fit"], "no such file"),
        (["edit", "photo.png", "--edited", "pasted.png", "--max-size", "40"], "--fit"),
        (
            ["edit", "photo.png", "--edited", "pasted.png", "--mask", "mask.png", "--mask", "mask.png", "--fit"],
            "--mask",
        ),
        (["paint", "photo.png", "--painting", "other.png", "--fit", "--start-scale", "deep"], "start scale"),
        (["style", "photo.png", "--layout", "other.png", "--preset", "grand", "--fit"], "preset"),
        (["sample", "photo.png", "--size", "large", "--fit"], "WIDTHxHEIGHT"),
        (["animate", "photo.png", "--out", "a.avi", "--fit"], ".gif"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], why: str, files: Path) -> None:
    result = _run(files, *arguments)
    assert result.exit_code
    assert why in result.stderr


def _milder(ratio: float) -> Pyramid:
    return fit(PHOTO, mixed(milder_ratio=ratio))


def test_every_task_takes_a_milder_start() -> None:
    pyramid = _milder(0.3)
    for name, task in ENTERED.items():
        assert bool(torch.isfinite(task(pyramid, start_scale=1)).all()), name
    for name, task in DRAWN.items():
        if name != "super_resolution":  # which starts nowhere
            assert bool(torch.isfinite(task(pyramid, start_scale=1)).all()), name


def test_a_milder_start_of_full_strength_samples_what_the_coarsest_scale_does() -> None:
    pyramid = _milder(1.0)
    coarsest, milder = (tasks.sample(pyramid, 1, (36, 70), start_scale=start, seed=2) for start in (0, 1))
    assert torch.equal(milder, coarsest)


def test_a_milder_start_moves_an_animation_less() -> None:
    pyramid = _milder(0.3)
    still = reconstruct(pyramid)
    moved = [float((tasks.animate(pyramid, frames=6, start_scale=k) - still).abs().mean()) for k in (0, 1)]
    assert 0 < moved[1] < 0.7 * moved[0]
