"""The state of a fit that trains, kept in a file: one that was killed goes on from there, bit for bit the same.

The file is 32 digits of a checksum, a line feed, and a safetensors file of all that the next training step depends on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import safetensors.torch
import torch
import xxhash
from safetensors import SafetensorError
from torch import Tensor

from singan_aug._version import __version__
from singan_aug.config import FitConfig
from singan_aug.pyramid.sizes import Size

__all__ = [
    "Checkpoint",
    "State",
    "UnfitStateError",
    "alike",
    "as_tensor",
    "identity_of",
    "restoring",
    "under",
]

State = Mapping[str, Tensor]

LEAST_SEC = 5.0  # between two writes
SPENT_SHARE = 0.02  # of the time that the fit has taken, between two writes: so much is repeated at most
MOST_BYTES = 2**32
DIGEST = 32  # hexadecimal digits


def identity_of(real: Tensor, sizes: tuple[Sequence[Size], Sequence[Size]], config: FitConfig) -> str:
    """What a state belongs to: the image, the config, and what computes. Of another one it is of no use."""
    known = (config.digest(), sizes, __version__, torch.__version__, real.device.type)
    return xxhash.xxh3_128_hexdigest(repr(known).encode() + real.cpu().numpy().tobytes())


class Checkpoint:
    """The file of one fit. What cannot be read or written is as if it were not there: the fit goes on without."""

    def __init__(self, path: Path, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._identity, self._clock = path, identity, clock
        self.state = self._read()
        self._began_sec = clock() - self.spent_sec
        self._written_sec = clock()

    @property
    def attempt(self) -> int:
        """At which the state was kept; 0 without one."""
        return int(self.state["attempt"]) if self.state else 0

    @property
    def spent_sec(self) -> float:
        """That the fit had taken when the state was kept; 0 without one."""
        return float(self.state["spent_sec"]) if self.state else 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to write: often at first, then when so much more would be lost."""
        now = self._clock()
        return now - self._written_sec >= max(LEAST_SEC, SPENT_SHARE * (now - self._began_sec))

    def forget(self) -> None:
        """What was read is of no use: an attempt after this one begins at the beginning."""
        self.state = None

    def write(self, state: State, attempt: int) -> None:
        """Aside, synced, and renamed."""
        facts = {"attempt": as_tensor(attempt), "spent_sec": as_tensor(self._clock() - self._began_sec)}
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in {**state, **facts}.items()}
        data = safetensors.torch.save(tensors, {"of": self._identity})
        aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with suppress(OSError):  # a full disk, or a folder that was deleted, ends no fit
            try:
                self._path.parent.mkdir(exist_ok=True)
                with aside.open("xb") as file:
                    file.write(xxhash.xxh3_128_hexdigest(data).encode() + b"\n" + data)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(self._path)
            finally:
                aside.unlink(missing_ok=True)
        self._written_sec = self._clock()

    def _read(self) -> dict[str, Tensor] | None:
        with suppress(OSError, SafetensorError, ValueError, KeyError):
            if self._path.is_symlink() or not self._path.is_file() or self._path.stat().st_size > MOST_BYTES:
                return None
            data = self._path.read_bytes()
            guard, data = data[:DIGEST], data[DIGEST + 1 :]
            length = int.from_bytes(data[:8], "little")
            header = data[8 : 8 + length]
            if guard != xxhash.xxh3_128_hexdigest(data).encode() or self._identity.encode() not in header:
                return None
            state = safetensors.torch.load(data)
            return state if {"attempt", "spent_sec", "scale", "step"} <= state.keys() else None
        return None


class UnfitStateError(Exception):
    """A state whose checksum is right, and which is not of this fit all the same: somebody else wrote it."""


@contextmanager
def restoring() -> Iterator[None]:
    """Whatever goes wrong while a state is put back, as `UnfitStateError`."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UnfitStateError(str(error)) from None


def as_tensor(number: float) -> Tensor:
    """A number as states keep it."""
    return torch.tensor(number, device="cpu", dtype=torch.float64)


def under(name: str, state: State) -> dict[str, Tensor]:
    """What of a state has names that begin so, without that."""
    return {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}


def alike(known: Tensor, kept: Tensor) -> Tensor:
    """What was kept, in the layout and on the device of a tensor that is known. Raises ValueError for other shapes."""
    if known.shape != kept.shape or not kept.is_floating_point():
        raise ValueError(f"expected {tuple(known.shape)}, got {tuple(kept.shape)}")
    return torch.empty_like(known).copy_(kept)
