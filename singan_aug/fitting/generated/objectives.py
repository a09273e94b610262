"""Training objectives: what tells a generator how close its draws are to the source, registered by name.

An objective lives for one scale. Adversarial ones own a critic and its optimiser; the others are stateless.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached, register_parametrization

from singan_aug._registry import Registry
from singan_aug.config import Generated
from singan_aug.errors import ConfigError
from singan_aug.fitting.checkpoint import State, as_tensor, under
from singan_aug.fitting.generated.adam import Adam
from singan_aug.fitting.generated.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    hinge_critic_loss,
    logistic_critic_loss,
    non_saturating_loss,
    r1_penalty,
    random_projections,
    semi_dual,
    sliced_wasserstein,
)
from singan_aug.pyramid.generated.blocks import initialise
from singan_aug.pyramid.generated.networks import critic_from

__all__ = ["OBJECTIVES", "Objective"]

GRAIN_PX = 3  # half of the projections are of patches this small, which grain weighs most in
COMPARED = 3000  # patches; more take longer to sort and change little
TRANSPORTED = 1500  # patches of draws that are compared with all of the source


class Objective(Protocol):
    """The seam between the training loop and what it minimises. Images are [N, C, H, W] in [-1, 1]."""

    adversarial: bool  # whether there is something to `update`

    def set_rate(self, learning_rate: float) -> None:
        """Follow the schedule."""

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Learn to tell fake (without a graph) from real; losses by name, empty where nothing is learned."""

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """The generator's loss, with a graph back to `fake`."""

    def state(self) -> dict[str, Tensor]:
        """All that it has learned so far, for a fit that is interrupted."""

    def restore(self, state: State) -> None:
        """The inverse of `state`. Raises KeyError or RuntimeError where names or shapes do not fit."""


class _Build(Protocol):
    def __call__(
        self,
        config: Generated,
        channels: int,
        width: int,
        generator: torch.Generator,  # of the initial weights
        device: torch.device,
        below: Objective | None,  # the objective of the scale below
    ) -> Objective: ...


OBJECTIVES: Registry[_Build] = Registry("loss")


class _Adversarial:
    """A patch critic and its optimiser; what it minimises is for subclasses to say. It starts from the critic below of
    the same objective and width."""

    adversarial = True

    def __init__(
        self,
        config: Generated,
        channels: int,
        width: int,
        generator: torch.Generator,
        device: torch.device,
        below: Objective | None,
    ) -> None:
        networks, schedule = config.networks, config.schedule
        self._objective = config.objective
        self._width = width
        self.critic = critic_from(networks, channels, width)
        initialise(self.critic, generator)
        self._constrain()
        if isinstance(below, type(self)) and below._width == width:
            self.critic.load_state_dict(below.critic.state_dict())
        self.critic.to(device).to(memory_format=torch.channels_last)
        betas = (schedule.beta1, schedule.beta2)
        self._optimiser = Adam(self.critic.parameters(), schedule.learning_rate, betas, fused=True)
        self._updates = 0
        self._penalty: Tensor | None = None  # the last one

    def _constrain(self) -> None:
        """Constrain the critic's weights, where that is part of the objective."""

    def _separation(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        raise NotImplementedError

    def _realism(self, fake_scores: Tensor) -> Tensor:
        raise NotImplementedError

    def _penalised(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor | None:
        """The penalty of the critic; None where there is none."""
        del real, fake, generator
        return None

    def set_rate(self, learning_rate: float) -> None:
        self._optimiser.rate = learning_rate

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`critic_updates` steps on the same real and fake images, of which one in `penalty_every` has the penalty.

        A penalty that comes so seldom is that many times as strong (lazy regularisation: Karras et al. 2020,
        "Analyzing and Improving the Image Quality of StyleGAN", appendix B).
        """
        self.critic.requires_grad_(True)
        every = self._objective.penalty_every
        for _ in range(self._objective.critic_updates):
            with cached():
                loss = total = self._separation(self.critic(real), self.critic(fake))
                if self._updates % every == 0:
                    penalty = self._penalised(real, fake, generator)
                    if penalty is not None:
                        total = loss + every * self._objective.penalty_weight * penalty
                        self._penalty = penalty.detach()
            self._updates += 1
            self._optimiser.zero_grad()
            total.backward()
            self._optimiser.step()
        self.critic.requires_grad_(False)
        losses = {"critic": loss.detach()}
        return losses if self._penalty is None else {**losses, "penalty": self._penalty}

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        del real, generator
        return self._realism(self.critic(fake))

    def state(self) -> dict[str, Tensor]:
        """The critic and its optimiser. The last penalty is part of it, since it is told of until the next."""
        state = {"updates": as_tensor(self._updates), **self._optimiser.state("adam")}
        state |= {} if self._penalty is None else {"penalty": self._penalty}
        return state | {f"critic.{name}": tensor for name, tensor in self.critic.state_dict().items()}

    def restore(self, state: State) -> None:
        self.critic.load_state_dict(under("critic", state))
        self._optimiser.restore("adam", state)
        self._updates, self._penalty = int(state["updates"]), state.get("penalty")


@OBJECTIVES.register("wgan_gp")
class WassersteinGradientPenalty(_Adversarial):
    """WGAN-GP with a patch critic (Shaham et al. 2019, eq. 5)."""

    def _separation(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return critic_loss(real_scores, fake_scores)

    def _realism(self, fake_scores: Tensor) -> Tensor:
        return generator_loss(fake_scores)

    def _penalised(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        return gradient_penalty(self.critic, real, fake, generator)


@OBJECTIVES.register("non_saturating_r1")
class NonSaturatingR1(_Adversarial):
    """The non-saturating objective with R1 (Mescheder et al. 2018), as StyleGAN2 has it; `penalty_weight` is gamma."""

    def _separation(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return logistic_critic_loss(real_scores, fake_scores)

    def _realism(self, fake_scores: Tensor) -> Tensor:
        return non_saturating_loss(fake_scores)

    def _penalised(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        del fake, generator
        return r1_penalty(self.critic, real)


class _UnitSpectralNorm(nn.Module):
    """A convolution's weight over its largest singular value (Miyato et al. 2018, eq. 8), which is found exactly:
    matrices this small need no power iteration, and so no state."""

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        norm: Tensor = torch.linalg.eigvalsh(matrix @ matrix.T)[-1].sqrt()
        return weight / norm


@OBJECTIVES.register("hinge_spectral")
class HingeSpectralNorm(_Adversarial):
    """The hinge objective; each of the critic's convolutions has spectral norm 1 (Miyato et al. 2018)."""

    def _constrain(self) -> None:
        for module in self.critic.modules():
            if isinstance(module, nn.Conv2d):
                register_parametrization(module, "weight", _UnitSpectralNorm())

    def _separation(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        return hinge_critic_loss(real_scores, fake_scores)

    def _realism(self, fake_scores: Tensor) -> Tensor:
        return generator_loss(fake_scores)


@OBJECTIVES.register("semi_dual")
class SemiDual:
    """Optimal transport from the patches of draws to those of the source, by its semi-dual: an exact critic.

    All that is learned is one scalar for each patch of the source (Houdard et al. 2023, "A generative model for texture
    synthesis based on optimal transport between feature distributions"). Raises `ConfigError` for `crop_px`.
    """

    adversarial = True

    def __init__(
        self,
        config: Generated,
        channels: int,
        width: int,
        generator: torch.Generator,
        device: torch.device,
        below: Objective | None,
    ) -> None:
        del channels, width, generator, below
        if config.schedule.crop_px:
            raise ConfigError(
                f"expected crop_px=0 with loss='semi_dual', which knows every patch of the image by its place, got "
                f"{config.schedule.crop_px}"
            )
        self._objective, self._schedule = config.objective, config.schedule
        self._learning: tuple[Tensor, Adam] | None = None  # the potential, once there is an image
        self._rate, self._device = config.schedule.learning_rate, device

    def set_rate(self, learning_rate: float) -> None:
        """Follow the schedule."""
        self._rate = learning_rate

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`critic_updates` steps of ascent in the potential."""
        known = self._patches(real)
        potential, optimiser = self._potential(known)
        optimiser.rate = self._rate
        for _ in range(self._objective.critic_updates):
            cost, nearest = semi_dual(self._picked(fake, generator), known, potential)
            share = torch.bincount(nearest, minlength=len(known)).to(potential) / len(nearest)
            potential.grad = share - 1 / len(known)  # of the negative, which the optimiser minimises
            optimiser.step()
        return {"critic": -cost}

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """The transport cost as the potential has it, of at most `TRANSPORTED` patches at random places."""
        known = self._patches(real)
        return semi_dual(self._picked(fake, generator), known, self._potential(known)[0])[0]

    def state(self) -> dict[str, Tensor]:
        """The potential and its optimiser; nothing before the first image."""
        if self._learning is None:
            return {}
        potential, optimiser = self._learning
        return {"potential": potential, **optimiser.state("adam")}

    def restore(self, state: State) -> None:
        """The same again."""
        if state:
            self._begun(state["potential"].to(self._device))[1].restore("adam", state)

    def _potential(self, known: Tensor) -> tuple[Tensor, Adam]:
        return self._learning or self._begun(known.new_zeros(len(known)))

    def _begun(self, potential: Tensor) -> tuple[Tensor, Adam]:
        betas = (self._schedule.beta1, self._schedule.beta2)
        self._learning = potential, Adam([potential], self._rate, betas)
        return self._learning

    def _patches(self, image: Tensor) -> Tensor:
        """[L, D]: all patches of all images."""
        side = min(self._objective.compared_px, *image.shape[-2:])
        return F.unfold(image, side).movedim(1, -1).flatten(0, 1)

    def _picked(self, image: Tensor, generator: torch.Generator) -> Tensor:
        patches = self._patches(image)
        if len(patches) <= TRANSPORTED:
            return patches
        return patches[torch.randperm(len(patches), generator=generator, device="cpu")[:TRANSPORTED].to(image.device)]


@OBJECTIVES.register("sliced_wasserstein")
class SlicedWasserstein:
    """Sliced Wasserstein distance between the patches of a draw and of the source: nothing to train, cannot diverge."""

    adversarial = False

    def __init__(
        self,
        config: Generated,
        channels: int,
        width: int,
        generator: torch.Generator,
        device: torch.device,
        below: Objective | None,
    ) -> None:
        del width, generator, device, below
        self._objective = config.objective
        self._channels = channels

    def set_rate(self, learning_rate: float) -> None:
        """There is no critic to follow it."""

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing to learn."""
        del real, fake, generator
        return {}

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """Over fresh random projections at each call: half of small patches, half of `compared_px`, on a grid."""
        objective = self._objective
        stride = max(1, round((real.shape[-2] * real.shape[-1] / COMPARED) ** 0.5))
        down, right = torch.randint(stride, (2,), generator=generator, device="cpu").tolist()
        real, fake = real[..., down:, right:], fake[..., down:, right:]
        count = max(1, objective.projections // 2)
        distances = []
        for patch_px, zero_mean_every in ((min(GRAIN_PX, objective.compared_px), 1), (objective.compared_px, 2)):
            side = min(patch_px, *real.shape[-2:])
            filters = random_projections(count, self._channels, side, generator, zero_mean_every=zero_mean_every)
            distances.append(sliced_wasserstein(fake, real.expand_as(fake), filters.to(real.device), stride))
        return torch.stack(distances).mean()

    def state(self) -> dict[str, Tensor]:
        """Nothing is learned."""
        return {}

    def restore(self, state: State) -> None:
        """There is nothing to restore."""
        del state
