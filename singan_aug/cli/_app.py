"""The app, and what its commands share: error reporting, options, finding a pyramid."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from singan_aug._version import __version__
from singan_aug.cli._usage import USAGE, OneLineUsage, interrupted_code
from singan_aug.config import MOST_SEED
from singan_aug.display import be_quiet, complain, say
from singan_aug.errors import (
    ConfigError,
    ImageError,
    MissingPyramidError,
    SinGANAugError,
    StartScaleError,
    StoreError,
    is_out_of_memory,
)
from singan_aug.images import Pixels, load_image, quiet_decoding
from singan_aug.pyramid.confine import Confine
from singan_aug.store import Manifest, Store, abbreviated, fingerprint, open_store

__all__ = [
    "CONFINE_HELP",
    "FAILED",
    "AsJson",
    "ConfineMarginPx",
    "ConfineTo",
    "Device",
    "DryRun",
    "Jobs",
    "Location",
    "Quiet",
    "Seed",
    "Target",
    "Yes",
    "app",
    "check_device",
    "confirm_loss",
    "existing_store",
    "find_pyramid",
    "key_named",
    "loaded",
    "reported",
    "several_start_scales",
]

FAILED = 1
BROKEN_PIPE = 141  # as the shell has it: 128 and SIGPIPE

BEFORE_0_1 = {"cache": "store"}  # what options were called; scripts that say so go on working, help is silent of it

app = typer.Typer(
    cls=OneLineUsage,
    context_settings={"token_normalize_func": lambda token: BEFORE_0_1.get(token, token)},
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Structure-level data augmentation: fit a small generative pyramid to each of your images once, then draw "
    "endless variants of them in your training pipeline. Start with `singan-aug demo`, then `singan-aug fit FOLDER`.",
)
Command = TypeVar("Command", bound=Callable[..., None])


def reported(command: Command) -> Command:
    """Turn this package's errors into one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        be_quiet(bool(kwargs.get("quiet")))
        try:
            command(*args, **kwargs)
        except (ConfigError, StartScaleError) as error:
            complain(str(error))
            raise typer.Exit(USAGE) from None
        except SinGANAugError as error:
            complain(str(error))
            raise typer.Exit(FAILED) from None
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        except OSError as error:
            complain(_explained(error))
            raise typer.Exit(FAILED) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            complain("out of memory: use a smaller --size or --max-size, or fewer fits side by side (--jobs)")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt as error:
            complain("interrupted: what was stored stays; run the same command again to continue")
            raise typer.Exit(interrupted_code(error)) from None

    return wrapped  # type: ignore[return-value]


def _explained(error: OSError) -> str:
    """What the system refuses, without its number."""
    places = [str(name) for name in (error.filename, error.filename2) if name]
    return f"{' to '.join(places) or 'the system says'}: {(error.strerror or str(error)).lower()}"


# Options that several commands share

Location = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of the store. Default: $SINGAN_AUG_STORE, else your cache folder.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]
Device = Annotated[str, typer.Option(help="Where to train: cpu, cuda, or cuda:N.")]  # for `check_device`
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Do nothing: print what there is to do, and an estimate of time and bytes."),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes side by side, one thread each. Default: one for each core that has enough to do.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what went wrong.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before several things are deleted or dropped.")]
Seed = Annotated[
    int, typer.Option(min=0, max=MOST_SEED, help="Another seed, another result; the same seed, the same result.")
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE_OR_KEY", help="An image file that was fitted, or the first digits of a key from `ls`."
    ),
]


def several_start_scales(more: str) -> Any:
    """The option --start-scale of commands that take several of what `draw` takes one of."""
    return typer.Option("--start-scale", help=f"As for `draw`; may be given several times. {more}", show_default=False)


class ConfineTo(StrEnum):
    """What variants are confined to."""

    none = "none"
    mask = "mask"
    background = "background"

    @property
    def wanted(self) -> Confine | None:
        """As Python has it."""
        return None if self is ConfineTo.none else cast(Confine, self.value)


CONFINE_HELP = "mask: the object alone changes; background: all but the object."
ConfineMarginPx = Annotated[
    float, typer.Option("--confine-margin-px", help="How far around the object, 0 to 256, it may grow.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        say(f"singan-aug {__version__}")
        raise typer.Exit


def check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"expected --device cpu, cuda or cuda:N, got {device!r}") from None
    if wanted.type not in ("cpu", "cuda"):
        raise ConfigError(f"expected --device cpu, cuda or cuda:N, got {device!r}")
    count = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        there = "torch sees no CUDA device here" if not count else f"torch sees {count} here, counted from cuda:0"
        raise ConfigError(f"cannot fit on {device!r}: {there}; use --device cpu")


def existing_store(location: Path | None) -> Store:
    """The store to read from. Raises `ConfigError` where it was named, and there is none."""
    store = open_store(location)
    named = "--store" if location is not None else "$SINGAN_AUG_STORE" if os.environ.get("SINGAN_AUG_STORE") else None
    if named and not store.exists():
        inside = Path(store.location) / "store"
        hint = f"; there is one in {inside}" if open_store(inside).exists() else ""
        raise ConfigError(f"expected a store at {store.location}, as {named} says: there is none{hint}")
    return store


def confirm_loss(count: int, what: str, *, yes: bool) -> None:
    """Ask before more than one thing is destroyed. Raises `ConfigError` where nobody can be asked."""
    if count < 2 or yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(f"this would {what}: add --yes to do it, or --dry-run to see more")
    if not typer.confirm(f"singan-aug: this will {what}. Go on?", err=True):
        raise typer.Exit(FAILED)


def loaded(path: str) -> Pixels:
    try:
        with quiet_decoding():
            return load_image(path).pixels
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


_LIKE_A_KEY = re.compile(r"[0-9a-fA-F]*-?[0-9a-fA-F]*")


def find_pyramid(store: Store, target: str) -> tuple[Manifest, int]:
    """Manifest of the pyramid that an image file or the first digits of a key name, and the orientation wanted.

    Raises `ConfigError` for what can be neither, `MissingPyramidError`, `ImageError`.
    """
    if target and Path(target).exists():
        identity = fingerprint(loaded(target))
        latest = store.latest(identity.digest)
        if latest is None:
            raise MissingPyramidError(
                f"no pyramid for {target} in {store.location}: fit it with `{store.command('fit', target)}`"
            )
        return store.manifest(latest), identity.turn_code
    if not target or not _LIKE_A_KEY.fullmatch(target):
        raise ConfigError(
            f"expected an image file or the first digits of a key, got {target!r}: there is no such file, and "
            f"`{store.command('ls')}` lists the keys"
        )
    manifest = store.manifest(key_named(store, target))
    return manifest, manifest.turn_code


def key_named(store: Store, digits: str) -> str:
    """The one key that begins so, as `ls` shows it. Raises `MissingPyramidError` where none does, or several do."""
    keys = store.matching(digits) if digits.strip("-") else []
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise MissingPyramidError(
            f"expected the first digits of a key, got {digits!r}: no pyramid in {store.location} begins so; "
            f"`{store.command('ls')}` lists them"
        )
    shown = [f"{short} ({_name_of(store, key)})" for key, short in list(abbreviated(keys))[:4]]
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    raise MissingPyramidError(
        f"expected the first digits of one key, got {digits!r}: {len(keys)} pyramids begin so: "
        f"{', '.join(shown)}{more}; give more digits"
    )


def _name_of(store: Store, key: str) -> str:
    try:
        manifest = store.manifest(key)
        return f"{manifest.name or 'without a name'}, {manifest.created_at[:10]}"
    except StoreError:
        return "broken"
