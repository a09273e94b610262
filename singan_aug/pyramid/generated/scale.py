"""Pyramids of convolutional generators: the paper's kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from singan_aug.config import FitConfig
from singan_aug.pyramid.generated.networks import Generator, generator_from
from singan_aug.pyramid.noise import noise_maps
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import KINDS, Canvas, Scale
from singan_aug.pyramid.sizes import Size, scale_sizes, scale_widths

__all__ = ["GeneratedScale", "run_scale"]


@dataclass(frozen=True, eq=False)
class GeneratedScale(Scale):
    """A trained generator, the amplitude of its noise, and what enters it."""

    size: Size
    generator: Generator  # in eval mode, without gradients, once the scale is fitted
    amplitude: Tensor  # [1, 1, 1, 1] or [1, 1, h, w]: of this scale's noise
    entering: Tensor  # [1, C, h', w']
    z_star: Tensor | None = None  # [1, C, h, w], at scale 0 alone: the fixed noise that reproduces the source

    def draw(
        self, below: Canvas | None, size: Size, generators: Sequence[torch.Generator], config: FitConfig
    ) -> Canvas:
        """Resize what comes from below, add noise, refine."""
        image = self.entering.expand(len(generators), -1, -1, -1) if below is None else below.image
        shared = self.z_star is not None and config.noise_coarsest_shared
        noise = noise_maps(generators, image.shape[1], size, shared=shared).to(image.device)
        return Canvas(run_scale(self, image, noise, size, config.resample))

    def reconstruct(self, config: FitConfig) -> Tensor:
        """z* at scale 0, no noise above."""
        noise = self.entering.new_zeros(1, 1, 1, 1) if self.z_star is None else self.z_star
        return run_scale(self, self.entering, noise, self.size, config.resample)

    def tensors(self) -> dict[str, Tensor]:
        """Amplitude, what enters, z* at scale 0, and the generator's state."""
        named = {"amplitude": self.amplitude, "entering": self.entering}
        if self.z_star is not None:
            named["z_star"] = self.z_star
        for name, tensor in self.generator.state_dict().items():
            if not name.endswith("num_batches_tracked"):  # BatchNorm's counter plays no part in drawing
                named[f"generator.{name}"] = tensor
        return named


def run_scale(
    scale: GeneratedScale,
    below: Tensor,  # [N, C, h, w] in [-1, 1]: the output of the scale below (or the anchor), at its own size
    noise: Tensor,  # [N, C, *size] standard normal, or zeros that broadcast to it
    size: Size,
    resample: str,
) -> Tensor:
    """One step up the pyramid (Shaham et al. 2019, eq. 2): [N, C, *size]."""
    entering = resize(below, size, resample)
    amplitude = scale.amplitude if scale.amplitude.shape[-1] == 1 else resize(scale.amplitude, size, "bilinear")
    out: Tensor = scale.generator(entering, noise * amplitude)
    return out


class _Convolutional:
    """Everything learned is kept: `scales.K.amplitude`, `.entering`, `.generator.*`, and `scales.0.z_star`."""

    def pack(self, scales: Sequence[Scale]) -> dict[str, Tensor]:
        return {f"scales.{k}.{name}": t for k, scale in enumerate(scales) for name, t in scale.tensors().items()}

    def unpack(self, tensors: Mapping[str, Tensor], config: FitConfig, channels: int, size: Size) -> tuple[Scale, ...]:
        sizes = scale_sizes(size, config)
        scales = []
        for k, (scale_size, width) in enumerate(zip(sizes, scale_widths(len(sizes), config), strict=True)):
            own = {n.removeprefix(f"scales.{k}."): t for n, t in tensors.items() if n.startswith(f"scales.{k}.")}
            generator = generator_from(config, channels, width)
            state = {n.removeprefix("generator."): t for n, t in own.items() if n.startswith("generator.")}
            for name, counter in generator.state_dict().items():
                if name.endswith("num_batches_tracked"):
                    state[name] = torch.zeros_like(counter)
            generator.load_state_dict(state, assign=True)
            generator.eval().requires_grad_(False)
            z_star = own["z_star"] if k == 0 else None
            scales.append(GeneratedScale(scale_size, generator, own["amplitude"], own["entering"], z_star))
        return tuple(scales)

    def stored_bytes(self, config: FitConfig, channels: int, size: Size) -> int:
        sizes = scale_sizes(size, config)
        maps = channels + (config.noise == "local")
        return 2 * sum(
            9 * (2 * channels * width + (config.layers - 2) * width**2) + maps * height * breadth
            for (height, breadth), width in zip(sizes, scale_widths(len(sizes), config), strict=True)
        )


KINDS.register("convolutional")(_Convolutional())
