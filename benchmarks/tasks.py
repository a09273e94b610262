"""Other uses of a pyramid: super-resolution, harmonized, edited and filled images, animations, panoramas; and costs."""

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

import singan_aug
from benchmarks._photos import images_in, opened, unit
from benchmarks._result import Row, say, spread, write
from singan_aug import Pyramid, fast, fit, tasks
from singan_aug.images import resize_pixels, to_pixels
from singan_aug.metrics import LpipsAlex, lpips
from singan_aug.pyramid.copied.region import grown
from singan_aug.pyramid.resample import resize

PHOTOS = Path(singan_aug.__file__).parent / "photos"
PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"
GALLERY = PAGE.parent / "images" / "tasks"
FACTORS = (2, 4)
PATCH_PX = 7
REACH_PX = 4  # of patches whose middle is so near to the edge of a mask, the distance to the source counts
LOOKED_AT = 300  # of these patches, at most
WIDE = (250, 3000)


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
        rows += _redrawn(arguments.authors, network)
    rows += [*_costs(), _panorama()]
    write("tasks", rows, seeds=[0])


def make_gallery() -> None:
    """Run the Python blocks of the page where its pictures lie."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {}
    import os

    before = Path.cwd()
    os.chdir(GALLERY)
    try:
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
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


# Inputs of SinGAN's authors


def _redrawn(folder: Path, network: LpipsAlex | None) -> list[Row]:
    rows = []
    for task, name in (("edit", "stone"), ("edit", "tree"), ("harmonize", "starry_night"), ("harmonize", "tree")):
        place = folder / {"edit": "editing", "harmonize": "harmonization"}[task]
        stem = {"edit": f"{name}_edit", "harmonize": name if name == "tree" else f"{name}_naive"}[task]
        given, mask = (opened(next(place.glob(f"{stem}{end}.*"))) for end in ("", "_mask"))
        source = given if (task, name) == ("harmonize", "tree") else opened(folder / "inputs" / f"{name}.png")
        pyramid = fit(source, fast())
        started_sec = time.process_time()
        made = getattr(tasks, task)(pyramid, given, mask)
        spent_sec = time.process_time() - started_sec
        region = torch.from_numpy(resize_pixels(to_pixels(mask), pyramid.size).max(-1) > 127)
        plain = unit(Image.fromarray(resize_pixels(to_pixels(given), pyramid.size)))
        own = unit(Image.fromarray(resize_pixels(to_pixels(source), pyramid.size)))
        rows.append(
            _compared(task, name, {"plain": plain, "task": made, "input": own}, own, region, network, spent_sec)
        )
        say(f"{task} {name}")
    for name, hole in (("stone", (60, 110, 20, 60)), ("trees3", (30, 110, 20, 60)), ("cows", (90, 135, 60, 130))):
        rows.append(_filled(opened(folder / "inputs" / f"{name}.png"), name, hole, network))
        say(f"inpaint {name}")
    return rows


def _filled(source: Image.Image, name: str, hole: tuple[int, int, int, int], network: LpipsAlex | None) -> Row:
    from skimage.restoration import inpaint_biharmonic

    pyramid = fit(source, fast())
    own = unit(Image.fromarray(resize_pixels(to_pixels(source), pyramid.size)))
    region = torch.zeros(pyramid.size, dtype=torch.bool)
    region[hole[0] : hole[1], hole[2] : hole[3]] = True
    started_sec = time.process_time()
    made = tasks.inpaint(pyramid, own[0], region)
    spent_sec = time.process_time() - started_sec
    smooth = inpaint_biharmonic(own[0].movedim(0, -1).numpy(), region.numpy(), channel_axis=-1)
    plain = torch.from_numpy(np.clip(smooth, 0, 1)).float().movedim(-1, 0)[None]
    return _compared("inpaint", name, {"plain": plain, "task": made, "input": own}, own, region, network, spent_sec)


def _compared(
    task: str,
    name: str,
    pictures: dict[str, Tensor],
    source: Tensor,
    region: Tensor,
    network: LpipsAlex | None,
    spent_sec: float,
) -> Row:
    row: Row = {
        "what": task,
        "image": name,
        "process_sec": round(spent_sec, 3),
        "mask_share": float(region.float().mean()),
    }
    row |= {f"{which}_edge": _edge_distance(picture, source, region) for which, picture in pictures.items()}
    reach = {"harmonize": 7, "edit": 10, "inpaint": 2}[task]
    given = pictures["input" if task == "inpaint" else "plain"]
    outside = torch.where(grown(region, reach), given, pictures["task"])
    row["changed_outside"] = float((outside - given).abs().max())
    if network is not None:
        row["lpips_outside"] = float(lpips(outside, given, network))
        row |= {f"{which}_lpips": float(lpips(pictures[which], source, network)) for which in ("plain", "task")}
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def _edge_distance(picture: Tensor, source: Tensor, region: Tensor) -> float:
    """Mean root mean square difference, in 8-bit steps, of patches at a mask's edge from the most similar ones of the
    source that do not overlap them."""
    edge = grown(region, REACH_PX) & grown(~region, REACH_PX)
    half = PATCH_PX // 2
    edge[:half], edge[-half:], edge[:, :half], edge[:, -half:] = False, False, False, False
    shown, known = (torch.nn.functional.unfold(each, PATCH_PX, padding=half)[0].T for each in (picture, source))
    height, width = region.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inner = (rows >= half) & (rows < height - half) & (columns >= half) & (columns < width - half)
    places = inner.flatten().nonzero()[:, 0]
    found = []
    looked_at = edge.flatten().nonzero()[:, 0]
    for some in looked_at[:: len(looked_at) // LOOKED_AT + 1].split(128):
        apart = torch.cdist(shown[some], known[places])
        near = ((some // width)[:, None] - places // width).abs() < PATCH_PX
        near &= ((some % width)[:, None] - places % width).abs() < PATCH_PX
        found.append(apart.masked_fill(near, torch.inf).amin(1))
    return float(torch.cat(found).mean() * 255 / known.shape[1] ** 0.5)


# Costs


def _costs() -> list[Row]:
    """Process seconds of each task on one packaged photo."""
    photo = opened(PHOTOS / "landscape.jpg")
    other = opened(PHOTOS / "dandelion.jpg")
    started_sec = time.process_time()
    pyramid = fit(photo, fast())
    rows: list[Row] = [{"what": "cost", "task": "fit", "process_sec": round(time.process_time() - started_sec, 3)}]
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
    for name, run in runs.items():
        started_sec = time.process_time()
        made = run(pyramid)
        spent_sec = time.process_time() - started_sec
        total_sec += spent_sec
        row: Row = {"what": "cost", "task": name, "process_sec": round(spent_sec, 3)}
        if name == "animate":
            row |= _played(made)
        rows.append(row)
        say(f"{name}: {spent_sec:.2f} s")
    return [*rows, {"what": "cost", "task": "all", "process_sec": round(total_sec, 2)}]


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


def _panorama() -> Row:
    """What a wide canvas takes, and how even it is from column to column."""
    pyramid = fit(opened(PHOTOS / "landscape.jpg"), fast())
    started_sec = time.process_time()
    made = tasks.sample(pyramid, 1, WIDE, start_scale=1)
    row: Row = {"what": "panorama", "size": f"{WIDE[1]}x{WIDE[0]}"}
    row["process_sec"] = round(time.process_time() - started_sec, 2)
    steps = (made[..., 1:] - made[..., :-1]).abs().mean((0, 1, 2)) * 255  # from each column to the next
    row |= {"column_step": spread(steps.tolist()), "column_step_max": round(float(steps.max()), 2)}
    return row


if __name__ == "__main__":
    main()
