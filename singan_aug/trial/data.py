"""Labelled sets: where they lie, which images must stay together, which are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from singan_aug.errors import ImageError
from singan_aug.images import IMAGE_SUFFIXES, Pixels, load_image, no_images, quiet_decoding, resize_mask, resize_pixels
from singan_aug.trial.protocol import Protocol

__all__ = ["Labelled", "alike_groups", "choose", "read", "read_for_crops"]

TEST_RATIO = 0.4  # of groups of a class, where there is no test folder
THUMBNAIL_PX = 24
ALIKE = 0.9  # correlation of thumbnails, turned and mirrored, from which two images are near-twins
SAME = 0.999  # the same without taking away what all share: frames of one film are twins, eyes are not
LARGEST_PX = 320  # side up to which images are left as they are where crops of them are trained on
TEST_NAMES = ("test", "val", "valid", "validation")
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """A set, parted into a pool to train on and a test that nothing else ever sees."""

    classes: tuple[str, ...]
    pool: list[Pixels]
    pool_labels: Labels
    test: list[Pixels]
    test_labels: Labels


def read(protocol: Protocol, folder: Path) -> Labelled:
    """The protocol's set.

    A .npz of x_train, y_train, x_test, y_test; folders of images, one for each class; or, for masks, images/ and masks/
    of the same stems, where duplicates.csv names in its first column what to leave out.

    Folders of classes may lie under train/ and test/ (or val/); where they do not, each class is parted so that
    near-twins stay on one side, and so are images with masks. Pool and test are cut to the protocol's size by a shuffle
    that depends on nothing. Raises ImageError for a folder that holds no such set.
    """
    if not folder.is_dir():
        raise ImageError(f"expected a folder of labelled images, got {folder}, which is none")
    archives = sorted(folder.glob("*.npz"))
    if protocol.model == "masks":
        names, parts = _masked(folder, protocol.ordered)
    elif archives:
        held = np.load(archives[0], allow_pickle=False)
        names = list(map(str, held["classes"] if "classes" in held else np.unique(held["y_train"])))
        parts = [(list(held[f"x_{part}"]), held[f"y_{part}"].astype(np.int64)) for part in ("train", "test")]
        parts = [([_three(image) for image in images], labels) for images, labels in parts]
    else:
        names, parts = _folders(folder)
    (pool, pool_labels), (test, test_labels) = parts
    kept = _some_of_each(pool_labels, protocol.pool_per_class), _some_of_each(test_labels, protocol.test_per_class)
    pools, tests = (
        [_sized(images[i], protocol) for i in some] for images, some in zip((pool, test), kept, strict=True)
    )
    if protocol.model != "masks" and any(
        image.shape[-1] == 3 for image in (*pools, *tests)
    ):  # files that are grey beside others that are not
        pools, tests = ([np.repeat(image, 3 // image.shape[-1], -1) for image in images] for images in (pools, tests))
    return Labelled(tuple(names), pools, pool_labels[kept[0]], tests, test_labels[kept[1]])


def read_for_crops(protocol: Protocol, folder: Path) -> tuple[Protocol, Labelled]:
    """A set with masks and the protocol that suits it, where crops are trained on and no size is named.

    Images of one size stay as they are, up to `LARGEST_PX`; else all become squares. Crops are no larger than they.
    Raises as `read`.
    """
    labelled = read(protocol, folder)
    sizes = {image.shape[:2] for image in (*labelled.pool, *labelled.test)}
    if protocol.size_px is None and (len(sizes) > 1 or max(max(sizes)) > LARGEST_PX):
        side = min(LARGEST_PX, *map(min, sizes)) // 8 * 8
        protocol = replace(protocol, size_px=side)
        labelled = read(protocol, folder)
        sizes = {(side, side)}
    crop_px = min(protocol.crop_px or LARGEST_PX, *map(min, sizes)) // 8 * 8
    return replace(protocol, crop_px=crop_px), labelled


def choose(labels: Labels, counts: Sequence[int], split: int) -> NDArray[np.int64]:
    """Indices of `counts[c]` images of every class c; those of a split with smaller counts are among them."""
    rng = np.random.default_rng([split, 1])
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in range(len(counts))]
    return np.concatenate([some[:count] for some, count in zip(shuffled, counts, strict=True)])


def alike_groups(images: Sequence[Pixels]) -> Labels:
    """A number for each image, the same for near-twins and whatever is a near-twin of theirs.

    What all images share is no sign of a twin (the dark frame around an eye, the layout of aligned parts): their mean
    is taken away before they are compared.
    """
    thumbnails = np.stack([_thumbnail(image) for image in images])
    turned = [np.rot90(side, k, (1, 2)) for side in (thumbnails, thumbnails[:, :, ::-1]) for k in range(4)]
    flat = [_standardised(each.reshape(len(images), -1)) for each in turned]
    shared = flat[0].mean(0)
    alike = _correlations(flat) >= SAME
    if len(images) > 2:
        alike |= (_correlations(flat) >= ALIKE) & (_correlations([_standardised(f - shared) for f in flat]) >= ALIKE)
    groups = np.arange(len(images))
    for i, j in zip(*np.nonzero(alike), strict=True):
        groups[groups == groups[j]] = groups[i]
    return groups.astype(np.int64)


def _correlations(turned: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Of every image with every other, the highest over its turns, each [N, D] and standardised."""
    return np.asarray(np.max([turned[0] @ each.T for each in turned], axis=0) / turned[0].shape[1])


def _thumbnail(pixels: Pixels) -> NDArray[np.float64]:
    return np.asarray(resize_pixels(pixels, (THUMBNAIL_PX, THUMBNAIL_PX)).mean(-1))


def _standardised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = rows - rows.mean(1, keepdims=True)
    return np.asarray(rows / np.maximum(rows.std(1, keepdims=True), 1e-6))


def _folders(folder: Path) -> tuple[list[str], list[tuple[list[Pixels], Labels]]]:
    test_folder = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and test_folder is not None:
        names = _class_names(folder / "train")
        return names, [_images(part, names) for part in (folder / "train", test_folder)]
    top = folder / "train" if (folder / "train").is_dir() else folder
    names = _class_names(top)
    images, labels = _images(top, names)
    tested = np.zeros(len(images), dtype=bool)
    for c in range(len(names)):
        of_class = np.flatnonzero(labels == c)
        groups = alike_groups([images[i] for i in of_class])
        tested[of_class[_parted(groups, np.random.default_rng([c, 0]))[1]]] = True
    parts = [np.flatnonzero(~tested), np.flatnonzero(tested)]
    return names, [([images[i] for i in some], labels[some]) for some in parts]


def _parted(groups: Labels, rng: np.random.Generator) -> tuple[Labels, Labels]:
    """Indices to train on and to test on; a group is on one side. Raises ImageError where there is but one group."""
    order = rng.permutation(np.unique(groups))
    if len(order) < 2:
        raise ImageError(
            f"expected two images or more that differ, to train on one and test on another, got {len(groups)}"
            + (", which are near-twins of one another" if len(groups) > 1 else "")
        )
    members = [np.flatnonzero(groups == group) for group in order]
    tested = max(1, round(TEST_RATIO * len(order)))
    pool, test = (np.concatenate([np.empty(0, np.int64), *some]) for some in (members[tested:], members[:tested]))
    return pool, test


def _masked(folder: Path, ordered: float | None) -> tuple[list[str], list[tuple[list[Pixels], Labels]]]:
    """Images with their mask as a fourth channel, 0 or 255, of one class."""
    listed = folder / "duplicates.csv"
    dropped = {line.partition(",")[0] for line in listed.read_text().splitlines()[1:]} if listed.exists() else set()
    images = []
    for path in sorted((folder / "images").iterdir()):
        found = sorted((folder / "masks").glob(f"{path.stem}.*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in dropped and found:
            pixels, mask = load_image(path).pixels, load_image(found[0]).pixels[..., :1]
            if pixels.shape[:2] != mask.shape[:2]:
                raise ImageError(f"expected {found[0]} as large as {path}, got {mask.shape[:2]} for {pixels.shape[:2]}")
            mask = np.where(mask > 0, 255, 0).astype(np.uint8)
            images.append(np.concatenate([np.repeat(pixels, 3 // pixels.shape[-1], -1), mask], -1))
    if len(images) < 2:
        raise ImageError(f"expected images with masks in {folder}/images and {folder}/masks, got {len(images)}")
    if ordered is not None:
        tested = max(1, round(ordered * len(images)))
        return ["figure"], [(some, np.zeros(len(some), np.int64)) for some in (images[: -tested - 1], images[-tested:])]
    # Where twins are listed, what is left has none.
    groups = np.arange(len(images)) if listed.exists() else alike_groups([image[..., :3] for image in images])
    parts = [[images[i] for i in some] for some in _parted(groups, np.random.default_rng(0))]
    return ["figure"], [(some, np.zeros(len(some), dtype=np.int64)) for some in parts]


def _class_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise ImageError(f"expected a folder for each of two classes or more in {folder}, got {len(names)}")
    return names


def _images(folder: Path, names: Sequence[str]) -> tuple[list[Pixels], Labels]:
    images, labels = [], []
    for c, name in enumerate(names):
        paths = [path for path in (folder / name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
        if not paths:
            raise no_images(folder / name)
        with quiet_decoding():
            images += [_three(load_image(path).pixels) for path in sorted(paths)]
        labels += [c] * len(paths)
    return images, np.array(labels, dtype=np.int64)


def _three(pixels: Pixels) -> Pixels:
    """[H, W, C]."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _some_of_each(labels: Labels, most: int) -> Labels:
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:most] for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _sized(pixels: Pixels, protocol: Protocol) -> Pixels:
    """At the protocol's size; without one, as it is where crops are taken, else a square of the shorter side."""
    if protocol.size_px is None and protocol.crop_px is not None:
        return pixels
    side = protocol.size_px or min(pixels.shape[:2])
    if pixels.shape[:2] == (side, side):
        return pixels
    if pixels.shape[-1] < 4:
        return resize_pixels(pixels, (side, side))
    mask = resize_mask(pixels[..., 3].astype(np.int32), (side, side)).astype(np.uint8)
    return np.concatenate([resize_pixels(np.ascontiguousarray(pixels[..., :3]), (side, side)), mask[..., None]], -1)
