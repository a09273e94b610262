"""The numbers that training minimises: pure functions of tensors, each with its source."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "critic_loss",
    "generator_loss",
    "gradient_penalty",
    "hinge_critic_loss",
    "logistic_critic_loss",
    "non_saturating_loss",
    "r1_penalty",
    "random_projections",
    "reconstruction_loss",
    "semi_dual",
    "sliced_wasserstein",
]


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the critic minimises: E[D(fake)] - E[D(real)] (Arjovsky et al. 2017, eq. 3)."""
    return fake_scores.mean() - real_scores.mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """What the generator minimises: -E[D(fake)] (Arjovsky et al. 2017, eq. 3)."""
    return -fake_scores.mean()


def gradient_penalty(
    critic: nn.Module,
    real: Tensor,  # [N, C, H, W]
    fake: Tensor,  # [N, C, H, W], without a graph
    generator: torch.Generator,
) -> Tensor:
    """Mean over pixels of (|gradient over channels| - 1)^2 at a random point between real and fake.

    Gulrajani et al. 2017, eq. 3, with the norm over the channel dimension alone, per pixel, as SinGAN has it.
    """
    share = torch.rand(1, generator=generator, dtype=real.dtype, device="cpu").to(real.device)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.norm(2, dim=1) - 1).square().mean()
    return penalty


def logistic_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What a critic of log-odds minimises: E[-log s(D(real))] - E[log(1 - s(D(fake)))] (Goodfellow et al. 2014)."""
    return F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()


def non_saturating_loss(fake_scores: Tensor) -> Tensor:
    """What the generator minimises against log-odds: E[-log s(D(fake))] (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake_scores).mean()


def r1_penalty(
    critic: nn.Module,
    real: Tensor,  # [N, C, H, W]
) -> Tensor:
    """Half the squared norm of the critic's gradient at real images: R1 of Mescheder et al. 2018, eq. 9.

    The norm is over the channel dimension alone, and the mean over pixels, as in `gradient_penalty`.
    """
    seen = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(seen).sum(), seen, create_graph=True)
    penalty: Tensor = gradient.square().sum(1).mean() / 2
    return penalty


def hinge_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))] (Miyato et al. 2018, eq. 17)."""
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()


def reconstruction_loss(reconstruction: Tensor, real: Tensor) -> Tensor:
    """Mean squared error (Shaham et al. 2019, eq. 6)."""
    return F.mse_loss(reconstruction, real)


def random_projections(
    count: int, channels: int, patch_px: int, generator: torch.Generator, *, zero_mean_every: int = 2
) -> Tensor:
    """Unit-norm random filters [count, channels, patch_px, patch_px]; every so many have zero mean in each channel.

    Without these, brightness takes most of every projection and texture is hardly compared.
    """
    shape = (count, channels, patch_px, patch_px)
    filters = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    if patch_px > 1:  # a single pixel less its mean is nothing
        filters[::zero_mean_every] -= filters[::zero_mean_every].mean((2, 3), keepdim=True)
    norms: Tensor = filters.flatten(1).norm(dim=1)
    return filters / norms.reshape(-1, 1, 1, 1)


def sliced_wasserstein(
    fake: Tensor,  # [N, C, H, W]
    real: Tensor,  # [N, C, H, W], as many pixels as fake
    projections: Tensor,  # [P, C, p, p]
    stride: int = 1,  # of the grid of patches
) -> Tensor:
    """Mean squared difference of the sorted projections of p x p patches: a sliced 2-Wasserstein distance.

    Between the patch distributions of two images, as in Elnekave & Weiss 2022 (GPDM), eq. 3.
    """
    drawn, known = (F.conv2d(image, projections, stride=stride).transpose(0, 1).flatten(1) for image in (fake, real))
    if drawn.device.type != "cpu":
        return (drawn.sort(dim=1).values - known.sort(dim=1).values).square().mean()
    # On the CPU numpy sorts in a fifth of the time, and finds the order in half of it.
    order = torch.from_numpy(np.argsort(drawn.detach().numpy(), axis=1))
    return (drawn.gather(1, order) - torch.from_numpy(np.sort(known.detach().numpy(), axis=1))).square().mean()


def semi_dual(
    drawn: Tensor,  # [L, D]: patches
    known: Tensor,  # [M, D]: patches of the source
    potential: Tensor,  # [M]: one scalar for each of these
) -> tuple[Tensor, Tensor]:
    """Mean of min_j c(x, y_j) - v_j over drawn patches x, plus the mean of v; and which j that is, int64 [L].

    c is the mean squared difference. Its maximum over v is the optimal transport cost between the two sets of patches
    (semi-dual; Genevay et al. 2016, eq. 5); in v it is concave, and its gradient is 1 / M less each j's share of x.
    """
    with torch.no_grad():
        offset = known.square().mean(1) - potential
        nearest = torch.addmm(offset, drawn, known.T, alpha=-2 / known.shape[1]).argmin(1)
    costs = (drawn - known[nearest]).square().mean(1)
    return (costs - potential[nearest]).mean() + potential.mean(), nearest
