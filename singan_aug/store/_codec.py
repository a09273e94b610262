"""Pyramid <-> safetensors bytes. The manifest carries what is not a tensor."""

from __future__ import annotations

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from singan_aug.errors import ConfigError, CorruptPyramidError
from singan_aug.images import Pixels, turn_pixels
from singan_aug.images.descriptor import make_descriptor
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.pyramid.copied.scale import CopiedScale
from singan_aug.pyramid.scale import Scale
from singan_aug.pyramid.threads import one_thread
from singan_aug.store._manifest import Manifest, newer

__all__ = ["decode", "descriptor_of", "encode"]

TOLERANCE = 1 / 255  # half precision is used where no draw moves by more


@one_thread()
def encode(pyramid: Pyramid) -> tuple[bytes, str]:
    """(safetensors bytes, name of the dtype of its floats).

    Half precision where it is exact, or where draws from every start scale stay within 1/255. Tensors of bytes stay so.
    """
    full = {name: tensor.detach().cpu().contiguous() for name, tensor in pyramid.tensors().items()}
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in full.items()}
    exact = all(torch.equal(full[name], half[name].to(full[name].dtype)) for name in full)
    if exact or _close(pyramid, _rebuilt(half, pyramid)):
        return safetensors.torch.save(half), "float16"
    return safetensors.torch.save(full), "float32"


@one_thread()
def decode(weights: bytes, manifest: Manifest, where: str) -> Pyramid:
    """The pyramid, in float32 on the CPU. Raises `CorruptPyramidError` where tensors and manifest do not fit.

    `StoreFormatError` where the config names a part that is not known here.
    """
    try:
        tensors = safetensors.torch.load(weights)
        _refuse_odd_values(tensors, manifest)
        pyramid = Pyramid.from_tensors(
            _widened(tensors),
            config=manifest.config,
            channels=manifest.channels,
            size=manifest.scale_sizes[-1],
            provenance=manifest.provenance,
            displacement_px=manifest.displacement_px,
            mask_values=manifest.mask_values,
        )
    except ConfigError as error:
        raise newer(where, str(error)) from None
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise CorruptPyramidError(f"{where}: its tensors do not fit its manifest ({error})") from None
    if tuple(scale.size for scale in pyramid.scales) != manifest.scale_sizes:
        raise CorruptPyramidError(f"{where}: its scales do not have the sizes of its manifest")
    unfit = _unfit(pyramid, tensors)
    if unfit:
        raise CorruptPyramidError(f"{where}: its tensors do not fit its manifest ({unfit})")
    return pyramid


def _refuse_odd_values(tensors: dict[str, torch.Tensor], manifest: Manifest) -> None:
    """Raise ValueError for a dtype that is never stored, and for what is not finite: draws would be neither."""
    floats = getattr(torch, manifest.weights_dtype)
    for name, tensor in tensors.items():
        if tensor.dtype not in (floats, torch.uint8):
            raise ValueError(f"{name}: expected {manifest.weights_dtype} or bytes, got {tensor.dtype}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers")


def _unfit(pyramid: Pyramid, stored: dict[str, torch.Tensor]) -> str | None:
    """The first tensor that is of no use, or has another shape than draws take for granted."""
    made = pyramid.tensors()
    for name, tensor in stored.items():
        if name not in made:
            return f"{name} belongs to no scale"
        if tensor.is_floating_point() != made[name].is_floating_point():
            return f"{name}: expected {made[name].dtype}, got {tensor.dtype}"
    channels, below = pyramid.channels, pyramid.scales[0].size
    for k, scale in enumerate(pyramid.scales):
        here = (1, channels, *scale.size)
        shapes: dict[str, list[tuple[int, ...]]] = {
            "entering": [(1, channels, *below)],
            "z_star": [here],
            "amplitude": [(1, 1, 1, 1), (1, 1, *scale.size)],
        }
        for name, tensor in scale.stored().items():
            shape = tuple(tensor.shape)
            if name == "basis":
                shapes["basis"] = [_basis_shape(pyramid, scale)]
            if shape not in shapes.get(name, [shape]):
                return f"scale {k}: {name}: expected {shapes[name][-1]}, got {shape}"
        below = scale.size
    return None


def _basis_shape(pyramid: Pyramid, scale: Scale) -> tuple[int, ...]:
    copied = pyramid.config.copied
    assert copied is not None
    assert isinstance(scale, CopiedScale)
    side = copied.patch_sides(scale.index + 1, searched=pyramid.config.generated is not None)[-1]
    return (min(copied.descriptor_dims, pyramid.channels * side**2), pyramid.channels, side, side)


def _widened(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _rebuilt(tensors: dict[str, torch.Tensor], pyramid: Pyramid) -> Pyramid:
    return Pyramid.from_tensors(
        _widened(tensors),
        config=pyramid.config,
        channels=pyramid.channels,
        size=pyramid.size,
        provenance={},
        mask_values=pyramid.mask_values,
    )


def _close(pyramid: Pyramid, other: Pyramid) -> bool:
    pairs = [(reconstruct(pyramid), reconstruct(other))]
    pairs += [(draw(pyramid, start_scale=k), draw(other, start_scale=k)) for k in range(len(pyramid))]
    return all(float((a.cpu() - b).abs().max()) <= TOLERANCE for a, b in pairs)


@one_thread()
def descriptor_of(pyramid: Pyramid, turn_code: int) -> Pixels:
    """The descriptor of the image as the pyramid remembers it, in the orientation to which `turn_code` brings it."""
    image = (reconstruct(pyramid)[0, :3] * 255).round().byte().movedim(0, -1).cpu().numpy()
    return make_descriptor(np.ascontiguousarray(turn_pixels(image, turn_code)))
