"""Damaged input: every bit of a store's files flipped, and readers fed with what a fuzzer makes of valid files."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks._result import Row, say
from singan_aug import fast, fit, learned
from singan_aug.annotations import Coco, read_coco, read_yolo
from singan_aug.bank import Bank, draw_bank
from singan_aug.config import FitConfig
from singan_aug.errors import SinGANAugError, StoreError
from singan_aug.images import Pixels
from singan_aug.store import DirectoryStore, EntryStore, Manifest, make_key

__all__ = ["flip_bank", "flip_entries", "fuzz", "picture", "readers"]

SIZE = (20, 28)
MEMORY_BYTES = 6 * 2**30  # that a reader may take, with torch and all it maps
FILES = ("manifest.json", "pyramid.safetensors")


def picture(number: int = 0, size: tuple[int, int] = SIZE) -> Pixels:
    """Smooth noise, 8 bits, [height, width, 3]."""
    small = np.random.default_rng(number).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def _kinds() -> dict[str, tuple[FitConfig, bool]]:
    brief = {"coarsest_px": 14, "steps_coarsest": 4, "width": 4}
    generated = learned(**brief)
    return {
        "copied": (fast(coarsest_px=14), False),
        "copied, with a mask": (fast(coarsest_px=14), True),
        "generated and copied": (generated, False),
    }


class _InMemory(EntryStore):
    """One entry, of which files can be exchanged quickly."""

    def __init__(self, key: str, files: dict[str, bytes]) -> None:
        self.location, self.key, self.held = "memory", key, dict(files)

    def keys(self) -> Iterator[str]:
        return iter([self.key])

    def read(self, key: str, file_name: str, limit_bytes: int) -> bytes:
        del key
        return self.held[file_name][:limit_bytes]

    def put(self, key: str, manifest: bytes, weights: bytes) -> None:
        del key
        self.held = {"manifest.json": manifest, "pyramid.safetensors": weights}

    def remove(self, key: str) -> None:
        del key
        self.held = {}


def _entry(config: FitConfig, masked: bool) -> _InMemory:
    pixels = picture()
    mask = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 100) % 3 if masked else None
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(folder)
        key = str(make_key(pixels, config, mask))
        store.save(make_key(pixels, config, mask), fit(pixels, config, mask=mask), name="a.png")
        _, manifest, weights = store.files(key)
    return _InMemory(key, {"manifest.json": manifest, "pyramid.safetensors": weights})


def flip_entries(every: int) -> list[Row]:
    """Each bit (or one of `every`) of the two files of each kind of entry flipped: which flips does loading notice?"""
    rows = []
    for kind, (config, masked) in _kinds().items():
        store = _entry(config, masked)
        rows += [_flip_file(store, name, kind, every) for name in FILES]
    return rows


def _flip_file(store: _InMemory, name: str, kind: str, every: int) -> Row:
    whole = store.held[name]
    counts: Counter[str] = Counter()
    for bit in range(0, 8 * len(whole), every):
        store.held[name] = _flipped(whole, bit)
        seen = {_outcome(partial(read, store.key), StoreError) for read in (store.check, store.load)}
        counts["crashed" if "crashed" in seen else "unnoticed" if "unnoticed" in seen else "noticed"] += 1
    store.held[name] = whole
    return _row(f"bits flipped: {name} of an entry, {kind}", counts, bytes=len(whole), every=every)


def _flipped(whole: bytes, bit: int) -> bytes:
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def flip_bank(every: int) -> Row:
    """The same of a bank: a flip is noticed when it is refused, or the variant counts as broken."""
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(folder)
        pixels, config = picture(), fast(coarsest_px=14)
        store.save(make_key(pixels, config), fit(pixels, config))
        draw_bank(store, variants=1, start_scale=(0,), jobs=1)
        whole = store.bank_path.read_bytes()

        def check() -> None:
            _, _, broken = Bank(store).check()
            if broken:
                raise StoreError("a variant is broken")

        counts: Counter[str] = Counter()
        for bit in range(0, 8 * len(whole), every):
            store.bank_path.write_bytes(_flipped(whole, bit))
            counts[_outcome(check, StoreError)] += 1
        return _row("bits flipped: bank", counts, bytes=len(whole), every=every)


def _outcome(act: Callable[[], Any], expected: type[Exception]) -> str:
    try:
        act()
    except expected:
        return "noticed"
    except Exception as error:
        say(f"{type(error).__name__}: {error}")
        return "crashed"
    return "unnoticed"


def _row(what: str, counts: Counter[str], **facts: Any) -> Row:
    return {
        "what": what,
        "tried": counts.total(),
        **{n: counts[n] for n in ("noticed", "unnoticed", "crashed")},
        **facts,
    }


def _mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """Bytes exchanged, left out, doubled and inserted, at a few places."""
    edit = st.tuples(st.integers(0, len(valid)), st.integers(0, 64), st.binary(max_size=16))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = valid
        for place, length, put in edits:
            data = data[:place] + put + data[place + length :]
        return data

    words = [b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b"18446744073709551616", b'"\\ud800"', b"[" * 5000]
    put = st.one_of(st.binary(max_size=16), st.sampled_from(words))
    word = st.tuples(st.integers(0, len(valid)), st.integers(0, 64), put)
    return st.lists(st.one_of(edit, word), min_size=1, max_size=6).map(apply)


def readers(folder: Path) -> dict[str, tuple[bytes, Callable[[bytes], Any]]]:
    """Of each reader a file that it takes, and a function that reads other bytes in its place."""
    store = _entry(*_kinds()["copied, with a mask"])
    manifest, weights = store.held["manifest.json"], store.held["pyramid.safetensors"]
    read = Manifest.from_json(manifest.decode(), "fuzzed")

    def read_manifest(data: bytes) -> None:
        store.held["manifest.json"] = _resealed(data)
        store.manifest(store.key)

    def read_weights(data: bytes) -> None:
        from singan_aug.store._codec import decode

        decode(data, read, "fuzzed")

    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 28}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 8], "iscrowd": 0,
             "segmentation": [[1, 2, 10, 2, 10, 10, 1, 10]]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 28, 20], "iscrowd": 1,
             "segmentation": {"size": [20, 28], "counts": [100, 60, 400]}},
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }  # fmt: skip

    def written(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    def read_all_of_coco(data: bytes) -> None:
        found: Coco = read_coco(written("fuzzed.json", data))
        for image in found.images:
            found.shapes(image, SIZE)

    def read_bank(data: bytes) -> None:
        bank_store.bank_path.write_bytes(data)
        Bank(bank_store).check()

    bank_store = DirectoryStore(folder / "store")
    pixels, config = picture(), fast(coarsest_px=14)
    bank_store.save(make_key(pixels, config), fit(pixels, config))
    draw_bank(bank_store, variants=1, start_scale=(0,), jobs=1)
    yolo = b"0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n1 0.5 0.5 0.25 0.25\n"
    return {
        "manifest": (manifest, read_manifest),
        "weights": (weights, read_weights),
        "bank": (bank_store.bank_path.read_bytes(), read_bank),
        "COCO": (json.dumps(coco).encode(), read_all_of_coco),
        "YOLO": (yolo, lambda data: read_yolo(written("fuzzed.txt", data), SIZE)),
    }


def _resealed(data: bytes) -> bytes:
    """With the checksum that fits where it is still JSON: or nothing behind the checksum would ever be reached."""
    from singan_aug.store._manifest import _guarded

    try:
        values = json.loads(data)
        values.pop("manifest_checksum", None)
        return _guarded(values).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data


def fuzz(minutes: float, first_seed: int) -> list[Row]:
    """Each reader fed for so long: whatever it raises that is not this package's own error is a crash."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (valid, read) in readers(Path(folder)).items():
            counts: Counter[str] = Counter()
            ends = time.monotonic() + 60 * minutes
            number = first_seed
            while time.monotonic() < ends:
                _fuzz_once(valid, read, counts, number)
                number += 1
            rows.append(_row(f"fuzzed: {name}", counts, minutes=minutes, memory_limit_bytes=MEMORY_BYTES))
            say(json.dumps(rows[-1]))
    return rows


def _fuzz_once(valid: bytes, read: Callable[[bytes], Any], counts: Counter[str], number: int) -> None:
    @seed(number)
    @settings(
        max_examples=500, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(_mutated(valid))
    def run(data: bytes) -> None:
        counts[_outcome(lambda: read(data), SinGANAugError)] += 1

    run()
