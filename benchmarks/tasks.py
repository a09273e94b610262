"""Other uses of a pyramid: super-resolution, harmonized, edited and filled images, animations; and costs."""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks._photos import images_in, opened, unit
from benchmarks._redrawn import PHOTOS, authors_cases, packaged_cases, redrawn
from benchmarks._result import Row, say, spread, write
from singan_aug import FitConfig, Pyramid, fast, fit, learned, paper, tasks
from singan_aug.images import to_pixels
from singan_aug.metrics import LpipsAlex, lpips
from singan_aug.pyramid.resample import resize

PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"
GALLERY = PAGE.parent / "images" / "tasks"
FACTORS = (2, 4)
CONFIGS: dict[str, Callable[[], FitConfig]] = {  # whose costs are measured; of `paper` a small one, hardly trained
    "fast": fast,
    "learned": learned,
    "paper, 64 px": lambda: paper(finest_px=64, steps_coarsest=10, steps_finer=10),
}


def main() -> None:
    """Measure, write the result; or make the gallery."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument(
        "--gallery", action="store_true", help="run the code of docs/tasks.md, which makes its pictures"
    )
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="photos to enlarge; default: the packaged ones")
    parser.add_argument("--limit", type=int, default=10, help="so many of them")
    parser.add_argument(
        "--authors", type=Path, help="folder of inputs/, editing/ and harmonization/ of SinGAN's authors"
    )
    parser.add_argument("--metrics", type=Path, help="folder of lpips_alex.safetensors; without it no LPIPS")
    parser.add_argument("--sheet", type=Path, help="an image to write: theirs, beside plain pasting and input")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.gallery:
        make_gallery()
        return
    network = None if arguments.metrics is None else LpipsAlex.load(arguments.metrics / "lpips_alex.safetensors")
    photos = images_in(arguments.photos)[: arguments.limit]
    rows = _enlarged("photos", photos, network)
    if arguments.authors is not None:
        rows += _enlarged("authors' inputs", images_in(arguments.authors / "inputs"), network)
        rows += redrawn(authors_cases(arguments.authors), network, arguments.sheet)
    rows += redrawn(packaged_cases(), network, GALLERY / "reference.jpg")
    rows += [row for name in CONFIGS for row in _costs(name)]
    write("tasks", rows, seeds=[0])


def make_gallery() -> None:
    """Run the Python blocks of the page where its pictures lie."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {}
    import os

    before = Path.cwd()
    os.chdir(GALLERY)
    try:
        for block in re.findall(r"^```python(?: no-run)?\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
            exec(block, names)
    finally:
        os.chdir(before)


# Super-resolution


def _enlarged(what: str, paths: list[Path], network: LpipsAlex | None) -> list[Row]:
    from skimage.measure import blur_effect
    from skimage.metrics import structural_similarity

    rows: list[Row] = []
    for factor in FACTORS:
        found: dict[str, dict[str, list[float]]] = {}
        for path in paths:
            whole = to_pixels(opened(path))
            sides = [side // factor * factor for side in whole.shape[:2]]
            truth = unit(Image.fromarray(whole[: sides[0], : sides[1]]))
            small = (resize(truth, (sides[0] // factor, sides[1] // factor)).clamp(0, 1) * 255).round() / 255
            pyramid, started_sec = fit(small[0], fast()), time.process_time()
            made = {"patches": tasks.super_resolution(pyramid, factor)}
            spent_sec = time.process_time() - started_sec
            made["bicubic"] = resize(small, (sides[0], sides[1])).clamp(0, 1)
            made["source"] = truth
            for name, image in made.items():
                own = found.setdefault(name, {})
                pixels = image[0].movedim(0, -1).numpy()
                own.setdefault("blur", []).append(float(blur_effect(pixels, channel_axis=2)))
                if name == "source":
                    continue
                own.setdefault("rmse", []).append(float((image - truth).square().mean().sqrt() * 255))
                alike = structural_similarity(pixels, truth[0].movedim(0, -1).numpy(), channel_axis=2, data_range=1)
                own.setdefault("ssim", []).append(float(alike))
                if network is not None:
                    own.setdefault("lpips", []).append(float(lpips(image, truth, network)))
            found["patches"].setdefault("process_sec", []).append(spent_sec)
            say(f"{path.stem} x{factor}")
        rows += [
            {"what": "super-resolution", "of": what, "factor": factor, "how": name}
            | {measure: spread(values) for measure, values in measures.items()}
            for name, measures in found.items()
        ]
    return rows


# Costs


def _costs(name: str) -> list[Row]:
    """Process seconds of each task on one packaged photo."""
    photo = opened(PHOTOS / "landscape.jpg")
    other = opened(PHOTOS / "dandelion.jpg")
    started_sec = time.process_time()
    pyramid = fit(photo, CONFIGS[name]())
    first: Row = {"what": "cost", "of": name, "task": "fit"}
    rows: list[Row] = [first | {"process_sec": round(time.process_time() - started_sec, 3)}]
    mask = np.zeros((photo.height, photo.width), bool)
    mask[photo.height // 3 : photo.height // 2, photo.width // 3 : photo.width // 2] = True
    pasted = to_pixels(photo).copy()
    pasted[mask] = to_pixels(other.resize(photo.size))[mask]
    runs: dict[str, Callable[[Pyramid], Tensor]] = {
        "sample": lambda own: tasks.sample(own, 1, (own.size[0], 2 * own.size[1])),
        "super_resolution x2": lambda own: tasks.super_resolution(own, 2),
        "super_resolution x4": lambda own: tasks.super_resolution(own, 4),
        "harmonize": lambda own: tasks.harmonize(own, pasted, mask),
        "edit": lambda own: tasks.edit(own, pasted, mask),
        "inpaint": lambda own: tasks.inpaint(own, photo, mask),
        "paint": lambda own: tasks.paint(own, other),
        "paint, 5 colours": lambda own: tasks.paint(own, other, colours=5),
        "style": lambda own: tasks.style(own, other),
        "animate": lambda own: tasks.animate(own),
        "interpolate": lambda own: tasks.interpolate(own, 0, 1, frames=30),
    }
    total_sec = 0.0
    for task, run in runs.items():
        started_sec = time.process_time()
        made = run(pyramid)
        spent_sec = time.process_time() - started_sec
        total_sec += spent_sec
        row: Row = {"what": "cost", "of": name, "task": task, "process_sec": round(spent_sec, 3)}
        if task == "animate":
            row |= _played(made)
        rows.append(row)
        say(f"{name}, {task}: {spent_sec:.2f} s")
    return [*rows, {"what": "cost", "of": name, "task": "all", "process_sec": round(total_sec, 2)}]


def _played(frames: Tensor) -> Row:
    """How large files of an animation are, and the step from its last picture to its first beside the others."""
    step = (frames.roll(-1, 0) - frames).abs().mean((1, 2, 3))
    row: Row = {"frames": len(frames), "wrap_ratio": round(float(step[-1] / step[:-1].median()), 3)}
    row["largest_ratio"] = round(float(step.max() / step.median()), 3)
    with tempfile.TemporaryDirectory() as place:
        for suffix in tasks.clips.CLIP_SUFFIXES:
            path = Path(place) / f"clip{suffix}"
            tasks.save_clip(frames, path)
            row[f"{suffix[1:]}_bytes"] = path.stat().st_size
    return row


if __name__ == "__main__":
    main()
