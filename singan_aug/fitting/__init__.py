"""How a pyramid comes to be."""

from singan_aug.fitting.events import FitEvent
from singan_aug.fitting.fitting import fit, fit_batch, fit_load, fit_work

__all__ = ["FitEvent", "fit", "fit_batch", "fit_load", "fit_work"]
