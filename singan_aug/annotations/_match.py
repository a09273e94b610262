"""Which annotation belongs to which image: the one rule of all layouts.

An annotation goes to the image whose path has the longest end in common with its own. Where two could be meant, by one
image or by one annotation, it goes to none of them, and the message names both.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

__all__ = [
    "EXACT",
    "Matched",
    "Parts",
    "Place",
    "common_end",
    "counted",
    "match",
    "of_two_images",
    "parts_of",
    "places",
    "two_of_one_image",
]

EXACT = 1_000_000  # the score of an annotation that says outright which file it means

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Matched:
    """Which belongs to which. Annotations are given by their number."""

    of: Mapping[Path, int]  # by image
    unclear: Mapping[Path, str]  # images of which nobody can say which annotation is theirs, and why
    unclaimed: tuple[int, ...]  # annotations that no image has


@dataclass(frozen=True)
class Place:
    """Where an image is."""

    parts: Parts  # of its absolute path
    depth: int  # how many of them lie below the folder of the dataset

    @property
    def below(self) -> Parts:
        """Its path below the folder of the dataset."""
        return self.parts[-self.depth :]

    @property
    def stem(self) -> Place:
        """The same without the suffix."""
        return Place((*self.parts[:-1], Path(self.parts[-1]).stem), self.depth)


def places(images: Iterable[Path], roots: Iterable[Path]) -> dict[Path, Place]:
    """Where images are that were found below these folders, or are these files."""
    tops = [root if root.is_dir() else root.parent for root in roots]
    found = {}
    for image in images:
        depth = next((len(image.relative_to(top).parts) for top in tops if image.is_relative_to(top)), 1)
        found[image] = Place(parts_of(os.path.abspath(image)), depth)  # noqa: PTH100 (links stay as they are named)
    return found


def parts_of(path: str) -> Parts:
    """Folders and name, in Unicode's composed form: file systems and JSON may spell one name in two ways."""
    return tuple(part for part in unicodedata.normalize("NFC", path).split("/") if part not in ("", "."))


def common_end(one: Parts, other: Parts) -> int:
    """How many parts at the end of two paths are equal."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False)))


def match(
    names: Sequence[Parts],  # of the annotations
    images: Mapping[Path, Parts],
    score: Callable[[int, Path], int],  # how well an annotation fits an image of those with the longest common end
    describe: Callable[[int], str],  # an annotation, for messages
    what: str,  # such as "mask", for messages
) -> Matched:
    """Give each annotation to the image that it fits best, the best fits first. A score of 0 is no fit."""
    by_end: defaultdict[Parts, list[Path]] = defaultdict(list)
    for image, parts in images.items():
        for end in {parts[-1:], parts[-2:]}:
            by_end[end].append(image)
    best: defaultdict[int, list[tuple[int, list[Path]]]] = defaultdict(list)  # by score
    unclaimed = []
    for number, parts in enumerate(names):
        scored = [(score(number, image), image) for image in _nearest(parts, images, by_end)]
        top = max((value for value, _ in scored), default=0)
        if top > 0:
            best[top].append((number, [image for value, image in scored if value == top]))
        else:
            unclaimed.append(number)
    of: dict[Path, int] = {}
    unclear: dict[Path, str] = {}
    for top in sorted(best, reverse=True):
        wanted: defaultdict[Path, list[int]] = defaultdict(list)
        settled = {*of, *unclear}
        for number, fitting in best[top]:
            left = [image for image in fitting if image not in settled]
            if not left:
                unclaimed.append(number)
            elif len(fitting) > 1:
                unclear |= dict.fromkeys(left, of_two_images(what, describe(number), fitting))
            for image in left:
                wanted[image].append(number)
        for image, numbers in wanted.items():
            if image not in unclear and len(numbers) == 1:
                of[image] = numbers[0]
            elif image not in unclear:
                unclear[image] = two_of_one_image(what, image, [describe(number) for number in numbers])
    return Matched(of, unclear, tuple(sorted(unclaimed)))


def _nearest(name: Parts, images: Mapping[Path, Parts], by_end: Mapping[Parts, list[Path]]) -> list[Path]:
    """The images whose paths have the longest end in common with a name."""
    found = by_end.get(name[-2:], []) if len(name) > 1 else []
    depth = 2 if found else 1
    found = found or (by_end.get(name[-1:], []) if name else [])
    while len(found) > 1 and depth < len(name):
        depth += 1
        nearer = [image for image in found if images[image][-depth:] == name[-depth:]]
        if not nearer:
            break
        found = nearer
    return found


def of_two_images(what: str, annotation: str, images: Sequence[Path]) -> str:
    """The message where one annotation may be of several images."""
    return (
        f"expected the {what} of one image, but {annotation} may be of {images[0]} or of {images[1]}: name it with its "
        "folders, or give the images names of their own"
    )


def two_of_one_image(what: str, image: Path, annotations: Sequence[str]) -> str:
    """The message where one image may have several annotations."""
    more = f" and {len(annotations) - 2} more" if len(annotations) > 2 else ""
    return f"expected one {what} of {image}, got {annotations[0]} and {annotations[1]}{more}: leave one of them"


def counted(number: int, noun: str) -> str:
    """1 record, 2 records."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
