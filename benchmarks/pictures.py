"""The pictures of the documentation, drawn from the packaged photos: `python -m benchmarks.pictures [NAME...]`.

`paper` needs hours for one photo, so its picture is made of a store that has one: `--paper STORE`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torchvision.transforms import v2

import singan_aug
from benchmarks._result import say
from benchmarks.report import PLOTS
from singan_aug import FitConfig, Pyramid, draw, fast, fit, learned, open_store, smooth, tasks
from singan_aug.presets import preset
from singan_aug.pyramid import Traced, trace

PHOTOS = Path(singan_aug.__file__).parent / "photos"
SEED = 3
Picture = tuple[str, Any]  # a title, and what matplotlib shows: [H, W] or [H, W, 3]


def main() -> None:
    """Write those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of {', '.join(PICTURES)}; all by default")
    parser.add_argument("--paper", type=Path, help="a store with a pyramid of the preset `paper`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names or PICTURES:
        if made := PICTURES[name](options):
            made.savefig(PLOTS / f"{name}.jpg", dpi=110, pil_kwargs={"quality": 85})
            say(f"wrote {PLOTS / name}.jpg")


def _photo(name: str) -> Image.Image:
    return Image.open(PHOTOS / f"{name}.jpg")


def _shown(images: torch.Tensor) -> list[Any]:
    """[N, C, H, W] in [0, 1] for matplotlib."""
    return list(images.movedim(1, -1).squeeze(-1).numpy())


def _grid(rows: Sequence[Sequence[Picture]], width: float = 9.0, *, interpolation: str = "antialiased") -> Figure:
    """Titled pictures in rows; those of a row have one height."""
    shapes = [[np.asarray(picture).shape for _, picture in row] for row in rows]
    heights = [width / sum(shape[1] / shape[0] for shape in row) + 0.28 for row in shapes]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, row, each in zip(parts, rows, shapes, strict=True):
        axes = part.subplots(1, len(row), squeeze=False, width_ratios=[shape[1] / shape[0] for shape in each])[0]
        for axis, (title, picture) in zip(axes, row, strict=True):
            axis.imshow(
                picture,
                cmap="gray",
                vmin=0,
                vmax=1 if np.asarray(picture).dtype.kind == "f" else 255,
                interpolation=interpolation,
            )
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    return figure


def _row(name: str, config: FitConfig, start_scale: int | str, variants: int = 3) -> list[Picture]:
    photo = _photo(name)
    drawn = _shown(draw(fit(photo, config), variants, start_scale, seed=SEED))
    return [("the photo", np.asarray(photo)), *((f"variant {i + 1}", image) for i, image in enumerate(drawn))]


def _preset(name: str) -> Callable[[argparse.Namespace], Figure]:
    """What a preset makes of two photos, from the coarsest start scale, where presets differ most."""
    return lambda _: _grid([_row(photo, preset(name), 0) for photo in ("landscape", "coffee")])


def _learned(_: argparse.Namespace) -> Figure:
    """Variants of `learned` from its two generated starts beside those of `fast`; two textures among the photos."""
    rows = []
    for name in ("landscape", "coffee", "gravel", "cat"):
        photo = _photo(name)
        made, moved = fit(photo, learned()), fit(photo, fast())
        new, mild = _shown(draw(made, 2, 0, seed=SEED)), _shown(draw(made, 2, 1, seed=SEED))
        shifted = _shown(draw(moved, 2, 0, seed=SEED))
        drawn = {"learned, start scale 0": new, "learned, start scale 1": mild, "fast, start scale 0": shifted}
        shown = [(title, image) for title, images in drawn.items() for image in images]
        rows.append([("the photo", np.asarray(photo)), *shown])
    return _grid(rows, 14.0)


def _of_paper(options: argparse.Namespace, name: str) -> Pyramid | None:
    """The pyramid of the preset `paper` to draw a picture from; None where there is none."""
    if options.paper is None:
        say(f"{name}: left out, since --paper names no store")
        return None
    store = open_store(options.paper)
    return store.load(next(iter(store.keys())))


def _paper(options: argparse.Namespace) -> Figure | None:
    pyramid = _of_paper(options, "preset-paper")
    if pyramid is None:
        return None
    drawn = _shown(draw(pyramid, 3, 0, seed=SEED))
    photo = np.asarray(_photo("landscape").resize(pyramid.size[::-1], Image.Resampling.BICUBIC))
    row = [("the photo, 64 px", photo), *((f"variant {i + 1}", image) for i, image in enumerate(drawn))]
    return _grid([row], interpolation="nearest")


def _tasks_paper(options: argparse.Namespace) -> Figure | None:
    """Every task that gives a picture, on `fast` and on `paper`, both of the landscape at the size of the latter."""
    made = _of_paper(options, "tasks/paper")
    if made is None:
        return None
    size = made.size[::-1]
    photo, flower = (_photo(name).convert("RGB").resize(size) for name in ("landscape", "dandelion"))
    pasted, moved, hole = photo.copy(), photo.copy(), Image.new("L", size)
    pasted.paste(flower.crop((4, 4, 28, 26)), (24, 20))
    moved.paste(photo.crop((40, 10, 54, 23)), (15, 15))
    hole.paste(255, (12, 7, 28, 20))
    rows = []
    for name, pyramid in (("fast", fit(photo, fast())), ("paper", made)):
        drawn = {
            "sample": tasks.sample(pyramid, 1, seed=SEED),
            "super-resolution": tasks.super_resolution(pyramid, 3),
            "harmonize": tasks.harmonize(pyramid, pasted),
            "edit": tasks.edit(pyramid, moved),
            "inpaint": tasks.inpaint(pyramid, photo, hole),
            "paint": tasks.paint(pyramid, photo.resize((8, 5)).resize(size)),
            "style": tasks.style(pyramid, flower),
            "animate": tasks.animate(pyramid, frames=8, seed=SEED)[4:5],
            "interpolate": tasks.interpolate(pyramid, 0, 1, frames=3)[1:2],
        }
        shown = [(f"{name}, {task}", _shown(images)[0]) for task, images in drawn.items()]
        rows += [shown[:5], shown[5:]]
    return _grid(rows, 11.0)


def _start_scales(_: argparse.Namespace) -> Figure:
    """One variant from each start scale."""
    rows = []
    for name in ("landscape", "cat", "gravel"):
        photo = _photo(name)
        pyramid = fit(photo, fast())
        drawn = [_shown(draw(pyramid, 1, start, seed=SEED))[0] for start in range(len(pyramid))]
        titles = [f"{i}" + {0: " (coarse)", 2: " (medium)", 4: " (fine)"}.get(i, "") for i in range(len(drawn))]
        rows.append([("the photo", np.asarray(photo)), *zip(titles, drawn, strict=True)])
    return _grid(rows, 11.0)


def _upwards(pyramid: Pyramid, start: int) -> list[Picture]:
    """One draw at each scale from `start` up, and below it what it starts from."""
    shown = []
    for scale in range(len(pyramid)):
        part = replace(pyramid, scales=pyramid.scales[: scale + 1], displacement_px=(), mask=None, mask_values=())
        image = draw(part, 1, start, seed=SEED) if scale >= start else singan_aug.reconstruct(part)
        height, width = part.size
        shown.append((f"scale {scale}: {width} x {height}", _shown(image)[0]))
    return shown


def _pyramid(_: argparse.Namespace) -> Figure:
    """The scales of a pyramid; a draw from start scale 0; a draw from start scale 2."""
    pyramid = fit(_photo("landscape"), fast())
    still = [
        (title, _shown(singan_aug.reconstruct(replace(pyramid, scales=pyramid.scales[: i + 1])))[0])
        for i, (title, _) in enumerate(_upwards(pyramid, 0))
    ]
    return _grid([still, _upwards(pyramid, 0), _upwards(pyramid, 2)], 11.0, interpolation="nearest")


def _coloured(traced: Traced) -> Any:
    """Each pixel's origin as a colour: red across, green down."""
    assert traced.origins is not None
    down, across = traced.origins[0].float()
    return torch.stack([across / across.max(), down / down.max(), torch.full_like(down, 0.4)], -1).numpy()


def _origins(_: argparse.Namespace) -> Figure:
    """A photo and a variant, and from where each pixel comes."""
    photo, pyramid = _photo("landscape"), fit(_photo("landscape"), fast())
    height, width = pyramid.size
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    plane = np.stack([across, down, np.full_like(down, 0.4)], -1)
    traced = trace(pyramid, 1, 0, seed=SEED)
    return _grid(
        [
            [
                ("the photo", np.asarray(photo)),
                ("its places as colours", plane),
                ("a variant", _shown(traced.images)[0]),
                ("where its pixels come from", _coloured(traced)),
            ]
        ],
        11.0,
    )


def _masks(_: argparse.Namespace) -> Figure:
    """A photo with a mask of the cup and its saucer; variants, and the masks that came along."""
    photo = _photo("coffee")
    pixels = np.asarray(photo).astype(int)
    cup = ((pixels[..., 0] - pixels[..., 2] > 90) & (pixels[..., 1] < 70)) | (pixels.min(-1) > 150)
    pyramid = fit(photo, fast(), mask=cup.astype(np.uint8))
    rows = [[("the photo", np.asarray(photo)), ("its mask", cup.astype(float))]]
    for start in (0, 2):
        traced = trace(pyramid, 1, start, seed=SEED)
        assert traced.masks is not None
        rows[0] += [
            (f"from start scale {start}", _shown(traced.images)[0]),
            ("its mask", traced.masks[0].float().numpy()),
        ]
    return _grid(rows, 11.0)


def _kinds(_: argparse.Namespace) -> Figure:
    """The same photo flipped, bent elastically, and as variants."""
    rows = []
    for name in ("landscape", "brick"):
        photo = _photo(name)
        torch.manual_seed(SEED)
        bent = v2.ElasticTransform(alpha=60.0, sigma=6.0)(photo)
        coarse, fine = (_shown(draw(fit(photo, fast()), 1, start, seed=SEED))[0] for start in ("coarse", "fine"))
        structure = _shown(draw(fit(photo, learned()), 1, 0, seed=SEED))[0]
        rows.append(
            [
                ("the photo", np.asarray(photo)),
                ("flipped", np.asarray(photo)[:, ::-1]),
                ("elastic deformation", np.asarray(bent)),
                ("variant, fine", fine),
                ("variant, coarse", coarse),
                ("variant, learned", structure),
            ]
        )
    return _grid(rows, 12.0)


def _writing(_: argparse.Namespace) -> Figure:
    """Letters: `fast` cuts strokes where `smooth` bends them."""
    from PIL import ImageDraw, ImageFont

    page = Image.new("L", (192, 64), 255)
    ImageDraw.Draw(page).text((12, 8), "Augment", fill=0, font=ImageFont.load_default(size=40))
    rows = []
    for name, config in (("fast", fast()), ("smooth", smooth())):
        drawn = _shown(draw(fit(page, config), 2, 1, seed=SEED))
        rows.append([("the image", np.asarray(page)), *((f"{name}, start scale 1", image) for image in drawn)])
    return _grid(rows)


PICTURES: dict[str, Callable[[argparse.Namespace], Figure | None]] = {
    **{f"preset-{name}": _preset(name) for name in ("fast", "smooth", "best", "learned")},
    "preset-paper": _paper,
    "tasks/paper": _tasks_paper,
    "learned": _learned,
    "start-scales": _start_scales,
    "pyramid": _pyramid,
    "origins": _origins,
    "masks": _masks,
    "kinds": _kinds,
    "writing": _writing,
}

if __name__ == "__main__":
    matplotlib.use("Agg")
    main()
