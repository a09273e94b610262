"""advise(): is it worth while for these images, and how? try_out(): a small trial on them."""

from singan_aug.advise._advice import Advice, Line, advise
from singan_aug.advise._look import COMPOSITIONS, Composition
from singan_aug.advise._try import Outcome, try_out

__all__ = ["COMPOSITIONS", "Advice", "Composition", "Line", "Outcome", "advise", "try_out"]
