"""YOLO's folders: label files beside images or in labels/ beside images/, and a data.yaml that names both."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from singan_aug.annotations import (
    Outline,
    counted,
    is_yolo,
    joined,
    of_two_images,
    polygons_of,
    read_yolo,
    refuse_poses,
    yolo_line,
)
from singan_aug.errors import LabelError
from singan_aug.export._files import write_text
from singan_aug.export._layout import Carrier, Dataset, Labels, Layout, NoLabels, carried_objects, outlined
from singan_aug.pyramid.sizes import Size

__all__ = ["YoloFolder"]

_SPLITS = re.compile(r"^(train|val|valid|test|minival)\s*:", re.MULTILINE)
_ROOT = re.compile(r"^path\s*:.*\n?", re.MULTILINE)
_ENTRY = re.compile(r"""(?<=[\s\[,'"])(?![\[\]#,'"-])[^\s\[\],'"#][^\[\],'"#\n]*""")


@dataclass(frozen=True)
class YoloLabels(Labels):
    """A YOLO file."""

    path: Path
    inside: Path  # the folder that it is in, below the dataset's

    def write(self, stem: str, carrier: Carrier, out: Path) -> list[dict[str, Any]]:
        """A line for each object that is left: a polygon where the original's had one, else a box."""
        lines = []
        for each in carried_objects(read_yolo(self.path, carrier.size).shapes, carrier):
            corners = np.asarray(each.box, dtype=np.float64).reshape(2, 2)
            points = corners if each.outline is None else joined(polygons_of(each.outline))
            lines.append(yolo_line(each.shape.category, carrier.size, points) + "\n")
        write_text(out, self.target(stem), "".join(lines))
        return []

    def objects(self, size: Size) -> Outline:
        """Inside their polygons."""
        return outlined(read_yolo(self.path, size).shapes, size)

    def target(self, stem: str) -> Path:
        """Beside the original's."""
        return self.inside / f"{stem}{self.path.suffix}"

    def left_out(self, size: Size) -> tuple[str, ...]:
        """Lines that are broken."""
        return read_yolo(self.path, size).left_out


class YoloFolder(Layout):
    """`images/` and `labels/`, or the labels beside the images; boxes or polygons in text files."""

    def __init__(self, dataset: Dataset, annotations: Path | None) -> None:
        super().__init__(dataset, annotations)
        self.files = _label_files(dataset)
        self.owners: defaultdict[Path, list[Path]] = defaultdict(list)
        for image, path in self.files.items():
            self.owners[path].append(image)
        at_top = [path for path in dataset.others if path.parent in (self.folder, self.folder / "labels")]
        self.yamls = [path for path in at_top if path.suffix in (".yaml", ".yml") and path.parent == self.folder]
        self.names = [path for path in at_top if path.suffix == ".names" or path.name == "classes.txt"]
        refuse_poses(self.owners, self.yamls)
        self.used = {*self.owners, *self.yamls, *self.names}
        self.lists: dict[Path, None] = {}  # text files of the paths of images, which a data.yaml names
        for path in self.yamls:
            self.lists |= dict.fromkeys(each for _, each in _entries(_text(path), self.folder) if each.is_file())
        self.used |= set(self.lists)
        lost = [path for path in dataset.others if path.suffix.lower() == ".txt" and path not in self.used]
        lost = [path for path in lost if is_yolo(path)]
        if lost:
            self.notes.append(f"{counted(len(lost), 'label file')} matched no image, such as {lost[0]}")
        self.used |= set(lost)
        if len(self.files) < len(self.images):
            self.notes.append(f"{counted(len(self.images) - len(self.files), 'image')} without a label file")

    @classmethod
    def fits(cls, dataset: Dataset) -> bool:
        """Some image has a label file."""
        return bool(_label_files(dataset))

    def labels(self, image: Path) -> Labels:
        """Its objects; an image without a label file has none."""
        path = self.files.get(image)
        if path is None:
            return NoLabels(of_objects=True)
        if len(self.owners[path]) > 1:
            raise LabelError(of_two_images("label file", str(path), self.owners[path]))
        return YoloLabels(path, path.relative_to(self.folder).parent)

    def label_file(self, image: Path) -> Path | None:
        """Its label file."""
        return self.files.get(image)

    def finish(self, done: Mapping[str, Mapping[str, Any]], originals: bool, out: Path) -> None:
        """Names of classes, data.yaml and the lists that it names, none of which leads back to the source."""
        for path in self.names:
            write_text(out, path.relative_to(self.folder), _text(path))
        for path in self.yamls:
            text = _ROOT.sub("", _text(path))  # without `path`, a data.yaml is about the folder that it is in
            for start, end in reversed([match.span() for match in _split_entries(text)]):
                entry = text[start:end].rstrip()
                inside = _inside(entry, self.folder)
                if inside is None:
                    self.notes.append(f"{path.name} names {entry}, which is not in {self.folder}: correct it by hand")
                elif _is_absolute(entry):
                    text = text[:start] + inside.as_posix() + text[start + len(entry) :]
            write_text(out, path.relative_to(self.folder), text)
        for path in self.lists:
            inside = path.relative_to(self.folder)
            write_text(out, inside, "".join(f"{line}\n" for line in self._listed(path, done, originals)))

    def _listed(self, path: Path, done: Mapping[str, Mapping[str, Any]], originals: bool) -> Iterator[str]:
        """The lines of a list of images, each followed by its variants, all relative to the list's folder."""
        unknown = 0
        for line in filter(None, map(str.strip, _text(path).splitlines())):
            image = _inside(line, self.folder) or _inside(line, path.parent)
            base = self.folder if image is not None and (self.folder / image).is_file() else path.parent
            if image is None or not (base / image).is_file():
                unknown += 1
                continue
            relative = (base / image).relative_to(self.folder)
            names = [relative.name] if originals else []
            names += [variant["name"] for variant in done.get(relative.as_posix(), {"variants": []})["variants"]]
            up = "../" * len(path.relative_to(self.folder).parent.parts)
            yield from (f"./{up}{relative.with_name(name).as_posix()}" for name in names)
        if unknown:
            self.notes.append(f"{counted(unknown, 'line')} of {path.name} not copied, of images that are not there")


def _label_files(dataset: Dataset) -> dict[Path, Path]:
    """The label file of each image that has one, where Ultralytics looks: the last `images` becomes `labels`."""
    texts = {path.with_suffix(""): path for path in dataset.others if path.suffix.lower() == ".txt"}
    found = {}
    for image in dataset.images:
        parts = list(image.relative_to(dataset.folder).with_suffix("").parts)
        for i in reversed(range(len(parts) - 1)):
            if parts[i] == "images":
                parts[i] = "labels"
                break
        stem = dataset.folder.joinpath(*parts)
        path = texts.get(stem, stem.with_name(f"{stem.name}.txt"))
        if (stem in texts or path.is_dir()) and path.name != "classes.txt":  # a folder cannot be read, which is told
            found[image] = path
    return found


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _split_entries(text: str) -> Iterator[re.Match[str]]:
    """The paths that train, val and test give, on their line or in a list below it."""
    for split in _SPLITS.finditer(text):
        lines = re.compile(r".*(\n(?=[ \t-]).*)*").match(text, split.end())
        for match in _ENTRY.finditer(text, split.end(), lines.end() if lines else split.end()):
            if "#" not in text[text.rfind("\n", 0, match.start()) + 1 : match.start()]:  # no comment
                yield match


def _entries(text: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for match in _split_entries(text):
        inside = _inside(match.group().rstrip(), folder)
        if inside is not None:
            yield match.group(), folder / inside


def _is_absolute(entry: str) -> bool:
    return entry.startswith("/") or PureWindowsPath(entry).is_absolute()


def _inside(entry: str, folder: Path) -> Path | None:
    """What a path of a data.yaml or a list is below the dataset's folder: itself, or the longest end that is there."""
    parts = PurePosixPath(entry.replace("\\", "/")).parts
    if _is_absolute(entry):
        for base in {folder.absolute(), folder.resolve()}:
            if Path(entry).is_relative_to(base):
                return Path(entry).relative_to(base)
        parts = parts[1:]
    while parts and parts[0] == "..":
        parts = parts[1:]
    tails = range(len(parts)) if _is_absolute(entry) else range(min(1, len(parts)))
    for start in tails:
        if os.path.exists(folder.joinpath(*parts[start:])):  # noqa: PTH110 (false for what can be no path)
            return Path(*parts[start:])
    return None if parts or _is_absolute(entry) else Path()
