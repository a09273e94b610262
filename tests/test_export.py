"""singan-aug export: augmented copies of dataset folders, read back as each format's own tools would."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from typer.testing import CliRunner

from singan_aug.annotations import decode_rle, encode_rle, read_coco, read_yolo
from singan_aug.cli import app
from singan_aug.config import FitConfig
from singan_aug.dataset import fit_dataset
from singan_aug.errors import ConfigError, ImageError, LabelError, MissingPyramidError
from singan_aug.export import ExportReport, export_dataset
from singan_aug.export._pictures import about
from singan_aug.images import load_image, turn_pixels, unit_to_pil
from singan_aug.pyramid import trace
from singan_aug.pyramid.noise import derive_seed
from singan_aug.store import DirectoryStore, make_key
from singan_aug.transforms._labels import boxes_of
from singan_aug.transforms.torchvision import SinGANAugment
from tests.conftest import copies, make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (26, 34)
TINY = copies(coarsest_px=13, finest_px=40, scale_factor=0.6, shift_px=3.0, shift_step_px=3, seam_blend_px=0.0)
STILL = TINY.replace(shift_px=0.5, shift_step_px=0)  # draws keep the layout
SQUARE = [4, 3, 16, 3, 16, 15, 4, 15]


def _photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_photo(*size, seed=seed)).save(path)
    return path


def _disk(height: int, width: int) -> Any:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.hypot(rows - height / 2, columns - width / 3) < min(height, width) / 3


def _run(data: Path, config: FitConfig = TINY, fit: Path | None = None, **settings: Any) -> ExportReport:
    """Fit what is in the folder, or in `fit`, and export it to `out` beside it."""
    store = DirectoryStore(data.parent / "store")
    assert not fit_dataset([fit or data], store, config, jobs=1).failed
    return export_dataset(data, data.parent / "out", store, **{"variants": 2, **settings}, jobs=1)


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _files(folder)}


def _traced(image: Path, start: int, seed: int, config: FitConfig = TINY) -> tuple[Any, Any]:
    """(variant, origins) of a lossless file with STORE's pyramid, as an export has to draw it."""
    data = image
    while not (data.parent / "store").is_dir():
        data = data.parent
    pixels = load_image(image).pixels
    pyramid = DirectoryStore(data.parent / "store").load(str(make_key(pixels, config)))
    traced = trace(pyramid, start_scale=start, seed=seed)
    assert traced.origins is not None
    return np.asarray(unit_to_pil(traced.images[0])), traced.origins[0].numpy()


# ImageFolder


def test_class_folders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for seed, name in enumerate(("cat/a.png", "cat/b.jpg", "dog/a.bmp")):
        _photo(data / name, seed)
    report = _run(data)
    assert report.layout == "imagefolder"
    assert [outcome.status for outcome in report.outcomes] == ["exported"] * 3
    assert report.variants == 6
    assert _files(tmp_path / "out") == [
        *("cat/a.png", "cat/a_v1.png", "cat/a_v2.png", "cat/b.jpg", "cat/b_v1.jpg", "cat/b_v2.jpg"),
        *("dog/a.bmp", "dog/a_v1.png", "dog/a_v2.png"),
    ]
    for name in _files(tmp_path / "out"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (34, 26)
            assert image.mode == "RGB"
            assert image.format == {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP"}[Path(name).suffix]
    for name in ("cat/a.png", "cat/b.jpg"):
        assert (tmp_path / "out" / name).read_bytes() == (data / name).read_bytes()


def test_variants_are_draws_of_the_given_start_scales_in_turn(tmp_path: Path) -> None:
    image = _photo(tmp_path / "data" / "x" / "a.png")
    _run(tmp_path / "data", variants=3, start_scale=(0, -1), seed=5)
    for i, start in enumerate((0, -1, 0)):
        variant, _ = _traced(image, start, derive_seed(5, "x/a.png", i))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "x" / f"a_v{i + 1}.png")), variant)


def test_files_larger_than_their_pyramid_and_turned_by_exif(tmp_path: Path) -> None:
    data, exif = tmp_path / "data", Image.Exif()
    exif[0x0112] = 6
    data.mkdir()
    Image.fromarray(make_photo(60, 90)).save(data / "a.jpg", exif=exif)
    _run(data)
    with Image.open(tmp_path / "out" / "a_v1.jpg") as variant:
        assert variant.size == (60, 90)  # upright
        assert variant.getexif().get(0x0112, 1) == 1


def test_a_file_larger_than_its_pyramid_is_varied_at_its_own_resolution(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    Image.fromarray(noise // 2 + make_photo(90, 120) // 2).save(tmp_path / "data" / "a.png")
    _run(tmp_path / "data")
    variant, source = (
        np.asarray(Image.open(path)).astype(float)
        for path in (tmp_path / "out" / "a_v1.png", tmp_path / "data" / "a.png")
    )
    roughness = [float(np.abs(np.diff(each, axis=1)).mean()) for each in (variant, source)]
    assert roughness[0] > 0.9 * roughness[1]  # enlarged from the pyramid's size, most of the noise would be gone
    assert not np.array_equal(variant, source)


def test_grey_files_stay_grey_and_grey_colour_files_stay_colour(tmp_path: Path) -> None:
    grey = make_photo(*SIZE, channels=1)
    (tmp_path / "data").mkdir()
    Image.fromarray(grey[..., 0]).save(tmp_path / "data" / "a.png")
    Image.fromarray(np.dstack([make_photo(*SIZE, channels=1, seed=1)[..., 0]] * 3)).save(tmp_path / "data" / "b.png")
    _run(tmp_path / "data")
    for name, mode in (("a", "L"), ("b", "RGB")):
        with Image.open(tmp_path / "out" / f"{name}_v1.png") as variant:
            assert variant.mode == mode


def test_grey_of_16_bits_stays_so(tmp_path: Path) -> None:
    wide = make_photo(*SIZE, channels=1)[..., 0].astype(np.uint16) * 257
    (tmp_path / "data").mkdir()
    Image.fromarray(wide).save(tmp_path / "data" / "a.png")
    Image.fromarray(wide).save(tmp_path / "data" / "b.tif")
    _run(tmp_path / "data", start_scale=(-1,))
    for name in ("a_v1.png", "b_v1.png"):
        with Image.open(tmp_path / "out" / name) as variant:
            assert variant.mode == "I;16"
            values = np.asarray(variant)
        assert abs(float(values.mean()) / wide.mean() - 1) < 0.1
        assert (values % 257 == 0).all()


@functools.cache
def _profile(space: Literal["sRGB", "LAB"]) -> bytes:  # which holds the second of its making
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_profile_resolution_and_exif_are_kept(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    kept: dict[str, Any] = {"icc_profile": _profile("sRGB"), "exif": exif, "dpi": (300, 150)}
    (tmp_path / "data").mkdir()
    Image.fromarray(make_photo(*SIZE)).save(tmp_path / "data" / name, **kept)
    _run(tmp_path / "data")
    variant = next((tmp_path / "out").glob("a_v1.*"))
    with Image.open(variant) as image, Image.open(tmp_path / "data" / name) as source:
        assert image.info["icc_profile"] == _profile("sRGB")
        if "dpi" in source.info:  # WebP has none
            assert tuple(map(round, image.info["dpi"])) == (300, 150)
        if name != "a.tif":  # whose tags say how it is stored
            assert image.getexif()[0x010E] == "a description"
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_of_other_colours_than_the_variants_is_left_out(mode: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    image = Image.fromarray(make_photo(*SIZE)).convert(mode)
    image.save(tmp_path / "data" / "a.jpg", icc_profile=_profile("LAB"), quality=95)
    _run(tmp_path / "data")
    with Image.open(tmp_path / "out" / "a_v1.jpg") as variant:
        assert "icc_profile" not in variant.info


@pytest.mark.parametrize("exif", [b"Exif\0\0no EXIF at all, whatever it says", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_damaged_exif_stops_nothing(exif: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(make_photo(*SIZE)).save(tmp_path / "data" / name, exif=exif)
    report = _run(tmp_path / "data")
    assert [outcome.status for outcome in report.outcomes] == ["exported"] * 2
    with Image.open(tmp_path / "data" / "a.png") as image:
        varied = SinGANAugment(0, p=1.0, store=str(tmp_path / "store"))(image)
        assert varied.info == image.info


@pytest.mark.parametrize("dpi", [None, (), (72,), ("a", "b"), (float("nan"), 72), (72, float("inf")), (0, 0), (1e9, 1)])
def test_a_resolution_that_is_none_is_left_out(dpi: Any) -> None:
    image = Image.new("RGB", (3, 3))
    image.info = {"dpi": dpi, "icc_profile": None}
    assert about(image).dpi is None


def test_colours_of_16_bits_are_said_to_be_reduced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = make_photo(*SIZE).astype(">u2") * 257
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    (tmp_path / "data" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    (outcome,) = _run(tmp_path / "data").outcomes
    assert (outcome.status, outcome.message) == ("exported", "16 bits of a colour reduced to 8 in its variants")


def test_originals_that_are_links_become_files(tmp_path: Path) -> None:
    image = _photo(tmp_path / "blobs" / "abc.png")
    (tmp_path / "data" / "x").mkdir(parents=True)
    (tmp_path / "data" / "x" / "1.png").symlink_to("../../blobs/abc.png")
    for originals in ("link", "copy"):
        _run(tmp_path / "data", originals=originals)
        original = tmp_path / "out" / "x" / "1.png"
        assert not original.is_symlink()
        assert original.read_bytes() == image.read_bytes()
        shutil.rmtree(tmp_path / "out")


def test_a_name_that_leaves_no_room_for_its_variants_fails_alone(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / f"{'x' * 251}.png")
    _photo(tmp_path / "data" / "b.png", 1)
    report = _run(tmp_path / "data")
    assert [outcome.status for outcome in report.outcomes] == ["exported", "failed"]
    assert "cannot be written: File name too long" in report.outcomes[1].message


def test_files_that_belong_to_no_image_are_counted(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    for name in ("captions.csv", "a.xml"):
        (tmp_path / "data" / name).write_text("x")
    assert _run(tmp_path / "data").notes == (f"2 other files not copied, such as {tmp_path}/data/a.xml",)


@pytest.mark.parametrize("originals", ["copy", "link", "none"])
def test_originals_are_copied_linked_or_left_out(tmp_path: Path, originals: str) -> None:
    image = _photo(tmp_path / "data" / "a.png")
    _run(tmp_path / "data", originals=originals)
    assert ("a.png" in _files(tmp_path / "out")) == (originals != "none")
    if originals != "none":
        assert (tmp_path / "out" / "a.png").samefile(image) == (originals == "link")


def test_a_split_of_which_nothing_is_fitted_is_copied(tmp_path: Path) -> None:
    for seed, name in enumerate(("train/cat/a.png", "test/cat/b.png")):
        _photo(tmp_path / "data" / name, seed)
    report = _run(tmp_path / "data", fit=tmp_path / "data" / "train")
    assert [(o.path.name, o.status) for o in report.outcomes] == [("b.png", "copied"), ("a.png", "exported")]
    assert _files(tmp_path / "out") == ["test/cat/b.png", "train/cat/a.png", "train/cat/a_v1.png", "train/cat/a_v2.png"]


def test_an_image_that_was_left_out_of_fitting_is_named(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    _photo(tmp_path / "data" / "b.png", 1)
    report = _run(tmp_path / "data", fit=tmp_path / "data" / "a.png")
    assert [o.status for o in report.outcomes] == ["exported", "failed"]
    assert f"fit it with `singan-aug fit {tmp_path}/data/b.png --store {tmp_path}/store`" in report.outcomes[1].message
    assert "b.png" in _files(tmp_path / "out")


def test_without_any_pyramid_nothing_is_written(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    with pytest.raises(MissingPyramidError, match="singan-aug fit"):
        export_dataset(tmp_path / "data", tmp_path / "out", DirectoryStore(tmp_path / "store"))
    assert not (tmp_path / "out").exists()


def test_a_variant_never_takes_the_name_of_an_image(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    other = _photo(tmp_path / "data" / "a_v1.png", 1)
    report = _run(tmp_path / "data")
    assert [o.status for o in report.outcomes] == ["failed", "exported"]
    assert "a_v1.png is another image's name" in report.outcomes[0].message
    assert (tmp_path / "out" / "a_v1.png").read_bytes() == other.read_bytes()


# Running again


def test_the_same_settings_give_the_same_files_in_whatever_order_workers_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes to worker processes is pickled, and they finish in any order; test_dataset.py starts real ones."""
    data = _coco_data(tmp_path / "data", [{"segmentation": [SQUARE], "bbox": [4, 3, 12, 12]}])
    _run(data, seed=3)
    store = DirectoryStore(tmp_path / "store")

    def pickled(function: Any, arguments: list[Any], jobs: int) -> Any:
        assert jobs == 2
        return reversed([function(*pickle.loads(pickle.dumps(each))) for each in arguments])

    with monkeypatch.context() as patched:
        patched.setattr("singan_aug.export._export.side_by_side", pickled)
        export_dataset(data, tmp_path / "two", store, variants=2, seed=3, jobs=2)
    export_dataset(data, tmp_path / "other", store, variants=2, seed=4, jobs=1)
    assert _contents(tmp_path / "two") == _contents(tmp_path / "out")
    assert _contents(tmp_path / "other")["train/a_v1.png"] != _contents(tmp_path / "out")["train/a_v1.png"]


def test_an_interrupted_export_continues(tmp_path: Path) -> None:
    for seed in range(3):
        _photo(tmp_path / "data" / f"{seed}.png", seed)
    _run(tmp_path / "data")
    whole, out = _contents(tmp_path / "out"), tmp_path / "out"
    journal = next(out.glob(".*.jsonl"))
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote the second image's line
    (out / "1_v2.png").unlink()
    (out / "2_v1.png").unlink()
    (out / "0_v1.png").write_bytes(b"kept")
    report = _run(tmp_path / "data")
    assert [o.status for o in report.outcomes] == ["present", "exported", "exported"]
    assert report.variants == 6
    assert _contents(out) == {**whole, "0_v1.png": b"kept"}


@pytest.mark.parametrize(
    "line",
    [
        "5",
        "{}",
        "[" * 100_000,
        '{"image": 3, "size": [26, 34], "variants": []}',
        '{"image": "a.png"}',
        '{"image": "a.png", "size": [26], "variants": []}',
        '{"image": "a.png", "size": [26, 34], "variants": [{"name": "../a_v1.png", "labels": []}]}',
        '{"image": "a.png", "size": [26, 34], "variants": [{"name": "a_v1.png", "labels": 7}]}',
        '{"image": "a.png", "size": [26, 34], "variants": [{"name": "gone.png", "labels": []}]}',
    ],
    ids=lambda line: line[:60],
)
def test_a_damaged_line_of_the_journal_draws_its_image_again(tmp_path: Path, line: str) -> None:
    _photo(tmp_path / "data" / "a.png")
    _run(tmp_path / "data")
    whole, journal = _contents(tmp_path / "out"), next((tmp_path / "out").glob(".*.jsonl"))
    text = journal.read_text()
    journal.write_text(f"{text.splitlines()[0]}\n{line}\n")
    assert [outcome.status for outcome in _run(tmp_path / "data").outcomes] == ["exported"]
    assert _contents(tmp_path / "out") == whole
    assert journal.read_text() == text


def test_images_added_later_are_exported_alone(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    _run(tmp_path / "data")
    _photo(tmp_path / "data" / "b.png", 1)
    assert [o.status for o in _run(tmp_path / "data").outcomes] == ["present", "exported"]


@pytest.mark.parametrize("occupied", ["files", "other settings"])
def test_a_folder_that_is_not_empty_is_not_written_over(tmp_path: Path, occupied: str) -> None:
    _photo(tmp_path / "data" / "a.png")
    if occupied == "files":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a_v1.png").write_bytes(b"mine")
    else:
        _run(tmp_path / "data", seed=8)
    before = _contents(tmp_path / "out")
    with pytest.raises(ConfigError, match="--force"):
        _run(tmp_path / "data")
    assert _contents(tmp_path / "out") == before
    store = DirectoryStore(tmp_path / "store")
    report = export_dataset(tmp_path / "data", tmp_path / "out", store, variants=2, force=True)
    assert [o.status for o in report.outcomes] == ["exported"]
    assert _contents(tmp_path / "out")["a_v1.png"] != before["a_v1.png"]


@pytest.mark.parametrize("out", ["data", "data/out", "."])
def test_an_export_is_no_part_of_its_source(tmp_path: Path, out: str) -> None:
    _photo(tmp_path / "data" / "a.png")
    with pytest.raises(ConfigError, match="side by side"):
        export_dataset(tmp_path / "data", tmp_path / out, DirectoryStore(tmp_path / "store"))


def test_a_folder_without_images_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("text")
    with pytest.raises(ImageError, match=r"expected images in .*data, got none \(1 other file\): name a folder"):
        export_dataset(tmp_path / "data", tmp_path / "out", DirectoryStore(tmp_path / "store"))
    assert not (tmp_path / "out").exists()


# Mask folders


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_masks_follow_their_images(tmp_path: Path, mode: str) -> None:
    image = _photo(tmp_path / "data" / "images" / "a.png")
    values = np.add.outer(np.arange(26) // 9, np.arange(34) // 12)  # 0..4
    array = {"1": values > 1, "I;16": (values * 1000).astype(np.uint16)}.get(mode, values.astype(np.uint8))
    mask = Image.fromarray(array)
    palette = [200, 10, 10, 10, 200, 10, 10, 10, 200, 9, 9, 9, 1, 2, 3]
    if mode == "P":
        mask.putpalette(palette)
    (tmp_path / "data" / "masks").mkdir()
    mask.save(tmp_path / "data" / "masks" / "a.png")
    report = _run(tmp_path / "data", config=TINY, start_scale=(0,))
    assert report.layout == "masks"
    assert _files(tmp_path / "out" / "masks") == ["a.png", "a_v1.png", "a_v2.png"]
    pixels = load_image(image).pixels
    pyramid = DirectoryStore(tmp_path / "store").load(str(make_key(pixels, TINY, array)))
    origins = trace(pyramid, start_scale=0, seed=derive_seed(0, "images/a.png", 1)).origins
    assert origins is not None
    carried = Image.open(tmp_path / "out" / "masks" / "a_v2.png")
    assert carried.mode == mode
    assert np.array_equal(np.asarray(carried), array[origins[0, 0], origins[0, 1]])
    if mode == "P":
        assert (carried.getpalette() or [])[:15] == palette


def test_a_mask_of_a_larger_image_is_carried_at_full_size(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.jpg", size=(60, 90))
    Image.fromarray(_disk(60, 90).astype(np.uint8) * 255).save(tmp_path / "data" / "a_mask.png")
    _run(tmp_path / "data")
    assert _files(tmp_path / "out") == ["a.jpg", "a_mask.png", "a_v1.jpg", "a_v1_mask.png", "a_v2.jpg", "a_v2_mask.png"]
    carried = np.asarray(Image.open(tmp_path / "out" / "a_v1_mask.png"))
    assert carried.shape == (60, 90)
    assert set(np.unique(carried)) == {0, 255}


def test_a_mask_of_another_size_fails_its_image_alone(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        _photo(tmp_path / "data" / "images" / f"{name}.png", seed)
    fit_dataset([tmp_path / "data"], DirectoryStore(tmp_path / "store"), TINY, jobs=1)
    (tmp_path / "data" / "masks").mkdir()
    for name, size in (("a", (5, 5)), ("b", SIZE)):
        Image.fromarray(np.ones(size, dtype=np.uint8)).save(tmp_path / "data" / "masks" / f"{name}.png")
    report = export_dataset(tmp_path / "data", tmp_path / "out", DirectoryStore(tmp_path / "store"), jobs=1)
    assert [o.status for o in report.outcomes] == ["failed", "exported"]
    assert "expected 34x26, as the image, got 5x5" in report.outcomes[0].message


# COCO


def _coco_data(folder: Path, annotations: list[dict[str, Any]]) -> Path:
    for seed, name in enumerate(("a.png", "b.png")):
        _photo(folder / "train" / name, seed)
    images = [
        {"id": 70 + i, "file_name": name, "height": SIZE[0], "width": SIZE[1], "license": 1, "coco_url": "http://x"}
        for i, name in enumerate(("a.png", "b.png", "elsewhere.png"))
    ]
    given = [
        {"id": 5 + i, "image_id": 70, "category_id": 3, "iscrowd": 0, **each} for i, each in enumerate(annotations)
    ]
    document = {
        "info": {"year": 2026},
        "images": images,
        "annotations": given,
        "categories": [{"id": 3, "name": "horse"}],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "train.json").write_text(json.dumps(document))
    return folder


def _exported_coco(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "annotations" / "train.json").read_text())
    images, records = document["images"], document["annotations"]
    assert len({image["id"] for image in images}) == len(images)
    assert len({record["id"] for record in records}) == len(records)
    assert {record["image_id"] for record in records} <= {image["id"] for image in images}
    for image in images:
        with Image.open(out / "train" / image["file_name"]) as file:
            assert file.size == (image["width"], image["height"])
    return document


def test_coco_polygons_and_run_lengths_follow(tmp_path: Path) -> None:
    both = [
        {"segmentation": [SQUARE], "bbox": [4, 3, 12, 12], "area": 144, "attributes": {"lame": True}},
        {"segmentation": encode_rle(_disk(*SIZE)), "bbox": [0, 0, 1, 1], "area": 1},
    ]
    data = _coco_data(tmp_path / "data", both)
    report = _run(data, start_scale=(0,))
    assert report.layout == "coco"
    document = _exported_coco(tmp_path / "out")
    assert document["categories"] == [{"id": 3, "name": "horse"}]
    names = [image["file_name"] for image in document["images"]]
    assert names == ["a.png", "a_v1.png", "a_v2.png", "b.png", "b_v1.png", "b_v2.png"]
    assert [record for record in document["annotations"] if record["image_id"] == 70] == json.loads(
        (data / "annotations" / "train.json").read_text()
    )["annotations"]
    square = np.zeros(SIZE, dtype=bool)
    square[3:15, 4:16] = True
    coco = read_coco(tmp_path / "out" / "annotations" / "train.json")
    for i in range(2):
        _, (rows, columns) = _traced(data / "train" / "a.png", 0, derive_seed(0, "train/a.png", i))
        (image,) = (record for record in coco.images if record["file_name"] == f"a_v{i + 1}.png")
        assert "coco_url" not in image
        assert image["id"] > 72
        for shape, source in zip(coco.shapes(image, SIZE).shapes, (square, _disk(*SIZE)), strict=True):
            expected = source[rows, columns]
            record = shape.record
            assert record["category_id"] == 3
            assert record["area"] == expected.sum()
            (x1, y1, x2, y2), _ = (each[0].tolist() for each in boxes_of(torch.from_numpy(expected)[None]))
            assert record["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            if isinstance(record["segmentation"], dict):
                assert np.array_equal(decode_rle(record["segmentation"]["counts"], SIZE), expected)
            else:
                assert record["attributes"] == {"lame": True}
                assert _even_odd(record["segmentation"], SIZE).tolist() == expected.tolist()


def _even_odd(polygons: list[list[float]], size: tuple[int, int]) -> Any:
    """The union of polygons, each filled as pycocotools fills it."""
    union = np.zeros(size, dtype=bool)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    for polygon in polygons:
        inside = np.zeros(size, dtype=bool)
        points = np.reshape(polygon, (-1, 2))
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 != y2:
                crosses = (y1 <= rows) != (y2 <= rows)
                inside ^= crosses & (columns > x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
        union |= inside
    return union


def test_an_object_that_is_not_copied_has_no_annotation(tmp_path: Path) -> None:
    speck = {"segmentation": [[33, 0, 34, 0, 34, 1, 33, 1]], "bbox": [33, 0, 1, 1], "area": 1}
    _run(_coco_data(tmp_path / "data", [speck]), variants=8, start_scale=(0,))
    document = _exported_coco(tmp_path / "out")
    kept = sum(record["image_id"] != 70 for record in document["annotations"])
    image = tmp_path / "data" / "train" / "a.png"
    seeds = [derive_seed(0, "train/a.png", i) for i in range(8)]
    held = sum(
        bool(((rows == 0) & (columns == 33)).any()) for rows, columns in (_traced(image, 0, s)[1] for s in seeds)
    )
    assert kept == held < 8


def test_coco_keypoints_follow(tmp_path: Path) -> None:
    points = [9, 8, 2, 0, 0, 0, 33, 25, 1]
    person = {"segmentation": [SQUARE], "bbox": [4, 3, 12, 12], "keypoints": points, "num_keypoints": 2}
    data = _coco_data(tmp_path / "data", [person])
    _run(data, config=STILL, start_scale=(-1,), variants=1)
    found = [record for record in _exported_coco(tmp_path / "out")["annotations"] if record["image_id"] != 70]
    carried = np.reshape(found[0]["keypoints"], (3, 3))
    assert carried[1].tolist() == [0, 0, 0]
    _, (rows, columns) = _traced(data / "train" / "a.png", -1, derive_seed(0, "train/a.png", 0), STILL)
    for (x, y, visible), (given_x, given_y, given) in zip(
        carried[[0, 2]], np.reshape(points, (3, 3))[[0, 2]], strict=True
    ):
        near = np.hypot(rows - given_y, columns - given_x) <= 3
        assert visible == (given if near.any() else 0)
        if visible:
            assert near[round(y), round(x)]
    assert np.abs(carried[0] - [9, 8, 2]).max() <= 3
    assert found[0]["num_keypoints"] == (carried[:, 2] > 0).sum()


def test_boxes_alone_follow_only_where_the_layout_is_kept(tmp_path: Path) -> None:
    data = _coco_data(tmp_path / "data", [{"bbox": [4, 3, 12, 12], "area": 144}])
    report = _run(data, start_scale=(0,))
    assert [o.status for o in report.outcomes] == ["failed", "exported"]  # b.png has no boxes
    message = report.outcomes[0].message
    assert "boxes without outlines cannot follow start scale 0" in message
    assert "no start scale of its pyramid keeps the layout, so give polygons" in message
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(tmp_path / "out")
    report = _run(data, config=STILL, start_scale=(-1,))
    assert [o.status for o in report.outcomes] == ["exported"] * 2
    boxes = [record["bbox"] for record in _exported_coco(tmp_path / "out")["annotations"]]
    assert boxes == [[4, 3, 12, 12]] * 3


def test_the_way_out_is_a_start_scale_that_keeps_the_layout(tmp_path: Path) -> None:
    data = _coco_data(tmp_path / "data", [{"bbox": [4, 3, 12, 12], "area": 144}])
    store = DirectoryStore(tmp_path / "store")
    fit_dataset([data], store, TINY.replace(shift_px=2.0, shift_step_px=0, shift_decay=0.1), jobs=1)
    report = export_dataset(data, tmp_path / "out", store, variants=1, start_scale=(0,), jobs=1)
    assert "use --start-scale 1 or finer" in report.outcomes[0].message
    again = export_dataset(data, tmp_path / "again", store, variants=1, start_scale=(1,), jobs=1)
    assert [o.status for o in again.outcomes] == ["exported"] * 2


def test_of_two_annotation_files_one_has_to_be_named(tmp_path: Path) -> None:
    data = _coco_data(tmp_path / "data", [])
    shutil.copy(data / "annotations" / "train.json", data / "annotations" / "val.json")
    (data / "notes.json").write_text("{}")
    store = DirectoryStore(tmp_path / "store")
    fit_dataset([data], store, TINY, jobs=1)
    with pytest.raises(ConfigError, match=r"got annotations/train\.json, annotations/val\.json .*--annotations"):
        export_dataset(data, tmp_path / "out", store)
    export_dataset(data, tmp_path / "out", store, variants=1, annotations=data / "annotations" / "train.json")
    assert len(_exported_coco(tmp_path / "out")["images"]) == 4


def test_an_interrupted_coco_export_continues_with_its_annotations(tmp_path: Path) -> None:
    data = _coco_data(tmp_path / "data", [{"segmentation": [SQUARE], "bbox": [4, 3, 12, 12]}])
    _run(data)
    whole = _contents(tmp_path / "out")
    journal = next((tmp_path / "out").glob(".*.jsonl"))
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    (tmp_path / "out" / "annotations" / "train.json").unlink()
    _run(data)
    assert _contents(tmp_path / "out") == whole


# YOLO


def _yolo_data(folder: Path, lines: str, images: str = "images/train", labels: str = "labels/train") -> Path:
    _photo(folder / images / "a.png")
    _photo(folder / images / "b.png", 1)  # without a label file: nothing is on it
    (folder / labels).mkdir(parents=True)
    (folder / labels / "a.txt").write_text(lines)
    (folder / "data.yaml").write_text(f"path: {folder}  # root\ntrain: {images}\nnames:\n  0: horse\n  1: cart\n")
    return folder


POLYGON = "1 " + " ".join(f"{v / s:.6f}" for v, s in zip(SQUARE, [34, 26] * 4, strict=True)) + "\n"


@pytest.mark.parametrize(("images", "labels"), [("images/train", "labels/train"), ("train/images", "train/labels")])
def test_yolo_polygons_follow(tmp_path: Path, images: str, labels: str) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON, images, labels)
    report = _run(data, start_scale=(0,))
    assert report.layout == "yolo"
    assert _files(tmp_path / "out") == sorted(
        ["data.yaml", *(f"{images}/{n}{v}.png" for n in "ab" for v in ("", "_v1", "_v2"))]
        + [f"{labels}/a{v}.txt" for v in ("", "_v1", "_v2")]
    )
    assert (tmp_path / "out" / "data.yaml").read_text() == f"train: {images}\nnames:\n  0: horse\n  1: cart\n"
    square = np.zeros(SIZE, dtype=bool)
    square[3:15, 4:16] = True
    for i in range(2):
        _, (rows, columns) = _traced(data / images / "a.png", 0, derive_seed(0, f"{images}/a.png", i))
        (shape,) = read_yolo(tmp_path / "out" / labels / f"a_v{i + 1}.txt", SIZE).shapes
        assert shape.category == 1
        assert _even_odd([list(np.round(shape.polygons[0]))], SIZE).tolist() == square[rows, columns].tolist()


def test_yolo_boxes_follow_only_where_the_layout_is_kept(tmp_path: Path) -> None:
    data = _yolo_data(tmp_path / "data", "0 0.5 0.5 0.25 0.5\n" + POLYGON)
    report = _run(data, start_scale=(0,))
    assert [o.status for o in report.outcomes] == ["failed", "exported"]
    assert "boxes without outlines" in report.outcomes[0].message
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(tmp_path / "out")
    _run(data, config=STILL, start_scale=(-1,), variants=1)
    lines = (tmp_path / "out" / "labels" / "train" / "a_v1.txt").read_text().splitlines()
    assert lines[0] == "0 0.5 0.5 0.25 0.5"
    assert lines[1].startswith("1 ")
    assert len(lines[1].split()) > 5


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (
            "train: {data}/images/train\nval: {data}/images/val  # both\n",
            "train: images/train\nval: images/val  # both\n",
        ),
        ("train: ['{data}/images/train', images/val]\n", "train: ['images/train', images/val]\n"),
        ("train:\n  - {data}/images/train\n- images/val\nnc: 1\n", "train:\n  - images/train\n- images/val\nnc: 1\n"),
        ("path: {data}\ntrain: images/train\nval:  # none yet\n", "train: images/train\nval:  # none yet\n"),
        ("train: D:\\old\\data\\images\\train\n", "train: images/train\n"),
        ("train: ../images/train\nnames: [/a]\n", "train: ../images/train\nnames: [/a]\n"),
        ("train: '{data}'\n", "train: '.'\n"),
    ],
    ids=["lines", "list", "items", "path", "of Windows", "one up", "the folder"],
)
def test_a_data_yaml_leads_to_the_export(tmp_path: Path, given: str, written: str) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    _photo(data / "images" / "val" / "c.png", 3)
    (data / "data.yaml").write_text(given.replace("{data}", str(data)))
    report = _run(data)
    assert (tmp_path / "out" / "data.yaml").read_text() == written
    assert [note for note in report.notes if "yaml" in note] == []


def test_a_path_of_a_data_yaml_that_is_nowhere_is_told(tmp_path: Path) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    (data / "data.yaml").write_bytes(b"train: /nowhere/pictures\nnames: [caf\xe9]\n")
    assert f"data.yaml names /nowhere/pictures, which is not in {data}: correct it by hand" in _run(data).notes
    assert (tmp_path / "out" / "data.yaml").read_bytes() == b"train: /nowhere/pictures\nnames: [caf\xe9]\n"


@pytest.mark.parametrize("originals", ["copy", "none"])
def test_lists_of_images_get_the_variants(tmp_path: Path, originals: str) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    (data / "data.yaml").write_text("train: train.txt\n")
    lines = ("./images/train/a.png", f"{data}/images/train/b.png", "D:\\x\\images\\train\\a.png", "gone.png")
    (data / "train.txt").write_text("\n".join(lines))
    report = _run(data, originals=originals)
    assert "1 line of train.txt not copied, of images that are not there" in report.notes
    names = [f"./images/train/{name}{variant}.png" for name in "aba" for variant in ("", "_v1", "_v2")]
    wanted = [name for name in names if originals == "copy" or "_v" in name]
    assert (tmp_path / "out" / "train.txt").read_text().splitlines() == wanted


def test_a_folder_in_place_of_a_label_file_fails_its_image_alone(tmp_path: Path) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    (data / "labels" / "train" / "b.txt").mkdir()
    (data / "x.json").mkdir()
    report = _run(data)
    assert [outcome.status for outcome in report.outcomes] == ["exported", "failed"]


def test_poses_are_refused(tmp_path: Path) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    (data / "data.yaml").write_text("kpt_shape: [17, 3]\n")
    with pytest.raises(ConfigError, match="kpt_shape"):
        _run(data)


def test_a_broken_line_fails_its_image_alone(tmp_path: Path) -> None:
    report = _run(_yolo_data(tmp_path / "data", "0 0.5 nonsense\n"))
    assert [o.status for o in report.outcomes] == ["failed", "exported"]
    assert "a.txt, line 1: expected" in report.outcomes[0].message


# Choosing


def test_coco_and_yolo_in_one_folder_have_to_be_told_apart(tmp_path: Path) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    document: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    (data / "labels.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="--layout coco or --layout yolo"):
        _run(data)
    assert _run(data, layout="yolo").layout == "yolo"


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    with pytest.raises(ConfigError, match="auto, coco, yolo, masks, imagefolder, got 'voc'"):
        _run(tmp_path / "data", layout="voc")


def test_a_pyramid_that_generates_pixels_carries_no_outline(tmp_path: Path) -> None:
    data = _yolo_data(tmp_path / "data", POLYGON)
    config = quick(coarsest_px=13, finest_px=34, steps_coarsest=2, steps_finer=2)
    report = _run(data, config=config, start_scale=(0,), variants=1)
    assert [o.status for o in report.outcomes] == ["failed", "exported"]
    assert 'fit with the preset "fast"' in report.outcomes[0].message


# The command


def test_the_command(tmp_path: Path) -> None:
    data = _coco_data(tmp_path / "data", [{"segmentation": [SQUARE], "bbox": [4, 3, 12, 12]}])
    fit_dataset([data], DirectoryStore(tmp_path / "store"), TINY, jobs=1)
    command = ["export", str(data), str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--variants", "3"]
    command += ["--start-scale", "0", "--start-scale", "-1", "--originals", "none"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "2 images exported; 6 variants in" in result.output
    assert "(layout coco)" in result.output
    assert len(_exported_coco(tmp_path / "out")["images"]) == 6
    again = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(again.stdout)["present"] == 2
    other = CliRunner().invoke(app, [*command, "--seed", "1"])
    assert other.exit_code == 2
    assert "--force" in other.output


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["--start-scale", "9"], 1, "expected a start scale in 0.."),
        (["--layout", "voc"], 2, "expected a layout"),
        (["--annotations", "nowhere.json"], 2, "there is no such file"),
        (["--store", "empty"], 2, "expected a store"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_says_what_is_wrong(tmp_path: Path, changes: list[str], code: int, message: str) -> None:
    _photo(tmp_path / "data" / "a.png")
    fit_dataset([tmp_path / "data"], DirectoryStore(tmp_path / "store"), TINY, jobs=1)
    command = ["export", str(tmp_path / "data"), str(tmp_path / "out"), "--store", str(tmp_path / "store"), *changes]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_pyramid_is_found_for_a_turned_copy(tmp_path: Path) -> None:
    """Fitted as it was, exported from a copy that lies on its side: image and mask are turned alike."""
    pixels, mask = make_photo(*SIZE), _disk(*SIZE)
    fitted, data = tmp_path / "fitted", tmp_path / "data"
    fitted.mkdir()
    Image.fromarray(pixels).save(fitted / "a.png")
    store = DirectoryStore(tmp_path / "store")
    fit_dataset([fitted], store, TINY, jobs=1)
    data.mkdir()
    Image.fromarray(np.ascontiguousarray(turn_pixels(pixels, 6))).save(data / "a.png")
    Image.fromarray(np.ascontiguousarray(turn_pixels(mask[..., None], 6)[..., 0])).save(data / "a_mask.png")
    export_dataset(data, tmp_path / "out", store, variants=1, start_scale=(0,), jobs=1)
    variant, (rows, columns) = _traced(fitted / "a.png", 0, derive_seed(0, "a.png", 0))
    turned = [turn_pixels(each, 6) for each in (variant, mask[rows, columns][..., None])]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a_v1.png")), turned[0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a_v1_mask.png")), turned[1][..., 0])


def test_broken_coco_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "labels.json").write_text("{")
    with pytest.raises(LabelError, match="not JSON"):
        export_dataset(tmp_path / "data", tmp_path / "out", annotations=tmp_path / "data" / "labels.json")
    assert not (tmp_path / "out").exists()
