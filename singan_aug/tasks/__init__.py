"""What else a pyramid is good for: SinGAN's other uses (Shaham et al. 2019, section 4), each a pure function.

They take a pyramid of any preset, and images as `fit` takes them. The arguments decide everything, the seed among
them; nothing that is passed in is changed. Pictures come as `draw` gives them: float [n, C, H, W] in [0, 1].
"""

from singan_aug.tasks.animation import animate
from singan_aug.tasks.clips import save_clip
from singan_aug.tasks.editing import edit
from singan_aug.tasks.enlarging import super_resolution
from singan_aug.tasks.harmonization import harmonize
from singan_aug.tasks.inpainting import inpaint
from singan_aug.tasks.interpolation import interpolate
from singan_aug.tasks.painting import paint
from singan_aug.tasks.sampling import sample
from singan_aug.tasks.styling import style

__all__ = [
    "animate",
    "edit",
    "harmonize",
    "inpaint",
    "interpolate",
    "paint",
    "sample",
    "save_clip",
    "style",
    "super_resolution",
]
