"""Adam by torch's kernels, without the seconds in which `torch.optim.Adam` imports torch's compiler."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

from singan_aug.fitting.checkpoint import State, alike, under

__all__ = ["Adam"]

EPSILON = 1e-8  # torch's default


class Adam:
    """Kingma and Ba 2015; to the bit what `torch.optim.Adam` does. `rate`, the learning rate, may be set at any time.

    With `fused` one kernel steps all parameters; without, what torch takes by default on their device.
    """

    def __init__(
        self, parameters: Iterable[Tensor], rate: float, betas: tuple[float, float], *, fused: bool = False
    ) -> None:
        self.parameters, self.rate, self.betas = list(parameters), rate, betas
        self._fused = fused or None
        self._moments: dict[int, dict[str, Tensor]] = {}  # of the parameters that had a gradient, by their number

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of each parameter that has a gradient."""
        stepped = {number: each for number, each in enumerate(self.parameters) if each.grad is not None}
        for number, each in stepped.items():
            if number not in self._moments:
                self._moments[number] = self._at_rest(each)
        moments = [self._moments[number] for number in stepped]
        adam(
            list(stepped.values()),
            [each.grad for each in stepped.values() if each.grad is not None],
            [each["exp_avg"] for each in moments],
            [each["exp_avg_sq"] for each in moments],
            [],
            [each["step"] for each in moments],
            fused=self._fused,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def _at_rest(self, parameter: Tensor) -> dict[str, Tensor]:
        step = torch.zeros((), dtype=torch.float32, device=self._step_device(parameter))
        return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def _step_device(self, parameter: Tensor) -> torch.device:
        return parameter.device if self._fused else torch.device("cpu")

    def state(self, name: str) -> dict[str, Tensor]:
        """Moments and counts of all parameters, their names under this one."""
        return {
            f"{name}.{number}.{what}": tensor
            for number, moments in self._moments.items()
            for what, tensor in moments.items()
        }

    def restore(self, name: str, state: State) -> None:
        """The same again, in the layout of the parameters. Raises KeyError, ValueError."""
        for number, parameter in enumerate(self.parameters):
            kept = under(f"{name}.{number}", state)
            moments = {what: alike(parameter, kept[what]) for what in ("exp_avg", "exp_avg_sq")}
            self._moments[number] = {"step": kept["step"].reshape(()).to(self._step_device(parameter)), **moments}
