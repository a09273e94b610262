"""The variants of one image: drawn, and written with their labels."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from singan_aug.annotations import counted
from singan_aug.errors import LabelError, SinGANAugError
from singan_aug.export._layout import Carrier
from singan_aug.export._pictures import about, save_variant
from singan_aug.export._plan import Exported, Job, Settings
from singan_aug.images import Pixels, decoded, load_image, quiet_decoding, unit_to_pil
from singan_aug.lookup import Match
from singan_aug.pyramid import Pyramid, keeps_layout
from singan_aug.pyramid.confine import Confinement
from singan_aug.pyramid.copied.displacement import layout_start_scale
from singan_aug.pyramid.noise import derive_seed
from singan_aug.pyramid.sizes import StartScale, resolve_start_scale
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import Fingerprint, Manifest, fingerprint, open_store
from singan_aug.transforms._finder import WHOLE, Relation
from singan_aug.transforms._labels import carry_boxes
from singan_aug.transforms._variant import drawn, drawn_confined, object_in

__all__ = ["export_one"]


class _Draw(Carrier):
    """One variant: its pixels, and where they come from."""

    def __init__(
        self,
        pyramid: Pyramid,
        manifest: Manifest,
        identity: Fingerprint,
        pixels: Pixels,
        start_scale: StartScale,
        seed: int,
        confined_to: tuple[Tensor, Confinement] | None,  # where objects are, and how
    ) -> None:
        self.size, self._manifest, self._identity = (pixels.shape[0], pixels.shape[1]), manifest, identity
        self._start = resolve_start_scale(start_scale, len(pyramid))
        self._kept = keeps_layout(manifest.displacement_px, pyramid.size, self._start)
        relation = Relation(manifest.key, Match(identity.digest, identity.turn_code, WHOLE, "rgb"))
        self.image: Tensor  # [C, H, W]
        if confined_to is not None:
            made = drawn_confined(pixels, pyramid, manifest, self._start, seed, relation, *confined_to)
            self.image = made.image
            self._field = made.field
            return
        self.image, self._find_field = drawn(pixels, pyramid, manifest, self._start, seed, relation, exact=False)

    @cached_property
    def _field(self) -> Tensor:
        found = self._find_field()
        if found is not None:
            return found
        if not self._kept:
            raise self._refusal("labels of a pyramid that generates pixels", 'fit with the preset "fast"')
        rows, columns = (torch.arange(side, device="cpu") for side in self.size)
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))

    def field(self) -> Tensor:
        """Exact where pixels were copied; the identity where they were generated and stay about where they were."""
        return self._field

    def boxes(self, boxes: Tensor) -> Tensor:
        """The same ones, from start scales that keep the layout."""
        if not self._kept:
            raise self._refusal("boxes without outlines", "give polygons")
        return carry_boxes(boxes, keeps_layout=self._kept)

    def _refusal(self, what: str, else_do: str) -> LabelError:
        moved = self._manifest.displacement_px
        size = self._manifest.scale_sizes[-1]
        first = layout_start_scale(moved, size)
        choose = (
            f"no start scale of its pyramid keeps the layout, so {else_do}"
            if first is None
            else f"use --start-scale {first} or finer, or {else_do}"
        )
        far = f"{moved[self._start]:.0f} of {min(size)} px" if moved else "it is not known how far"
        return LabelError(f"{what} cannot follow start scale {self._start}, which moves things ({far}): {choose}")


@one_thread()
def export_one(job: Job, location: str, out: Path, settings: Settings) -> tuple[Exported, dict[str, Any] | None]:
    """Draw and write the variants of one image; the journal's entry, or None where it failed."""
    store = open_store(location)
    try:
        with quiet_decoding():
            pixels = load_image(job.image).pixels
            own = decoded(job.image, about)
        size, identity = (pixels.shape[0], pixels.shape[1]), fingerprint(pixels)
        left_out = job.labels.left_out(size)
        manifest, pyramid = store.manifest(job.key), store.load(job.key)
        confined_to = _confined_to(job, pixels, pyramid, manifest, identity, settings)
        variants = []
        for i, name in enumerate(job.names):
            start_scale = settings.start_scales[i % len(settings.start_scales)]
            seed = derive_seed(settings.seed, job.relative.as_posix(), i)
            draw = _Draw(pyramid, manifest, identity, pixels, start_scale, seed, confined_to)
            with quiet_decoding():
                labels = job.labels.write(Path(name).stem, draw, out)
            save_variant(unit_to_pil(draw.image), own, out, job.relative.with_name(name))
            variants.append({"name": name, "labels": labels})
    except SinGANAugError as error:
        return Exported(job.image, "failed", str(error)), None
    except OSError as error:
        return Exported(job.image, "failed", f"cannot be written: {error.strerror or error}"), None
    notes = [f"{counted(len(left_out), 'object')} left out: {left_out[0]}"] if left_out else []
    notes += ["16 bits of a colour reduced to 8 in its variants"] if own.loses_bits else []
    outcome = Exported(job.image, "exported", "; ".join(notes), len(left_out))
    return outcome, {"image": job.relative.as_posix(), "size": size, "variants": variants}


def _confined_to(
    job: Job, pixels: Pixels, pyramid: Pyramid, manifest: Manifest, identity: Fingerprint, settings: Settings
) -> tuple[Tensor, Confinement] | None:
    """Where objects are, bool [H, W]: as the dataset's labels say, else as the mask does that the pyramid has."""
    how = settings.confinement
    if how is None:
        return None
    outline = job.labels.objects((pixels.shape[0], pixels.shape[1]))
    if outline is not None:
        return torch.from_numpy(outline), how
    relation = Relation(manifest.key, Match(identity.digest, identity.turn_code, WHOLE, "rgb"))
    return object_in(pixels, pyramid, manifest, relation), how
