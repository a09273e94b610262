"""SinGANAugment for MONAI: 2-D images, alone or in a dictionary beside their masks."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from singan_aug.config import FitConfig
from singan_aug.errors import ImageError, LabelError
from singan_aug.pyramid.confine import Confine
from singan_aug.pyramid.noise import derive_seed
from singan_aug.transforms._labels import carry_mask, object_of_masks
from singan_aug.transforms._source import Labels, OnMiss, Settings, VariantSource
from singan_aug.transforms._variant import Variant

try:
    from monai.transforms import MapTransform, Randomizable, Transform
    from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple
except ModuleNotFoundError as error:
    raise ImportError(f'SinGANAugment for MONAI needs {error.name}: pip install "singan-aug[monai]"') from error

__all__ = ["SinGANAugment", "SinGANAugmentd"]


class _Drawing(Randomizable):
    """What both transforms share: the source, its counts, and a seed for each call."""

    _source: VariantSource

    def randomize(self, data: Any = None) -> None:
        """Draw a seed from `R`. Workers differ even where they share its state, as under PyTorch's own loader."""
        del data
        seed, worker = int(self.R.randint(2**63 - 1, dtype="int64")), get_worker_info()
        self._seed = seed if worker is None else derive_seed(seed, worker.seed)

    def stats(self) -> dict[str, int]:
        """What became of the images so far, in all workers: how many were drawn, left by p, had no pyramid."""
        return self._source.stats()


class SinGANAugment(_Drawing, Transform):
    """Replace an image by a variant drawn from the pyramid that was fitted to it.

    Takes arrays and tensors [C, H, W], uint8 or float in [0, 1], and keeps their type, dtype, device and metadata.
    Images are found by their pixels, so this belongs right after `LoadImage(dtype=np.uint8, ensure_channel_first=True)`
    and before intensities are scaled. It never fits: run `singan-aug fit` first.

    Args:
        start_scale, strength, p, store, config, on_miss, device, bank, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`. Seeds come from `set_random_state`, or `monai.utils.set_determinism`.

    Raises:
        ConfigError: an argument is not one of these.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    def __init__(
        self,
        start_scale: Any = None,
        *,
        strength: float | None = None,
        p: float = 0.5,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        device: str = "cpu",
        bank: bool = True,
        confine: Confine | None = None,
        confine_margin_px: float = 8.0,
    ) -> None:
        self._source = VariantSource(
            Settings(
                start_scale,
                strength,
                store,
                config,
                on_miss,
                p=p,
                device=device,
                bank=bank,
                confine=confine,
                confine_margin_px=confine_margin_px,
            )
        )

    def __call__(self, img: Any) -> Any:
        """A variant of `img`, or `img` itself."""
        self.randomize()
        planes = _planes(img)
        variant = self._source.variant(planes, self._seed)
        return img if variant is None else _as_held(variant.held_as(planes), img)


class SinGANAugmentd(_Drawing, MapTransform):
    """Dictionary version of `SinGANAugment`: masks follow the pixels of the image, or there is an error.

    Args:
        keys: the image, [C, H, W]. Further keys are images of the same place, such as another modality: they follow the
            first, whose pyramid is drawn from.
        mask_keys: masks [C, H, W] of the image's size. An entry of that size which is not named here is refused:
            it would stay behind.
        allow_missing_keys: whether keys and mask_keys may be absent.
        labels: "carry" moves masks with the pixels even where things move; "refuse" raises there, unless the pyramid
            was fitted with a mask (`singan-aug fit --masks`).
        start_scale, strength, p, store, config, on_miss, device, bank, confine, confine_margin_px: as for
            `singan_aug.SinGANAugment`.

    Raises:
        ConfigError: an argument is not one of these.
        LabelError: when called with masks, or further images, that would not follow.
        ImageError, StartScaleError, MissingPyramidError, CorruptPyramidError: when called.
    """

    def __init__(
        self,
        keys: Hashable | Iterable[Hashable],
        mask_keys: Hashable | Iterable[Hashable] = (),
        start_scale: Any = None,
        *,
        strength: float | None = None,
        p: float = 0.5,
        store: str | os.PathLike[str] | None = None,
        config: FitConfig | None = None,
        on_miss: OnMiss = "error",
        device: str = "cpu",
        labels: Labels = "refuse",
        bank: bool = True,
        confine: Confine | None = None,
        confine_margin_px: float = 8.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_keys: tuple[Hashable, ...] = ensure_tuple(mask_keys)
        self._source = VariantSource(
            Settings(
                start_scale,
                strength,
                store,
                config,
                on_miss,
                p=p,
                device=device,
                labels=labels,
                bank=bank,
                confine=confine,
                confine_margin_px=confine_margin_px,
            )
        )

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """The sample, with its image, further images and masks replaced, or as it is."""
        self.randomize()
        sample = dict(data)
        images = list(self.key_iterator(sample))
        if not images:
            return sample
        masks = self._masks(sample)
        planes = _planes(sample[images[0]])
        _refuse_unnamed(sample, (*images, *masks), planes)
        followers = [*images[1:], *masks]
        region = object_of_masks([convert_to_tensor(sample[key], track_meta=False) for key in masks])
        variant = self._source.variant(planes, self._seed, labelled=bool(followers), region=region)
        if variant is None:
            return sample
        sample[images[0]] = _as_held(variant.held_as(planes), sample[images[0]])
        for key in followers:
            sample[key] = _following(sample[key], variant, key, is_image=key in images)
        return sample

    def _masks(self, sample: Mapping[Hashable, Any]) -> list[Hashable]:
        absent = [key for key in self.mask_keys if key not in sample]
        if absent and not self.allow_missing_keys:
            raise LabelError(
                f"expected a mask under {absent[0]!r}, got {', '.join(map(repr, sample))}; "
                "give its key in mask_keys, or allow_missing_keys=True"
            )
        return [key for key in self.mask_keys if key in sample]


def _planes(img: Any) -> Tensor:
    planes: Tensor = convert_to_tensor(img, track_meta=False)
    if planes.ndim != 3:
        raise ImageError(
            f"expected a 2-D image [C, H, W], got {list(planes.shape)}: load with ensure_channel_first=True; slices "
            "of a volume are drawn one by one, each from a pyramid of its own"
        )
    return planes


def _as_held(tensor: Tensor, template: Any) -> Any:
    return convert_to_dst_type(tensor, template)[0]


def _following(value: Any, variant: Variant, key: Hashable, *, is_image: bool) -> Any:
    if variant.field is None:
        if is_image:
            raise LabelError(
                f"expected one image, got {key!r} beside it: draws of this pyramid copy no pixels, so nothing can "
                "follow them; fit it with the preset `fast`"
            )
        return value  # the layout is kept
    planes: Tensor = convert_to_tensor(value, track_meta=False)
    return _as_held(carry_mask(planes, variant.field.to(planes.device)), value)


def _refuse_unnamed(sample: Mapping[Hashable, Any], named: Iterable[Hashable], planes: Tensor) -> None:
    for key, value in sample.items():
        if key in named or (not isinstance(value, torch.Tensor) and not hasattr(value, "__array_interface__")):
            continue
        if value.ndim > 1 and tuple(value.shape[-2:]) == tuple(planes.shape[-2:]):
            raise LabelError(
                f"expected every entry of the image's size to be named, got {key!r} {list(value.shape)}, which would "
                f"stay behind: give mask_keys={key!r}, or another image in keys"
            )
