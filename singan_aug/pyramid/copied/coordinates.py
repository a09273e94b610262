"""What the steps of a draw from a pyramid of patches have in common, however they are computed.

Coordinates, `origin`, are int64 [N, 2, h, w]: the row and column in a source that each pixel of a canvas comes from.
Descriptors, [h + 4 MARGIN + 1, w + 2 MARGIN, D], are what the places of a source look like, in a margin of places that
resemble nothing, so that no candidate needs clamping.
"""

from __future__ import annotations

__all__ = ["FAR", "MARGIN", "SEAM_LIMIT", "STEPS"]

STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2))  # whose coordinates are taken over
MARGIN = 2  # pixels that these steps reach
FAR = 1e3  # a descriptor that resembles nothing: those of images are of the order of 1
SEAM_LIMIT = 0.15  # steps in brightness (in [-1, 1]) well above this are edges, not seams
