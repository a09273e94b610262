"""How a pyramid comes to be."""

from singan_aug.fitting.fitter import FitEvent, fit_load, fit_work
from singan_aug.fitting.fitting import fit, fit_batch

__all__ = ["FitEvent", "fit", "fit_batch", "fit_load", "fit_work"]
