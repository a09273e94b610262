"""Generated scales: a small trained network each, as in the paper; and a milder start from one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from singan_aug.config import Generated
from singan_aug.pyramid.fields import deformed, random_field
from singan_aug.pyramid.generated.networks import Generator, generator_from
from singan_aug.pyramid.noise import noise_maps
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.scale import Canvas, Scale
from singan_aug.pyramid.sizes import Size, scale_widths

__all__ = [
    "SHIFT_CELLS",
    "GeneratedScale",
    "MilderStart",
    "generated_bytes",
    "run_scale",
    "trained_sizes",
    "unpack_generated",
    "with_milder_start",
]

SHIFT_CELLS = 2  # of the random field along the short side: it deforms the layout, not the texture


@dataclass(frozen=True, eq=False)
class GeneratedScale(Scale):
    """A trained generator, the amplitude of its noise, and what enters it."""

    size: Size
    generator: Generator  # in eval mode, without gradients, once the scale is fitted
    amplitude: Tensor  # [1, 1, 1, 1] or [1, 1, h, w]: of this scale's noise
    entering: Tensor  # [1, C, h', w']
    resample: str  # how images are resized between scales
    shared_noise: bool = False  # one channel of noise, repeated to all
    shift_px: float = 0.0  # standard deviation of the random field that deforms what enters, where a draw starts here
    z_star: Tensor | None = None  # [1, C, h, w]: the noise that reproduces the source, where nothing enters scale 0

    def draw(self, below: Canvas | None, size: Size, generators: Sequence[torch.Generator]) -> Canvas:
        """Resize what comes from below, add noise, refine.

        One by one: in a batch sums are rounded in another way, and a seed is to give the same draw beside any others.
        """
        image = self.begun(size, generators) if below is None else below.image
        noise = noise_maps(generators, image.shape[1], size, shared=self.shared_noise).to(image.device)
        return Canvas(torch.cat([run_scale(self, image[i : i + 1], noise[i : i + 1], size) for i in range(len(noise))]))

    def begun(self, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        """[N, C, *size]: what enters where a draw starts here, deformed by a smooth random field for each sample."""
        entering = resize(self.entering, size, self.resample)
        if not self.shift_px:
            return entering.expand(len(generators), -1, -1, -1)
        shift_px = self.shift_px * min(size) / min(self.size)
        fields = torch.cat([random_field(size, generator, shift_px, SHIFT_CELLS) for generator in generators])
        return deformed(entering, fields.to(entering.device))

    def milder(self, ratio: float) -> GeneratedScale:
        """The same scale with that share of its noise and of its shift."""
        return replace(self, amplitude=self.amplitude * ratio, shift_px=self.shift_px * ratio)

    def reconstruct(self) -> Tensor:
        """z* at a scale 0 that nothing enters, no noise elsewhere."""
        noise = self.entering.new_zeros(1, 1, 1, 1) if self.z_star is None else self.z_star
        return run_scale(self, self.entering, noise, self.size)

    def stored(self) -> dict[str, Tensor]:
        """Amplitude, what enters, z* at scale 0, and the generator's state."""
        named = {"amplitude": self.amplitude, "entering": self.entering}
        if self.z_star is not None:
            named["z_star"] = self.z_star
        for name, tensor in self.generator.state_dict().items():
            if not name.endswith("num_batches_tracked"):  # BatchNorm's counter plays no part in drawing
                named[f"generator.{name}"] = tensor
        return named

    @property
    def memory_bytes(self) -> int:
        """All that is stored."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.stored().values())


@dataclass(frozen=True, eq=False)
class MilderStart(Scale):
    """Draws that start here are those of the scale below with less noise and a smaller shift: less new structure.

    Draws that start below pass through as they are.
    """

    below: GeneratedScale
    ratio: float  # of its noise and of its shift

    @cached_property
    def begins(self) -> GeneratedScale:
        """What a draw that starts here starts with."""
        return self.below.milder(self.ratio)

    @property
    def size(self) -> Size:  # type: ignore[override]
        """That of the scale below."""
        return self.below.size

    @property
    def entering(self) -> Tensor:  # type: ignore[override]
        """What enters the scale below."""
        return self.below.entering

    def draw(self, below: Canvas | None, size: Size, generators: Sequence[torch.Generator]) -> Canvas:
        """What the scale below draws, milder where the draw starts here."""
        return self.begins.draw(None, size, generators) if below is None else below

    def reconstruct(self) -> Tensor:
        """That of the scale below."""
        return self.below.reconstruct()

    def stored(self) -> dict[str, Tensor]:
        """Nothing of its own."""
        return {}

    @property
    def memory_bytes(self) -> int:
        """Nothing of its own."""
        return 0


def trained_sizes(sizes: Sequence[Size], generated: Generated) -> Sequence[Size]:
    """Out of the sizes of all generated scales those with a network of their own: all but the milder start's."""
    return sizes[:-1] if generated.milder_ratio else sizes


def with_milder_start(scales: tuple[GeneratedScale, ...], generated: Generated) -> tuple[Scale, ...]:
    """The generated scales and, where the config asks for one, the milder start above them."""
    return (*scales, MilderStart(scales[-1], generated.milder_ratio)) if generated.milder_ratio else scales


def run_scale(
    scale: GeneratedScale,
    below: Tensor,  # [N, C, h, w] in [-1, 1]: the output of the scale below (or the anchor), at its own size
    noise: Tensor,  # [N, C, *size] standard normal, or zeros that broadcast to it
    size: Size,
) -> Tensor:
    """One step up the pyramid (Shaham et al. 2019, eq. 2): [N, C, *size]."""
    entering = resize(below, size, scale.resample)
    amplitude = scale.amplitude if scale.amplitude.shape[-1] == 1 else resize(scale.amplitude, size, "bilinear")
    out: Tensor = scale.generator(entering, noise * amplitude)
    return out


def unpack_generated(
    tensors: Sequence[Mapping[str, Tensor]],  # of each scale, as `GeneratedScale.stored` gives them
    sizes: Sequence[Size],
    generated: Generated,
    channels: int,
    resample: str,
) -> tuple[Scale, ...]:
    """The scales again. Raises KeyError or RuntimeError where names or shapes do not fit."""
    scales: list[GeneratedScale] = []
    trained = trained_sizes(sizes, generated)
    widths = scale_widths(len(trained), generated.networks)
    for k, (own, size, width) in enumerate(zip(tensors[: len(trained)], trained, widths, strict=True)):
        # On no device: whatever the config asks for, nothing is made but what was stored.
        generator = generator_from(generated.networks, channels, width, "meta")
        state = {name.removeprefix("generator."): t for name, t in own.items() if name.startswith("generator.")}
        for name, counter in generator.state_dict().items():
            if name.endswith("num_batches_tracked"):
                state[name] = torch.zeros_like(counter, device="cpu")
        generator.load_state_dict(state, assign=True)
        generator.eval().requires_grad_(False)
        nothing_enters = k == 0 and generated.noise.anchor == "none"
        scales.append(
            GeneratedScale(
                size,
                generator,
                own["amplitude"],
                own["entering"],
                resample,
                shared_noise=k == 0 and generated.noise.noise_coarsest_shared,
                shift_px=generated.noise.anchor_shift_px if k == 0 else 0.0,
                z_star=own["z_star"] if nothing_enters else None,
            )
        )
    if any(tensors[len(trained) :]):
        raise RuntimeError("expected no tensors of a milder start")
    return with_milder_start(tuple(scales), generated)


def generated_bytes(sizes: Sequence[Size], generated: Generated, channels: int) -> int:
    """About how much generated scales of these sizes take in a store."""
    layers = generated.networks.layers
    maps = channels + (generated.noise.amplitude == "local")
    trained = trained_sizes(sizes, generated)
    return 2 * sum(
        9 * (2 * channels * width + (layers - 2) * width**2) + maps * height * breadth
        for (height, breadth), width in zip(trained, scale_widths(len(trained), generated.networks), strict=True)
    )
