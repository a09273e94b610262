from __future__ import annotations

import os
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from singan_aug.errors import ImageError
from singan_aug.images import (
    LoadedImage,
    Pixels,
    files,
    is_grey,
    like,
    load_image,
    pixels_to_pil,
    refuse_constant,
    resize_pixels,
    to_pixels,
    to_signed,
    to_unit,
    turn,
    turn_between,
    turn_pixels,
    unit_to_pil,
)
from tests.conftest import make_photo

RGB = make_photo(20, 28)
GREY = RGB[..., :1]
RGBA = make_photo(20, 28, channels=4)


def _pil(mode: str) -> Image.Image:
    rgb = Image.fromarray(RGB)
    wide = GREY[..., 0].astype(np.int64) * 257
    if mode == "I;16":
        return Image.fromarray(wide.astype(np.uint16))
    if mode == "I":
        return Image.fromarray(wide.astype(np.int32))
    if mode == "F":
        return Image.fromarray(GREY[..., 0].astype(np.float32) / 255)
    if mode == "RGBA":
        return Image.fromarray(RGBA)
    if mode == "LA":
        image = Image.fromarray(GREY[..., 0])
        image.putalpha(Image.fromarray(RGBA[..., 3]))
        return image
    if mode == "P transparent":
        image = rgb.convert("P")
        image.info["transparency"] = bytes(range(256))
        return image
    return rgb.convert(mode)


CHANNELS = {
    "1": 1,
    "L": 1,
    "LA": 1,
    "P": 3,
    "P transparent": 3,
    "RGB": 3,
    "RGBA": 4,
    "CMYK": 3,
    "HSV": 3,
    "I;16": 1,
    "I": 1,
    "F": 1,
    "YCbCr": 3,
}
MODES = sorted(CHANNELS)


@pytest.mark.parametrize("mode", MODES)
def test_pixels_of_a_pil_mode_have_its_size_and_channels(mode: str) -> None:
    pixels = to_pixels(_pil(mode))
    assert pixels.shape == (20, 28, CHANNELS[mode])
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pixels_of_colour_are_exact(mode: str) -> None:
    assert np.array_equal(to_pixels(_pil(mode)), RGB if mode == "RGB" else RGBA)


@pytest.mark.parametrize("mode", ["LA", "I;16", "I", "F"])
def test_pixels_of_grey_in_another_depth_are_exact(mode: str) -> None:
    assert np.array_equal(to_pixels(_pil(mode)), GREY)


def test_pixels_of_mode_1_are_black_and_white() -> None:
    assert set(np.unique(to_pixels(_pil("1")))) == {0, 255}


@pytest.mark.parametrize(("mode", "tolerance"), [("CMYK", 1), ("YCbCr", 4), ("HSV", 8)])
def test_pixels_of_another_colour_space_are_close_to_rgb(mode: str, tolerance: int) -> None:
    # Eight bits a channel in the other space round away as much.
    assert np.abs(to_pixels(_pil(mode)).astype(int) - RGB).max() <= tolerance


@pytest.mark.parametrize("mode", ["P", "P transparent"])
def test_pixels_of_a_palette_are_its_colours(mode: str) -> None:
    assert np.array_equal(to_pixels(_pil(mode)), np.asarray(Image.fromarray(RGB).convert("P").convert("RGB")))


def test_sixteen_bits_reach_both_ends() -> None:
    assert to_pixels(Image.fromarray(np.array([[0, 65535]], np.uint16))).ravel().tolist() == [0, 255]


def test_pixels_do_not_alias_a_pil_image() -> None:
    image = _pil("RGB")
    to_pixels(image)[:] = 0
    assert np.array_equal(np.asarray(image), RGB)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_array_is_taken_as_it_is(channels: int) -> None:
    pixels = RGBA[..., :channels]
    assert np.array_equal(to_pixels(pixels), pixels)


def test_a_flat_array_is_grey() -> None:
    assert np.array_equal(to_pixels(GREY[..., 0]), GREY)


def test_a_flipped_array_becomes_contiguous() -> None:
    assert to_pixels(RGB[:, ::-1]).flags["C_CONTIGUOUS"]


def _chw(pixels: Pixels) -> torch.Tensor:
    return torch.tensor(pixels.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tensor_gives_the_pixels_it_was_made_of(dtype: torch.dtype, channels: int) -> None:
    pixels = RGBA[..., :channels]
    tensor = _chw(pixels) if dtype == torch.uint8 else (_chw(pixels).double() / 255).to(dtype)
    assert np.array_equal(to_pixels(tensor), pixels)


def test_a_flat_tensor_is_grey() -> None:
    assert np.array_equal(to_pixels(_chw(GREY)[0]), GREY)


def test_a_tensor_with_gradients_is_taken() -> None:
    assert to_pixels(torch.full((3, 4, 4), 0.5, requires_grad=True)).shape == (4, 4, 3)


@given(st.integers(0, 255))
@settings(deadline=None)
def test_every_byte_survives_the_way_through_signed_and_unit(value: int) -> None:
    pixels = np.full((2, 3, 1), value, np.uint8)
    assert np.array_equal(to_pixels(to_unit(to_signed(pixels))[0]), pixels)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("cat.jpg", "got str"),
        (None, "got NoneType"),
        ([[1, 2]], "got list"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (np.zeros((4, 4), bool), "got bool"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros((3, 4, 5), np.uint8), r"\[3, 4, 5\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        (np.zeros(4, np.uint8), r"\[4\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\[1, 4, 4, 3\]"),
        (torch.zeros(5, 4, 3), r"\[5, 4, 3\]"),
        (torch.zeros(1, 3, 4, 4), r"\[1, 3, 4, 4\]"),
        (torch.zeros(4), r"\[4\]"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), "got torch.int32"),
        (torch.full((3, 4, 4), 1.5), "1.5"),
        (torch.full((3, 4, 4), -0.25), "-0.25"),
        (torch.full((3, 4, 4), float("nan")), "nan"),
        (Image.fromarray(np.full((4, 4), 2.0, np.float32)), "got 2..2"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "nan"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), "70000"),
        (Image.fromarray(np.full((4, 4), -1, np.int32)), "-1"),
    ],
)
def test_what_is_not_an_image_is_refused_with_what_was_found(image: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        to_pixels(image)


def test_an_empty_float_tensor_is_refused() -> None:
    with pytest.raises(ImageError):
        to_pixels(torch.zeros(3, 0, 4))


@pytest.mark.parametrize("mode", ["RGB", "F"])
def test_an_empty_pil_image_is_refused(mode: str) -> None:
    with pytest.raises(ImageError):
        to_pixels(Image.new(mode, (0, 0)))


def test_pixels_of_premultiplied_grey_are_grey() -> None:
    assert to_pixels(_pil("LA").convert("La")).shape == (20, 28, 1)


def test_signed_is_in_minus_one_to_one() -> None:
    signed = to_signed(np.array([[[0], [255]]], np.uint8))
    assert signed.tolist() == [[[[-1.0, 1.0]]]]


def test_signed_moves_channels_first() -> None:
    assert to_signed(RGB).shape == (1, 3, 20, 28)


def test_unit_is_clamped() -> None:
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_grey_is_recognised_in_colour() -> None:
    assert is_grey(np.repeat(GREY, 3, axis=-1))
    assert not is_grey(RGB)
    for row, column, channel in np.ndindex(GREY.shape[0], GREY.shape[1], 3):
        almost = np.repeat(GREY, 3, axis=-1)
        almost[row, column, channel] ^= 1
        assert not is_grey(almost)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    assert np.array_equal(resize_pixels(RGB, (20, 28)), RGB)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_keeps_channels(channels: int) -> None:
    assert resize_pixels(RGBA[..., :channels], (9, 17)).shape == (9, 17, channels)


def test_resizing_keeps_a_constant() -> None:
    assert np.unique(resize_pixels(np.full((20, 28, 3), 77, np.uint8), (9, 17))).tolist() == [77]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGB")])
def test_unit_becomes_grey_or_rgb(channels: int, mode: str) -> None:
    image = unit_to_pil(torch.rand(channels, 5, 7, generator=torch.Generator().manual_seed(0)))
    assert (image.mode, image.size) == (mode, (7, 5))


@pytest.mark.parametrize("pixels", [RGB, GREY])
def test_pixels_become_a_pil_image_and_come_back(pixels: Pixels) -> None:
    assert np.array_equal(to_pixels(pixels_to_pil(pixels)), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_constant_is_refused(channels: int) -> None:
    with pytest.raises(ImageError, match="same value"):
        refuse_constant(np.full((5, 6, channels), 40, np.uint8))


def test_a_constant_colour_is_refused() -> None:
    with pytest.raises(ImageError, match="same value"):
        refuse_constant(np.broadcast_to(np.array([1, 2, 3], np.uint8), (5, 6, 3)))


def test_a_constant_under_a_mask_is_refused() -> None:
    pixels = np.full((20, 28, 4), 40, np.uint8)
    pixels[..., 3] = RGBA[..., 3]
    with pytest.raises(ImageError, match="same value"):
        refuse_constant(pixels)


TURNS = range(8)


def _is(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@pytest.mark.parametrize("code", TURNS)
def test_pixels_and_tensors_turn_alike(code: int) -> None:
    assert np.array_equal(turn_pixels(RGB, code).transpose(2, 0, 1), turn(_chw(RGB), code).numpy())


def test_the_turns_are_the_eight_orientations() -> None:
    square = RGB[:20, :20]
    turned = {turn_pixels(square, code).tobytes() for code in TURNS}
    rotations = [np.rot90(half, k) for half in (square, square[:, ::-1]) for k in range(4)]
    assert turned == {rotation.tobytes() for rotation in rotations}


def test_no_turn_changes_nothing() -> None:
    assert np.array_equal(turn_pixels(RGB, 0), RGB)


@pytest.mark.parametrize("own", TURNS)
@pytest.mark.parametrize("wanted", TURNS)
def test_a_copy_is_brought_into_the_orientation_of_another(own: int, wanted: int) -> None:
    common = _chw(RGB)
    orientations = [turn(common, code) for code in TURNS]
    copies = {code: image for code in TURNS for image in orientations if _is(turn(image, code), common)}
    assert _is(turn_between(copies[own], own, wanted), copies[wanted])


LIKE_MODES = sorted({*MODES, "RGBX"} - {"P transparent"})


@pytest.mark.parametrize("mode", LIKE_MODES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_like_keeps_the_mode_and_size_of_a_pil_image(mode: str, channels: int) -> None:
    template = _pil(mode)
    image = like(_chw(RGBA)[:channels] / 255, template)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == (template.mode, template.size)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I", "F"])
def test_like_gives_an_image_back_unchanged(mode: str) -> None:
    template = _pil(mode)
    same = like(torch.from_numpy(to_pixels(template).transpose(2, 0, 1).copy()) / 255, template)
    assert np.array_equal(np.asarray(same), np.asarray(template))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_like_keeps_the_alpha_of_a_pil_image(mode: str) -> None:
    image = like(torch.zeros(3, 20, 28), _pil(mode))
    assert np.array_equal(np.asarray(image.getchannel("A")), RGBA[..., 3])


def test_like_leaves_its_template() -> None:
    template = _pil("RGBA")
    like(torch.zeros(3, 20, 28), template)
    assert np.array_equal(np.asarray(template), RGBA)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("template_channels", [1, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_like_keeps_the_dtype_and_shape_of_a_tensor(dtype: torch.dtype, template_channels: int, channels: int) -> None:
    template = torch.zeros(template_channels, 20, 28, dtype=dtype)
    image = like(_chw(RGBA)[:channels] / 255, template)
    assert (image.dtype, image.shape) == (dtype, template.shape)


def test_like_keeps_the_fourth_channel_of_a_tensor() -> None:
    template = _chw(RGBA)
    assert torch.equal(like(torch.zeros(3, 20, 28), template)[3], template[3])


def test_like_draws_the_fourth_channel_where_there_is_one() -> None:
    unit = torch.full((4, 20, 28), 0.25)
    assert torch.equal(like(unit, torch.zeros(4, 20, 28)), unit)


def test_like_repeats_grey_into_colour() -> None:
    unit = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(like(unit, torch.zeros(3, 4, 5)), unit.expand(3, -1, -1))


def test_like_averages_colour_into_grey_as_pillow_does() -> None:
    ours = like(_chw(RGB) / 255, torch.zeros(1, 20, 28, dtype=torch.uint8))
    theirs = np.asarray(Image.fromarray(RGB).convert("L")).astype(int)
    assert np.abs(ours[0].numpy().astype(int) - theirs).max() <= 1


def _save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_a_png_is_read_exactly(tmp_path: Path) -> None:
    loaded = load_image(_save(tmp_path / "a.b.png", _pil("RGB")))
    assert np.array_equal(loaded.pixels, RGB)
    assert loaded.notes == ()


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    assert load_image(str(_save(tmp_path / "a.png", _pil("L")))).pixels.shape == (20, 28, 1)


def test_a_suffix_may_lie(tmp_path: Path) -> None:
    assert load_image(_save(tmp_path / "a.txt", _pil("RGB"), format="PNG")).pixels.shape == RGB.shape


def test_grey_saved_as_rgb_has_one_channel(tmp_path: Path) -> None:
    loaded = load_image(_save(tmp_path / "a.png", Image.fromarray(np.repeat(GREY, 3, axis=-1))))
    assert np.array_equal(loaded.pixels, GREY)


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    loaded = load_image(_save(tmp_path / "a.jpg", _pil("CMYK"), quality=100))
    assert loaded.pixels.shape == RGB.shape
    assert np.abs(loaded.pixels.astype(int) - RGB).mean() < 5
    assert loaded.notes == ("CMYK converted to RGB",)


def test_a_16_bit_png_is_divided(tmp_path: Path) -> None:
    loaded = load_image(_save(tmp_path / "a.png", _pil("I;16")))
    assert np.array_equal(loaded.pixels, GREY)
    assert [note.split(";")[0] for note in loaded.notes] == ["16-bit values divided by 257"]


def test_a_float_tiff_is_multiplied(tmp_path: Path) -> None:
    loaded = load_image(_save(tmp_path / "a.tif", _pil("F")))
    assert np.array_equal(loaded.pixels, GREY)
    assert loaded.notes == ("floats multiplied by 255",)


def test_a_float_tiff_out_of_range_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 4), 200.0, np.float32))
    with pytest.raises(ImageError, match=r"floats in \[0, 1\]"):
        load_image(_save(tmp_path / "a.tif", image))


def test_of_an_animated_gif_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = _pil("P"), Image.fromarray(255 - RGB).convert("P")
    loaded = load_image(_save(tmp_path / "a.gif", first, save_all=True, append_images=[second, first]))
    assert np.array_equal(loaded.pixels, np.asarray(first.convert("RGB")))
    assert loaded.notes[0] == "first of 3 frames"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(tmp_path: Path, mode: str) -> None:
    loaded = load_image(_save(tmp_path / "a.png", _pil(mode)))
    assert np.array_equal(loaded.pixels, RGBA[..., :3] if mode == "RGBA" else GREY)
    assert loaded.notes == ("transparency dropped",)


def test_the_transparency_of_a_palette_is_dropped(tmp_path: Path) -> None:
    loaded = load_image(_save(tmp_path / "a.png", _pil("P"), transparency=bytes(range(256))))
    assert loaded.pixels.shape == RGB.shape
    assert loaded.notes == ("transparency dropped",)


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(6, -1), (8, 1), (3, 2)])
def test_an_exif_rotation_is_applied(tmp_path: Path, orientation: int, quarter_turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(_save(tmp_path / "a.png", _pil("RGB"), exif=exif))
    assert np.array_equal(loaded.pixels, np.rot90(RGB, quarter_turns))
    assert loaded.notes == ("turned upright by its EXIF tag",)


def test_an_exif_rotated_jpeg_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load_image(_save(tmp_path / "a.jpg", _pil("RGB"), exif=exif, quality=95))
    assert loaded.pixels.shape == (28, 20, 3)


def test_an_upright_exif_tag_is_not_worth_a_note(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    assert load_image(_save(tmp_path / "a.jpg", _pil("RGB"), exif=exif)).notes == ()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    with pytest.raises(ImageError, match="0 bytes"):
        load_image(path)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("not an image at all")
    with pytest.raises(ImageError, match="not an image"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = _save(tmp_path / f"a.{suffix}", _pil("RGB"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"broken or truncated|not an image"):
        load_image(path)


def test_a_truncated_jpeg_says_so(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.jpg", _pil("RGB"), quality=95)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match="truncated"):
        load_image(path)


@pytest.mark.parametrize("error", [TypeError("Missing dimensions"), IndexError("index out of range")])
def test_what_pillow_says_of_a_damaged_header_is_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise error

    path = _save(tmp_path / "a.tif", _pil("RGB"))
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ImageError, match=str(error)):
        load_image(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "a.png")


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.symlink_to(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="a link to nothing"):
        load_image(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="got a folder"):
        load_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", _pil("L"))
    path.chmod(0)
    with pytest.raises(ImageError, match="no permission"):
        load_image(path)


def test_a_permission_error_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "denied")

    path = _save(tmp_path / "a.png", _pil("L"))
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match="no permission"):
        load_image(path)


@pytest.mark.parametrize("limit", [400, 100])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = _save(tmp_path / "a.png", _pil("L"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match="million pixels"):
        load_image(path)


def test_loading_leaves_the_warning_filters(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", _pil("L"))
    before = list(warnings.filters)
    load_image(path)
    assert warnings.filters == before


def test_loaded_pixels_are_contiguous(tmp_path: Path) -> None:
    assert load_image(_save(tmp_path / "a.png", _pil("RGBA"))).pixels.flags["C_CONTIGUOUS"]


def test_floats_beyond_the_range_by_rounding_alone_are_taken() -> None:
    edges = torch.tensor([[[-1e-7, 1 + 1e-7], [0.0, 0.5]]])  # an antialiased resize of floats leaves such
    assert to_pixels(edges)[..., 0].tolist() == [[0, 255], [0, 128]]
    with pytest.raises(ImageError, match=r"\[0, 1\].*1\.01"):
        to_pixels(edges * 1.01)


def test_large_files_are_not_decoded_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No more pixels are held than IN_FLIGHT_PX, but for one image that is larger; the order stays."""
    sides = [30, 10, 40, 10, 10, 20]
    paths = [tmp_path / f"{i}.png" for i in range(len(sides))]
    for path, side in zip(paths, sides, strict=True):
        Image.new("RGB", (side, side), (side, 0, 9)).save(path)
    monkeypatch.setattr(files, "IN_FLIGHT_PX", 1000)
    held, most, lock = 0, 0, threading.Lock()

    def look(path: Path, loaded: LoadedImage | ImageError) -> int:
        nonlocal held, most
        assert isinstance(loaded, LoadedImage)
        size = loaded.pixels.shape[0] * loaded.pixels.shape[1]
        with lock:
            held += size
            most = max(most, held)
        time.sleep(0.01)
        with lock:
            held -= size
        return int(loaded.pixels.shape[0])

    assert files.map_images(look, paths) == sides
    assert most <= 40 * 40
    paths = [path for path in paths if path.name != "2.png"]
    most = 0
    files.map_images(look, paths)
    assert most <= 1000
