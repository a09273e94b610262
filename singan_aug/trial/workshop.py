"""Everything of a suite that is made once and kept: banks of variants, sets of views, features, finished cells."""

from __future__ import annotations

import json
import time
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from singan_aug.trial.data import Labelled
from singan_aug.trial.protocol import OF_OTHERS, Protocol
from singan_aug.trial.views import PASTERS, Cost, Fits, bank, strengthened

__all__ = ["Workshop"]

Indices = NDArray[np.int64]
BATCH = 32  # images that the frozen network sees at once


class Features(typing.Protocol):
    """A network that is frozen and looked through."""

    def features(self, unit: Tensor) -> Tensor:
        """[N, D] of images [N, C, H, W] in [0, 1]."""


class Workshop:
    """A folder that a suite can be taken up in again: what lies there is not made again.

    Args:
        folder: one for each digest of a protocol, made if missing.
        network: what images are seen through; None: networks are trained on pixels.
        say: told what took long.
        build: the network that is trained, of (channels, classes); None: the small ones of networks.py.
    """

    def __init__(
        self,
        protocol: Protocol,
        labelled: Labelled,
        network: Features | None,
        folder: Path,
        say: Callable[[str], None] = lambda _: None,
        build: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        self.protocol, self.labelled, self.build = protocol, labelled, build
        self._network, self._folder, self._say = network, folder / protocol.digest(), say
        self._held: dict[str, dict[str, Tensor]] = {}
        (self._folder / "cells").mkdir(parents=True, exist_ok=True)
        self._costs = self.costs
        self._fits = Fits(protocol, self._folder / "pyramids", self._costs)

    def test(self) -> Tensor:
        """Of the test images features [T, D], or pixels [T, H, W, C]."""
        return self._kept("test", np.arange(1), lambda _: self._seen(np.stack(self.labelled.test)), 1)[0]

    def views(self, strong: str, source: str | None, needed: Indices) -> Tensor:
        """[pool, views, D] or [pool, views, H, W, C], made for the needed images; the others are zeros.

        Objects that are pasted are those of the needed images.
        """
        chosen = f"-{'-'.join(map(str, needed))}" if source is not None and source in OF_OTHERS else ""
        count = self.protocol.views if source is None else self.protocol.seen(source)

        def make(i: int) -> Tensor:
            if source is None:
                images = np.repeat(self.labelled.pool[i][None], 1 if strong == "none" else count, 0)
            elif source in OF_OTHERS:
                others = [self.labelled.pool[j] for j in needed]
                images = PASTERS[source](self.labelled.pool[i], others, count, i)
            else:
                images = self._bank(source, i, count)
            return self._seen(strengthened(images, strong, self.protocol, (source, i)))

        name = f"{strong}-{source or 'images'}{chosen}" + (f"-{count}" if count < self.protocol.views else "")
        started_sec = time.process_time()
        views = self._kept(name, needed, make)
        if (took_sec := time.process_time() - started_sec) > 1:
            self._say(f"{name}: views of {len(needed)} images, {took_sec:.0f} process-seconds")
        return views

    def release(self) -> None:
        """Forget variants and what became of them: they are made again when they are needed again."""
        for name in [name for name in self._held if name != "test" and not name.endswith("-images")]:
            del self._held[name]

    def cell(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gives, or gave when this cell was finished before."""
        path = self._folder / "cells" / f"{name}.json"
        if not path.exists():
            aside = path.with_suffix(".part")
            aside.write_text(json.dumps(make()))
            aside.replace(path)
        held: dict[str, Any] = json.loads(path.read_text())
        return held

    @property
    def costs(self) -> Cost:
        """What fits and draws took, of every image that was fitted or drawn from."""
        path = self._folder / "costs.json"
        held: Cost = json.loads(path.read_text()) if path.exists() else {}
        return held

    def _bank(self, source: str, i: int, count: int) -> NDArray[np.uint8]:
        def make(i: int) -> Tensor:
            protocol = replace(self.protocol, views=count)
            made = torch.from_numpy(bank(self.labelled.pool[i], i, source, protocol, self._costs, self._fits))
            (self._folder / "costs.json").write_text(json.dumps(self._costs))
            return made

        banked: NDArray[np.uint8] = self._kept(f"bank-{source}", np.array([i]), make)[i].numpy()
        return banked

    def _seen(self, images: NDArray[np.uint8]) -> Tensor:
        """[N, H, W, C] as features, float16 [N, D], or as they are."""
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self._network is None:
            return pixels
        unit = pixels.movedim(-1, 1).float() / 255
        side = self.protocol.seen_px or unit.shape[-1]
        if unit.shape[-1] != side:
            unit = torch.nn.functional.interpolate(unit, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.protocol.bfloat16):
            return torch.cat([self._network.features(some) for some in unit.split(BATCH)]).half()

    def _kept(self, name: str, needed: Indices, make: Callable[[int], Tensor], size: int | None = None) -> Tensor:
        """A tensor over the pool whose needed rows are made; kept in memory, and in the folder where it is features.

        Pixels are drawn again as fast as they are read, and fill a disk.
        """
        path = self._folder / f"{name}.safetensors"
        if name not in self._held and path.exists():
            self._held[name] = load_file(path)
        held = self._held.setdefault(name, {"made": torch.zeros(size or len(self.labelled.pool), dtype=torch.bool)})
        missing = [int(i) for i in needed if not held["made"][i]]
        for i in missing:
            row = make(i)
            if "rows" not in held:
                held["rows"] = torch.zeros(len(held["made"]), *row.shape, dtype=row.dtype)
            held["rows"][i] = row
            held["made"][i] = True
        if missing and self._network is not None and not name.startswith("bank-"):
            save_file(held, path)
        return held["rows"]
