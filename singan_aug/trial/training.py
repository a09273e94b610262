"""Training one cell: an arm, a choice of training images, all seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from singan_aug.trial.networks import FoldedUNet, SmallNetwork, TinyUNet
from singan_aug.trial.protocol import Arm, Protocol

__all__ = ["Batches", "train_head", "train_masks", "train_scratch"]

Build = Callable[[int, int], nn.Module]  # a network, of channels and classes
Sets = Mapping[tuple[str, str | None], Tensor]  # of each set of views [images of the pool, views, ...]
FEATURE_LENGTH = 20.0  # features are divided by their length and multiplied by this


class Batches:
    """Which views the steps of one run see: the classes in turn, their images at random, the view at random."""

    def __init__(
        self,
        arm: Arm,
        chosen: NDArray[np.int64],  # of the pool
        labels: NDArray[np.int64],  # of the pool
        replaceable: NDArray[np.bool_],  # of the pool: images that variants may replace
        protocol: Protocol,
        seed: int,
    ) -> None:
        rng = np.random.default_rng([seed, 2])
        shape = (protocol.steps, protocol.batch)
        by_class = [chosen[labels[chosen] == c] for c in np.unique(labels[chosen])]
        classes = rng.permuted(np.arange(np.prod(shape)) % len(by_class)).reshape(shape)
        within = rng.random(shape)
        self.images = np.empty(shape, dtype=np.int64)
        for c, members in enumerate(by_class):
            of_class = classes == c
            self.images[of_class] = members[(within[of_class] * len(members)).astype(np.int64)]
        self.views = rng.integers(2**31, size=shape)
        self.replaced = (rng.random(shape) < arm.mix_ratio) & replaceable[self.images]
        self.labels = torch.from_numpy(labels[self.images])
        # As many views of an image in every arm: with variants there are fewer of the image itself.
        self._variants = round(protocol.views * arm.mix_ratio)
        self._plain = max(1, protocol.views - self._variants)
        self._variants = min(self._variants, arm.most or self._variants)
        self._arm = arm

    def at(self, step: int, sets: Sets) -> tuple[Tensor, Tensor]:
        """The views of one step, [batch, ...], and their labels."""
        strong = self._arm.sets[0][0]
        plain, variants = sets[strong, None], sets.get((strong, self._arm.source)) if self._arm.source else None
        images, views, replaced = self.images[step], self.views[step], self.replaced[step]
        batch = plain[images, views % min(self._plain, plain.shape[1])]
        if variants is not None and replaced.any():
            batch = batch.clone()
            mask = torch.from_numpy(replaced)
            batch[mask] = variants[images[replaced], views[replaced] % min(self._variants, variants.shape[1])]
        return batch, self.labels[step]


def train_head(
    sets: Sets,  # features [pool, views, D]
    batches: list[Batches],  # of each seed
    test: Tensor,  # [T, D]
    classes: int,
    protocol: Protocol,
) -> NDArray[np.int64]:
    """Predictions of every seed, [seeds, T]: a linear layer, all seeds at once, AdamW and a cosine rate."""
    seeds, dims = len(batches), test.shape[1]
    weight = torch.zeros(seeds, dims, classes, requires_grad=True)
    bias = torch.zeros(seeds, 1, classes, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=protocol.learning_rate, weight_decay=protocol.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, protocol.steps)
    for step in range(protocol.steps):
        seen, labels = zip(*(each.at(step, sets) for each in batches), strict=True)
        logits = torch.baddbmm(bias, _unit_length(torch.stack(seen).float()), weight)
        loss = F.cross_entropy(logits.flatten(0, 1), torch.cat(labels)) * seeds  # seeds do not share a step's length
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        predicted: NDArray[np.int64] = (_unit_length(test.float()) @ weight + bias).argmax(-1).numpy()
    return predicted


def _unit_length(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1) * FEATURE_LENGTH


def train_scratch(
    sets: Sets,  # uint8 [pool, views, H, W, C]
    batches: Batches,
    test: Tensor,  # uint8 [T, H, W, C]
    classes: int,
    protocol: Protocol,
    seed: int,
    *,
    cutmix: bool,
    build: Build | None = None,  # SmallNetwork for None
) -> NDArray[np.int64]:
    """Predictions of one seed, [T]: SmallNetwork, AdamW and a one-cycle rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = (
            SmallNetwork(test.shape[-1], classes, protocol.width) if build is None else build(test.shape[-1], classes)
        )
        network = network.to(memory_format=torch.channels_last)
        rng = np.random.default_rng([seed, 3])
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=protocol.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, protocol.learning_rate, protocol.steps)
        for step in range(protocol.steps):
            seen, labels = batches.at(step, sets)
            images, targets = _signed(seen), F.one_hot(labels, classes).float()
            if cutmix:
                images, targets = _cutmix(images, targets, rng)
            with torch.autocast("cpu", torch.bfloat16, enabled=protocol.bfloat16):
                logits = network(images)
            optimiser.zero_grad()
            F.cross_entropy(logits.float(), targets).backward()
            optimiser.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        predicted = torch.cat([network(_signed(some)).argmax(1) for some in test.split(200)])
    return np.asarray(predicted.numpy(), dtype=np.int64)


def train_masks(
    sets: Sets,  # uint8 [pool, views, H, W, 4], the fourth channel 0 or 255
    batches: Batches,
    test: Tensor,  # uint8 [T, H, W, 4]
    protocol: Protocol,
    seed: int,
    strong: str,
    build: Build | None = None,  # TinyUNet or FoldedUNet for None
) -> NDArray[np.float64]:
    """Of one seed the intersection over union, and Dice, of every test image's figure, [2, T].

    TinyUNet on whole images, or FoldedUNet on crops of them in bfloat16 (a third faster where a processor has it);
    AdamW, a one-cycle rate, cross entropy and the soft Dice loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        folded = protocol.crop_px is not None
        network = _for_masks(protocol) if build is None else build(3, 1)
        network = network.to(memory_format=torch.channels_last)
        rng = np.random.default_rng([seed, 3])
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=protocol.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, protocol.learning_rate, protocol.steps)
        for step in range(protocol.steps):
            seen, _ = batches.at(step, sets)
            if protocol.crop_px is not None:
                seen = _cropped(seen, protocol.crop_px, rng)
            if strong in MIXED:
                seen = MIXED[strong](seen, rng)
            target = seen[..., 3][:, None].float() / 255
            with torch.autocast("cpu", torch.bfloat16, enabled=folded):
                logits = network(_signed(seen[..., :3]))
            optimiser.zero_grad()
            _mask_loss(logits.float(), target).backward()
            optimiser.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        found = torch.cat([network(_signed(some[..., :3]))[:, 0] > 0 for some in test.split(20)])
    figure = test[..., 3] > 127
    return _overlaps(found, figure)


def _overlaps(
    found: Tensor,  # bool [T, H, W]
    figure: Tensor,  # bool [T, H, W]
) -> NDArray[np.float64]:
    """Intersection over union, and Dice, [2, T]; 1 where there is nothing and nothing was found."""
    both, either = (found & figure).sum((1, 2)), (found | figure).sum((1, 2))
    scores = torch.stack([both / either.clamp_min(1), 2 * both / (both + either).clamp_min(1)])
    scores[:, either == 0] = 1
    return np.asarray(scores.double().numpy())


def _for_masks(protocol: Protocol) -> nn.Module:
    return TinyUNet(3, protocol.width // 3) if protocol.crop_px is None else FoldedUNet(3, protocol.width)


def _mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy and the soft Dice loss; both [N, 1, H, W]."""
    found = logits.sigmoid()
    shared = (found * target).sum((1, 2, 3))
    dice = 1 - (2 * shared + 1) / (found.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + dice.mean()


def _cropped(
    images: Tensor,  # [N, H, W, C]
    side: int,
    rng: np.random.Generator,
) -> Tensor:
    """A square of each, anywhere."""
    tops, lefts = (rng.integers(length - side + 1, size=len(images)) for length in images.shape[1:3])
    return torch.stack(
        [image[top : top + side, left : left + side] for image, top, left in zip(images, tops, lefts, strict=True)]
    )


def _mask_cutmix(images: Tensor, rng: np.random.Generator) -> Tensor:
    """CutMix with masks, [N, H, W, 4]: a rectangle of each from another of the batch, its mask with it."""
    rows, columns = _rectangle(images.shape[1], images.shape[2], rng)
    mixed = images.clone()
    mixed[:, rows, columns] = images[torch.from_numpy(rng.permutation(len(images)))][:, rows, columns]
    return mixed


def _mask_paste(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Copy-paste (Ghiasi et al. 2021), [N, H, W, 4]: into half of them the figure of another, mirrored at random."""
    others = images[torch.from_numpy(rng.permutation(len(images)))]
    mirrored = torch.from_numpy(rng.random(len(images)) < 0.5)[:, None, None, None]
    others = torch.where(mirrored, others.flip(2), others)
    pasted = (others[..., 3:] > 127) & torch.from_numpy(rng.random(len(images)) < 0.5)[:, None, None, None]
    return torch.where(pasted, others, images)


MIXED: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "turns_cutmix": _mask_cutmix,
    "turns_paste": _mask_paste,
}


def _signed(pixels: Tensor) -> Tensor:
    """[N, H, W, C] as [N, C, H, W] in [-1, 1], channels last in memory: nearly twice as fast on a CPU."""
    return (pixels.float() / 127.5 - 1).movedim(-1, 1)


def _cutmix(images: Tensor, targets: Tensor, rng: Any) -> tuple[Tensor, Tensor]:
    """Yun et al. 2019: a rectangle of each image from another of the batch; targets share as the areas do."""
    order = torch.from_numpy(rng.permutation(len(images)))
    height, width = images.shape[-2:]
    rows, columns = _rectangle(height, width, rng)
    mixed = images.clone()
    mixed[..., rows, columns] = images[order][..., rows, columns]
    share = mixed[0, 0, rows, columns].numel() / (height * width)
    return mixed, targets * (1 - share) + targets[order] * share


def _rectangle(height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a rectangle whose area is a random share of the image's, but for what lies outside."""
    side = np.sqrt(1 - rng.random())
    top, left = rng.integers(height), rng.integers(width)
    rows = slice(max(0, int(top - side * height / 2)), int(top + side * height / 2))
    return rows, slice(max(0, int(left - side * width / 2)), int(left + side * width / 2))
