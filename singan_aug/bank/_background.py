"""BackgroundBank: a bank drawn and refreshed beside a training."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from singan_aug.bank._draw import resolved_spec
from singan_aug.errors import ConfigError
from singan_aug.pyramid.confine import Confine
from singan_aug.pyramid.sizes import StartScale
from singan_aug.store import Store, open_store

__all__ = ["BackgroundBank"]

NICENESS = 10  # of the process that draws beside a training


class BackgroundBank:
    """A bank that is drawn, and refreshed each epoch, by a process beside the training.

    ::

        with BackgroundBank(variants=8, start_scale=1) as bank:
            for epoch in range(90):
                train_one_epoch()
                bank.refresh(0.25)

    Entering starts to draw what is missing and returns at once; leaving stops whatever is under way, as does the end of
    the training, however it ends; what is drawn stays. The process has a low priority and one thread for each job. It
    is `singan-aug bank`, so the training is not forked, and may hold a GPU. What goes wrong in it is a
    `RuntimeWarning`, and the training goes on. With a bank that changes meanwhile, the same seed need not give the same
    training twice.

    Args are those of `draw_bank`.
    """

    def __init__(
        self,
        store: Store | Path | str | None = None,
        *,
        variants: int | None = None,
        start_scale: StartScale | Iterable[StartScale] | None = None,
        seed: int | None = None,
        confine: Confine | Literal["none"] | None = None,
        confine_margin_px: float | None = None,
        jobs: int = 1,
        drop: bool = False,
    ) -> None:
        store = open_store(store)
        spec = resolved_spec(store, variants, start_scale, seed, None, confine, confine_margin_px)
        self._command = [sys.executable, "-P", "-m", "singan_aug", "bank", "--store", store.location]
        self._command += [f"--jobs={jobs}", f"--variants={spec.variants}", f"--seed={spec.seed}"]
        self._command += [f"--start-scale={scale}" for scale in spec.start_scales] + ["--yes"] * drop
        self._command += [f"--confine={spec.confine or 'none'}", f"--confine-margin-px={spec.confine_margin_px}"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BackgroundBank:
        self._errors = tempfile.TemporaryFile()
        self._start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.busy and self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None
        self._settle()
        self._errors.close()

    @property
    def busy(self) -> bool:
        """Whether it is drawing."""
        return self._process is not None and self._process.poll() is None

    def refresh(self, share: float) -> bool:
        """Begin to draw this share of the bank anew, in (0, 1], what is oldest first. False while it is still busy.

        Raises `ConfigError`.
        """
        if not 0.0 < share <= 1.0:
            raise ConfigError(f"expected a share of the bank, above 0 and at most 1, got {share!r}")
        if self.busy:
            return False
        self._settle()
        self._start(f"--refresh={share}")
        return True

    def wait(self) -> None:
        """Until nothing is under way: before the first epoch, if all variants are to be there."""
        if self._process:
            self._process.wait()
        self._settle()

    def _start(self, *arguments: str) -> None:
        package = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._errors.truncate(0)
        self._errors.seek(0)
        self._process = subprocess.Popen(
            [*self._command, f"--parent={os.getpid()}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": paths},
        )
        if hasattr(os, "setpriority"):
            with suppress(OSError):  # it may have ended
                os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)

    def _settle(self) -> None:
        """Say what went wrong in a process that has ended."""
        if self._process and self._process.poll():
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {self._process.returncode}"
            warnings.warn(f"the bank was not drawn to its end: {reason}", RuntimeWarning, stacklevel=3)
        self._process = None
