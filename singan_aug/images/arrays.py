"""Pixels and tensors: the only place where layouts, ranges and dtypes change.

An image is one of three things inside this package:

- *pixels*: uint8 array [H, W, C], C = 1 (grey), 3 (RGB) or 4 (RGB and a mask);
- *signed*: float tensor [N, C, H, W] in [-1, 1], what networks see;
- *unit*: float tensor [N, C, H, W] in [0, 1], what users get.

A mask that rides along is an int32 array [H, W] of class or instance numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from singan_aug.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ALPHA_MODES",
    "WIDE_INTEGER_MODES",
    "Mask",
    "Pixels",
    "bytes_to_signed",
    "contiguous",
    "exif_orientation",
    "inverse_turn",
    "is_grey",
    "kept_where",
    "like",
    "pixels_to_pil",
    "pixels_to_unit",
    "refuse_constant",
    "resize_pixels",
    "signed_to_bytes",
    "to_grey",
    "to_pixels",
    "to_signed",
    "to_unit",
    "to_unit_channels",
    "turn",
    "turn_between",
    "turn_pixels",
    "unit_to_pil",
]

Pixels = NDArray[np.uint8]
Mask = NDArray[np.int32]


WIDE_INTEGER_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_KEPT_MODES = {"L": "L", "1": "L", "LA": "L", "RGBA": "RGBA"}
ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_PREMULTIPLIED_MODES = {"La": "LA", "RGBa": "RGBA"}  # Pillow converts them to these alone
EXIF_ORIENTATION = 0x0112
_HALF_A_LEVEL = 0.5 / 255  # resizing floats leaves rounding errors beyond [0, 1]; past this they would change a level


def is_grey(pixels: Pixels) -> bool:
    """Whether the first three channels are equal everywhere, or there is one only."""
    if pixels.shape[-1] < 3:
        return True
    few = pixels[len(pixels) // 2, :: max(1, pixels.shape[1] // 8), :3].tolist()  # they tell most colour images
    if any(red != green or red != blue for red, green, blue in few):
        return False
    red = pixels[..., 0]
    return bool(np.array_equal(red, pixels[..., 1]) and np.array_equal(red, pixels[..., 2]))


def refuse_constant(pixels: Pixels) -> None:
    """Raise `ImageError` where every pixel has the same colour."""
    if (pixels[..., :3] == pixels[:1, :1, :3]).all():
        raise ImageError("every pixel has the same value: there is no structure to learn, leave this image out")


def to_pixels(image: Any) -> Pixels:
    """uint8 pixels [H, W, C], C in {1, 3, 4}, of a PIL image, an [H, W] or [H, W, C] uint8 array, or a [C, H, W] tensor
    (uint8, or float in [0, 1]).

    Raises `ImageError` for any other type, dtype, range or channel count.
    """
    if isinstance(image, Image.Image):
        return _pil_to_pixels(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise ImageError(
                f"expected a uint8 array, got {image.dtype}: scale to 0..255 and cast, or pass a float tensor"
            )
        pixels = image[..., None] if image.ndim == 2 else image
        if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4) or pixels.size == 0:
            raise ImageError(f"expected an array of shape [H, W] or [H, W, 1, 3 or 4], got {list(image.shape)}")
        return np.ascontiguousarray(pixels)
    if hasattr(image, "detach"):
        return _tensor_to_pixels(image)
    raise ImageError(f"expected a PIL image, a uint8 array or a tensor, got {type(image).__name__}")


def _pil_to_pixels(image: Image.Image) -> Pixels:
    if 0 in image.size:
        raise ImageError(f"expected an image, got one of {image.width}x{image.height}")
    if image.mode in _PREMULTIPLIED_MODES:
        image = image.convert(_PREMULTIPLIED_MODES[image.mode])
    if image.mode in WIDE_INTEGER_MODES:
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError(f"expected integers in 0..65535, got {wide.min()}..{wide.max()}: rescale them")
        return np.asarray((wide + 128) // 257, dtype=np.uint8)[..., None]
    if image.mode == "F":
        floats = np.asarray(image)
        if not np.isfinite(floats).all() or floats.min() < 0 or floats.max() > 1:
            raise ImageError(f"expected floats in [0, 1], got {floats.min():g}..{floats.max():g}: rescale them")
        return np.asarray(np.rint(floats * 255), dtype=np.uint8)[..., None]
    if image.mode == "P" and "transparency" in image.info:  # dropped on purpose; straight to RGB, Pillow would warn
        image = image.convert("RGBA").convert("RGB")
    mode = _KEPT_MODES.get(image.mode, "RGB")
    image = image if image.mode == mode else image.convert(mode)
    return np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(image.height, image.width, -1)


def _tensor_to_pixels(image: Tensor) -> Pixels:
    import torch

    array = image.detach()
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 3, 4) or array.numel() == 0:
        raise ImageError(f"expected a tensor of shape [1, H, W], [3, H, W] or [4, H, W], got {list(image.shape)}")
    if array.is_floating_point():
        low, high = float(array.min()), float(array.max())
        if not -_HALF_A_LEVEL <= low <= high <= 1 + _HALF_A_LEVEL:  # nor where they are NaN
            raise ImageError(f"expected a float tensor in [0, 1], got {low:g}..{high:g}: augment before normalising")
        array = (array * 255).round().clamp(0, 255).to(torch.uint8)
    elif array.dtype != torch.uint8:
        raise ImageError(
            f"expected a uint8 or float tensor, got {array.dtype}: convert it first, integers for instance by "
            "v2.ToDtype(torch.float32, scale=True)"
        )
    return np.ascontiguousarray(array.movedim(0, -1).cpu().numpy())


def to_signed(pixels: Pixels) -> Tensor:
    """Pixels [H, W, C] to a float tensor [1, C, H, W] in [-1, 1]."""
    import torch

    return bytes_to_signed(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()))


def pixels_to_unit(pixels: Pixels) -> Tensor:
    """Pixels [H, W, C] to a float tensor [C, H, W] in [0, 1]."""
    import torch

    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255.0


def signed_to_bytes(signed: Tensor) -> Tensor:
    """Float in [-1, 1] to the nearest of 256 levels, uint8, same shape."""
    return (signed + 1.0).mul_(127.5).round_().clamp_(0, 255).byte()


def bytes_to_signed(levels: Tensor) -> Tensor:
    """The inverse of `signed_to_bytes`; it gives exactly what `to_signed` gives for the same pixels."""
    return levels.float() / 127.5 - 1.0


def to_unit(signed: Tensor) -> Tensor:
    """[N, C, H, W] in [-1, 1] to [N, C, H, W] in [0, 1], clamped."""
    return (signed + 1.0).mul_(0.5).clamp_(0.0, 1.0)


def resize_pixels(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Antialiased bicubic resize to (height, width), for the one step from the file's size to the pyramid's."""
    if pixels.shape[:2] == size:
        return pixels
    bands = [
        Image.fromarray(pixels[..., i]).resize(size[::-1], Image.Resampling.BICUBIC) for i in range(pixels.shape[-1])
    ]
    return np.stack([np.asarray(band) for band in bands], axis=-1)


def unit_to_pil(unit: Tensor) -> Image.Image:
    """One image [C, H, W], uint8 or float in [0, 1], as PIL "L" or "RGB"; a fourth channel is dropped."""
    return pixels_to_pil(_levels(unit[:3]).movedim(0, -1).cpu().numpy())


def _levels(image: Tensor) -> Tensor:
    return (image * 255).round().byte() if image.is_floating_point() else image


def pixels_to_pil(pixels: Pixels) -> Image.Image:
    """Pixels [H, W, 1 or 3] as PIL "L" or "RGB"."""
    ordered = contiguous(pixels)
    return Image.fromarray(ordered.squeeze(-1) if ordered.shape[-1] == 1 else ordered)


def like(unit: Tensor, template: Any) -> Any:
    """The image `unit`, [C, H, W] uint8 or float in [0, 1], as the same kind of thing as `template`.

    The same type, mode, metadata (EXIF, ICC profile, dpi), shape, dtype and device.

    Sizes must agree already. Grey is repeated into colour and colour averaged (ITU-R 601) into grey; a fourth channel
    of the template (alpha, mask) is kept as it is.
    """
    if isinstance(template, Image.Image):
        return _like_pil(unit, template)
    if template.ndim == 2:
        return like(unit, template[None])[0]
    channels = template.shape[-3]
    if unit.dtype == template.dtype and unit.shape[0] == channels and not unit.is_floating_point():
        return unit.to(template.device)
    unit = to_unit_channels(unit)
    image = _with_channels(unit, channels, keep=lambda: to_unit_channels(template)[3:4])
    if template.is_floating_point():
        return image.to(template.device, template.dtype)
    return (image * 255).round().to(template.device, template.dtype)


def kept_where(stays: Tensor, image: Any, template: Any) -> Any:
    """An image that `like` has made, with the template's own values where `stays`, bool [H, W], says so."""
    import torch

    if isinstance(template, Image.Image):
        image.paste(template, mask=Image.fromarray(stays.cpu().numpy()))
        return image
    return torch.where(stays.to(template.device), template, image)


def to_unit_channels(template: Tensor) -> Tensor:
    """A tensor [..., C, H, W], uint8 or float in [0, 1], as float in [0, 1]."""
    return template.float() if template.is_floating_point() else template.float() / 255.0


def to_grey(colour: Tensor) -> Tensor:
    """[3, H, W] as [1, H, W]: brightness by ITU-R 601."""
    red, green, blue = colour
    grey: Tensor = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey[None]


def _with_channels(unit: Tensor, channels: int, keep: Callable[[], Tensor]) -> Tensor:
    import torch

    colour = unit[:3]
    if channels == 1 and colour.shape[0] == 3:
        return to_grey(colour)
    if channels >= 3 and colour.shape[0] == 1:
        colour = colour.expand(3, -1, -1)
    if channels == 4:
        return unit if unit.shape[0] == 4 else torch.cat([colour, keep().to(unit.device)])
    return colour


def _like_pil(unit: Tensor, template: Image.Image) -> Image.Image:
    image = _in_mode_of(unit_to_pil(unit), template)
    image.info = dict(template.info)  # EXIF, ICC profile, dpi and the like
    turned = exif_orientation(template)  # as set in memory, which `info` need not know
    if exif_orientation(image) != turned:
        image.getexif()[EXIF_ORIENTATION] = turned
    return image


def exif_orientation(image: Image.Image) -> int:
    """1 to 8, as its EXIF says; 1, upright, where that says nothing or is damaged."""
    try:
        found = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # whatever Pillow raises on damaged EXIF
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _in_mode_of(colour: Image.Image, template: Image.Image) -> Image.Image:
    mode = template.mode
    if mode in WIDE_INTEGER_MODES:
        wide = np.asarray(colour.convert("L")).astype(np.int64) * 257
        dtype = np.asarray(template).dtype
        return Image.frombytes(mode, colour.size, wide.astype(dtype).tobytes())
    if mode == "F":
        return Image.fromarray(np.asarray(colour.convert("L"), dtype=np.float32) / 255.0)
    if mode == "P":  # each pixel by itself: what was copied keeps its colour
        return colour.convert("RGB").quantize(palette=template, dither=Image.Dither.NONE)
    straight = _PREMULTIPLIED_MODES.get(mode, mode)
    image = colour if colour.mode == straight else colour.convert(straight, dither=Image.Dither.NONE)
    if mode in ALPHA_MODES:
        image.putalpha(template.convert(straight).getchannel("A"))
    return image if straight == mode else image.convert(mode)


def turn(image: Tensor, turn_code: int) -> Tensor:
    """A tensor [..., H, W] in one of the eight orientations of a rectangle.

    Bit 4 of `turn_code` swaps rows and columns first; then bit 2 reverses the rows and bit 1 the columns.
    """
    if turn_code & 4:
        image = image.transpose(-1, -2)
    axes = [axis for bit, axis in ((2, -2), (1, -1)) if turn_code & bit]
    return image.flip(axes) if axes else image


def turn_pixels(pixels: Pixels, turn_code: int) -> Pixels:
    """The same for pixels [H, W, C]."""
    if turn_code & 4:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if turn_code & 2 else 1, :: -1 if turn_code & 1 else 1]


def contiguous(pixels: Pixels | Mask) -> Pixels | Mask:
    """The same pixels in the order of rows, columns and channels. After a turn this is much faster than NumPy's own."""
    if pixels.flags.c_contiguous:
        return pixels
    copied: Pixels | Mask = np.empty_like(pixels, order="C")
    for channel in range(pixels.shape[-1]):  # runs along rows; NumPy's innermost loop would be over three channels
        copied[..., channel] = pixels[..., channel]
    return copied


def inverse_turn(turn_code: int) -> int:
    """The turn that undoes another: turn(turn(x, c), inverse_turn(c)) is x."""
    return turn_code if not turn_code & 4 else 4 | (turn_code & 2) >> 1 | (turn_code & 1) << 1


def turn_between(image: Tensor, own_code: int, wanted_code: int) -> Tensor:
    """Bring [..., H, W] into the orientation of another copy of the picture; the codes take each to a common one."""
    return image if own_code == wanted_code else turn(turn(image, own_code), inverse_turn(wanted_code))
