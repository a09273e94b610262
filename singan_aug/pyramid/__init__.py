"""What a pyramid is, and drawing from it. Loaded on first use: sizes are arithmetic and need no torch."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from singan_aug.pyramid.drawing import draw as draw
    from singan_aug.pyramid.drawing import reconstruct as reconstruct
    from singan_aug.pyramid.pyramid import Pyramid as Pyramid
    from singan_aug.pyramid.scale import Scale as Scale

__all__ = ["Pyramid", "Scale", "draw", "reconstruct"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"drawing": ["draw", "reconstruct"], "pyramid": ["Pyramid"], "scale": ["Scale"]}
)
