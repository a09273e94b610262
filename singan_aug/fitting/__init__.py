"""How a pyramid comes to be."""

from singan_aug.fitting.fitter import FitEvent, fit_load, fit_work
from singan_aug.fitting.fitting import fit, fit_batch
from singan_aug.fitting.prior import Prior, load_prior, steps_within, train_prior

__all__ = ["FitEvent", "Prior", "fit", "fit_batch", "fit_load", "fit_work", "load_prior", "steps_within", "train_prior"]
