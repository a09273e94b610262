"""Adam without torch's optimiser: the same to the bit, and no compiler imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from singan_aug.fitting.generated.adam import Adam

SHAPES = ((4, 3, 3, 3), (4,), (2, 5))
BETAS = (0.5, 0.999)


def _parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator) for shape in SHAPES]
    made[0] = made[0].to(memory_format=torch.channels_last)
    return [parameter.requires_grad_(True) for parameter in made]


def _set_gradients(parameters: list[Tensor], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_is_that_of_torch(fused: bool) -> None:
    ours, theirs = _parameters(), _parameters()
    adam = Adam(ours, 0.01, BETAS, fused=fused)
    known = torch.optim.Adam(theirs, lr=0.01, betas=BETAS, fused=fused or None)
    for step in range(5):
        if step == 3:
            adam.rate = known.param_groups[0]["lr"] = 0.002
        for parameters in (ours, theirs):
            _set_gradients(parameters, step)
            if step == 2:
                parameters[1].grad = None
        adam.step()
        known.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimiser_goes_on_from_a_state(fused: bool) -> None:
    ours, again = _parameters(), _parameters()
    adam = Adam(ours, 0.01, BETAS, fused=fused)
    for step in range(3):
        _set_gradients(ours, step)
        adam.step()
    state = {name: tensor.clone() for name, tensor in adam.state("adam").items()}
    assert set(state) == {f"adam.{number}.{what}" for number in range(3) for what in ("step", "exp_avg", "exp_avg_sq")}
    with torch.no_grad():
        for parameter, other in zip(again, ours, strict=True):
            parameter.copy_(other)
    resumed = Adam(again, 0.01, BETAS, fused=fused)
    resumed.restore("adam", state)
    for step in range(3, 5):
        for parameters, optimiser in ((ours, adam), (again, resumed)):
            _set_gradients(parameters, step)
            optimiser.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))
    with pytest.raises(KeyError):
        resumed.restore("another", state)


def test_gradients_are_forgotten() -> None:
    parameters = _parameters()
    _set_gradients(parameters, 0)
    Adam(parameters, 0.01, BETAS).zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


_FIT = """
import sys
import numpy as np
from singan_aug import fit, learned
noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
fit(noise, learned(coarsest_px=16, steps_coarsest=2, width=4))
print(*(name for name in ("torch._dynamo", "torch._inductor", "sympy", "torchvision") if name in sys.modules))
"""


def test_a_fit_with_a_network_imports_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", _FIT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
