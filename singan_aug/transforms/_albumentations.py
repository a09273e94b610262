"""What the transforms for Albumentations share: the import of either library of that name, and seeds of draws."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from singan_aug.pyramid.noise import derive_seed

try:
    # One asks a server for its newest version when it is imported, the other reports on the first Compose.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("ALBUMENTATIONS_NO_TELEMETRY", "1")
    import albumentations as A
    from albumentations.core import transforms_interface
except ModuleNotFoundError as error:
    raise ImportError(
        f'the adapter for Albumentations needs {error.name}: pip install "singan-aug[albumentations]"'
    ) from error

__all__ = ["IS_SUCCESSOR", "SeededTransform", "transforms_interface"]

IS_SUCCESSOR = hasattr(A.BasicTransform, "sample_parameters")


class SeededTransform(A.DualTransform):
    """A transform whose one parameter is a seed from the generator that Compose hands out, or the worker's.

    A `DualTransform`, for wrappers such as Ultralytics' hand labels to no other.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p=p)
        self._worker_seed: int | None = None

    if IS_SUCCESSOR:  # it refuses a class that defines get_params

        def sample_parameters(self, params: Any, data: Any, targets: Any, sampling: Any) -> Any:
            """One seed from the call's generator, which the successor seeds for each worker and epoch.

            It adds the worker's seed to Compose's, so that worker 1 of seed 1 would repeat worker 0 of seed 2.
            """
            del params, data, targets
            seed, worker = _seed(sampling.random_generator), get_worker_info()
            if worker is not None:
                seed = derive_seed(seed, worker.seed)
            return transforms_interface.SampledParams(params={"seed": seed})

    else:

        def should_apply(self, force_apply: bool = False) -> bool:
            """Decide, in a DataLoader's worker from generators of its own: 2.0.8 hands the same ones to each."""
            worker = get_worker_info()
            if worker is not None and worker.seed != self._worker_seed:
                self.set_random_seed(derive_seed(_seed(self.random_generator), worker.seed))
                self._worker_seed = worker.seed
            return bool(super().should_apply(force_apply=force_apply))

        def get_params(self) -> dict[str, Any]:
            """One seed from the generator that Compose hands out, or the worker's."""
            return {"seed": _seed(self.random_generator)}

    def seed_of(self, sampled: Any) -> int:
        """The seed that was sampled for a call, as either library hands it on."""
        return int((sampled.params if IS_SUCCESSOR else sampled)["seed"])


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**63 - 1))
