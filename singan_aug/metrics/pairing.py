"""Which files belong together: of each source image its fakes, by their names."""

from __future__ import annotations

from pathlib import Path

from singan_aug.errors import ImageError
from singan_aug.images import IMAGE_SUFFIXES, no_images

__all__ = ["pair_files"]


def pair_files(real: Path, fake: Path) -> tuple[dict[Path, list[Path]], list[Path]]:
    """Of each real image its fakes, and the fakes that belong to none.

    Each of the two is an image or a folder of them, subfolders included. All fakes belong to a real image that is named
    outright. In a folder a fake belongs to the real image in the same subfolder whose stem is its own, else whose
    number is its own (1.png and 001.jpg), else whose stem, the longest one, its own continues with "_", as
    `singan-aug draw` names variants; else to the real image that one of its folders is named after (cat/0.png after
    cat.jpg); else, by the same rules, to one in any subfolder, if there is one only. Masks of variants are no fakes.

    Raises `ImageError` where there are no images, two reals of one stem in one folder, or no pair.
    """
    fakes = [path for path in _images(fake, but=real) if not _is_mask(path)]
    if not real.is_dir():
        return {real: fakes}, []
    reals = _Reals(real, _images(real, but=fake))
    pairs: dict[Path, list[Path]] = {}
    alone = []
    for path in fakes:
        found = reals.of(path.relative_to(fake) if fake.is_dir() else Path(path.name))
        if found is None:
            alone.append(path)
        else:
            pairs.setdefault(found, []).append(path)
    if not pairs:
        raise ImageError(
            f"expected files in {fake} named after those in {real}, such as a_0.png after a.jpg, got none: "
            "name one real image outright to compare all with it"
        )
    return dict(sorted(pairs.items())), alone


class _Reals:
    """The real images of a folder, by subfolder and stem."""

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self._stems: dict[Path, dict[str, Path]] = {}
        everywhere: dict[str, list[Path]] = {}
        for path in paths:
            stems = self._stems.setdefault(path.parent.relative_to(folder), {})
            if path.stem in stems:
                raise ImageError(
                    f"expected one image for each stem, got {stems[path.stem].name} and {path.name} in {path.parent}"
                )
            stems[path.stem] = path
            everywhere.setdefault(path.stem, []).append(path)
        self._unique = {stem: found[0] for stem, found in everywhere.items() if len(found) == 1}

    def of(self, name: Path) -> Path | None:
        """That a fake of this path, below the folder of fakes, belongs to."""
        found = _named_after(name.stem, self._stems.get(name.parent, {}))
        for folder in name.parents:
            found = found or self._stems.get(folder.parent, {}).get(folder.name)
        return found or _named_after(name.stem, self._unique)


def _named_after(stem: str, reals: dict[str, Path]) -> Path | None:
    if stem in reals:
        return reals[stem]
    if stem.isdecimal():
        for other, path in reals.items():
            if other.isdecimal() and int(other) == int(stem):
                return path
    parts = stem.split("_")
    stems = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((reals[each] for each in stems if each in reals), None)


def _images(path: Path, *, but: Path) -> list[Path]:
    """Of a folder and its subfolders, leaving out the other folder where it lies within; or the file that it is."""
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES)
    if path.resolve() in but.resolve().parents:
        found = [each for each in found if but.resolve() not in each.resolve().parents]
    if not found:
        raise no_images(path)
    return found


def _is_mask(path: Path) -> bool:
    """Whether it is the mask beside a variant, as `singan-aug draw` writes them."""
    return path.stem.endswith("_mask") and path.with_stem(path.stem.removesuffix("_mask")).exists()
