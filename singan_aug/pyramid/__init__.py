"""What a pyramid is, and drawing from it. Loaded on first use: sizes are arithmetic and need no torch."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from singan_aug.pyramid.copied.displacement import keeps_layout as keeps_layout
    from singan_aug.pyramid.drawing import Traced as Traced
    from singan_aug.pyramid.drawing import draw as draw
    from singan_aug.pyramid.drawing import reconstruct as reconstruct
    from singan_aug.pyramid.drawing import trace as trace
    from singan_aug.pyramid.pyramid import Pyramid as Pyramid
    from singan_aug.pyramid.scale import Scale as Scale

__all__ = ["Pyramid", "Scale", "Traced", "draw", "keeps_layout", "reconstruct", "trace"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "copied.displacement": ["keeps_layout"],
        "drawing": ["Traced", "draw", "reconstruct", "trace"],
        "pyramid": ["Pyramid"],
        "scale": ["Scale"],
    },
)
