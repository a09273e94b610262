"""How a pyramid comes to be. What needs torch is loaded on first use: events travel through processes without it."""

from typing import TYPE_CHECKING

import lazy_loader

from singan_aug.fitting.events import FitEvent as FitEvent

if TYPE_CHECKING:
    from singan_aug.fitting.fitting import fit as fit
    from singan_aug.fitting.fitting import fit_batch as fit_batch
    from singan_aug.fitting.fitting import fit_load as fit_load
    from singan_aug.fitting.fitting import fit_work as fit_work

__all__ = ["FitEvent", "fit", "fit_batch", "fit_load", "fit_work"]

__getattr__, _, _ = lazy_loader.attach(__name__, submod_attrs={"fitting": ["fit", "fit_batch", "fit_load", "fit_work"]})


def __dir__() -> list[str]:
    return list(__all__)
