"""A prior: weights from which generators start, learned over many photos, for pyramids of any number of scales.

What one photo teaches about patches carries to the next, at every scale. So one generator is trained for each depth of
a pyramid, on all photos in turn, and fitting an image then starts from the weights whose depth is nearest.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor

from singan_aug.config import FitConfig, trained
from singan_aug.errors import ConfigError, ImageError, StoreWriteError
from singan_aug.fitting.fitter import FitEvent
from singan_aug.fitting.generated.objectives import OBJECTIVES, Objective
from singan_aug.fitting.generated.training import TrainingScale, train, training_scale_for
from singan_aug.images import refuse_constant, resize_pixels, to_pixels, to_signed
from singan_aug.pyramid.generated.blocks import initialise
from singan_aug.pyramid.generated.networks import generator_from
from singan_aug.pyramid.generated.scale import GeneratedScale
from singan_aug.pyramid.noise import generator_for
from singan_aug.pyramid.sizes import scale_sizes, scale_widths, working_size
from singan_aug.pyramid.threads import one_thread

__all__ = ["Prior", "load_prior", "steps_within", "train_prior"]

FORMAT = "singan-aug prior 1"
ARCHITECTURE = ("block", "layers", "batch_norm", "padding")  # fields that weights depend on, beside the width
TRIED, TRIED_STEPS = 2, 10  # images and steps at each depth that are timed to see how many there is time for
CHANNELS = 3  # a prior is learned in RGB


@dataclass(frozen=True, eq=False)
class Prior:
    """Weights of one generator for each depth of a pyramid."""

    recipe: FitConfig  # how it was trained; its `prior` is None
    states: tuple[Mapping[str, Tensor], ...]  # coarsest first, RGB

    def state(self, scale: int, count: int, wanted: Mapping[str, Tensor], config: FitConfig) -> dict[str, Tensor]:
        """Weights for scale `scale` of `count`: those of the nearest relative depth that have the same width.

        `wanted` is a state of the generator to be, and tells its channels: for grey the colours are summed on the way
        in and averaged on the way out; channels beyond RGB start at zero. Raises `ConfigError` where nothing fits.
        """
        width = scale_widths(count, config)[scale]
        depths = len(self.states)
        fitting = [depth for depth, has in enumerate(scale_widths(depths, self.recipe)) if has == width]
        if not fitting or any(getattr(config, name) != getattr(self.recipe, name) for name in ARCHITECTURE):
            raise ConfigError(
                f"expected a prior for {_architecture(config)} and width {width}, got one for "
                f"{_architecture(self.recipe)} and widths {sorted(set(scale_widths(depths, self.recipe)))}: train one "
                "with `singan-aug prior train`, or use prior=None"
            )
        depth = min(fitting, key=lambda each: abs(each * (count - 1) - scale * (depths - 1)))
        state = self.states[depth]
        return {name: _in_channels(state[name], wanted[name].shape) for name in wanted}

    def to_bytes(self) -> bytes:
        """A safetensors file in half precision, with the recipe beside it; the same bytes for the same prior."""
        tensors = {
            f"{depth}.{name}": tensor.half().contiguous() if tensor.is_floating_point() else tensor
            for depth, state in enumerate(self.states)
            for name, tensor in state.items()
        }
        about = {"format": FORMAT, "depths": len(self.states), "recipe": self.recipe.model_dump(exclude_defaults=True)}
        return safetensors.torch.save(tensors, {"about": json.dumps(about, sort_keys=True)})

    def save(self, path: Path) -> None:
        """Write the file, aside first, in a folder that is made where it is missing. Raises `StoreWriteError`."""
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.write_bytes(self.to_bytes())
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            raise StoreWriteError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Prior:
        """The inverse of `to_bytes`. Raises `ConfigError`; `where` names the file in its message."""
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            about = json.loads(header["__metadata__"]["about"])
            if about["format"] != FORMAT:
                raise ValueError(about["format"])
            tensors = safetensors.torch.load(data)
            recipe, states = FitConfig(**about["recipe"]), []
            for depth, width in enumerate(scale_widths(about["depths"], recipe)):
                own = {n.removeprefix(f"{depth}."): t for n, t in tensors.items() if n.startswith(f"{depth}.")}
                generator = generator_from(recipe, CHANNELS, width)
                generator.load_state_dict(own)  # refuses missing tensors and other shapes, and makes floats of halves
                states.append(generator.state_dict())
        except (ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError):
            raise ConfigError(
                f"expected a prior that `singan-aug prior train` wrote, got {where}, which is none or is damaged"
            ) from None
        return cls(recipe, tuple(states))


def load_prior(config: FitConfig) -> Prior | None:
    """The prior that a config names; None for None.

    Raises `ConfigError` where its file is missing, damaged, or not what it was when the config was made.
    """
    if config.prior is None:
        return None
    if config.prior == "dataset":
        raise ConfigError(
            'expected the prior of one dataset for a single fit, got prior="dataset": fit with fit_dataset or '
            "`singan-aug fit`, which learn it, or name a file that `singan-aug prior train` wrote"
        )
    return _load(config.prior, config.prior_file, config.prior_checksum)


@lru_cache(maxsize=4)
def _load(name: str, file: Path | None, checksum: str) -> Prior:
    if file is None:
        return Prior.from_bytes(files("singan_aug").joinpath("priors", f"{name}.safetensors").read_bytes(), name)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"expected the prior {file}, got nothing that can be read ({error.strerror})") from None
    if xxhash.xxh3_128_hexdigest(data) != checksum:
        raise ConfigError(f"expected the prior {file} with checksum {checksum}: it was altered since it was named")
    return Prior.from_bytes(data, str(file))


def train_prior(
    images: Sequence[Any],
    config: FitConfig | None = None,
    *,
    steps: int = 2000,
    on_event: Callable[[FitEvent], None] | None = None,
    device: torch.device | str = "cpu",
) -> Prior:
    """Learn a prior: one generator for each depth, on all images in turn. The result depends on the arguments alone.

    Args:
        images: anything that `fit` takes; grey counts as RGB, a fourth channel is left out. A few dozen are enough.
        config: the recipe whose fits are to start from it, `trained` by default: networks, objective, rates and sizes.
        steps: at each depth.
        on_event: called every few steps, as in `fit`.
        device: where to train.

    Raises:
        ImageError: an image that cannot be fitted, named by its place; or none at all.
        ConfigError, FitDivergedError: as `fit` does.
    """
    if not images:
        raise ImageError("expected images to learn a prior from, got none")
    recipe = (config or trained()).replace(prior=None, steps_coarsest=steps, steps_finer=steps, kind="convolutional")
    reals = [_signed(image, i, recipe).to(device) for i, image in enumerate(images)]
    sizes = [scale_sizes((real.shape[2], real.shape[3]), recipe) for real in reals]
    depths = max(map(len, sizes))
    scales: list[tuple[GeneratedScale, ...]] = [() for _ in reals]
    objective: Objective | None = None
    states: list[dict[str, Tensor]] = []
    with one_thread():
        for depth, width in enumerate(scale_widths(depths, recipe)):
            rng = generator_for(recipe.seed, depth, "prior")
            generator = generator_from(recipe, CHANNELS, width)
            initialise(generator, rng)
            if states and all(states[-1][name].shape == t.shape for name, t in generator.state_dict().items()):
                generator.load_state_dict(states[-1])
            generator.to(device)
            objective = OBJECTIVES[recipe.objective](recipe, CHANNELS, width, rng, torch.device(device), objective)
            training_scales: dict[int, TrainingScale] = {
                i: training_scale_for(reals[i], sizes[i], scales[i], generator, recipe, 0)
                for i in range(len(reals))
                # A pyramid of fewer scales sits out the depths it has no scale for.
                if len(scales[i]) < len(sizes[i]) and _depth(len(scales[i]), len(sizes[i]), depths) == depth
            }

            def note(step: int, losses: Mapping[str, float], depth: int = depth) -> None:
                if on_event:
                    share = (depth + step / steps) / depths
                    on_event(FitEvent(depth, depths, step, steps, 0, share, losses))

            train(list(training_scales.values()), objective, recipe, rng, note)
            for i, training_scale in training_scales.items():
                scales[i] = (*scales[i], training_scale.scale)
            states.append({name: tensor.cpu() for name, tensor in generator.state_dict().items()})
    return Prior.from_bytes(Prior(recipe, tuple(states)).to_bytes(), "this prior")  # as exact as a file holds it


def steps_within(process_sec: float, images: Sequence[Any], config: FitConfig) -> int:
    """About how many steps `train_prior` has time for on one core: a few are timed."""
    train_prior(images[:TRIED], config, steps=2)  # the first steps of a process are slower
    started_sec = time.process_time()
    train_prior(images[:TRIED], config, steps=TRIED_STEPS)
    return max(1, int(process_sec * TRIED_STEPS / (time.process_time() - started_sec)))


def _signed(image: Any, place: int, recipe: FitConfig) -> Tensor:
    """[1, 3, H, W] in [-1, 1] at the working size."""
    try:
        pixels = to_pixels(image)[..., :CHANNELS]
        size = working_size((pixels.shape[0], pixels.shape[1]), recipe)
        refuse_constant(pixels)
    except ImageError as error:
        raise ImageError(f"image {place}: {error}") from None
    return to_signed(resize_pixels(pixels, size)).expand(-1, CHANNELS, -1, -1).contiguous()


def _depth(scale: int, count: int, depths: int) -> int:
    """At which of `depths` depths a scale of `count` is trained: 0 the first, the last the last."""
    return round(scale * (depths - 1) / (count - 1)) if count > 1 else 0


def _in_channels(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A generator's weight or bias for an image of other channels than RGB."""
    if tensor.shape == shape:
        return tensor
    for dim, colours in enumerate(shape[:2]):  # out, in
        if tensor.shape[dim] == colours:
            continue
        if colours < CHANNELS:
            tensor = tensor.mean(dim, keepdim=True) if dim == 0 else tensor.sum(dim, keepdim=True)
        missing = list(tensor.shape)
        missing[dim] = colours - missing[dim]
        tensor = torch.cat([tensor, tensor.new_zeros(missing)], dim)
    return tensor


def _architecture(config: FitConfig) -> str:
    return ", ".join(f"{name}={getattr(config, name)!r}" for name in ARCHITECTURE)
