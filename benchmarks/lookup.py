"""Which image is this? What the perceptual index finds, misses and mistakes, and what a look-up costs."""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks._result import Row, say, spread, write
from singan_aug import draw, fast, fit_dataset, open_store
from singan_aug.lookup import Match, PerceptualIndex
from singan_aug.store import Manifest, Store, fingerprint

PACKAGED = Path(__file__).parent.parent / "singan_aug" / "photos"
ENTRIES = 10_000  # of the synthetic store
WHOLE = (0.0, 0.0, 1.0, 1.0)

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Query:
    """An altered photo, and what should be said of it."""

    pixels: Pixels
    box: Box = WHOLE
    colours: str = "rgb"


def _pil(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def _array(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _resized(pixels: Pixels, height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> Pixels:
    return _array(_pil(pixels).resize((width, height), how))


def _by(ratio: float, how: Image.Resampling = Image.Resampling.BILINEAR) -> Callable[..., Query]:
    return lambda p, _: Query(_resized(p, round(p.shape[0] * ratio), round(p.shape[1] * ratio), how))


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    _pil(pixels).save(file, "JPEG", quality=quality)
    return _array(Image.open(file))


def _grey(pixels: Pixels) -> Pixels:
    return _array(_pil(pixels).convert("L"))


def _colour(pixels: Pixels, change: str) -> str:
    return change if pixels.shape[-1] == 3 else "rgb"


def _crop(
    pixels: Pixels, rng: np.random.Generator, least: float, most: float, aspect: float = 1.0
) -> tuple[Pixels, Box]:
    """A crop of `least` to `most` of the area, its aspect changed by up to a factor."""
    height, width = pixels.shape[:2]
    while True:
        area, stretch = rng.uniform(least, most), aspect ** rng.uniform(-1, 1)
        h, w = round(height * (area * stretch) ** 0.5), round(width * (area / stretch) ** 0.5)
        if h <= height and w <= width and least <= h * w / (height * width) <= most:
            break
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    box = (top / height, left / width, (top + h) / height, (left + w) / width)
    return pixels[top : top + h, left : left + w], box


def _centre_crop(pixels: Pixels) -> Query:
    height, width = pixels.shape[:2]
    top, left = round(height * 0.07), round(width * 0.07)
    box = (top / height, left / width, 1 - top / height, 1 - left / width)
    return Query(pixels[top : height - top, left : width - left], box)


def _resized_crop(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Box]:
    """As RandomResizedCrop(224, scale=(0.7, 1)) makes, at the photo's own size."""
    cut, box = _crop(pixels, rng, 0.7, 1, 4 / 3)
    side = min(pixels.shape[:2])
    return _resized(cut, side, side), box


def _all_at_once(pixels: Pixels, rng: np.random.Generator) -> Query:
    cut, box = _resized_crop(pixels, rng)
    return Query(_jpeg(_grey(cut), 80), box, _colour(pixels, "grey"))


def _bgr_crop(pixels: Pixels, rng: np.random.Generator) -> Query:
    cut, box = _resized_crop(pixels, rng)
    return Query(cut[..., ::-1], box, _colour(pixels, "bgr"))


SHOULD_BE_FOUND: dict[str, Callable[[Pixels, np.random.Generator], Query]] = {
    "resize to 0.5": _by(0.5),
    "resize to 1.3": _by(1.3, Image.Resampling.BICUBIC),
    "resize to 0.7, nearest": _by(0.7, Image.Resampling.NEAREST),
    "resize to a square": lambda p, _: Query(_resized(p, 160, 160)),
    "centre crop of 74 %": lambda p, _: _centre_crop(p),
    "crop of 70 to 75 %": lambda p, rng: Query(*_crop(p, rng, 0.7, 0.75)),
    "crop of 70 to 100 %": lambda p, rng: Query(*_crop(p, rng, 0.7, 1)),
    "RandomResizedCrop(0.7, 1)": lambda p, rng: Query(*_resized_crop(p, rng)),
    "grey": lambda p, _: Query(_grey(p), WHOLE, _colour(p, "grey")),
    "BGR": lambda p, _: Query(p[..., ::-1], WHOLE, _colour(p, "bgr")),
    "JPEG 75": lambda p, _: Query(_jpeg(p, 75)),
    "JPEG 90": lambda p, _: Query(_jpeg(p, 90)),
    "RandomResizedCrop, BGR": _bgr_crop,
    "RandomResizedCrop, grey, JPEG 80": _all_at_once,
}


def _covered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    out = pixels.copy()
    h, w = pixels.shape[0] // 5, pixels.shape[1] // 5
    top, left = int(rng.integers(pixels.shape[0] - h)), int(rng.integers(pixels.shape[1] - w))
    out[top : top + h, left : left + w] = 255 * (out[top : top + h, left : left + w].mean() < 128)
    return out


def _warped(pixels: Pixels, rng: np.random.Generator, ratio: float = 0.02) -> Pixels:
    """Every place moved by about 2 % of the short side, smoothly: much as in another frame of a film."""
    height, width = pixels.shape[:2]
    field = [Image.fromarray(rng.standard_normal((4, 4)).astype(np.float32)) for _ in range(2)]
    moves = [
        np.asarray(f.resize((width, height), Image.Resampling.BICUBIC)) * ratio * min(height, width) for f in field
    ]
    rows = np.clip(np.arange(height)[:, None] + moves[0], 0, height - 1).round().astype(int)
    columns = np.clip(np.arange(width) + moves[1], 0, width - 1).round().astype(int)
    return np.asarray(pixels[rows, columns])


def _rounded(levels: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.rint(np.clip(levels, 0, 255)), dtype=np.uint8)


def _contrast(pixels: Pixels, gain: float) -> Pixels:
    return _rounded((pixels - pixels.mean()) * gain + pixels.mean())


SHOULD_BE_REFUSED: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "crop of 30 to 60 %": lambda p, rng: _crop(p, rng, 0.3, 0.6)[0],
    "crop of 60 to 67 %": lambda p, rng: _crop(p, rng, 0.6, 0.67)[0],
    "turned by 2 degrees": lambda p, _: _array(_pil(p).rotate(2, Image.Resampling.BILINEAR)),
    "turned by 10 degrees": lambda p, _: _array(_pil(p).rotate(10, Image.Resampling.BILINEAR)),
    "brightened by 10 %": lambda p, _: _rounded(p * 1.1),
    "contrast lowered by 15 %": lambda p, _: _contrast(p, 0.85),
    "inverted": lambda p, _: 255 - p,
    "4 % covered": _covered,
    "warped by 2 %": _warped,
    "mixed with itself reversed, 20 %": lambda p, _: _rounded(0.8 * p + 0.2 * p[::-1, ::-1]),
}


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", default=[PACKAGED], help="folders, of any depth")
    parser.add_argument("--limit", type=int, default=2000, help="photos of each folder; every other one is stored")
    parser.add_argument("--queries", type=int, default=200, help="stored photos to alter, of each folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folders = {folder.name: _photos(folder)[: options.limit] for folder in options.photos}
    with tempfile.TemporaryDirectory() as place:
        stored = [path for paths in folders.values() for path in paths[::2]]
        say(f"fitting {len(stored)} photos")
        report = fit_dataset(stored, place, fast())
        say(f"{len(report.failed)} could not be fitted")
        store = open_store(place)
        index = PerceptualIndex(store)
        known = {key[:32] for key in store.keys()}
        rows: list[Row] = []
        for folder, paths in folders.items():
            rows += _rows_of_photos(folder, paths, index, store, known, options.queries, options.seed)
    write("lookup", [*rows, _row_of_cost(options.seed)], seeds=[options.seed])


def _photos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})


def _opened(path: Path) -> Pixels:
    image = Image.open(path)
    pixels = _array(image if image.mode == "L" else image.convert("RGB"))
    grey = pixels.shape[-1] == 3 and (pixels == pixels[..., :1]).all()
    return np.ascontiguousarray(pixels[..., :1] if grey else pixels)


def _rows_of_photos(
    folder: str, paths: list[Path], index: PerceptualIndex, store: Store, known: set[str], queries: int, seed: int
) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    photos = [(path, pixels, fingerprint(pixels)) for path in paths[::2] for pixels in [_opened(path)]]
    photos = [photo for photo in photos if photo[2].digest in known]
    chosen = [photos[i] for i in rng.permutation(len(photos))[:queries]]
    for name, alter in SHOULD_BE_FOUND.items():
        right, wrong, ious = 0, 0, []
        for path, pixels, identity in chosen:
            query = alter(pixels, rng)
            match = index.find(query.pixels)
            if match is None:
                continue
            overlap = _iou(match.box, query.box)
            same = (match.fingerprint, match.turn_code) == (identity.digest, identity.turn_code)
            if same and match.colours == query.colours and overlap > 0.9:
                right += 1
                ious.append(overlap)
            else:
                wrong += 1
                say(f"wrong: {folder} {path.name}, {name}: {match}")
        say(f"{folder}, {name}: {right} found, {len(chosen) - right - wrong} missed, {wrong} wrong")
        yield {
            "what": "should be found",
            "folder": folder,
            "alteration": name,
            "photos": len(chosen),
            "found": right,
            "missed": len(chosen) - right - wrong,
            "wrong": wrong,
            "box_iou": spread(ious) if ious else None,
            "box_iou_least": round(min(ious), 4) if ious else None,
        }
    for name, spoil in SHOULD_BE_REFUSED.items():
        taken = [path.name for path, pixels, _ in chosen if index.find(np.ascontiguousarray(spoil(pixels, rng)))]
        yield _refusals(folder, name, len(chosen), taken)
    taken = []
    for path, _, identity in chosen[:50]:
        pyramid = store.load(str(store.latest(identity.digest)))
        variant = draw(pyramid, start_scale=min(2, len(pyramid) - 1), seed=seed)[0]
        if index.find((variant * 255).round().byte().movedim(0, -1).numpy()):
            taken.append(path.name)
    yield _refusals(folder, "variant from start scale 2", len(chosen[:50]), taken)
    taken, others = [], 0
    for path in paths[1::2]:
        pixels = _opened(path)
        if fingerprint(pixels).digest not in known:
            others += 1
            match = index.find(pixels)
            if match is not None:
                taken.append(f"{path.name} as {_name(store, match)}")
    yield _refusals(folder, "another photo", others, taken)


def _refusals(folder: str, name: str, count: int, taken: list[str]) -> Row:
    say(f"{folder}, {name}: {len(taken)} of {count} taken for a stored photo {taken[:5]}")
    return {
        "what": "should be refused",
        "folder": folder,
        "alteration": name,
        "photos": count,
        "taken": len(taken),
        "refused": count - len(taken),
    }


def _name(store: Store, match: Match) -> str:
    return store.manifest(store.find(match.fingerprint)[0]).name


def _iou(one: Box, other: Box) -> float:
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(height, 0.0) * max(width, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _row_of_cost(seed: int, side: int = 224) -> Row:
    """Of a store of 10,000 images of 1/f noise, with manifests and no weights."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as place:
        report = fit_dataset([PACKAGED], place, fast(finest_px=64), limit=1)
        store = open_store(place)
        sources = _synthetic(store.manifest(report.outcomes[0].key), Path(place), rng)
        say(f"{ENTRIES} manifests written")
        seconds = []
        for _ in ("from the manifests", "from the file made of them"):
            started_sec = time.process_time()
            index = PerceptualIndex(open_store(place))
            count = len(index)
            seconds.append(time.process_time() - started_sec)
        hits: list[float] = []
        misses: list[float] = []
        found = 0
        for source in sources:
            pixels = np.repeat(_resized(source, side, side), 3, axis=-1)
            query = np.ascontiguousarray(_resized_crop(pixels, rng)[0])
            stranger = np.repeat(_resized(_noise(rng), side, side), 3, axis=-1)
            for image, times in ((query, hits), (stranger, misses)):
                index.find(image)  # warm-up
                started_sec = time.process_time()
                match = index.find(image)
                times.append((time.process_time() - started_sec) * 1000)
                found += match is not None and image is query
    return {
        "what": "cost",
        "entries": count,
        "query_px": side,
        "found_ratio": found / len(sources),
        "found_ms": spread(hits),
        "missed_ms": spread(misses),
        "mapped_bytes": index.mapped_bytes,
        "first_opening_sec": round(seconds[0], 3),
        "opening_sec": round(seconds[1], 3),
    }


def _noise(rng: np.random.Generator, side: int = 60) -> Pixels:
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) + 1 / side
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / frequency**1.2).real
    levels = rng.uniform(80, 170) + noise / noise.std() * rng.uniform(25, 60)
    return _rounded(levels)[..., None]


def _synthetic(manifest: Manifest, place: Path, rng: np.random.Generator) -> list[Pixels]:
    """Write manifests of noise images into a store's folder; the first two hundred images."""
    kept = []
    tints = bytes([128]) * (len(base64.b64decode(manifest.descriptor)) - 60 * 60)
    for number in range(ENTRIES):
        pixels = _noise(rng)
        key = f"{rng.bytes(16).hex()}{manifest.key[32:]}"
        descriptor = base64.b64encode(pixels.tobytes() + tints).decode()
        entry = place / "pyramids" / key[:2] / key
        entry.mkdir(parents=True)
        changed = manifest.model_copy(update={"key": key, "fingerprint": key[:32], "descriptor": descriptor})
        (entry / "manifest.json").write_text(changed.to_json())
        if number < 200:
            kept.append(pixels)
    return kept


if __name__ == "__main__":
    main()
