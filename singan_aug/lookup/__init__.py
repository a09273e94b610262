"""Which fitted image is this?"""

from singan_aug.lookup._index import PerceptualIndex
from singan_aug.lookup._match import Match

__all__ = ["Match", "PerceptualIndex"]
