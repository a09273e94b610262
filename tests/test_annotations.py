"""Annotations beside images: outlines and run lengths, COCO, YOLO and mask files, and fitting with what is found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from PIL import Image
from typer.testing import CliRunner

from singan_aug.annotations import (
    Outline,
    Shape,
    decode_rle,
    encode_rle,
    find_masks,
    instance_mask,
    joined,
    match_coco,
    places,
    polygons_of,
    read_coco,
    read_yolo,
    refuse_poses,
    yolo_line,
)
from singan_aug.cli import app
from singan_aug.dataset import fit_dataset, plan_dataset
from singan_aug.errors import ConfigError, LabelError
from singan_aug.images import load_image
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import copies, make_photo, quick

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (26, 34)
TINY = copies(coarsest_px=13, finest_px=40, scale_factor=0.6)

few = settings(max_examples=100, deadline=None, derandomize=True)
outlines = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def _disk(height: int, width: int) -> Outline:
    rows, columns = np.mgrid[0:height, 0:width]
    disk: Outline = np.hypot(rows - height / 2, columns - width / 3) < min(height, width) / 3
    return disk


def _photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_photo(*SIZE, seed=seed)).save(path)
    return path


def _mask(path: Path, value: int = 1, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_disk(*size).astype(np.uint8) * value).save(path)
    return path


# Outlines


def test_run_lengths_are_packed_as_pycocotools_packs_them() -> None:
    """The strings that pycocotools 2.0.11 gave for these masks."""
    wide = np.zeros((30, 40), dtype=bool)
    wide[3:27, 2:39] = True
    wide[10:14, 5:9] = False
    corner = np.ones((2, 3), dtype=bool)
    corner[1, 2] = False
    assert encode_rle(wide) == {"size": [30, 40], "counts": WIDE}
    assert encode_rle(corner) == {"size": [2, 3], "counts": CORNER}
    assert np.array_equal(decode_rle(WIDE, (30, 40)), wide)


WIDE = "o1h060000_ON62JN62JN62JN62;0000000000000000000000000000000000000000000000000000000000k0"
CORNER = "051"


@few
@given(outlines)
def test_run_lengths_give_back_the_mask(outline: Outline) -> None:
    packed = encode_rle(outline)
    assert np.array_equal(decode_rle(packed["counts"], outline.shape), outline)
    flat = outline.T.flatten().tolist()
    runs, value = [], False
    while flat:
        run = next((i for i, pixel in enumerate(flat) if pixel != value), len(flat))
        runs.append(run)
        flat, value = flat[run:], not value
    assert np.array_equal(decode_rle(runs, outline.shape), outline)


@pytest.mark.parametrize("counts", [[3, 4], [8, -2], "05", "é"])
def test_run_lengths_of_another_size_are_refused(counts: Any) -> None:
    with pytest.raises(LabelError, match="expected run lengths"):
        decode_rle(counts, (2, 3))


@few
@given(outlines)
def test_borders_give_back_the_mask(outline: Outline) -> None:
    borders = polygons_of(outline)
    assert _even_odd(borders, outline.shape).tolist() == outline.tolist()
    areas = [_signed_area(border) for border in borders]
    assert sum(areas) == outline.sum()  # holes count negative
    if borders:
        assert _even_odd([joined(borders)], outline.shape).tolist() == outline.tolist()


def _even_odd(polygons: list[Any], size: tuple[int, ...]) -> Outline:
    """Which middles of pixels have an odd number of edges to their left."""
    inside = np.zeros(size, dtype=bool)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    for polygon in polygons:
        points = np.asarray(polygon, dtype=float)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 != y2:
                crosses = (y1 <= rows) != (y2 <= rows)
                inside ^= crosses & (columns > x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
    return inside


def _signed_area(polygon: Any) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def test_a_border_has_corners_alone() -> None:
    outline = np.zeros((9, 9), dtype=bool)
    outline[2:5, 3:8] = True
    assert [border.tolist() for border in polygons_of(outline)] == [[[3, 2], [8, 2], [8, 5], [3, 5]]]


@few
@given(outlines)
def test_a_drawn_border_is_the_mask(outline: Outline) -> None:
    solid = [border for border in polygons_of(outline) if _signed_area(border) > 0]  # holes are filled
    shape = Shape(1, polygons=tuple(tuple(border.flatten().tolist()) for border in solid))
    drawn = shape.outline(outline.shape) if solid else np.zeros(outline.shape, dtype=bool)
    assert drawn is not None
    assert drawn.tolist() == _union(solid, outline.shape).tolist()


def _union(polygons: list[Any], size: tuple[int, ...]) -> Outline:
    inside = np.zeros(size, dtype=bool)
    for polygon in polygons:
        inside |= _even_odd([polygon], size)
    return inside


def test_a_polygon_covers_the_pixels_whose_middle_it_holds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = rng.uniform(-3, 43, (3, 2))
        drawn = Shape(1, polygons=(tuple(points.flatten()),)).outline((30, 40))
        assert drawn is not None
        exact = _even_odd([points], (30, 40))
        perimeter_px = np.hypot(*(points - np.roll(points, 1, axis=0)).T).sum()
        assert (drawn != exact).sum() <= 0.25 * perimeter_px  # a fifth of a pixel along the edge


def test_the_smaller_of_two_objects_is_on_top() -> None:
    large, small = ((0.0, 0.0, 8.0, 0.0, 8.0, 8.0, 0.0, 8.0),), ((2.0, 2.0, 4.0, 2.0, 4.0, 5.0, 2.0, 5.0),)
    for order in ((large, small), (small, large)):
        mask = instance_mask([Shape(5, polygons=polygons) for polygons in order], (9, 9))
        numbers = (order.index(large) + 1, order.index(small) + 1)
        assert [int((mask == number).sum()) for number in (0, *numbers)] == [81 - 64, 64 - 6, 6]


def test_of_equal_objects_the_later_is_on_top_and_boxes_are_left_out() -> None:
    square = ((1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0),)
    mask = instance_mask([Shape(1, polygons=square), Shape(1, box=(0, 0, 9, 9)), Shape(1, polygons=square)], (6, 6))
    assert set(mask.flatten().tolist()) == {0, 3}


def test_more_objects_than_a_byte_counts_are_refused() -> None:
    with pytest.raises(LabelError, match="at most 255 objects in one image, got 256"):
        instance_mask([Shape(1)] * 256, (3, 3))


# COCO


def _coco(path: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = ("a.png",)) -> Path:
    images = [{"id": 10 + i, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate(names)]
    given = [{"id": i, "image_id": 10, "category_id": 3, **each} for i, each in enumerate(annotations)]
    path.write_text(json.dumps({"images": images, "annotations": given, "categories": [{"id": 3, "name": "x"}]}))
    return path


SQUARE = [4, 3, 12, 3, 12, 9, 4, 9]


def test_coco_polygons_and_run_lengths_of_both_kinds(tmp_path: Path) -> None:
    disk = _disk(*SIZE)
    listed = {"size": [*SIZE], "counts": [0, SIZE[0], SIZE[0] * (SIZE[1] - 1)]}
    coco = read_coco(
        _coco(
            tmp_path / "a.json",
            [{"segmentation": [SQUARE]}, {"segmentation": encode_rle(disk)}, {"segmentation": listed}],
        )
    )
    square, round_, line = (shape.outline(SIZE) for shape in coco.shapes(coco.images[0], SIZE).shapes)
    assert square is not None
    assert line is not None
    assert np.argwhere(square).min(0).tolist() == [3, 4]
    assert np.argwhere(square).max(0).tolist() == [8, 11]
    assert square.sum() == 48
    assert round_ is not None
    assert np.array_equal(round_, disk)
    assert line.sum() == SIZE[0]
    assert line[:, 0].all()


def test_coco_finds_images_by_the_longest_end_of_their_path(tmp_path: Path) -> None:
    coco = read_coco(_coco(tmp_path / "a.json", [], ("cats/1.png", "dogs/1.png", "2.png")))
    images = [tmp_path / name for name in ("train/dogs/1.png", "anywhere/2.png", "3.png", "birds/1.png")]
    found = match_coco([coco], places(images, [tmp_path]))
    assert {image: record["id"] for image, (_, record) in found.of.items()} == {images[0]: 11, images[1]: 12}
    assert not found.unclear
    assert found.notes == ("1 record of a.json matched no image, such as cats/1.png",)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"images": []}', '{"images": [{}], "annotations": []}', '{"images": [], "annotations": [{}]}'],
)
def test_other_files_are_not_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LabelError, match=r"a\.json: expected"):
        read_coco(tmp_path / "a.json")


@pytest.mark.parametrize(
    "broken",
    [
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
        {"segmentation": {"counts": [3]}},
        {"segmentation": ["abc"]},
        {"category_id": "cat"},
        {"bbox": [1, 2]},
    ],
    ids=str,
)
def test_a_broken_coco_annotation_is_named(tmp_path: Path, broken: dict[str, Any]) -> None:
    coco = read_coco(_coco(tmp_path / "a.json", [broken]))
    with pytest.raises(LabelError, match=r"a\.json: annotation 0"):
        coco.shapes(coco.images[0], SIZE)


HUGE = "1" + "0" * 400  # JSON has it, and no float does


@pytest.mark.parametrize(
    ("image_id", "image", "kept"),
    [
        (HUGE, '{"id": 1, "file_name": "a.png"}', 0),
        ("1", f'{{"id": 1, "file_name": "a.png", "height": {HUGE}, "width": {HUGE}}}', 1),
        ("1", f'{{"id": {HUGE}, "file_name": "b.png"}}, {{"id": 1, "file_name": "a.png"}}', 1),
    ],
)
def test_an_integer_that_no_float_holds_is_no_number_of_coco(
    image_id: str, image: str, kept: int, tmp_path: Path
) -> None:
    known = '{"image_id": 1, "id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}'
    other = f'{{"image_id": {image_id}, "id": {HUGE}, "category_id": {HUGE}, "bbox": [0, 0, {HUGE}, 5]}}'
    path = tmp_path / "a.json"
    path.write_text(f'{{"images": [{image}], "annotations": [{known}, {other}], "categories": []}}')
    coco = read_coco(path)
    (found,) = [each for each in coco.images if each["id"] == 1]
    assert len(coco.by_image[1]) == 1 + kept
    assert len(coco.shapes(found, SIZE).shapes) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
def test_json_that_is_nested_without_end_is_not_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LabelError, match=r"a\.json: expected COCO annotations, got"):
        read_coco(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_coco_in_whatever_encoding(tmp_path: Path, encoding: str) -> None:
    document = {"images": [{"id": 1, "file_name": "ä.png"}], "annotations": [], "categories": []}
    (tmp_path / "a.json").write_bytes(json.dumps(document, ensure_ascii=False).encode(encoding))
    assert read_coco(tmp_path / "a.json").images == ({"id": 1, "file_name": "ä.png"},)


@pytest.mark.parametrize(
    "broken",
    [
        {"category_id": None},
        {"category_id": 1.5},
        {"category_id": float("nan")},
        {"segmentation": [[float("inf"), 0, 1, 1, 2, 2]]},
        {"segmentation": [[1e300, 0, 1, 1e300, 2, 2]]},
        {"segmentation": [[3, 3, 3, 3, 3, 3]]},
        {"segmentation": [[1, 1, 2, 2, 3, 3]]},
        {"segmentation": {"size": [3, 3], "counts": [9]}},
        {"segmentation": {"size": [*SIZE], "counts": "zz"}},
        {"segmentation": {"size": [*SIZE], "counts": [5, -5]}},
        {"segmentation": [], "bbox": [0, 0, float("nan"), 4]},
        {"segmentation": [], "bbox": [0, 0, 0, 4]},
        {"keypoints": [1, 2]},
        {"keypoints": [1, float("inf"), 2]},
    ],
    ids=str,
)
def test_a_broken_object_does_not_take_its_neighbours_along(tmp_path: Path, broken: dict[str, Any]) -> None:
    good: dict[str, Any] = {"segmentation": [SQUARE]}
    coco = read_coco(_coco(tmp_path / "a.json", [good, {**good, **broken}, good]))
    found = coco.shapes(coco.images[0], SIZE)
    assert [shape.record["id"] for shape in found.shapes] == [0, 2]
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith(f"{tmp_path}/a.json: annotation 1: ")


def test_a_degenerate_part_of_an_object_does_not_take_the_others_along(tmp_path: Path) -> None:
    coco = read_coco(_coco(tmp_path / "a.json", [{"segmentation": [[1, 1, 1, 1, 1, 1], SQUARE, [1, 2]]}]))
    (shape,) = coco.shapes(coco.images[0], SIZE).shapes
    assert shape.polygons == (tuple(map(float, SQUARE)),)


def test_records_that_are_none_are_counted(tmp_path: Path) -> None:
    path = _coco(tmp_path / "a.json", [{"segmentation": [SQUARE]}, {"image_id": 99}])
    document = json.loads(path.read_text())
    document["images"] += [{"id": 3}, "x", {"id": [1], "file_name": "b.png"}]
    document["annotations"] += [None, {"category_id": 1}]
    path.write_text(json.dumps(document))
    assert read_coco(path).notes == (
        "3 records of a.json without id or file_name",
        "2 annotations of a.json without image_id",
        "1 annotation of a.json of images that it does not list",
    )


@pytest.mark.parametrize("size", [("26", "34"), (26.0, 34.0), (None, None), (0, 0)], ids=str)
def test_sizes_are_read_as_other_writers_give_them(tmp_path: Path, size: tuple[Any, Any]) -> None:
    path = _coco(tmp_path / "a.json", [{"segmentation": [SQUARE]}])
    document = json.loads(path.read_text())
    document["images"][0] |= {"height": size[0], "width": size[1]}
    path.write_text(json.dumps(document))
    coco = read_coco(path)
    assert len(coco.shapes(coco.images[0], SIZE).shapes) == 1
    if size[0]:
        with pytest.raises(LabelError, match=r"at its size, 26x34, got 34x26 .* EXIF"):
            coco.shapes(coco.images[0], SIZE[::-1])


# YOLO


def test_yolo_boxes_and_polygons(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.6 0.2 0.6 0.8\n")
    box, polygon = read_yolo(tmp_path / "a.txt", (20, 40)).shapes
    assert box.category == 2
    assert box.box == (15.0, 5.0, 25.0, 15.0)
    assert not box.has_outline
    np.testing.assert_allclose(polygon.polygons, [(4, 4, 24, 4, 24, 16)])
    assert polygon.box == pytest.approx((4, 4, 24, 16))


def test_yolo_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    points = np.array([[1, 2], [17, 3], [11, 19]])
    corners = np.array([[3, 4], [13, 8]])
    (tmp_path / "a.txt").write_text(f"{yolo_line(4, (20, 40), points)}\n{yolo_line(1, (20, 40), corners)}\n")
    polygon, box = read_yolo(tmp_path / "a.txt", (20, 40)).shapes
    np.testing.assert_allclose(np.reshape(polygon.polygons[0], (-1, 2)), points, atol=1e-4)
    assert (polygon.category, box.category) == (4, 1)
    np.testing.assert_allclose(box.box or (), (3, 4, 13, 8), atol=1e-4)


@pytest.mark.parametrize(
    "line", ["cat 1 2 3 4", "0 0.5 0.5", "0 0.1 0.2 0.3 0.4 0.5", "0 0.5 0.5 40 30", "1.5 0 0 1 1"]
)
def test_a_broken_yolo_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    found = read_yolo(tmp_path / "a.txt", SIZE)
    assert len(found.shapes) == 1
    assert "a.txt, line 2: expected" in found.left_out[0]
    (tmp_path / "a.txt").write_text(f"\n{line}\n")
    with pytest.raises(LabelError, match=r"a\.txt, line 2: expected"):
        read_yolo(tmp_path / "a.txt", SIZE)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf0 0.5 0.5 0.25 0.5\r\n",
        "\ufeff0 0.5 0.5 0.25 0.5\n".encode("utf-16-le"),
        b"0 0.5 0.5 0.25 0.5   \r",
        b"0\t+0.5\t5e-1 .25 0.50\n\n",
        b"0.0 5.000000e-01 0.5 0.25 0.5",
    ],
    ids=["utf-8 with mark", "utf-16", "trailing spaces", "signs and exponents", "class as a float"],
)
def test_yolo_in_whatever_encoding_and_spelling(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    found = read_yolo(tmp_path / "a.txt", (20, 40))
    assert [(shape.category, shape.box) for shape in found.shapes] == [(0, (15.0, 5.0, 25.0, 15.0))]
    assert not found.left_out


def test_a_line_in_latin_1_is_left_out_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.25 0.5\n")
    found = read_yolo(tmp_path / "a.txt", (20, 40))
    assert len(found.shapes) == 1
    assert "a.txt, line 1: expected the number of a class, got 'caf\xe9'" in found.left_out[0]


POSES = {
    "points": "0 0.5 0.5 0.6 0.6 0.3 0.3 0.7 0.3 0.5 0.7 0.4 0.5",
    "points and visibility": "0 0.5 0.5 0.6 0.6 0.3 0.3 2 0.7 0.3 1 0 0 0",
    "two points": "0 0.5 0.5 0.6 0.6 0.3 0.3 0.7 0.7",
    "one point": "0 0.5 0.5 0.6 0.6 0.3 0.3",
}


@pytest.mark.parametrize("line", POSES.values(), ids=POSES)
def test_poses_are_told_by_their_lines(tmp_path: Path, line: str) -> None:
    labels = tmp_path / "data" / "labels"
    labels.mkdir(parents=True)
    for name in "ab":
        (labels / f"{name}.txt").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"a\.txt, line 1: .* read as poses"):
        refuse_poses(sorted(labels.iterdir()), [])
    images = [_photo(tmp_path / "data" / "images" / f"{name}.png") for name in "ab"]
    with pytest.raises(ConfigError, match="read as poses"):
        find_masks(images, [tmp_path / "data"], labels)
    (labels / "b.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.2 0.1 0.2\n")  # poses have one length, and points in boxes
    refuse_poses(sorted(labels.iterdir()), [])


def test_a_yaml_tells_polygons_that_read_as_poses(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{POSES['two points']}\n")
    (tmp_path / "data.yaml").write_text("names: [a]\n")
    refuse_poses([tmp_path / "a.txt"], [tmp_path / "data.yaml"])
    (tmp_path / "a.txt").write_text(f"{POSES['points']}\n")  # its edges would cross: no polygon
    with pytest.raises(ConfigError, match="read as poses"):
        refuse_poses([tmp_path / "a.txt"], [tmp_path / "data.yaml"])


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.7 0.5 0.7 0.7 0.5 0.7", "0 0.1 0.2 0.6 0.2 0.6 0.8"])
def test_polygons_are_no_poses(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"{line}\n0 0.5 0.5 0.2 0.2\n")
    refuse_poses([tmp_path / "a.txt"], [])


# Finding masks


def _found(folder: Path, masks: Path | None = None) -> dict[str, str]:
    """Image -> mask file, both below the folder."""
    images = sorted(path for path in folder.rglob("*") if path.suffix in {".png", ".jpg", ".gif"})
    found = find_masks(images, [folder], masks)
    pairs = {image: getattr(source, "path", None) or getattr(source, "why", "") for image, source in found.of.items()}
    named = {str(image.relative_to(folder)): str(path).removeprefix(f"{folder}/") for image, path in pairs.items()}
    return {**named, "masks": " ".join(sorted(str(path.relative_to(folder)) for path in found.not_images))}


def test_masks_beside_images_are_found_and_are_no_images(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "images/train/b.png", "images/c.png"):
        _photo(tmp_path / name)
    for name in ("masks/a.png", "masks/train/b.gif", "masks/train/orphan.png"):
        _mask(tmp_path / name)
    assert _found(tmp_path) == {
        "images/a.jpg": "masks/a.png",
        "images/train/b.png": "masks/train/b.gif",
        "masks": "masks/a.png masks/train/b.gif masks/train/orphan.png",
    }
    assert _found(tmp_path / "images") == {
        "a.jpg": str(tmp_path / "masks" / "a.png"),
        "train/b.png": str(tmp_path / "masks" / "train" / "b.gif"),
        "masks": "",
    }


def test_masks_named_after_their_image_are_found(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.png", "face_mask.jpg", "face.jpg", "c.png"):  # JPEG keeps no numbers: a photo
        _photo(tmp_path / name)
    for name in ("a_mask.png", "deep/b_mask.png"):
        _mask(tmp_path / name)
    assert _found(tmp_path) == {
        "a.jpg": "a_mask.png",
        "deep/b.png": "deep/b_mask.png",
        "masks": "a_mask.png deep/b_mask.png",
    }


def test_masks_in_a_folder_are_found_by_path_then_by_name(tmp_path: Path) -> None:
    data, masks = tmp_path / "data", tmp_path / "labels"
    for name in ("x/a.jpg", "y/a.jpg", "y/b.jpg", "y/c.jpg"):
        _photo(data / name)
    for name in ("x/a.png", "y/a_mask.png", "b.png"):
        _mask(masks / name)
    assert _found(data, masks) == {
        "x/a.jpg": str(masks / "x/a.png"),
        "y/a.jpg": str(masks / "y/a_mask.png"),
        "y/b.jpg": str(masks / "b.png"),
        "masks": "",
    }


def test_a_mask_that_may_be_of_two_images_is_of_neither(tmp_path: Path) -> None:
    data, masks = tmp_path / "data", tmp_path / "labels"
    for name in ("x/a.jpg", "y/a.jpg"):
        _photo(data / name)
    _mask(masks / "a.png")
    assert {image: why[:46] for image, why in _found(data, masks).items() if image != "masks"} == {
        "x/a.jpg": f"expected the mask of one image, but {masks}/a.png"[:46],
        "y/a.jpg": f"expected the mask of one image, but {masks}/a.png"[:46],
    }


def test_of_two_masks_neither_is_taken(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.jpg")
    for name in ("a.png", "a.bmp"):
        _mask(tmp_path / "labels" / name)
    assert _found(tmp_path / "data", tmp_path / "labels")["a.jpg"].startswith("expected one mask of ")


def test_a_folder_without_masks_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, message in (("empty", "got none"), ("nowhere", "no such thing")):
        with pytest.raises(ConfigError, match=message):
            find_masks([_photo(tmp_path / "a.jpg")], [tmp_path], tmp_path / place)


# Fitting


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_images_are_fitted_with_their_masks(tmp_path: Path, store: DirectoryStore) -> None:
    data = tmp_path / "data"
    for seed, name in enumerate(("a", "b", "c")):
        _photo(data / "images" / f"{name}.png", seed)
    _mask(data / "masks" / "a.png", 7)
    _mask(data / "masks" / "b.png", 255)
    report = fit_dataset([data], store, TINY, jobs=1)
    assert [(o.path.name, o.status) for o in report.outcomes] == [
        ("a.png", "fitted"),
        ("b.png", "fitted"),
        ("c.png", "fitted"),
    ]
    assert report.without_mask == 1
    assert [store.manifest(o.key).mask_values for o in report.outcomes] == [(0, 7), (0, 255), ()]
    pixels = load_image(data / "images" / "a.png").pixels
    assert report.outcomes[0].key == str(make_key(pixels, TINY, _disk(*SIZE) * 7))
    assert [o.status for o in fit_dataset([data], store, TINY).outcomes] == ["present"] * 3
    _mask(data / "masks" / "a.png", 8)
    assert [o.status for o in fit_dataset([data], store, TINY, jobs=2).outcomes] == ["fitted", "present", "present"]


def test_a_mask_of_another_size_fails_its_image_alone(tmp_path: Path, store: DirectoryStore) -> None:
    for seed, name in enumerate(("a", "b")):
        _photo(tmp_path / "data" / f"{name}.jpg", seed)
    _mask(tmp_path / "data" / "a_mask.png", size=(13, 17))
    _mask(tmp_path / "data" / "b_mask.png")
    report = fit_dataset([tmp_path / "data"], store, TINY)
    assert [o.status for o in report.outcomes] == ["failed", "fitted"]
    assert "mask of the image's size, 34x26, got 17x13" in report.outcomes[0].message


@pytest.mark.parametrize("kind", ["broken", "colours"])
def test_a_mask_that_cannot_be_read_fails_its_image_alone(tmp_path: Path, store: DirectoryStore, kind: str) -> None:
    _photo(tmp_path / "data" / "a.jpg")
    mask = tmp_path / "data" / "a_mask.png"
    mask.write_bytes(b"no") if kind == "broken" else _photo(mask)
    report = fit_dataset([tmp_path / "data"], store, TINY)
    assert [o.status for o in report.outcomes] == ["failed"]
    assert str(mask) in report.outcomes[0].message


def test_masks_saved_as_grey_in_three_channels_are_read(tmp_path: Path, store: DirectoryStore) -> None:
    _photo(tmp_path / "data" / "a.jpg")
    Image.fromarray(np.dstack([_disk(*SIZE).astype(np.uint8) * 9] * 3)).save(tmp_path / "data" / "a_mask.png")
    report = fit_dataset([tmp_path / "data"], store, TINY)
    assert store.manifest(report.outcomes[0].key).mask_values == (0, 9)


def test_a_jpeg_is_a_mask_where_it_is_black_and_white(tmp_path: Path, store: DirectoryStore) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        _photo(tmp_path / "data" / "images" / f"{name}.jpg", seed)
    (tmp_path / "data" / "masks").mkdir()
    disk = _disk(*SIZE).astype(np.uint8)
    for name, values in (("a", disk * 255), ("b", disk * 7), ("c", disk * 120)):
        Image.fromarray(values).save(tmp_path / "data" / "masks" / f"{name}.jpg")
    report = fit_dataset([tmp_path / "data"], store, TINY, jobs=1)
    assert [outcome.status for outcome in report.outcomes] == ["fitted", "failed", "failed"]
    assert store.manifest(report.outcomes[0].key).mask_values == (0, 255)
    assert "save masks as PNG" in report.outcomes[1].message
    _mask(tmp_path / "data" / "masks" / "b.png", 7)  # one that keeps numbers goes before
    report = fit_dataset([tmp_path / "data"], store, TINY, jobs=1)
    assert store.manifest(report.outcomes[1].key).mask_values == (0, 7)


def test_a_mask_that_is_a_decompression_bomb_fails_its_image_alone(
    tmp_path: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(("a", "b")):
        _photo(tmp_path / "data" / f"{name}.jpg", seed)
        _mask(tmp_path / "data" / f"{name}_mask.png")
    _mask(tmp_path / "data" / "a_mask.png", size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    report = fit_dataset([tmp_path / "data"], store, TINY, jobs=1)
    assert [outcome.status for outcome in report.outcomes] == ["failed", "fitted"]
    assert "a_mask.png: more than 0 million pixels" in report.outcomes[0].message


def test_images_are_fitted_with_coco_instances(tmp_path: Path, store: DirectoryStore) -> None:
    for seed, name in enumerate(("a", "b", "c", "d")):
        _photo(tmp_path / "data" / f"{name}.png", seed)
    both: list[dict[str, Any]] = [{"segmentation": [SQUARE]}, {"segmentation": encode_rle(_disk(*SIZE))}]
    box = {"bbox": [1, 2, 3, 4], "image_id": 11}
    labels = _coco(tmp_path / "labels.json", [*both, box], ("a.png", "b.png", "c.png"))
    report = fit_dataset([tmp_path / "data"], store, TINY, masks=labels)
    assert [store.manifest(o.key).mask_values for o in report.outcomes] == [(0, 1, 2), (), (0,), ()]
    assert report.without_mask == 2  # a box alone, and an image that the file does not name


def test_images_are_fitted_with_yolo_polygons(tmp_path: Path, store: DirectoryStore) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        _photo(tmp_path / "data" / "images" / f"{name}.png", seed)
    folder = tmp_path / "data" / "labels"
    folder.mkdir()
    (folder / "classes.txt").write_text("horse\n")
    (folder / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.6 0.6 0.9 0.6 0.9 0.9 0.6 0.9\n")
    (folder / "b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "c.txt").write_text("0 0.5 0.5 7 0.2 0.1 0.1\n")
    report = fit_dataset([tmp_path / "data" / "images"], store, TINY, masks=folder)
    assert [o.status for o in report.outcomes] == ["fitted", "fitted", "failed"]
    assert [store.manifest(o.key).mask_values for o in report.outcomes[:2]] == [(0, 1, 2), ()]
    assert "c.txt, line 1" in report.outcomes[2].message


def test_pyramids_that_carry_no_mask_leave_those_beside_alone_and_refuse_named_ones(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.jpg")
    _mask(tmp_path / "data" / "a_mask.png")
    store = DirectoryStore(tmp_path / "store")
    plan = plan_dataset([tmp_path / "data"], store, quick())
    assert [item.mask for item in plan.todo] == [None]
    with pytest.raises(ConfigError, match='"fast"'):
        plan_dataset([tmp_path / "data"], store, quick(), masks=tmp_path / "data")


def test_without_masks_every_file_is_an_image(tmp_path: Path, store: DirectoryStore) -> None:
    for seed, name in enumerate(("a.png", "a_mask.png")):
        _photo(tmp_path / "data" / name, seed)
    report = fit_dataset([tmp_path / "data"], store, TINY, masks="none", jobs=1)
    assert [(o.path.name, o.status) for o in report.outcomes] == [("a.png", "fitted"), ("a_mask.png", "fitted")]
    assert report.without_mask is None


def test_the_command_draws_masks(tmp_path: Path) -> None:
    _photo(tmp_path / "a.png")
    wide = np.where(_disk(*SIZE), 300, 0).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "a_mask.png")
    fit_dataset([tmp_path / "a.png"], DirectoryStore(tmp_path / "store"), TINY, jobs=1)
    options = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"), "-n", "2", "--size", "50x40"]
    assert CliRunner().invoke(app, ["draw", str(tmp_path / "a.png"), *options]).exit_code == 0
    masks = sorted((tmp_path / "out").glob("*_mask.png"))
    assert len(masks) == 2
    for path in masks:
        mask = np.asarray(Image.open(path))
        assert mask.shape == (40, 50)
        assert set(np.unique(mask)) == {0, 300}


def test_the_commands_count_what_no_image_claims(tmp_path: Path) -> None:
    _photo(tmp_path / "data" / "a.png")
    labels = _coco(tmp_path / "data" / "c.json", [{"segmentation": [SQUARE]}, {}], ("a.png", "x.png", "y.png", "z.png"))
    place = ["--store", str(tmp_path / "store")]
    told = "3 records of c.json matched no image"
    command = ["fit", str(tmp_path / "data"), "--masks", str(labels), "--max-size", "34", *place]
    for extra in (["--dry-run"], []):
        assert told in CliRunner().invoke(app, [*command, *extra]).output
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert told in found["unclaimed"][0]
    assert found["left_out"] == 0
    command = [
        "export",
        str(tmp_path / "data"),
        str(tmp_path / "out"),
        "--variants",
        "1",
        "--start-scale",
        "-1",
        *place,
    ]
    assert told in CliRunner().invoke(app, command).output
    assert told in json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["notes"][0]


def test_the_command_reports_images_without_a_mask(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        _photo(tmp_path / "data" / f"{name}.png", seed)
    _mask(tmp_path / "masks" / "a.png")
    options = [str(tmp_path / "data"), "--masks", str(tmp_path / "masks"), "--store", str(tmp_path / "store")]
    options += ["--max-size", "34"]
    forecast = CliRunner().invoke(app, ["fit", *options, "--dry-run"])
    assert "2 images, 2 to fit, 1 without a mask" in forecast.output
    result = CliRunner().invoke(app, ["fit", *options])
    assert result.exit_code == 0
    assert "2 fitted, 0 already there, 1 without a mask" in result.output
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "data" / "a.png"), "--store", str(tmp_path / "store")])
    assert "mask: 2 values" in shown.output
    assert re.search(r"fine +34x26 +\d+\.\d px", shown.output)
    broken = CliRunner().invoke(app, ["fit", *options, "--masks", str(tmp_path / "nowhere")])
    assert broken.exit_code == 2
