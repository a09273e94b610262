"""The downstream suites: the protocol's promises on a small set of made-up images, statistics, networks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from benchmarks import _result
from benchmarks.downstream import __main__ as downstream
from benchmarks.downstream import _paste, fetch, summary, tables, tuning
from benchmarks.downstream.lite0 import Lite0
from benchmarks.downstream.protocol import OWN_MASKS, SUITES
from singan_aug import fast, smooth
from singan_aug.errors import ImageError
from singan_aug.images import pixels_to_pil
from singan_aug.trial import cells, data, training, views
from singan_aug.trial.data import alike_groups, choose, read, read_for_crops
from singan_aug.trial.networks import FoldedUNet, SmallNetwork, TinyUNet
from singan_aug.trial.protocol import Arm, parse_arm
from singan_aug.trial.statistics import cells_of, differences, from_best, holm, paired
from singan_aug.trial.training import MIXED, Batches
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")
RESULTS = sorted((_result.RESULTS / "downstream").glob("*.json"))
SCHEMA = json.loads((Path(_result.__file__).parent / "result.schema.json").read_text())


def _folder(top: Path, counts: dict[str, int], size: int = 32) -> Path:
    for c, (name, count) in enumerate(counts.items()):
        (top / name).mkdir(parents=True)
        for i in range(count):
            pixels = make_photo(size, size + 4, seed=100 * c + i).copy()
            pixels[..., c % 3] //= 3  # what the classes differ in
            pixels_to_pil(pixels).save(top / name / f"{i}.png")
    return top


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _folder(tmp_path_factory.mktemp("sets") / "tiles", {"clay": 8, "moss": 8, "slate": 8})


def _run(own: Path, work: Path, *more: str) -> dict[str, Any]:
    arms = ["--arms", "none", "flip_crop", "flip_crop+fine"]
    sizes = ["--images", "2", "--splits", "2", "--seeds", "1", "--limit", "2", "--size", "32"]
    downstream.main(["--own", str(own), "--work", str(work), "--out", str(work / "r.json"), *arms, *sizes, *more])
    found: dict[str, Any] = json.loads((work / "r.json").read_text())
    return found


def _of(result: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [row for row in result["rows"] if row["what"] == what]


# A run


def test_a_folder_of_ones_own_gives_a_result(own: Path, tmp_path: Path) -> None:
    result = _run(own, tmp_path, "--seeds", "2")
    jsonschema.validate(result, SCHEMA)
    cells = _of(result, "cell")
    assert [(cell["arm"], cell["split"]) for cell in cells] == [
        (arm, split) for arm in ("none", "flip_crop", "flip_crop+fine") for split in (0, 1)
    ]
    assert all(len(cell["accuracies"]) == 2 and len(cell["per_class"]) == 3 for cell in cells)
    assert {row["of"] for row in _of(result, "cost")} == {"fit_sec", "pyramid_bytes", "draw_ms_fine"}
    assert [(row["arm"], row["base"]) for row in differences(cells_of(result))] == [
        ("flip_crop", "none"),
        ("flip_crop+fine", "flip_crop"),
    ]
    declared = json.loads(_of(result, "protocol")[0]["protocol"])
    assert (declared["steps"], declared["splits"], declared["seeds"]) == (2, 2, 2)


def test_costs_are_of_what_a_run_draws_from(own: Path, tmp_path: Path) -> None:
    """What another run in the same folder took is not told."""
    _run(own, tmp_path, "--arms", "none", "none+smooth_coarse")
    result = _run(own, tmp_path, "--arms", "none", "none+fine")
    assert {row["of"] for row in _of(result, "cost")} == {"fit_sec", "pyramid_bytes", "draw_ms_fine"}


def test_counts_beyond_the_smallest_class_are_left_out(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _run(own, tmp_path, "--images", "1", "25", "--arms", "none")
    assert {cell["images"] for cell in _of(result, "cell")} == {1}
    assert "5 images to train on: without [25]" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="expected 25 images a class to train on, got 5"):
        _run(own, tmp_path, "--images", "25")


def test_what_is_finished_is_not_made_again(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(own, tmp_path)
    monkeypatch.setattr(cells, "_train", lambda *_: pytest.fail("trained again"))
    assert _run(own, tmp_path)["rows"] == first["rows"]


def test_a_run_taken_up_in_the_middle_gives_what_an_unbroken_one_gives(own: Path, tmp_path: Path) -> None:
    unbroken = _run(own, tmp_path / "a")
    _run(own, tmp_path / "b")
    cells = sorted((tmp_path / "b").glob("*/*/cells/*.json"))
    for path in cells[1::2]:
        path.unlink()
    for path in (tmp_path / "b").glob("*/*/*.safetensors"):
        path.unlink()
    taken_up = _run(own, tmp_path / "b")
    ours, theirs = ([{**c, "train_sec": 0} for c in _of(each, "cell")] for each in (taken_up, unbroken))
    assert ours == theirs


def test_a_changed_protocol_shares_no_cells(own: Path, tmp_path: Path) -> None:
    _run(own, tmp_path)
    _run(own, tmp_path, "--limit", "3")
    _run(own, tmp_path, "--set", "shift_px=1.5")
    assert len(list((tmp_path / "own-tiles").iterdir())) == 3


def _with_masks(top: Path, seeds: Sequence[int], side: int = 40) -> Path:
    for folder in ("images", "masks"):
        (top / folder).mkdir(parents=True)
    for i, seed in enumerate(seeds):
        pixels = make_photo(side, side + 4, seed=seed)
        pixels_to_pil(pixels).save(top / "images" / f"{i}.png")
        Image.fromarray(np.where(pixels[..., 0] > 120, 255, 0).astype(np.uint8)).save(top / "masks" / f"{i}.png")
    return top


def test_a_set_with_masks_gives_a_result(tmp_path: Path) -> None:
    top = _with_masks(tmp_path / "set" / "weizmann_horses", range(8))
    (top / "duplicates.csv").write_text("drop,same_as\n7,6\n")
    arms = ["--arms", "flip_crop", "flip_crop+fine", "flip_crop+fine_apart"]
    sizes = ["--images", "2", "--splits", "2", "--seeds", "1", "--limit", "2", "--size", "32"]
    out = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "r.json")]
    downstream.main(["--suite", "horses", "--data", str(tmp_path / "set"), *arms, *sizes, *out])
    result = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(result, SCHEMA)
    assert all(0 <= cell["accuracies"][0] <= 1 for cell in _of(result, "cell"))
    held = read(replace(SUITES["horses"], size_px=32), top)
    assert len(held.pool) + len(held.test) == 7
    assert {value for image in held.pool for value in np.unique(image[..., 3])} == {0, 255}


def test_images_and_masks_of_ones_own_are_a_set_with_masks(tmp_path: Path) -> None:
    own = _with_masks(tmp_path / "figures", [0, 1, 2, 3, 4, 4, 4, 4])
    result = _run(own, tmp_path / "work")
    assert json.loads(_of(result, "protocol")[0]["protocol"])["model"] == "masks"
    held = read(replace(SUITES["horses"], size_px=32), own)
    assert (len(held.pool), len(held.test)) in {(3, 5), (6, 2)}  # the twins are on one side


@pytest.mark.parametrize(("sides", "size", "crop"), [((44, 44), None, 40), ((44, 57), 40, 40), ((340, 340), 320, 128)])
def test_crops_suit_the_images(sides: tuple[int, int], size: int | None, crop: int, tmp_path: Path) -> None:
    own, other = (_with_masks(tmp_path / str(i), range(3 * i, 3 * i + 3), side) for i, side in enumerate(sides))
    for path in [*other.glob("*/*.png")]:
        path.rename(own / path.parent.name / f"other{path.name}")
    protocol, held = read_for_crops(OWN_MASKS, own)
    assert (protocol.size_px, protocol.crop_px, len(held.pool) + len(held.test)) == (size, crop, 6)


def test_nothing_found_where_there_is_nothing_is_right() -> None:
    found, figure = torch.zeros(3, 4, 4, dtype=torch.bool), torch.zeros(3, 4, 4, dtype=torch.bool)
    found[1, :2], figure[2, :2], found[2, 1:3] = True, True, True
    assert training._overlaps(found, figure) == pytest.approx(np.array([[1, 0, 1 / 3], [1, 0, 0.5]]))


def test_masks_are_learned_from_crops(tmp_path: Path) -> None:
    _with_masks(tmp_path / "em_membranes", range(9), side=136)
    arms = ["--arms", "none", "turns_paste", "turns_paste+smooth_fine", "turns+singan_paste"]
    sizes = ["--images", "2", "--splits", "2", "--seeds", "2", "--limit", "2"]
    out = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "r.json")]
    downstream.main(["--suite", "membranes", "--data", str(tmp_path), *arms, *sizes, *out])
    result = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(result, SCHEMA)
    assert all(len(cell["dice"]) == 2 for cell in _of(result, "cell"))
    assert {"fit_sec_smooth", "draw_ms_smooth_fine"} <= {row["of"] for row in _of(result, "cost")}
    text = tables.section("membranes", result, {})
    assert "Dice from the best classic" in text


def test_slices_of_a_stack_are_parted_in_order(tmp_path: Path) -> None:
    top = _with_masks(tmp_path / "stack", range(9))
    images = [np.asarray(Image.open(path)) for path in sorted((top / "images").iterdir())]
    held = read(replace(SUITES["membranes"], size_px=None), top)
    assert [np.array_equal(a[..., :3], b) for a, b in zip(held.pool, images[:5], strict=True)] == [True] * 5
    assert [np.array_equal(a[..., :3], b) for a, b in zip(held.test, images[6:], strict=True)] == [True] * 3
    first, second = tuning.halves(held)
    assert [len(part) for part in (first.pool, first.test, second.pool, second.test)] == [2, 3, 3, 2]


def test_pool_and_test_share_no_group_and_leave_none_out() -> None:
    groups = np.array([0, 1, 0, 2, 3, 3, 4])
    pool, test = data._parted(groups, np.random.default_rng(0))
    assert sorted([*pool, *test]) == list(range(7))
    assert len(test)
    assert not set(groups[pool]) & set(groups[test])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--suite", "scenes"],
        ["--suite", "scenes", "--own", "x"],
        ["--suite", "scenes", "--data", "x"],
        ["--own", "x", "--splits", "1"],
        ["--own", "x", "--arms", "strong"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        downstream.main(arguments)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "error: " in told
    assert "expected" in told or "needs" in told


def test_a_folder_without_classes_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="a folder for each of two classes"):
        downstream.main(["--own", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"a folder of labelled images, got .*elsewhere"):
        downstream.main(["--own", str(tmp_path / "elsewhere")])


def test_weights_that_cannot_be_read_are_told(own: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    for name in ("weights.safetensors", "elsewhere.safetensors"):
        with pytest.raises(SystemExit) as stopped:
            downstream.main(["--own", str(own), "--weights", str(tmp_path / name), "--work", str(tmp_path)])
        assert str(stopped.value).startswith(f"{tmp_path / name}: ")


# Which images


def test_near_twins_are_one_group() -> None:
    one, other = make_photo(40, 40, seed=0), make_photo(40, 40, seed=7)
    noisy = np.clip(one.astype(int) + np.random.default_rng(0).integers(-8, 9, one.shape), 0, 255).astype(np.uint8)
    groups = alike_groups([one, np.rot90(255 - other), noisy, np.rot90(one[:, ::-1]).copy()])
    assert groups[0] == groups[2] == groups[3] != groups[1]


def test_what_all_images_share_makes_no_twins() -> None:
    """A dark frame around an eye, and its glow, are in every image; the vessels are not."""
    frame = np.hypot(*np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48)))[..., None]
    eyes = [
        np.where(frame < 0.9, 140 - 100 * frame + make_photo(48, 48, seed=seed) / 2.5, 0).astype(np.uint8)
        for seed in range(5)
    ]
    flat = [data._standardised(data._thumbnail(eye).reshape(1, -1))[0] for eye in eyes]
    assert all(np.mean(flat[0] * other) > data.ALIKE for other in flat)
    assert len(set(alike_groups(eyes))) == 5
    groups = alike_groups([*eyes, np.rot90(np.maximum(eyes[3], 2) - 2).copy()])
    assert groups[5] == groups[3]
    assert len(set(groups)) == 5
    assert len(set(alike_groups([eyes[0]] * 4))) == 1


def test_a_set_of_near_twins_alone_is_told(tmp_path: Path) -> None:
    own = _with_masks(tmp_path / "frames", [4, 4, 4])
    with pytest.raises(ImageError, match=r"two images or more that differ.*got 3, which are near-twins"):
        read(replace(SUITES["horses"], size_px=32), own)


def test_near_twins_stay_on_one_side(tmp_path: Path) -> None:
    """Every class holds five photos, each twice; no photo of the pool is in the test."""
    for c in range(2):
        (tmp_path / str(c)).mkdir()
        for i in range(5):
            pixels = make_photo(32, 32, seed=10 * c + i)
            Image.fromarray(np.rot90(pixels)).save(tmp_path / str(c) / f"{i}_turned.png")
            Image.fromarray(pixels).save(tmp_path / str(c) / f"{i}.png")
    held = read(replace(SUITES["scenes"], size_px=None), tmp_path)
    assert len(held.pool) + len(held.test) == 20
    pool, test = ({np.sort(image, axis=None).tobytes() for image in images} for images in (held.pool, held.test))
    assert test
    assert not pool & test


def test_a_test_folder_is_used_where_there_is_one(tmp_path: Path) -> None:
    _folder(tmp_path / "train", {"a": 3, "b": 2})
    _folder(tmp_path / "val", {"a": 1, "b": 2})
    held = read(replace(SUITES["scenes"], size_px=24), tmp_path)
    assert held.pool_labels.tolist() == [0, 0, 0, 1, 1]
    assert held.test_labels.tolist() == [0, 1, 1]
    assert {image.shape for image in held.pool} == {(24, 24, 3)}


def test_an_empty_class_is_told(tmp_path: Path) -> None:
    _folder(tmp_path, {"a": 2, "b": 0})
    with pytest.raises(ImageError, match=r"expected images in .*b, got none"):
        read(SUITES["scenes"], tmp_path)


def test_smaller_choices_are_among_larger_ones_of_the_same_split() -> None:
    labels = np.repeat(np.arange(3), 20)
    few, more, others = choose(labels, [2] * 3, 0), choose(labels, [5] * 3, 0), choose(labels, [5] * 3, 1)
    assert np.bincount(labels[few]).tolist() == [2, 2, 2]
    assert set(few) < set(more)
    assert set(more) != set(others)
    assert np.bincount(labels[choose(labels, [9, 3, 9], 0)]).tolist() == [9, 3, 9]


# Batches


def _batches(arm: Arm, **changes: Any) -> Batches:
    labels = np.repeat(np.arange(2), 10)
    protocol = replace(SUITES["scenes"], steps=50, batch=20, **changes)
    return Batches(arm, choose(labels, [8, 2], 0), labels, labels == 1, protocol, 0)


def test_batches_hold_as_many_of_every_class_however_rare() -> None:
    batches = _batches(parse_arm("none"))
    assert float(batches.labels.float().mean()) == 0.5
    assert not batches.replaced.any()


def test_arms_see_the_same_images_and_replace_those_they_may() -> None:
    plain, mixed = _batches(parse_arm("trivial")), _batches(parse_arm("trivial+fine@0.25"))
    assert np.array_equal(plain.images, mixed.images)
    assert np.array_equal(plain.views, mixed.views)
    assert not mixed.replaced[mixed.images < 10].any()
    assert 0.2 < mixed.replaced[mixed.images >= 10].mean() < 0.3
    assert _batches(parse_arm("trivial+fine@1")).replaced.mean() == 0.5


def test_a_batch_takes_variants_where_images_are_replaced() -> None:
    arm = parse_arm("flip_crop+coarse")
    batches = _batches(arm)
    sets = {("flip_crop", None): torch.zeros(20, 4, 1), ("flip_crop", "coarse"): torch.ones(20, 4, 1)}
    for step in range(3):
        seen, labels = batches.at(step, sets)
        assert np.array_equal(seen[:, 0].numpy(), batches.replaced[step])
        assert labels.tolist() == batches.labels[step].tolist()


@pytest.mark.parametrize("name", ["trivial", "trivial+fine", "trivial+fine@0.25", "trivial+fine@1"])
def test_an_image_is_seen_in_as_many_views_by_every_arm(name: str) -> None:
    arm = parse_arm(name)
    batches = _batches(arm, views=8)
    numbered = torch.arange(8).expand(20, 8)[..., None]
    sets = {("trivial", None): numbered, ("trivial", "fine"): numbered + 8}
    seen = [batches.at(step, sets)[0][batches.images[step] >= 10] for step in range(50)]
    assert len(torch.cat(seen).unique()) == 8


def test_no_more_variants_are_seen_than_an_arm_says() -> None:
    batches = _batches(parse_arm("none+fine#2"), views=8)
    sets = {("none", None): torch.zeros(20, 1, 1), ("none", "fine"): torch.arange(1.0, 9.0).expand(20, 8)[..., None]}
    seen = torch.cat([batches.at(step, sets)[0] for step in range(50)])
    assert seen.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", [name for suite in SUITES.values() for name in suite.arms])
def test_declared_arms_are_read_and_have_a_base(name: str) -> None:
    arm = parse_arm(name)
    assert arm.name == name
    assert all(parse_arm(base).strong in (arm.strong, "none") for base in arm.bases)


def test_digits_are_measured_with_what_the_preset_smooth_is() -> None:
    assert fast(**SUITES["digits"].fit) == smooth()


@pytest.mark.parametrize("name", ["", "weak", "none+", "trivial+coarse@1.5", "trivial@0.5", "none+fine#0", "none#8"])
def test_what_is_no_arm(name: str) -> None:
    with pytest.raises(ValueError, match="expected an arm such as"):
        parse_arm(name)


# Views


@pytest.mark.parametrize("source", ["duplicates", "reconstruction", "coarse", "fine", "mixed", "smooth_mixed"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_bank_holds_variants_of_the_image(source: str, channels: int, tmp_path: Path) -> None:
    image = make_photo(32, 32, channels)
    cost: views.Cost = {}
    fits = views.Fits(SUITES["scenes"], tmp_path, cost)
    made = views.bank(image, 3, source, SUITES["scenes"], cost, fits)
    assert made.shape == (SUITES["scenes"].views, 32, 32, channels)
    assert np.array_equal(made, views.bank(image, 3, source, SUITES["scenes"], cost, fits))
    same = [np.abs(view.astype(int) - image).max() <= 1 for view in made]
    assert all(same) if source in ("duplicates", "reconstruction") else not any(same)


def test_mixed_variants_come_from_every_start_scale_in_turn(tmp_path: Path) -> None:
    image = make_photo(64, 64)
    protocol = replace(SUITES["scenes"], views=8)
    fits = views.Fits(protocol, tmp_path, {})
    made = views.bank(image, 3, "mixed", protocol, {}, fits)
    count = len(fits.of(image, 3, "fast"))
    assert count == 4
    for scale in range(count):
        alone = views._traced(fits.of(image, 3, "fast"), image, scale, 2, 3, masked=True)
        assert np.array_equal(made[scale::count], alone)


def test_the_milder_start_is_the_one_above_the_coarsest(tmp_path: Path) -> None:
    image = make_photo(32, 32)
    protocol = replace(SUITES["scenes"], views=2, fit={"steps_coarsest": 2})
    fits = views.Fits(protocol, tmp_path, {})
    made = views.bank(image, 0, "learned_milder", protocol, {}, fits)
    assert np.array_equal(made, views._traced(fits.of(image, 0, "learned"), image, 1, 2, 0, masked=True))


def test_no_more_variants_are_made_than_any_arm_sees() -> None:
    protocol = replace(SUITES["scenes"], views=16, arms=("none", "none+fine", "flip+fine@0.25", "none+coarse@1"))
    assert [protocol.seen(source) for source in ("fine", "coarse")] == [8, 16]


def test_confined_variants_leave_the_rest_as_it_is(tmp_path: Path) -> None:
    image = _with_mask()
    image[..., 3] = 0
    image[10:22, 10:22, 3] = 255
    protocol = replace(SUITES["horses"], views=4)
    fits = views.Fits(protocol, tmp_path, {})
    own, other = (views.bank(image, 0, source, protocol, {}, fits) for source in ("mask_coarse", "background_coarse"))
    assert np.array_equal(own[:, :2], np.repeat(image[None, :2], 4, 0))
    assert not np.array_equal(own[:, 10:22, 10:22], np.repeat(image[None, 10:22, 10:22], 4, 0))
    assert (own[..., 3] != other[..., 3]).any()
    assert np.array_equal(other[:, 10:22, 10:22], np.repeat(image[None, 10:22, 10:22], 4, 0))
    assert not np.array_equal(other, np.repeat(image[None], 4, 0))


def test_what_was_trained_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = _with_mask()
    protocol = replace(SUITES["horses"], views=2, fit={"steps_coarsest": 2})
    first = views.bank(image, 0, "learned_coarse", protocol, {}, views.Fits(protocol, tmp_path, {}))
    monkeypatch.setattr(views, "fit", lambda *_: pytest.fail("fitted again"))
    again = views.bank(image, 0, "learned_coarse", protocol, {}, views.Fits(protocol, tmp_path, {}))
    assert np.array_equal(first, again)


def test_pastes_are_of_the_chosen_images_and_bring_their_masks() -> None:
    """Plain and redrawn ones lie at the same places; only light and rim differ."""
    image, other = _with_mask(0), _with_mask(1)
    image[..., 3] = 0
    other[..., 3] = 0
    other[8:20, 8:20, 3] = 255
    other[8:20, 8:20, :3] = 250
    naive, redrawn = (paste(image, [other], 3, 5) for paste in (_paste.plain, _paste.redrawn))
    assert naive.shape == (3, 32, 32, 4)
    assert np.array_equal(naive[..., 3], redrawn[..., 3])
    figure = naive[..., 3] == 255
    assert all(81 <= each.sum() <= 240 for each in figure)
    assert np.median(naive[..., :3][figure]) > 240  # but for its edge, where sizes change
    assert np.array_equal(naive[..., :3][~figure], np.broadcast_to(image[..., :3], (3, 32, 32, 3))[~figure])
    assert not np.array_equal(naive, redrawn)
    varied = _paste.of_variants(image, [other], 3, 5)
    assert all(30 <= (each == 255).sum() <= 300 for each in varied[..., 3])
    assert np.array_equal(varied[varied[..., 3] == 0][0], image[0, 0])
    assert np.array_equal(_paste.plain(image, [image], 2, 5), np.repeat(image[None], 2, 0))


def test_plain_pastes_are_varied_with_their_masks() -> None:
    image, other = _with_mask(0), _with_mask(1)
    naive, bent = (paste(image, [image, other], 4, 5) for paste in (_paste.plain, _paste.bent))
    assert bent.shape == naive.shape
    assert all(not np.array_equal(*pair) for pair in zip(naive, bent, strict=True))
    agrees = (bent[..., 0] > 120) == (bent[..., 3] > 0)  # the mask is what the red channel says, but for blending
    assert agrees.mean() > ((naive[..., 0] > 120) == (naive[..., 3] > 0)).mean() - 0.03


def test_kin_has_colours_of_other_images() -> None:
    """Of an image that is dark, between two that are bright."""
    dark, bright = _with_mask(0), _with_mask(1)
    dark[..., :3] //= 2
    bright[..., :3] = 128 + bright[..., :3] // 2
    made = _paste.kin(dark, [dark, bright, bright.copy()], 2, 5)
    assert made.shape == (2, 32, 32, 4)
    assert (made[..., :3] > 150).any()


@pytest.mark.parametrize("strong", ["flip_crop", "elastic", "trivial", "rand"])
@pytest.mark.parametrize("channels", [1, 3])
def test_strong_views_depend_on_their_arguments_alone(strong: str, channels: int) -> None:
    images = np.stack([make_photo(32, 32, channels)] * 4)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    made = views.strengthened(images, strong, SUITES["scenes"], ("fine", 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert made.shape == images.shape
    assert not np.array_equal(made[0], made[1])
    assert np.array_equal(made, views.strengthened(images, strong, SUITES["scenes"], ("fine", 1)))
    assert not np.array_equal(made, views.strengthened(images, strong, SUITES["scenes"], ("fine", 2)))


def _with_mask(seed: int = 0) -> views.Views:
    pixels = make_photo(32, 32, seed=seed)
    return np.concatenate([pixels, np.where(pixels[..., :1] > 120, 255, 0).astype(np.uint8)], -1)


def test_masks_ride_along_with_variants_or_stay_behind(tmp_path: Path) -> None:
    image, fits = _with_mask(), views.Fits(SUITES["horses"], tmp_path, {})
    moved, apart = (views.bank(image, 0, source, SUITES["horses"], {}, fits) for source in ("fine", "fine_apart"))
    assert moved.shape == apart.shape == (SUITES["horses"].views, 32, 32, 4)
    assert np.array_equal(moved[..., :3], apart[..., :3])
    assert (apart[..., 3] == image[..., 3]).all()
    assert not np.array_equal(moved[..., 3], apart[..., 3])
    agrees = (moved[..., 0] > 120) == (moved[..., 3] > 0)  # the mask is what the red channel says, but for blending
    assert agrees.mean() > 0.97


@pytest.mark.parametrize("strong", ["flip_crop", "colour", "turns", "turns_elastic", "turns_affine"])
def test_masks_go_where_their_images_go(strong: str) -> None:
    blocks = np.kron(np.random.default_rng(0).integers(2, size=(4, 4)), np.ones((8, 8))) * 255
    image = np.repeat(blocks.astype(np.uint8)[..., None], 4, -1)  # a picture of its own mask
    protocol = replace(SUITES["membranes"], elastic=(30.0, 4.0))
    made = views.strengthened(np.stack([image] * 4), strong, protocol, (0,))
    assert not np.array_equal(made[0], made[1])
    assert set(np.unique(made[..., 3])) <= {0, 255}
    bright = made[..., :3].mean(-1)
    assert np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(bright, made[..., 3], strict=True)]) > 0.9


@pytest.mark.parametrize("name", sorted(MIXED))
def test_what_is_mixed_in_a_batch_takes_its_mask_along(name: str) -> None:
    colours = torch.arange(1, 5, dtype=torch.uint8)[:, None, None].expand(4, 16, 16) * 60
    figure = torch.zeros(4, 16, 16, dtype=torch.bool)
    figure[:, 4:12, 2:7] = True
    images = torch.stack([torch.where(figure, colours, colours // 10)] * 3 + [torch.where(figure, 255, 0).byte()], -1)
    mixed = torch.cat([MIXED[name](images, np.random.default_rng(seed)) for seed in range(8)])
    assert torch.equal(mixed[..., 3] > 0, mixed[..., 0] >= 60)
    assert any(len(image[..., 0].unique()) > 2 for image in mixed)


# Statistics


def test_the_best_classic_arm_is_what_variants_are_measured_against() -> None:
    def cells(*dice: float) -> list[dict[str, Any]]:
        return [{"accuracy": 0.0, "rare": None, "dice": value, "per_class": [0.0]} for value in dice]

    held = {
        ("none", 2): cells(0.5, 0.6),
        ("turns", 2): cells(0.7, 0.6),
        ("none+fine", 2): cells(0.7, 0.8),
        ("turns", 5): cells(0.9, 0.9),
        ("turns+paste", 5): cells(0.9, 1.0),
        ("turns+singan_paste", 5): cells(0.9, 0.9),
    }
    row, pasted = from_best(held, "dice")
    assert (pasted["arm"], pasted["base"]) == ("turns+singan_paste", "turns+paste")
    assert (row["arm"], row["base"], row["images"], row["difference"]) == ("none+fine", "turns", 2, 10.0)
    assert row["low"] < 10 < row["high"]
    assert {each["measure"] for each in differences(held)} == {"accuracy", "dice"}


def test_the_interval_is_students() -> None:
    one, other = np.array([1.0, 4.0, 2.5, 3.0]), np.array([0.5, 2.0, 2.0, 3.5])
    found = paired(one.tolist(), other.tolist())
    reference = stats.ttest_rel(one, other)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.mean == pytest.approx(0.625)


def test_an_interval_without_spread_is_a_point() -> None:
    assert paired([2.0, 3.0], [1.0, 2.0]).low == 1
    assert paired([1.0, 1.0], [1.0, 1.0]).p_value == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [paired(rng.normal(1, 2, 6).tolist(), rng.normal(0, 2, 6).tolist()) for _ in range(600)]
    assert 0.92 < np.mean([one.low <= 1 <= one.high for one in found]) < 0.98


# Networks


def test_a_u_net_of_folded_pixels_takes_any_size() -> None:
    assert FoldedUNet(3, 4).eval()(torch.rand(1, 3, 37, 50)).shape == (1, 1, 37, 50)


@pytest.mark.parametrize(
    ("network", "out"),
    [(SmallNetwork(1, 5, 4), (2, 5)), (TinyUNet(1, 4), (2, 1, 32, 32)), (FoldedUNet(1, 4), (2, 1, 32, 32))],
)
def test_networks_learn(network: torch.nn.Module, out: tuple[int, ...]) -> None:
    result = network(torch.rand(2, 1, 32, 32))
    assert result.shape == out
    result.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_features_know_a_cat() -> None:
    folder = os.environ.get("SINGAN_AUG_DATA")
    path = Path(folder or "") / "metrics" / "efficientnet_lite0.safetensors"
    if not folder or not path.exists():
        pytest.skip("SINGAN_AUG_DATA names no folder with metrics/efficientnet_lite0.safetensors")
    network = Lite0.load(path)
    photo = Image.open(Path(views.__file__).parents[1] / "photos" / "cat.jpg").resize((224, 224))
    features = network.features(torch.from_numpy(np.array(photo)).movedim(-1, 0)[None] / 255)
    assert features.shape == (1, 1280)
    assert network.classifier is not None
    weight, bias = network.classifier
    assert int((features @ weight.T + bias).argmax()) in range(281, 286)  # ImageNet's cats


# Committed results


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_committed_result_follows_the_schema_and_can_be_made_again(path: Path) -> None:
    result = json.loads(path.read_text())
    jsonschema.validate(result, SCHEMA)
    assert result["commit"]
    assert result["clean_checkout"]
    declared = json.loads(_of(result, "protocol")[0]["protocol"])
    cells = cells_of(result)
    assert {arm for arm, _ in cells} == set(declared["arms"])
    for of_splits in cells.values():
        assert [cell["split"] for cell in of_splits] == list(range(declared["splits"]))
        assert all(len(cell["accuracies"]) == declared["seeds"] for cell in of_splits)


# Pages


def test_the_pages_are_what_the_committed_results_give() -> None:
    results = tables._results()
    assert tables.FIGURES.read_text() == tables.figures(results), "run `python -m benchmarks.downstream.tables`"
    page = tables.DECISIONS.read_text()
    assert page == tables.decisions(results, page), "run `python -m benchmarks.downstream.tables`"


def test_tables_are_made_of_differences(own: Path, tmp_path: Path) -> None:
    result = _run(own, tmp_path)
    (row,) = [row for row in differences(cells_of(result)) if row["arm"] == "flip_crop+fine"]
    page = tables.figures({"tiles": result})
    before, _, after = page.partition("## By start scale")
    assert f"`flip_crop` {row['difference']:+.1f}" in before.replace("**", "")
    assert f"{row['difference']:+.1f} ({row['low']:+.1f}" in after


def test_the_table_of_findings_has_the_figures_of_its_results(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _run(own, tmp_path)
    gains = (summary.Gain("tiles", "flip_crop+fine", "flip_crop", 2), summary.Gain("tiles", "flip_crop", "none", 2))
    findings = (
        summary.Finding("tiles", "2", "try it", gains),
        summary.Finding("others", "2", "not measured", (summary.Gain("absent", "none+fine", "none", 2),)),
    )
    monkeypatch.setattr(summary, "FINDINGS", findings)
    page = tables.decisions({"tiles": result}, f"before\n{tables.MARKS[0]}\nold\n{tables.MARKS[1]}\nafter")
    rows = {row["arm"]: row for row in differences(cells_of(result))}
    for arm, told in (("flip_crop+fine", "over flips and crops"), ("flip_crop", "over nothing")):
        row = rows[arm]
        figures = f"{row['difference']:+.1f} ({row['low']:.1f} to {row['high']:.1f})"
        assert f"{figures}](downstream.md#tiles) {told}" in page.replace("**", "")
    assert (page.startswith("before"), page.endswith("after")) == (True, True)
    assert "old" not in page
    assert "not measured" not in page
    assert tables.decisions({"tiles": result}, page) == page


def test_every_finding_rests_on_a_committed_result() -> None:
    results = tables._results()
    for finding in summary.FINDINGS:
        for gain in finding.gains:
            assert summary.gain_row(gain, results)["base"] == gain.base


def test_p_values_are_adjusted_over_sets_in_which_an_arm_was_measured() -> None:
    def result(change: float, arms: tuple[str, ...]) -> dict[str, Any]:
        accuracies = {arm: [0.5, 0.6] if arm == "none" else [0.6, 0.7 + change] for arm in arms}
        rows = [
            {"what": "cell", "arm": arm, "images": 5, "split": split, "accuracies": [value], "per_class": [value]}
            | {"rare": None}
            for arm, values in accuracies.items()
            for split, value in enumerate(values)
        ]
        return {"rows": rows}

    results = {"one": result(0.01, ("none", "trivial", "rand")), "two": result(0.05, ("none", "trivial"))}
    alone = {name: differences(cells_of(each))[0]["p_value"] for name, each in results.items()}
    found = tables._adjusted(results)
    assert found["one", "trivial", 5, "accuracy"] == pytest.approx(min(1, 2 * alone["one"]))
    assert found["two", "trivial", 5, "accuracy"] == pytest.approx(max(alone["two"], 2 * alone["one"]))
    assert found["one", "rand", 5, "accuracy"] == pytest.approx(alone["one"])


# Public sets


class FakeSet:
    """As torchvision's sets are made, of eight images of two classes."""

    classes = ("zero", "one")

    def __init__(self, root: Path, *, train: bool, download: bool) -> None:
        assert download
        assert Path(root).is_dir()
        self.data = torch.from_numpy(np.stack([make_photo(28, 28, 1, seed=i + 100 * train)[..., 0] for i in range(8)]))
        self.targets = torch.arange(8) % 2


def test_a_public_set_becomes_one_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fetch.SETS, "mnist", (fetch._parted(FakeSet), fetch._archive))
    held = read(replace(SUITES["digits-imbalance"], size_px=None), fetch.main(["mnist", str(tmp_path / "sets")]))
    assert held.classes == ("zero", "one")
    assert np.array_equal(held.pool[3], make_photo(28, 28, 1, seed=103))
    assert held.test_labels.tolist() == [0, 1] * 4
