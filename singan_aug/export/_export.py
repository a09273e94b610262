"""export_dataset(): draw variants of every fitted image of a folder, and write them with their labels to another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import joblib
import torch
from PIL import Image
from torch import Tensor

from singan_aug.dataset import find_images
from singan_aug.errors import ConfigError, LabelError, MissingPyramidError, SinGANAugError
from singan_aug.export._layout import Carrier, Labels, copied, written_aside
from singan_aug.export._layouts import open_layout
from singan_aug.images import load_image, map_images, quiet_decoding, turn_between, unit_to_pil
from singan_aug.pyramid import Pyramid, keeps_layout, trace
from singan_aug.pyramid.copied.displacement import layout_start_scale
from singan_aug.pyramid.noise import derive_seed
from singan_aug.pyramid.resample import resize
from singan_aug.pyramid.sizes import DEFAULT_START, Size, StartScale, resolve_start_scale
from singan_aug.pyramid.threads import one_thread
from singan_aug.store import Fingerprint, Manifest, Store, fingerprint, open_store
from singan_aug.transforms._labels import carry_boxes, sample_field
from singan_aug.workers import side_by_side

__all__ = ["ExportReport", "Exported", "Settings", "export_dataset"]

JOURNAL = ".singan-aug-export.jsonl"  # settings, then a line for each image that is done
JPEG_QUALITY = 95
IMAGES_A_JOB = 16  # fewer are drawn sooner than another process starts

Originals = Literal["copy", "link", "none"]
Status = Literal["exported", "present", "copied", "failed"]


@dataclass(frozen=True)
class Settings:
    """What decides the pixels and labels of an export."""

    layout: str = "auto"  # coco, yolo, masks, imagefolder
    variants: int = 4  # of each image
    start_scales: tuple[StartScale, ...] = (DEFAULT_START,)  # taken in turn
    originals: Originals = "copy"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variants < 0 or not self.start_scales:
            raise ConfigError(
                f"expected variants of 0 or more and a start scale, got {self.variants} of {self.start_scales}"
            )
        if self.originals not in ("copy", "link", "none"):
            raise ConfigError(f"expected originals to be copy, link or none, got {self.originals!r}")


@dataclass(frozen=True)
class Exported:
    """What became of one image."""

    path: Path
    status: Status  # copied: without variants, as nothing in its folder is fitted; present: by an earlier run
    message: str = ""


@dataclass(frozen=True)
class ExportReport:
    """What became of every image, sorted by path."""

    layout: str
    outcomes: tuple[Exported, ...]
    variants: int  # images drawn, by this run and earlier ones

    def with_status(self, status: Status) -> list[Exported]:
        """The outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.status == status]


@dataclass(frozen=True)
class Job:
    """One image to draw variants of."""

    image: Path
    relative: Path
    key: str  # of its pyramid
    names: tuple[str, ...]  # of its variants
    labels: Labels


def export_dataset(
    folder: Path | str,
    out: Path | str,
    store: Store | str | None = None,
    settings: Settings | None = None,
    *,
    annotations: Path | str | None = None,  # the COCO file, where a folder has several
    jobs: int | None = None,
    force: bool = False,
    on_event: Callable[[Exported], None] | None = None,
) -> ExportReport:
    """Write an augmented copy of a dataset: variants NAME_v1, NAME_v2, ... beside each image, with their labels.

    Variants have the size of their image, and its format where that is PNG or JPEG; labels follow the pixels. The same
    settings and pyramids give the same files. A folder of which nothing is fitted (a test split) is copied as it is.
    An interrupted run continues when it is called again.

    Raises:
        ConfigError: `folder` is none, `out` lies in it or is not empty (and `force` is not set), or the settings do
            not fit the dataset.
        MissingPyramidError: no image has a pyramid.
        LabelError: the annotation file is broken. Where one image's labels are, that image fails.
    """
    folder, out, settings = Path(folder), Path(out), settings or Settings()
    store = open_store(store) if not isinstance(store, Store) else store
    notify = on_event or (lambda _: None)
    _check_places(folder, out)
    found = find_images([folder])
    name, layout = open_layout(
        settings.layout, folder, found.images, None if annotations is None else Path(annotations)
    )
    settings = Settings(**{**asdict(settings), "layout": name})
    keys = dict(zip(layout.images, map_images(lambda _, image: _key_of(image, store), layout.images), strict=True))
    fitted = {image.parent for image, key in keys.items() if isinstance(key, str)}
    if not fitted:
        raise MissingPyramidError(
            f"no pyramid for any of the {len(keys)} images of {folder} in {store.location}: fit them first with "
            f"`singan-aug fit {folder} --cache {store.location}`"
        )
    journal = _Journal(out, settings, force)
    todo, outcomes = [], []
    taken = {image.relative_to(folder) for image in layout.images} if settings.originals != "none" else set()
    for image, key in keys.items():
        relative = image.relative_to(folder)
        names = tuple(f"{image.stem}_v{i + 1}{_suffix(image)}" for i in range(settings.variants))
        targets = {relative.with_name(each) for each in names}
        if relative.as_posix() in journal.done:
            outcomes.append(Exported(image, "present"))
        elif not isinstance(key, str) and image.parent not in fitted and isinstance(key, MissingPyramidError):
            outcomes.append(Exported(image, "copied"))
        elif not isinstance(key, str):
            remedy = f"; fit it with `singan-aug fit {image}`" if isinstance(key, MissingPyramidError) else ""
            outcomes.append(Exported(image, "failed", f"{key}{remedy}"))
        elif targets & taken:
            outcomes.append(Exported(image, "failed", f"{min(targets & taken)} is another image's name: rename one"))
        else:
            try:
                todo.append(Job(image, relative, key, names, layout.labels(image)))
            except LabelError as error:
                outcomes.append(Exported(image, "failed", str(error)))
        taken |= targets
    for image in layout.images if settings.originals != "none" else ():
        for source in (image, layout.label_file(image)):
            if source is not None:
                _copy_original(source, out / source.relative_to(folder), settings, force)
    for outcome in outcomes:
        notify(outcome)
    jobs = jobs or min(joblib.cpu_count(), 1 + len(todo) // IMAGES_A_JOB)
    arguments = [(job, store.location, out, settings) for job in todo]
    for outcome, entry in side_by_side(_export_one, arguments, max(1, min(jobs, len(todo)))):
        if entry is not None:
            journal.add(entry)
        outcomes.append(outcome)
        notify(outcome)
    layout.finish(journal.done, settings.originals != "none", out)
    drawn = sum(len(entry["variants"]) for entry in journal.done.values())
    return ExportReport(name, tuple(sorted(outcomes, key=lambda outcome: str(outcome.path))), drawn)


def _check_places(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"expected a dataset's folder, got {folder}: there is no such folder")
    one, other = folder.resolve(), out.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise ConfigError(
            f"expected two folders side by side, got {folder} and {out}: an export is no part of its source"
        )


def _suffix(image: Path) -> str:
    return image.suffix if image.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"


def _key_of(image: Any, store: Store) -> str | SinGANAugError:
    """The key of the pyramid that was fitted last to a decoded image, or why there is none."""
    if isinstance(image, SinGANAugError):
        return image
    return store.latest(fingerprint(image.pixels).digest) or MissingPyramidError(f"no pyramid in {store.location}")


def _copy_original(source: Path, target: Path, settings: Settings, force: bool) -> None:
    if force or not target.exists():
        copied(source, target, settings.originals == "link")


class _Journal:
    """What is done: a file of JSON lines in the export's folder, by which a later run knows."""

    def __init__(self, out: Path, settings: Settings, force: bool) -> None:
        """Raises `ConfigError` where the folder holds something else, unless `force` is set."""
        self.path = out / JOURNAL
        self.done: dict[str, dict[str, Any]] = {}
        head = json.loads(json.dumps({"singan-aug export": 1, **asdict(settings)}))
        lines = self._lines()
        if not force and lines and lines[0] == head:
            self.done = {line["image"]: line for line in lines[1:]}
        elif not force and out.is_dir() and any(out.iterdir()):
            what = "an export with other settings" if lines else "files"
            raise ConfigError(
                f"expected {out} to be empty, got {what}: name another folder, or pass --force to write over"
            )
        out.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in [head, *self.done.values()])  # without a line cut short
        written_aside(self.path, lambda aside: aside.write_text(text))

    def _lines(self) -> list[Any]:
        lines = []
        if self.path.is_file():
            for line in self.path.read_text(errors="replace").splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    break  # a run that was killed while it wrote
        return lines

    def add(self, entry: dict[str, Any]) -> None:
        """An image is done, its files are written."""
        self.done[entry["image"]] = entry
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


class _Draw(Carrier):
    """One variant: its pixels, and where they come from."""

    def __init__(
        self,
        pyramid: Pyramid,
        manifest: Manifest,
        identity: Fingerprint,
        size: Size,
        start_scale: StartScale,
        seed: int,
    ) -> None:
        self.size, self._manifest, self._identity = size, manifest, identity
        self._traced = trace(pyramid, start_scale=start_scale, seed=seed)
        self._start = resolve_start_scale(start_scale, len(pyramid))
        self._kept = keeps_layout(manifest.displacement_px, pyramid.size, self._start)
        turned = turn_between(self._traced.images, manifest.turn_code, identity.turn_code)
        self.image: Tensor = resize(turned, size, pyramid.config.resample)[0].clamp(0, 1)  # [C, H, W]

    @cached_property
    def _field(self) -> Tensor:
        if self._traced.origins is not None:
            own, wanted = self._manifest.turn_code, self._identity.turn_code
            return sample_field(self._traced.origins[0], self._manifest.scale_sizes[-1], self.size, own, wanted)
        if not self._kept:
            raise self._refusal("labels of a pyramid that generates pixels", 'fit with the preset "fast"')
        rows, columns = (torch.arange(side) for side in self.size)
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))

    def field(self) -> Tensor:
        """Exact where pixels were copied; the identity where they were generated and stay about where they were."""
        return self._field

    def boxes(self, boxes: Tensor) -> Tensor:
        """The same ones, from start scales that keep the layout."""
        if not self._kept:
            raise self._refusal("boxes without outlines", "give polygons")
        return carry_boxes(boxes, keeps_layout=self._kept)

    def _refusal(self, what: str, else_do: str) -> LabelError:
        moved = self._manifest.displacement_px
        size = self._manifest.scale_sizes[-1]
        first = layout_start_scale(moved, size)
        choose = (
            "no start scale of its pyramid keeps the layout" if first is None else f"use --start-scale {first} or finer"
        )
        far = f"{moved[self._start]:.0f} of {min(size)} px" if moved else "it is not known how far"
        return LabelError(
            f"{what} cannot follow start scale {self._start}, which moves things ({far}): {choose}, or {else_do}"
        )


@one_thread()
def _export_one(job: Job, location: str, out: Path, settings: Settings) -> tuple[Exported, dict[str, Any] | None]:
    """Draw and write the variants of one image; the journal's entry, or None where it failed."""
    store = open_store(location)
    try:
        with quiet_decoding():
            pixels = load_image(job.image).pixels
            grey_file = _is_grey_file(job.image)
        size, identity = (pixels.shape[0], pixels.shape[1]), fingerprint(pixels)
        manifest, pyramid = store.manifest(job.key), store.load(job.key)
        variants = []
        for i, name in enumerate(job.names):
            start_scale = settings.start_scales[i % len(settings.start_scales)]
            seed = derive_seed(settings.seed, job.relative.as_posix(), i)
            draw = _Draw(pyramid, manifest, identity, size, start_scale, seed)
            labels = job.labels.write(Path(name).stem, draw, out)
            image = unit_to_pil(draw.image)
            _save(image if grey_file else image.convert("RGB"), out / job.relative.with_name(name))
            variants.append({"name": name, "labels": labels})
    except SinGANAugError as error:
        return Exported(job.image, "failed", str(error)), None
    return Exported(job.image, "exported"), {"image": job.relative.as_posix(), "size": size, "variants": variants}


def _is_grey_file(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")


def _save(image: Image.Image, path: Path) -> None:
    options: dict[str, Any] = {} if path.suffix.lower() == ".png" else {"quality": JPEG_QUALITY}
    written_aside(path, lambda aside: image.save(aside, **options))
