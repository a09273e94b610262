"""The app, and what its commands share: error reporting, options, finding a pyramid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from singan_aug._version import __version__
from singan_aug.display import complain, say
from singan_aug.errors import (
    ConfigError,
    ImageError,
    MissingPyramidError,
    SinGANAugError,
    StartScaleError,
    is_out_of_memory,
)
from singan_aug.images import Pixels, load_image, quiet_decoding
from singan_aug.store import Manifest, Store, fingerprint

__all__ = [
    "FAILED",
    "AsJson",
    "Cache",
    "Device",
    "DryRun",
    "Jobs",
    "Seed",
    "Target",
    "app",
    "check_device",
    "find_pyramid",
    "loaded",
    "reported",
    "several_start_scales",
]

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Structure-level data augmentation: fit a small generative pyramid to each of your images once, then draw "
    "endless variants of them in your training pipeline. Start with `singan-aug demo`, then `singan-aug fit FOLDER`.",
)
Command = TypeVar("Command", bound=Callable[..., None])


def reported(command: Command) -> Command:
    """Turn this package's errors into one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ConfigError, StartScaleError) as error:
            complain(str(error))
            raise typer.Exit(USAGE) from None
        except (SinGANAugError, OSError) as error:
            complain(str(error))
            raise typer.Exit(FAILED) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            complain("out of memory: use a smaller --size or --max-size, or fewer fits side by side (--jobs)")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            complain("interrupted: what was stored stays; run the same command again to continue")
            raise typer.Exit(INTERRUPTED) from None

    return wrapped  # type: ignore[return-value]


# Options that several commands share

Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder of the store. Default: $SINGAN_AUG_CACHE, else your cache folder.", show_default=False
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
Seed = Annotated[int, typer.Option(min=0, help="Another seed, another result; the same seed, the same result.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE_OR_KEY", help="An image file that was fitted, or the first digits of a key from `ls`."
    ),
]


def several_start_scales(more: str) -> Any:
    """The option --start-scale of commands that take several of what `draw` takes one of."""
    return typer.Option("--start-scale", help=f"As for `draw`; may be given several times. {more}", show_default=False)


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
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"expected one of {torch.cuda.device_count()} CUDA devices, got {device!r}: use --device cpu")


def loaded(path: str) -> Pixels:
    try:
        with quiet_decoding():
            return load_image(path).pixels
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def find_pyramid(store: Store, target: str) -> tuple[Manifest, int]:
    """Manifest of the pyramid that an image file or the first digits of a key name, and the orientation wanted."""
    if Path(target).exists():
        identity = fingerprint(loaded(target))
        latest = store.latest(identity.digest)
        if latest is None:
            raise MissingPyramidError(
                f"no pyramid for {target} in {store.location}: fit it with `singan-aug fit {target}`"
            )
        return store.manifest(latest), identity.turn_code
    keys = [key for key in store.keys() if key.startswith(target)] if target else []
    if len(keys) != 1:
        found = "no pyramid" if not keys else f"{len(keys)} pyramids"
        raise MissingPyramidError(
            f"expected an image file or the first digits of one key, got {target!r}: {found} in {store.location} "
            "begins so; `singan-aug ls` lists them"
        )
    manifest = store.manifest(keys[0])
    return manifest, manifest.turn_code
