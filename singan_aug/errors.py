"""Everything this package raises on purpose.

::

    SinGANAugError
    ├── ConfigError           (also ValueError)   a setting outside its range, or an unknown part
    ├── ImageError            (also ValueError)   not an image that a pyramid can be fitted to
    ├── LabelError            (also ValueError)   labels that cannot be read, or that a variant would falsify
    ├── StartScaleError       (also ValueError)   a start scale that the pyramid does not have
    ├── FitDivergedError      (also RuntimeError) training went non-finite or collapsed, twice
    ├── WorkerLostError       (also RuntimeError) a worker process was killed from outside
    └── StoreError
        ├── MissingPyramidError (also KeyError)   no pyramid for this image or key
        ├── CorruptPyramidError                   truncated or altered files
        ├── StoreFormatError                      written by a newer format
        └── StoreWriteError     (also OSError)    full disk, read-only folder, no permission

    UnchangedWarning          (a UserWarning)     a transform leaves an image as it is, told once for each cause

Each message says what was expected, what was found and what to do about it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigError",
    "CorruptPyramidError",
    "FitDivergedError",
    "ImageError",
    "LabelError",
    "MissingPyramidError",
    "SinGANAugError",
    "StartScaleError",
    "StoreError",
    "StoreFormatError",
    "StoreWriteError",
    "UnchangedWarning",
    "WorkerLostError",
    "is_out_of_memory",
]


class SinGANAugError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(SinGANAugError, ValueError):
    """A setting is outside its range, or names a part that is not registered."""


class ImageError(SinGANAugError, ValueError):
    """This is not an image that a pyramid can be fitted to."""


class LabelError(SinGANAugError, ValueError):
    """Labels (masks, boxes, keypoints, annotation files) cannot be read, or a variant would falsify them."""


class StartScaleError(SinGANAugError, ValueError):
    """The pyramid has no such start scale."""


class FitDivergedError(SinGANAugError, RuntimeError):
    """Training at one scale went non-finite or collapsed to a constant."""

    def __init__(self, reason: str, *, scale: int, step: int) -> None:
        super().__init__(f"{reason} at scale {scale}, step {step}")
        self.reason, self.scale, self.step = reason, scale, step

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default pickling on the way back from a worker process.
        return _restore_fit_diverged, (self.reason, self.scale, self.step)


def _restore_fit_diverged(reason: str, scale: int, step: int) -> FitDivergedError:
    return FitDivergedError(reason, scale=scale, step=step)


class WorkerLostError(SinGANAugError, RuntimeError):
    """A worker process was killed from outside, most likely for want of memory. Fits outlive it, see `fit_dataset`."""


class StoreError(SinGANAugError):
    """A store could not do what was asked of it."""


class MissingPyramidError(StoreError, KeyError):
    """The store holds no pyramid for this image or key."""

    __str__ = Exception.__str__  # KeyError would show the message's repr


class CorruptPyramidError(StoreError):
    """A stored pyramid is truncated or was altered."""


class StoreFormatError(StoreError):
    """The store was written by a newer version of this package."""


class StoreWriteError(StoreError, OSError):
    """The store's folder cannot be written: full disk, read-only folder or no permission."""


class UnchangedWarning(UserWarning):
    """A transform leaves an image as it is; told once for each cause, counted in `SinGANAugment.stats()`."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has no one type for that, its CPU allocator raises a bare RuntimeError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error).lower())
