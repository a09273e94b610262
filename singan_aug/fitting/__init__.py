"""How a pyramid comes to be."""

from singan_aug.fitting.fitting import FitEvent, fit
from singan_aug.fitting.schedule import fit_work

__all__ = ["FitEvent", "fit", "fit_work"]
