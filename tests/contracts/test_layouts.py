"""Every layout of annotations against the same promises, fitted with and exported.

In these pictures the objects alone are red: wherever pixels go, a label must say what their colour says.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from singan_aug.annotations import Outline
from singan_aug.dataset import fit_dataset, plan_dataset
from singan_aug.errors import ConfigError, SinGANAugError
from singan_aug.export import ExportReport, export_dataset
from singan_aug.store import DirectoryStore
from tests.conftest import copies, make_photo

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (26, 34)
MOVED = copies(coarsest_px=13, finest_px=40, scale_factor=0.6, shift_px=3.0, shift_step_px=3, seam_blend_px=0.0)
STILL = MOVED.replace(shift_px=0.3, shift_step_px=0)  # draws keep the layout, as boxes alone need
Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2
LEFT, RIGHT = (3, 4, 13, 14), (20, 10, 31, 22)


def photo(path: Path, red: Sequence[Rectangle], seed: int = 0, **options: Any) -> Path:
    """A picture whose objects alone are red. With `exif` it lies on its side in the file."""
    pixels = make_photo(*SIZE, seed=seed) // 2
    for x1, y1, x2, y2 in red:
        pixels[y1:y2, x1:x2] = (250, 5, 5)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rot90(pixels) if "exif" in options else pixels).save(path, **options)
    return path


def red_of(path: Path) -> Outline:
    """Which pixels are red. JPEG leaves some doubt along edges alone."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red: Outline = (pixels[..., 0] > 170) & (pixels[..., 1] < 90)
    return red


def filled(points: Sequence[float]) -> Outline:
    """The pixels whose middle a polygon holds, by the even-odd rule."""
    inside = np.zeros(SIZE, dtype=np.bool_)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + 0.5
    corners = np.reshape(points, (-1, 2))
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 <= rows) != (y2 <= rows)
            inside ^= crosses & (columns > x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
    return inside


def corners_of(rectangle: Rectangle) -> list[int]:
    x1, y1, x2, y2 = rectangle
    return [x1, y1, x2, y1, x2, y2, x1, y2]


class Kind(ABC):
    """How one layout says where objects are, as its own tools read and write it."""

    name: str
    images = "images"  # the folder of the images
    config, start = MOVED, 0
    fits = True  # whether `fit` reads these with --masks, or finds them
    has_objects = True  # whether it lists objects, of which one may be broken

    @abstractmethod
    def write(self, data: Path, objects: dict[str, Sequence[Rectangle]]) -> None:
        """The annotations of images, by their path below the folder of the images."""

    @abstractmethod
    def read(self, out: Path, image: str) -> Outline | None:
        """The pixels of the objects of an image, None where it has no annotation."""

    def masks(self, data: Path) -> Path | None:
        """What --masks names."""
        del data
        return None

    def spoil(self, data: Path, image: str) -> None:
        """Put a broken object beside the good ones."""
        raise NotImplementedError


class MaskFolder(Kind):
    name, has_objects, suffix = "masks", False, ".png"

    def write(self, data: Path, objects: dict[str, Sequence[Rectangle]]) -> None:
        for image, some in objects.items():
            mask = np.zeros(SIZE, dtype=np.uint8)
            for x1, y1, x2, y2 in some:
                mask[y1:y2, x1:x2] = 255
            path = self._path(data, image)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)

    def _path(self, data: Path, image: str) -> Path:
        return (data / "masks" / image).with_suffix(self.suffix)

    def read(self, out: Path, image: str) -> Outline | None:
        path = self._path(out, image)
        return np.asarray(Image.open(path)) > 127 if path.exists() else None


class JpegMasks(MaskFolder):
    name, suffix = "jpeg masks", ".jpg"


class CapitalMasks(MaskFolder):
    name, suffix = "masks in capitals", ".PNG"


class MasksBeside(MaskFolder):
    name = "masks beside"

    def _path(self, data: Path, image: str) -> Path:
        path = data / "images" / image
        return path.with_name(f"{path.stem}_mask.png")


class CocoFile(Kind):
    name = "coco"

    def write(self, data: Path, objects: dict[str, Sequence[Rectangle]]) -> None:
        self._dump(data / "annotations" / "all.json", {self.spelled(image): some for image, some in objects.items()})

    def spelled(self, image: str) -> str:
        return f"images/{image}"

    def _dump(self, path: Path, objects: dict[str, Sequence[Rectangle]]) -> None:
        images = [
            {"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate(objects, start=7)
        ]
        records = [
            {"image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1}
            | {"segmentation": [corners_of((x1, y1, x2, y2))]}
            for i, some in enumerate(objects.values(), start=7)
            for x1, y1, x2, y2 in some
        ]
        records = [{"id": i, **record} for i, record in enumerate(records)]
        document = {"images": images, "annotations": records, "categories": [{"id": 1, "name": "red"}]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))

    def masks(self, data: Path) -> Path:
        return data / "annotations" / "all.json"

    def read(self, out: Path, image: str) -> Outline | None:
        return self._load(out / "annotations" / "all.json", self.spelled(image))

    def _load(self, path: Path, name: str) -> Outline | None:
        document = json.loads(path.read_text())
        found = [each for each in document["images"] if each["file_name"] == name]
        if not found:
            return None
        (image,) = found
        assert (image["height"], image["width"]) == SIZE
        inside = np.zeros(SIZE, dtype=np.bool_)
        for record in document["annotations"]:
            if record["image_id"] == image["id"]:
                polygons = [filled(polygon) for polygon in record["segmentation"]]
                outline = np.logical_or.reduce(polygons)
                if "_v" in name:
                    assert record["area"] == outline.sum()
                    across, down = (np.flatnonzero(outline.any(axis)) for axis in (0, 1))
                    assert record["bbox"][:2] == [across[0], down[0]]
                    assert record["bbox"][2:] == [across[-1] + 1 - across[0], down[-1] + 1 - down[0]]
                inside |= outline
        return inside

    def spoil(self, data: Path, image: str) -> None:
        path = self.masks(data)
        document = json.loads(path.read_text())
        (ident,) = (each["id"] for each in document["images"] if each["file_name"] == self.spelled(image))
        broken = {"id": 900, "image_id": ident, "category_id": 1, "segmentation": [[1, 1, float("inf"), 2, 3, 4]]}
        document["annotations"].insert(0, broken)
        path.write_text(json.dumps(document))


class CocoOfWindows(CocoFile):
    name = "coco with backslashes"

    def spelled(self, image: str) -> str:
        return "images\\" + image.replace("/", "\\")


class CocoFromElsewhere(CocoFile):
    name = "coco with paths of another machine"

    def spelled(self, image: str) -> str:
        return f"D:\\data\\photos\\images\\{image}".replace("/", "\\")


class CocoInEachFolder(CocoFile):
    """As Roboflow writes them: names without folders, a file in each."""

    name = "coco in each folder"

    def write(self, data: Path, objects: dict[str, Sequence[Rectangle]]) -> None:
        for folder in {Path(image).parent for image in objects}:
            own = {Path(image).name: some for image, some in objects.items() if Path(image).parent == folder}
            self._dump(data / "images" / folder / "_annotations.coco.json", own)

    def masks(self, data: Path) -> Path:
        return data / "images"

    def read(self, out: Path, image: str) -> Outline | None:
        path = out / "images" / image
        found = path.with_name("_annotations.coco.json")
        return self._load(found, path.name) if found.exists() else None

    def spoil(self, data: Path, image: str) -> None:
        path = data / "images" / Path(image).parent / "_annotations.coco.json"
        document = json.loads(path.read_text())
        document["annotations"].append({"id": 900, "image_id": 7, "category_id": "red", "bbox": [1, 1, 2, 2]})
        path.write_text(json.dumps(document))


class YoloSegments(Kind):
    name = "yolo segments"
    broken = "0 0.1 0.1 nan 0.2 0.3 0.3"

    def _path(self, data: Path, image: str) -> Path:
        return (data / "labels" / image).with_suffix(".txt")

    def write(self, data: Path, objects: dict[str, Sequence[Rectangle]]) -> None:
        for image, some in objects.items():
            path = self._path(data, image)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{self.line(each)}\n" for each in some))

    def line(self, rectangle: Rectangle) -> str:
        values = [value / SIZE[(i + 1) % 2] for i, value in enumerate(corners_of(rectangle))]
        return "0 " + " ".join(f"{value:.6f}" for value in values)

    def masks(self, data: Path) -> Path:
        return data / "labels"

    def read(self, out: Path, image: str) -> Outline | None:
        path = self._path(out, image)
        if not path.exists():
            return None
        inside = np.zeros(SIZE, dtype=np.bool_)
        for line in path.read_text().splitlines():
            inside |= self.filled_line([float(word) for word in line.split()[1:]])
        return inside

    def filled_line(self, values: Sequence[float]) -> Outline:
        return filled([round(value * SIZE[(i + 1) % 2]) for i, value in enumerate(values)])

    def spoil(self, data: Path, image: str) -> None:
        path = self._path(data, image)
        path.write_text(f"{self.broken}\n{path.read_text()}")


class YoloBoxes(YoloSegments):
    name, broken = "yolo boxes", "cat 0.5 0.5 0.1 0.1"
    config, start, fits = STILL, -1, False

    def line(self, rectangle: Rectangle) -> str:
        x1, y1, x2, y2 = rectangle
        height, width = SIZE
        values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        return "0 " + " ".join(f"{value:.6f}" for value in values)

    def filled_line(self, values: Sequence[float]) -> Outline:
        x, y, across, down = (value * side for value, side in zip(values, SIZE[::-1] * 2, strict=True))
        corners = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
        x1, y1, x2, y2 = (round(corner) for corner in corners)
        return filled(corners_of((x1, y1, x2, y2)))


KINDS: list[Kind] = [
    MaskFolder(),
    JpegMasks(),
    CapitalMasks(),
    MasksBeside(),
    CocoFile(),
    CocoOfWindows(),
    CocoFromElsewhere(),
    CocoInEachFolder(),
    YoloSegments(),
    YoloBoxes(),
]
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
with_objects = pytest.mark.parametrize("kind", [k for k in KINDS if k.has_objects], ids=lambda kind: kind.name)
fitted_with = pytest.mark.parametrize("kind", [k for k in KINDS if k.fits], ids=lambda kind: kind.name)


def export(data: Path, kind: Kind, *, fit: bool = True, **settings: Any) -> ExportReport:
    """Fit what is in the folder without masks, and export it to `out` beside it."""
    store = DirectoryStore(data.parent / "store")
    if fit:
        fit_dataset([data / "images"], store, kind.config, masks="none", jobs=1)
    settings = {"variants": 2, "start_scale": (kind.start,), **settings}
    return export_dataset(data, data.parent / "out", store, **settings, jobs=1)


def check(out: Path, kind: Kind, image: str, suffix: str | None = None, *, exact: bool = True) -> None:
    """The labels of the variants of an image are where their red pixels are."""
    path = Path(image)
    for i in (1, 2):
        variant = path.with_name(f"{path.stem}_v{i}{suffix or path.suffix}").as_posix()
        label = kind.read(out, variant)
        assert label is not None
        red = red_of(out / "images" / variant)
        assert red.any()
        if exact and kind.config is MOVED:
            assert np.array_equal(label, red)
        else:  # a box stays while pixels move a little; and lossy formats blur edges
            assert (label & red).sum() / (label | red).sum() > 0.7


def mask_values(data: Path, kind: Kind) -> dict[str, tuple[int, ...]]:
    """Fit with the annotations: image -> the values of the mask that its pyramid has."""
    store = DirectoryStore(data.parent / "masked")
    report = fit_dataset([data / "images"], store, MOVED, masks=kind.masks(data), jobs=1)
    assert not report.failed
    return {
        o.path.relative_to(data / "images").as_posix(): tuple(map(bool, store.manifest(o.key).mask_values))
        for o in report.outcomes
    }


@every
def test_labels_follow_and_originals_keep_theirs(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT, RIGHT])
    photo(data / "images" / "sub" / "b.png", [RIGHT], seed=1)
    kind.write(data, {"a.png": [LEFT, RIGHT], "sub/b.png": [RIGHT]})
    report = export(data, kind)
    assert [outcome.status for outcome in report.outcomes] == ["exported", "exported"]
    assert report.notes == ()
    for image in ("a.png", "sub/b.png"):
        check(tmp_path / "out", kind, image)
        assert (tmp_path / "out" / "images" / image).read_bytes() == (data / "images" / image).read_bytes()
        label = kind.read(tmp_path / "out", image)
        assert label is not None
        assert np.array_equal(label, red_of(data / "images" / image))


@every
def test_namesakes_in_two_folders_keep_their_own_labels(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    for seed, (name, red) in enumerate((("x/1.png", LEFT), ("y/1.png", RIGHT), ("z/1.png", LEFT))):
        photo(data / "images" / name, [red], seed)
    kind.write(data, {"x/1.png": [LEFT], "y/1.png": [RIGHT]})
    export(data, kind)
    for image in ("x/1.png", "y/1.png"):
        check(tmp_path / "out", kind, image)
    assert kind.read(tmp_path / "out", "z/1_v1.png") is None  # the namesake without annotations has none
    if kind.fits:
        assert mask_values(data, kind) == {"x/1.png": (False, True), "y/1.png": (False, True), "z/1.png": ()}


@fitted_with
def test_an_image_never_takes_the_annotations_of_a_namesake_that_was_not_given(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    for seed, name in enumerate(("x/1.png", "y/1.png")):
        photo(data / "images" / name, [LEFT], seed)
    kind.write(data, {"x/1.png": [LEFT]})
    store = DirectoryStore(tmp_path / "store")
    report = fit_dataset([data / "images" / "y"], store, MOVED, masks=kind.masks(data), jobs=1)
    assert [store.manifest(outcome.key).mask_values for outcome in report.outcomes] == [()]


@every
def test_what_no_image_claims_is_counted(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT])
    photo(data / "images" / "gone.png", [LEFT], seed=1)
    kind.write(data, {"a.png": [LEFT], "gone.png": [LEFT]})
    (data / "images" / "gone.png").unlink()
    told = "taken for images" if isinstance(kind, MasksBeside) else "matched no image"  # a mask alone looks like one
    note = export(data, kind).notes[0]
    assert note.startswith("1 ")
    assert told in note
    assert "gone" in note
    if kind.fits:
        store = DirectoryStore(tmp_path / "masked")
        plan = plan_dataset([data], store, MOVED, masks=kind.masks(data))
        assert any(told in note and "gone" in note for note in plan.unclaimed)
        assert fit_dataset([data], store, MOVED, masks=kind.masks(data), jobs=1).unclaimed == plan.unclaimed


@with_objects
def test_a_broken_object_is_left_out_and_its_neighbours_stay(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT])
    kind.write(data, {"a.png": [LEFT]})
    kind.spoil(data, "a.png")
    report = export(data, kind)
    assert [outcome.status for outcome in report.outcomes] == ["exported"]
    assert "1 object left out" in report.outcomes[0].message
    assert report.notes == ("1 broken object left out",)
    check(tmp_path / "out", kind, "a.png")
    if kind.fits:
        store = DirectoryStore(tmp_path / "masked")
        fitted = fit_dataset([data / "images"], store, MOVED, masks=kind.masks(data), jobs=1)
        assert fitted.left_out == 1
        assert store.manifest(fitted.outcomes[0].key).mask_values == (0, 1)
        assert "1 object left out" in ", ".join(fitted.outcomes[0].notes)


@every
def test_labels_lie_over_the_upright_image(tmp_path: Path, kind: Kind) -> None:
    data, exif = tmp_path / "data", Image.Exif()
    exif[0x0112] = 6
    photo(data / "images" / "a.png", [LEFT], exif=exif)
    with Image.open(data / "images" / "a.png") as image:
        assert image.size == SIZE  # on its side
    kind.write(data, {"a.png": [LEFT]})
    report = export(data, kind)
    assert [outcome.status for outcome in report.outcomes] == ["exported"]
    check(tmp_path / "out", kind, "a.png")
    if kind.fits:
        assert mask_values(data, kind) == {"a.png": (False, True)}


@every
def test_a_split_that_is_a_link_is_a_split(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "test" / "a.png", [LEFT])
    kind.write(data, {"test/a.png": [LEFT]})
    for place in ("images", "masks", "labels"):
        if (data / place / "test").is_dir():
            (data / place / "val").symlink_to("test")
    report = export(data, kind)
    if isinstance(kind, CocoFile) and kind.name != "coco in each folder":
        assert "1 image left out, not listed in all.json" in report.notes
        return
    assert [outcome.status for outcome in report.outcomes] == ["exported", "exported"]
    for image in ("test/a.png", "val/a.png"):
        check(tmp_path / "out", kind, image)


@every
@pytest.mark.parametrize("name", ["a.PNG", "ä b.png", b"caf\xe9.png", "x" * 240 + ".png", "a.b.png"], ids=repr)
def test_names_of_every_sort(tmp_path: Path, kind: Kind, name: str | bytes) -> None:
    name = os.fsdecode(name)
    data = tmp_path / "data"
    try:
        photo(data / "images" / name, [LEFT])
        kind.write(data, {name: [LEFT]})
    except OSError:
        pytest.skip("a file system without such names, or a mask's name that is too long for it")
    report = export(data, kind)
    assert [outcome.status for outcome in report.outcomes] == ["exported"]
    check(tmp_path / "out", kind, name)
    if kind.fits:
        assert mask_values(data, kind) == {name: (False, True)}


@every
@pytest.mark.parametrize("suffix", [".jfif", ".avif", ".jp2", ".mpo", ".JPG"])
def test_files_of_every_suffix(tmp_path: Path, kind: Kind, suffix: str) -> None:
    data, name = tmp_path / "data", f"a{suffix}"
    options: dict[str, Any] = {} if suffix == ".jp2" else {"quality": 98, "subsampling": "4:4:4"}
    photo(data / "images" / name, [LEFT], **options)
    kind.write(data, {name: [LEFT]})
    report = export(data, kind)
    assert [outcome.status for outcome in report.outcomes] == ["exported"]
    written = suffix if suffix in (".jfif", ".JPG") else ".png"
    if isinstance(kind, CocoFile):
        assert kind.read(tmp_path / "out", name) is not None
    check(tmp_path / "out", kind, name, written, exact=False)


@every
def test_a_file_that_cannot_be_written_fails_its_image_alone(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT])
    photo(data / "images" / "b.png", [RIGHT], seed=1)
    kind.write(data, {"a.png": [LEFT], "b.png": [RIGHT]})
    (tmp_path / "out" / "images" / "a_v1.png").mkdir(parents=True)
    store = DirectoryStore(tmp_path / "store")
    fit_dataset([data / "images"], store, kind.config, masks="none", jobs=1)
    out = tmp_path / "out"
    report = export_dataset(data, out, store, variants=2, start_scale=kind.start, jobs=1, force=True)
    assert [outcome.status for outcome in report.outcomes] == ["failed", "exported"]
    assert "cannot be written" in report.outcomes[0].message
    check(tmp_path / "out", kind, "b.png")


@every
def test_an_export_writes_through_no_link(tmp_path: Path, kind: Kind) -> None:
    data, out, elsewhere = tmp_path / "data", tmp_path / "out", tmp_path / "elsewhere"
    photo(data / "images" / "a.png", [LEFT])
    kind.write(data, {"a.png": [LEFT]})
    store = DirectoryStore(tmp_path / "store")
    fit_dataset([data / "images"], store, kind.config, masks="none", jobs=1)
    for folder in ("images", "masks", "labels", "annotations"):
        out.mkdir()
        elsewhere.mkdir()
        (out / folder).symlink_to(elsewhere)
        try:
            report = export_dataset(data, out, store, variants=1, start_scale=kind.start, jobs=1, force=True)
            failed = [outcome.message for outcome in report.outcomes if outcome.status == "failed"]
        except ConfigError as error:
            failed = [str(error)]
        used = (data / folder).exists()
        assert [f"{out / folder}, a link to" in message for message in failed] == [True] * used
        assert not list(elsewhere.iterdir())
        elsewhere.rmdir()
        out.rename(tmp_path / f"done {folder}")


# Where two could be meant, the message names both


def fails(data: Path, kind: Kind, *named: str) -> None:
    """Fitting and exporting fail for the image, or altogether, with a message that names all of these."""
    store = DirectoryStore(data.parent / "store")
    fit_dataset([data / "images"], store, kind.config, masks="none", jobs=1)
    try:
        report = export(data, kind, fit=False)
        messages = [outcome.message for outcome in report.outcomes if outcome.status == "failed"]
    except SinGANAugError as error:
        messages = [str(error)]
    assert any(all(word in message for word in named) for message in messages), messages
    if kind.fits:
        fitted = fit_dataset(
            [data / "images"], DirectoryStore(data.parent / "m"), MOVED, masks=kind.masks(data), jobs=1
        )
        assert any(all(word in outcome.message for word in named) for outcome in fitted.failed)


@pytest.mark.parametrize("kind", [k for k in KINDS if not isinstance(k, CocoFile)], ids=lambda kind: kind.name)
def test_one_stem_with_two_suffixes(tmp_path: Path, kind: Kind) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT])
    photo(data / "images" / "a.jpg", [RIGHT], seed=1)
    kind.write(data, {"a.png": [LEFT]})
    fails(data, kind, "images/a.png", "images/a.jpg")


def test_two_masks_of_one_image(tmp_path: Path) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT])
    MaskFolder().write(data, {"a.png": [LEFT]})
    MasksBeside().write(data, {"a.png": [LEFT]})
    fails(data, MaskFolder(), "masks/a.png", "a_mask.png")


@pytest.mark.parametrize("change", ["two records", "one id", "two folders"])
def test_coco_records_that_may_be_of_several_images(tmp_path: Path, change: str) -> None:
    data, kind = tmp_path / "data", CocoFile()
    for seed, name in enumerate(("x/a.png", "y/a.png", "y/b.png")):
        photo(data / "images" / name, [LEFT], seed)
    kind.write(data, {"x/a.png": [LEFT], "y/b.png": [LEFT]})
    path = kind.masks(data)
    document = json.loads(path.read_text())
    first, second = document["images"]
    if change == "two records":
        document["images"].append({**first, "id": 99})
    elif change == "one id":
        second["id"] = document["annotations"][1]["image_id"] = first["id"]
    else:
        first["file_name"] = "a.png"
    path.write_text(json.dumps(document))
    named = {
        "two records": ("record 7", "record 99"),
        "one id": ("x/a.png", "y/b.png", "7"),
        "two folders": ("images/x/a.png", "images/y/a.png"),
    }[change]
    fails(data, kind, *named)
    exported = json.loads((tmp_path / "out" / "annotations" / "all.json").read_text())
    originals = [image for image in exported["images"] if "_v" not in image["file_name"]]
    assert sorted(map(str, originals)) == sorted(map(str, document["images"]))  # as they are
    ids = [record["id"] for record in exported["annotations"]]
    assert len(ids) == len(set(ids))
    assert set(ids) >= {record["id"] for record in document["annotations"]}


@pytest.mark.parametrize("kind", [MaskFolder(), CocoFile()], ids=lambda kind: kind.name)
@pytest.mark.parametrize("size", [(52, 68), SIZE[::-1]], ids=["twice", "on its side"])
def test_annotations_of_another_size_are_refused(tmp_path: Path, kind: Kind, size: tuple[int, int]) -> None:
    data = tmp_path / "data"
    photo(data / "images" / "a.png", [LEFT])
    photo(data / "images" / "b.png", [RIGHT], seed=1)
    kind.write(data, {"a.png": [LEFT], "b.png": [RIGHT]})
    if isinstance(kind, CocoFile):
        path = kind.masks(data)
        document = json.loads(path.read_text())
        document["images"][0] |= {"height": size[0], "width": size[1]}
        path.write_text(json.dumps(document))
    else:
        Image.fromarray(np.ones(size, dtype=np.uint8)).save(data / "masks" / "a.png")
    fails(data, kind, f"{SIZE[1]}x{SIZE[0]}", f"{size[1]}x{size[0]}")
    check(tmp_path / "out", kind, "b.png")
