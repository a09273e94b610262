"""export_dataset(): draw variants of every fitted image of a folder, and write them with their labels to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import joblib

from singan_aug._checks import check_count
from singan_aug.annotations import counted
from singan_aug.dataset import find_images
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError, SinGANAugError
from singan_aug.export._draw import export_one
from singan_aug.export._files import copied, refuse_links
from singan_aug.export._journal import Journal
from singan_aug.export._layout import Dataset, Layout
from singan_aug.export._layouts import open_layout
from singan_aug.export._pictures import variant_suffix
from singan_aug.export._plan import Exported, ExportReport, Job, Originals, Settings
from singan_aug.images import map_images, no_images
from singan_aug.pyramid.confine import MARGIN_PX, Confine
from singan_aug.pyramid.sizes import DEFAULT_START, StartScale, each_start_scale
from singan_aug.store import Store, fingerprint, open_store
from singan_aug.workers import side_by_side

__all__ = ["export_dataset"]

IMAGES_A_JOB = 16  # fewer are drawn sooner than another process starts


def export_dataset(
    folder: Path | str,
    out: Path | str,
    store: Store | Path | str | None = None,
    *,
    layout: str = "auto",  # coco, yolo, masks, imagefolder; auto looks at the folder
    variants: int = 4,  # of each image
    start_scale: StartScale | Iterable[StartScale] = DEFAULT_START,  # or several, which variants take in turn
    originals: Originals = "copy",  # beside their variants; or "link" them (hard links), or "none"
    annotations: Path | str | None = None,  # the COCO file, where a folder has several
    seed: int = 0,  # decides all variants
    confine: Confine | None = None,  # "mask": the objects alone change; "background": all but them
    confine_margin_px: float = MARGIN_PX,  # around objects, over which the displacement falls to nothing
    jobs: int | None = None,
    force: bool = False,
    on_event: Callable[[Exported], None] | None = None,
) -> ExportReport:
    """Write an augmented copy of a dataset: variants NAME_v1, NAME_v2, ... beside each image, with their labels.

    Variants have the size of their image, and its format where that is PNG or JPEG; labels follow the pixels. The same
    arguments and pyramids give the same files. A folder of which nothing is fitted (a test split) is copied as it is.
    An interrupted run continues when it is called again.

    Raises:
        ConfigError: `folder` is none, `out` lies in it or is not empty (and `force` is not set), or an argument
            does not fit the dataset; or a folder in `out` is a link.
        ImageError: there are no images.
        MissingPyramidError: no image has a pyramid.
        LabelError: the annotation file is broken. Where one image's labels are, that image fails.
    """
    folder, out = Path(folder), Path(out)
    settings = Settings(layout, variants, each_start_scale(start_scale), originals, seed, confine, confine_margin_px)
    if jobs is not None:
        check_count("jobs", jobs)
    store = open_store(store)
    notify = on_event or (lambda _: None)
    _check_places(folder, out)
    if annotations is not None and not Path(annotations).exists():
        raise ConfigError(f"expected a COCO file, got {annotations}: there is no such file")
    found = find_images([folder])
    dataset = Dataset(folder, found.images, tuple(path for path in found.others if path.is_file()))
    name, source = open_layout(layout, dataset, None if annotations is None else Path(annotations))
    settings = replace(settings, layout=name)
    if not source.images:
        raise no_images(folder, others=found.ignored + len(found.images))
    found_keys = map_images(lambda path, image: _key_of(path, image, store), source.images)
    keys = dict(zip(source.images, found_keys, strict=True))
    if not any(isinstance(key, str) for key in keys.values()):
        raise MissingPyramidError(
            f"no pyramid for any of the {len(keys)} images of {folder} in {store.location}: fit them first with "
            f"`{store.command('fit', folder)}`"
        )
    for image in source.images:
        refuse_links(out, image.relative_to(folder))
    journal = Journal(out, asdict(settings), force)
    todo, known = _sort_out(keys, source, settings, journal)
    for image in source.images if settings.originals != "none" else ():
        try:
            _copy_originals(image, source, out, settings, force)
        except (OSError, SinGANAugError) as error:
            if todo.pop(image, None) or known[image].status != "failed":
                known[image] = Exported(image, "failed", f"cannot be copied: {_reason(error)}")
    outcomes = [*(Exported(path, "failed", why) for path, why in found.unreadable), *known.values()]
    for outcome in outcomes:
        notify(outcome)
    jobs = jobs or min(joblib.cpu_count(), 1 + len(todo) // IMAGES_A_JOB)
    arguments = [(job, store.location, out, settings) for job in todo.values()]
    for outcome, entry in side_by_side(export_one, arguments, max(1, min(jobs, len(todo)))):
        if entry is not None:
            journal.add(entry)
        outcomes.append(outcome)
        notify(outcome)
    source.finish(journal.done, settings.originals != "none", out)
    return _report(name, outcomes, journal, [*source.notes, *source.left_behind(dataset)])


def _report(layout: str, outcomes: Sequence[Exported], journal: Journal, notes: list[str]) -> ExportReport:
    broken = sum(outcome.left_out for outcome in outcomes)
    notes += [f"{counted(broken, 'broken object')} left out"] if broken else []
    drawn = sum(len(entry["variants"]) for entry in journal.done.values())
    return ExportReport(layout, tuple(sorted(outcomes, key=lambda outcome: str(outcome.path))), drawn, tuple(notes))


def _check_places(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"expected a dataset's folder, got {folder}: there is no such folder")
    one, other = folder.resolve(), out.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise ConfigError(
            f"expected two folders side by side, got {folder} and {out}: an export is no part of its source"
        )


def _sort_out(
    keys: Mapping[Path, str | SinGANAugError], layout: Layout, settings: Settings, journal: Journal
) -> tuple[dict[Path, Job], dict[Path, Exported]]:
    """The images to draw variants of, and what is known of the others without drawing."""
    fitted = {image.parent for image, key in keys.items() if isinstance(key, str)}
    taken: set[Path] = set()
    if settings.originals != "none":
        files = [file for image in keys for file in (image, layout.label_file(image)) if file is not None]
        taken = {file.relative_to(layout.folder) for file in files}
    todo: dict[Path, Job] = {}
    known: dict[Path, Exported] = {}
    for image, key in keys.items():
        relative = image.relative_to(layout.folder)
        names = tuple(f"{image.stem}_v{i + 1}{variant_suffix(image)}" for i in range(settings.variants))
        targets = {relative.with_name(each) for each in names}
        if relative.as_posix() in journal.done:
            known[image] = Exported(image, "present")
        elif isinstance(key, MissingPyramidError) and image.parent not in fitted:
            known[image] = Exported(image, "copied")
        elif not isinstance(key, str):
            known[image] = Exported(image, "failed", str(key))
        else:
            try:
                labels = layout.labels(image)
                targets |= {each for name in names if (each := labels.target(Path(name).stem)) is not None}
                if targets & taken:
                    raise LabelError(f"{min(targets & taken)} is another image's name: rename one")
                todo[image] = Job(image, relative, key, names, labels)
            except LabelError as error:
                known[image] = Exported(image, "failed", str(error))
        taken |= targets
    return todo, known


def _key_of(path: Path, image: Any, store: Store) -> str | SinGANAugError:
    """The key of the pyramid that was fitted last to a decoded image, or why there is none."""
    if isinstance(image, SinGANAugError):
        return image
    try:
        latest = store.latest(fingerprint(image.pixels).digest)
    except SinGANAugError as error:
        return error
    return latest or MissingPyramidError(f"no pyramid in {store.location}; fit it with `{store.command('fit', path)}`")


def _copy_originals(image: Path, layout: Layout, out: Path, settings: Settings, force: bool) -> None:
    for source in (image, layout.label_file(image)):
        if source is None:
            continue
        inside = source.relative_to(layout.folder)
        target = out / inside
        if force or target.is_symlink() or not target.exists():
            copied(source, out, inside, settings.originals == "link")


def _reason(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)
