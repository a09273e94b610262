from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from singan_aug import fast, fit, make_key, open_store
from singan_aug.images import Pixels, like
from singan_aug.transforms._labels import carry_mask
from singan_aug.transforms._source import VariantSource
from singan_aug.transforms._variant import Variant
from tests.conftest import make_photo

SIZE = (48, 64)
CONFIG = fast(coarsest_px=24, finest_px=64)


@dataclass(frozen=True)
class Labelled:
    """A photo with the masks of two objects, and a store with the pyramids of it, one fitted with its mask."""

    store: str
    pixels: Pixels  # uint8 [H, W, 3]
    mask: NDArray[np.uint8]  # [H, W]: 0, 1 and 2

    @property
    def instances(self) -> NDArray[np.uint8]:  # [2, H, W]
        return np.stack([self.mask == 1, self.mask == 2]).astype(np.uint8)


def labelled_photo(seed: int = 0) -> tuple[Pixels, NDArray[np.uint8]]:
    mask = np.zeros(SIZE, np.uint8)
    mask[6:20, 8:28], mask[26:42, 34:58] = 1, 2
    return make_photo(*SIZE, seed=seed), mask


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    pixels, mask = labelled_photo()
    store = open_store(tmp_path_factory.mktemp("hosts") / "store")
    store.save(make_key(pixels, CONFIG, mask), fit(pixels, CONFIG, mask=mask))
    return Labelled(store.location, pixels, mask)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """The same, fitted without the mask."""
    pixels, mask = labelled_photo()
    store = open_store(tmp_path_factory.mktemp("hosts") / "store")
    store.save(make_key(pixels, CONFIG), fit(pixels, CONFIG))
    return Labelled(store.location, pixels, mask)


class Drawn:
    """The variants that adapters were given, to hold what comes out against them."""

    def __init__(self) -> None:
        self.variants: list[Variant | None] = []

    @property
    def last(self) -> Variant:
        variant = self.variants[-1]
        assert variant is not None
        return variant

    @property
    def field(self) -> torch.Tensor:
        assert self.last.field is not None
        return self.last.field

    def pixels(self, template: Pixels) -> NDArray[Any]:
        """[H, W, C] as an adapter must give it."""
        drawn: NDArray[Any] = (
            like(self.last.image, torch.from_numpy(template.copy()).movedim(-1, 0)).movedim(0, -1).numpy()
        )
        return drawn

    def carried(self, mask: NDArray[Any]) -> NDArray[Any]:
        carried: NDArray[Any] = carry_mask(torch.from_numpy(mask.copy()), self.field).numpy()
        assert not np.array_equal(carried, mask)
        return carried


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    seen, own = Drawn(), VariantSource.variant

    def variant(self: VariantSource, *args: Any, **kwargs: Any) -> Variant | None:
        seen.variants.append(own(self, *args, **kwargs))
        return seen.variants[-1]

    monkeypatch.setattr(VariantSource, "variant", variant)
    return seen
