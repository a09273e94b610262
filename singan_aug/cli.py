"""The command line: parses, calls, renders.

Exit codes: 0 all well, 1 some image or entry failed and is named, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from singan_aug import dataset
from singan_aug._version import __version__
from singan_aug.config import PRESETS, FitConfig, preset
from singan_aug.display import Display, complain, duration, file_size, say, show_json, show_table
from singan_aug.errors import (
    ConfigError,
    ImageError,
    MissingPyramidError,
    SinGANAugError,
    StartScaleError,
    StoreError,
    is_out_of_memory,
)
from singan_aug.images import Pixels, load_image, pixels_to_pil, quiet_decoding, turn_between, unit_to_pil
from singan_aug.store import Manifest, Store, fingerprint, open_store

__all__ = ["app"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Structure-level data augmentation: fit a small generative pyramid to each of your images once, then draw "
    "endless variants of them in your training pipeline. Start with `singan-aug demo`, then `singan-aug fit FOLDER`.",
)
Command = TypeVar("Command", bound=Callable[..., None])


def _reported(command: Command) -> Command:
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
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Fits side by side, one thread each. Default: one for each core that has enough to do.",
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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        say(f"singan-aug {__version__}")
        raise typer.Exit


@app.command()
@_reported
def fit(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Image files, and folders of them at any depth.", show_default=False),
    ],
    cache: Cache = None,
    preset_name: Annotated[
        str, typer.Option("--preset", help=f"How to fit: {' or '.join(sorted(PRESETS))}. `paper` takes days on a CPU.")
    ] = "fast",
    max_size: Annotated[
        int | None,
        typer.Option(
            min=25,
            help="Long side in pixels at which images are fitted. Default: the preset's 250.",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, or cuda:N.")] = "cpu",
    seed: Seed = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at this many images at most.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Fit nothing: print how many images there are, their sizes, and an estimate of time and bytes.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a pyramid to every image that has none yet, and store it.

    Run it again after an interruption, or when images were added: what is fitted is skipped at once.
    """
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise ConfigError(f"expected image files or folders, got {path}: there is no such file or folder")
    changes: dict[str, Any] = {"seed": seed} | ({"finest_px": max_size} if max_size is not None else {})
    config = preset(preset_name, **changes)
    _check_device(device)
    store = open_store(cache)
    if dry_run:
        _forecast(paths, store, config, jobs, limit, as_json)
        return
    started_sec = time.monotonic()
    with Display() as display:
        report = dataset.fit_dataset(paths, store, config, jobs=jobs, device=device, limit=limit, on_event=display.show)
    _summarise(report, store, time.monotonic() - started_sec, as_json)
    if report.failed or not report.outcomes:
        raise typer.Exit(FAILED)


def _check_device(device: str) -> None:
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


def _forecast(
    paths: list[Path], store: Store, config: FitConfig, jobs: int | None, limit: int | None, as_json: bool
) -> None:
    from singan_aug.estimate import estimate  # imports torch

    plan = dataset.plan_dataset(paths, store, config, limit=limit)
    forecast = estimate(plan, config, jobs=jobs)
    sizes = sorted({f"{width}x{height}" for height, width in (item.size for item in plan.todo)})
    failed = [outcome for outcome in plan.known if outcome.status == "failed"]
    if as_json:
        show_json(
            {
                "images": len(plan.todo) + len(plan.known),
                "to_fit": len(plan.todo),
                "present": sum(outcome.status == "present" for outcome in plan.known),
                "failed": [{"path": str(outcome.path), "message": outcome.message} for outcome in failed],
                "sizes": sizes,
                "process_sec": round(forecast.process_sec, 1),
                "wall_sec": round(forecast.wall_sec, 1),
                "bytes": forecast.stored_bytes,
                "jobs": forecast.jobs,
            }
        )
    else:
        shown = ", ".join(sizes[:6]) + (f" and {len(sizes) - 6} more" if len(sizes) > 6 else "")
        say(f"{len(plan.todo) + len(plan.known)} images, {len(plan.todo)} to fit" + (f", at {shown}" if sizes else ""))
        say(
            f"about {duration(forecast.wall_sec)} with {forecast.jobs} side by side "
            f"({duration(forecast.process_sec)} of processor time), "
            f"{file_size(forecast.stored_bytes)} in {store.location}"
        )
        for outcome in failed:
            complain(f"{outcome.path}: {outcome.message}")
    if failed or not (plan.todo or plan.known):
        if not failed:
            complain("no images found")
        raise typer.Exit(FAILED)


def _summarise(report: dataset.FitReport, store: Store, wall_sec: float, as_json: bool) -> None:
    counts = {status: len(report.with_status(status)) for status in ("fitted", "present", "duplicate", "failed")}
    if as_json:
        rows = [
            {"path": str(o.path), "status": o.status, "key": o.key, "message": o.message, "notes": list(o.notes)}
            for o in report.outcomes
        ]
        show_json({**counts, "ignored": report.ignored, "store": store.location, "images": rows})
        return
    if not report.outcomes:
        complain(f"no images found ({report.ignored} other files): expected files such as .jpg, .png or .tif")
        return
    parts = [f"{counts['fitted']} fitted", f"{counts['present']} already there"]
    parts += [f"{counts['duplicate']} equal to another"] if counts["duplicate"] else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    parts += [f"{report.ignored} other files ignored"] if report.ignored else []
    say(f"{', '.join(parts)} in {duration(wall_sec)}; store: {store.location}")
    for outcome in report.failed:
        say(f"failed: {outcome.path}: {outcome.message}")


@app.command()
@_reported
def draw(
    target: Target,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many variants.")] = 4,
    start_scale: Annotated[
        int,
        typer.Option(help="0: new global structure; larger: finer detail alone; negative: counted from the finest."),
    ] = 0,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the variants. Default: the pyramid's own.", show_default=False)
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")] = Path("variants"),
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Draw variants of a fitted image into PNG files."""
    from singan_aug.pyramid import draw as draw_variants

    store = open_store(cache)
    manifest, turn_code = _find(store, target)
    wanted = _parse_size(size)
    if wanted is not None and (manifest.turn_code ^ turn_code) & 4:  # the file lies on its side
        wanted = wanted[::-1]
    drawn = draw_variants(store.load(manifest.key), count, start_scale, wanted, seed)
    drawn = turn_between(drawn, manifest.turn_code, turn_code)
    out.mkdir(parents=True, exist_ok=True)
    stem = Path(manifest.name).stem or manifest.key
    paths = [out / f"{stem}_scale{start_scale}_seed{seed}_{i}.png" for i in range(count)]
    for path, image in zip(paths, drawn, strict=True):
        unit_to_pil(image).save(path)
    if as_json:
        show_json([str(path) for path in paths])
    else:
        say(f"{count} variants of {manifest.name} in {out}")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)
    if not match:
        raise ConfigError(f"expected --size WIDTHxHEIGHT such as 256x192, got {text!r}")
    return int(match[2]), int(match[1])


def _loaded(path: str) -> Pixels:
    try:
        with quiet_decoding():
            return load_image(path).pixels
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _find(store: Store, target: str) -> tuple[Manifest, int]:
    """Manifest of the pyramid that an image file or the first digits of a key name, and the orientation wanted."""
    if Path(target).exists():
        identity = fingerprint(_loaded(target))
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


@app.command("ls")
@_reported
def list_pyramids(cache: Cache = None, as_json: AsJson = False) -> None:
    """List the pyramids of a store."""
    store = open_store(cache)
    manifests, broken = [], False
    for key in store.keys():
        try:
            manifests.append(store.manifest(key))
        except StoreError as error:
            broken = True
            complain(str(error))
    if as_json:
        show_json([_described(manifest) for manifest in manifests])
    else:
        rows = []
        for m in manifests:
            height, width = m.scale_sizes[-1]
            counts = [str(len(m.scale_sizes)), str(m.channels), file_size(m.weights_bytes)]
            rows.append([m.key[:12], m.name, f"{width}x{height}", *counts, m.created_at[:10]])
        if rows:
            show_table(["key", "image", "fitted at", "scales", "channels", "size", "fitted on"], rows)
        say(f"{len(manifests)} pyramids in {store.location}")
    if broken:
        raise typer.Exit(FAILED)


def _described(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(mode="json")


@app.command()
@_reported
def show(
    target: Target,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Also write a contact sheet to this PNG file: reconstruction, and variants at each start scale.",
            show_default=False,
        ),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of one pyramid."""
    store = open_store(cache)
    manifest, _ = _find(store, target)
    if sheet is not None:
        from singan_aug.report import contact_sheet

        source = pixels_to_pil(_loaded(target)) if Path(target).exists() else None
        contact_sheet([(manifest.name, source, store.load(manifest.key))]).save(sheet, format="PNG")
    if as_json:
        show_json(_described(manifest))
        return
    for name, value in _described(manifest).items():
        say(f"{name}: {json.dumps(value)}")


@app.command()
@_reported
def verify(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Keys, as `ls --json` gives them. Default: all.", show_default=False),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Read pyramids back and check every byte against its checksum."""
    store = open_store(cache)
    broken = {}
    checked = list(keys or store.keys())
    for key in checked:
        try:
            store.load(key)
        except StoreError as error:
            broken[key] = str(error)
    if as_json:
        show_json([{"key": key, "ok": key not in broken, "message": broken.get(key, "")} for key in checked])
    else:
        for message in broken.values():
            complain(message)
        say(f"{len(checked) - len(broken)} of {len(checked)} pyramids are whole in {store.location}")
    if broken:
        raise typer.Exit(FAILED)


@app.command("rm")
@_reported
def remove(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Keys, or their first digits, as `ls` gives them.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every pyramid of the store.")] = False,
    cache: Cache = None,
) -> None:
    """Remove pyramids from a store."""
    if bool(keys) == everything:
        raise ConfigError("expected keys to remove, or --all for every one of the store")
    store = open_store(cache)
    failed = False
    for wanted in list(store.keys()) if everything else keys or []:
        found = [key for key in store.keys() if wanted and key.startswith(wanted)]
        key = found[0] if len(found) == 1 else wanted
        try:
            if not wanted:
                raise MissingPyramidError("expected a key or its first digits, got an empty word")
            if len(found) > 1:
                raise MissingPyramidError(f"{len(found)} keys begin with {wanted!r}: give more digits")
            store.remove(key)
            say(f"removed {key}")
        except StoreError as error:
            failed = True
            complain(str(error))
    if failed:
        raise typer.Exit(FAILED)


@app.command()
@_reported
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures, and for the store unless --cache names one.")
    ] = Path("singan-aug-demo"),
    cache: Cache = None,
    max_size: Annotated[int, typer.Option(min=64, help="Long side in pixels at which the photos are fitted.")] = 250,
    jobs: Jobs = None,
) -> None:
    """Fit six photos that come with the package, draw variants in a DataLoader, and write a contact sheet."""
    from singan_aug.demo import run_demo

    store = open_store(cache or out / "store")
    started_sec = time.monotonic()
    with Display() as display:
        result = run_demo(out, store, preset("fast", finest_px=max_size), jobs=jobs, on_event=display.show)
    _summarise(result.report, store, time.monotonic() - started_sec, as_json=False)
    say(f"contact sheet: {result.sheet}\na batch of a training pipeline: {result.batch}")
