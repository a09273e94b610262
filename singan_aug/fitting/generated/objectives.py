"""Training objectives: what tells a generator how close its draws are to the source, registered by name.

An objective lives for one scale. Adversarial ones own a critic and its optimiser; the others are stateless.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from singan_aug._registry import Registry
from singan_aug.config import Generated
from singan_aug.fitting.generated.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    random_projections,
    sliced_wasserstein,
)
from singan_aug.pyramid.generated.blocks import initialise
from singan_aug.pyramid.generated.networks import critic_from

__all__ = ["OBJECTIVES", "Objective"]

GRAIN_PX = 3  # half of the projections are of patches this small, which grain weighs most in
COMPARED = 3000  # patches; more take longer to sort and change little


class Objective(Protocol):
    """The seam between the training loop and what it minimises. Images are [N, C, H, W] in [-1, 1]."""

    adversarial: bool  # whether there is something to `update`

    def set_rate(self, learning_rate: float) -> None:
        """Follow the schedule."""

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Learn to tell fake (without a graph) from real; losses by name, empty where nothing is learned."""

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """The generator's loss, with a graph back to `fake`."""


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


@OBJECTIVES.register("wgan_gp")
class WassersteinGradientPenalty:
    """WGAN-GP with a patch critic (Shaham et al. 2019, eq. 5). The critic starts from the one below of equal width."""

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
        if isinstance(below, WassersteinGradientPenalty) and below._width == width:
            self.critic.load_state_dict(below.critic.state_dict())
        self.critic.to(device).to(memory_format=torch.channels_last)
        self._optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=schedule.learning_rate, betas=(schedule.beta1, schedule.beta2), fused=True
        )
        self._updates = 0

    def set_rate(self, learning_rate: float) -> None:
        """Follow the schedule."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate

    def update(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`critic_updates` steps on the same real and fake images, of which one in `penalty_every` has the penalty.

        A penalty that comes so seldom is that many times as strong (lazy regularisation: Karras et al. 2020,
        "Analyzing and Improving the Image Quality of StyleGAN", appendix B).
        """
        self.critic.requires_grad_(True)
        every = self._objective.penalty_every
        for _ in range(self._objective.critic_updates):
            loss = critic_loss(self.critic(real), self.critic(fake))
            total = loss
            if self._updates % every == 0:
                penalty = gradient_penalty(self.critic, real, fake, generator)
                total = loss + every * self._objective.penalty_weight * penalty
                self._penalty = penalty.detach()
            self._updates += 1
            self._optimiser.zero_grad(set_to_none=True)
            total.backward()
            self._optimiser.step()
        self.critic.requires_grad_(False)
        return {"critic": loss.detach(), "penalty": self._penalty}

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """-E[D(fake)]."""
        del real, generator
        return generator_loss(self.critic(fake))


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
