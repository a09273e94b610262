"""Patch measures, pairs of files, `singan-aug score`, and the weights it can fetch."""

from __future__ import annotations

import hashlib
import io
import json
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import wasserstein_distance
from torch import Tensor
from typer.testing import CliRunner

from singan_aug import cli
from singan_aug.errors import ConfigError, ImageError
from singan_aug.images import pixels_to_pil, to_signed, to_unit
from singan_aug.metrics import InceptionStem, LpipsAlex, nearest_copy, patch_distance, scoring, weights
from singan_aug.metrics.frechet import CONVOLUTIONS as STEM_CONVOLUTIONS
from singan_aug.metrics.pairing import pair_files
from singan_aug.metrics.patches import _wasserstein
from singan_aug.metrics.perceptual import CONVOLUTIONS as ALEX_CONVOLUTIONS
from singan_aug.metrics.scoring import MEASURES
from singan_aug.pyramid.resample import blur
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")


def _photo(height: int = 35, width: int = 49, channels: int = 3, seed: int = 0) -> Tensor:
    return to_unit(to_signed(make_photo(height, width, channels, seed)))


# Sliced Wasserstein distance of patches


def test_an_image_has_its_own_patches() -> None:
    assert float(patch_distance(_photo(), _photo())) == 0


def test_patch_distance_is_symmetric() -> None:
    one, other = _photo(), _photo(30, 40, seed=1)
    assert float(patch_distance(one, other)) == pytest.approx(float(patch_distance(other, one)))


def test_patch_distance_grows_with_blur() -> None:
    blurred = torch.cat([blur(_photo(), deviation) for deviation in (0.5, 1.0, 2.0)]).clamp(0, 1)
    distances = patch_distance(_photo(), blurred)
    assert distances.shape == (3,)
    assert distances.dtype == torch.float64
    assert 0 < distances[0] < distances[1] < distances[2]


def test_patch_distance_looks_at_patches_not_at_places() -> None:
    photo = _photo(40, 40)
    rolled = torch.cat([photo[..., 20:], photo[..., :20]], -1)  # the same pieces, one new seam
    assert float(patch_distance(photo, rolled)) < 0.2 * float(patch_distance(photo, 1 - photo))


def test_patch_distance_of_a_shift_in_brightness_by_hand() -> None:
    """Patches move by one vector (0.25, ...), so every direction's distance is 0.25 times the sum of its parts."""
    photo = _photo() / 2
    rng = torch.Generator().manual_seed(3)
    directions = torch.randn(8, 3, 5, 5, generator=rng).flatten(1)
    moved = 0.25 * (directions / directions.norm(dim=1, keepdim=True)).sum(1).abs().mean()
    found = patch_distance(photo, photo + 0.25, patch_px=5, projections=8, seed=3)
    assert float(found) == pytest.approx(float(moved), rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (7, 30), (1, 4)])
def test_the_wasserstein_distance_of_sets_of_any_size(n: int, m: int) -> None:
    rng = torch.Generator().manual_seed(n)
    one, other = torch.randn(3, n, generator=rng), torch.randn(3, m, generator=rng) + 0.5
    expected = [wasserstein_distance(a.numpy(), b.numpy()) for a, b in zip(one, other, strict=True)]
    assert _wasserstein(one, other).tolist() == pytest.approx(expected)


def test_patch_distance_depends_little_on_the_seed() -> None:
    one, other = _photo(), _photo(seed=1)
    values = torch.stack([patch_distance(one, other, seed=seed)[0] for seed in range(5)])
    assert float(values.std() / values.mean()) < 0.1


# Nearest copies


def test_pieces_of_the_source_are_copies_wherever_they_lie() -> None:
    photo = _photo(28, 42)
    tiles = photo.unfold(2, 14, 14).unfold(3, 14, 14)[0].permute(1, 2, 0, 3, 4).reshape(6, 3, 14, 14)
    shuffled = torch.cat([torch.cat(list(tiles[row]), -1) for row in ([5, 0, 3], [1, 4, 2])], -2)[None]
    distance, ratio = nearest_copy(photo, shuffled)
    assert distance.tolist() == [0]
    assert ratio.tolist() == [1]


def test_nearest_copy_by_hand() -> None:
    """Two patches side by side: one is in the source, the other differs from it by 0.1 everywhere."""
    source = _photo(7, 7) * 0.8
    draw = torch.cat([source, source + 0.1], -1)
    distance, ratio = nearest_copy(source, draw)
    assert distance.tolist() == pytest.approx([0.05])
    assert ratio.tolist() == [0.5]


def test_another_photo_is_no_copy() -> None:
    distance, ratio = nearest_copy(_photo(), torch.cat([_photo(), _photo(seed=1)]))
    assert distance[0] == 0 < 0.01 < distance[1]
    assert ratio[0] == 1 > 0.1 > ratio[1]


@pytest.mark.parametrize("measure", [patch_distance, nearest_copy])
def test_what_patches_cannot_be_compared_of(measure: Callable[..., Any]) -> None:
    with pytest.raises(ImageError, match="at least 7 px"):
        measure(_photo(), _photo(6, 20))
    with pytest.raises(ImageError, match="divide by 255"):
        measure(_photo(), (_photo() * 255).byte())
    with pytest.raises(ConfigError, match="patch_px of at least 1"):
        measure(_photo(), _photo(), patch_px=0)


def test_there_is_one_source() -> None:
    with pytest.raises(ImageError, match="one source, got 2"):
        nearest_copy(_photo().repeat(2, 1, 1, 1), _photo())


# Pairs


def _touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def _names(pairs: dict[Path, list[Path]]) -> dict[str, list[str]]:
    return {real.name: [fake.name for fake in fakes] for real, fakes in pairs.items()}


def test_fakes_continue_the_name_of_their_source(tmp_path: Path) -> None:
    real = _touch(tmp_path / "real", "cat.jpg", "cat_b.jpg", "1.jpg", "notes.txt")
    names = ("cat.png", "cat_scale0_seed0_0.png", "cat_b_7.png", "001.png", "catfish.png", "fake.txt")
    pairs, alone = pair_files(real, _touch(tmp_path / "fake", *names))
    expected = {"1.jpg": ["001.png"], "cat.jpg": ["cat.png", "cat_scale0_seed0_0.png"], "cat_b.jpg": ["cat_b_7.png"]}
    assert _names(pairs) == expected
    assert [path.name for path in alone] == ["catfish.png"]


def test_all_belong_to_a_source_that_is_named_outright(tmp_path: Path) -> None:
    real = _touch(tmp_path / "real", "cat.jpg") / "cat.jpg"
    pairs, alone = pair_files(real, _touch(tmp_path / "fake", "a.png", "b.png"))
    assert _names(pairs) == {"cat.jpg": ["a.png", "b.png"]}
    assert not alone


def test_folders_without_a_pair(tmp_path: Path) -> None:
    real, fake = _touch(tmp_path / "real", "cat.jpg"), _touch(tmp_path / "fake", "dog_0.png")
    with pytest.raises(ImageError, match="name one real image outright"):
        pair_files(real, fake)
    with pytest.raises(ImageError, match=r"images in .*empty, got none"):
        pair_files(real, _touch(tmp_path / "empty"))
    _touch(real, "cat.png")
    with pytest.raises(ImageError, match=r"one image for each stem, got cat.jpg and cat.png"):
        pair_files(real, fake)


def _touch_all(folder: Path, *names: str) -> Path:
    for name in names:
        _touch((folder / name).parent, Path(name).name)
    return folder


def _paths(pairs: dict[Path, list[Path]], real: Path, fake: Path) -> dict[str, list[str]]:
    return {
        one.relative_to(real).as_posix(): [path.relative_to(fake).as_posix() for path in fakes]
        for one, fakes in pairs.items()
    }


def test_subfolders_are_paired_by_their_names(tmp_path: Path) -> None:
    real, fake = tmp_path / "real", tmp_path / "fake"
    for folder in (real / "dogs", real / "cats", fake / "dogs" / "2", fake / "cats", fake / "any"):
        folder.mkdir(parents=True)
    _touch_all(real, "cats/1.jpg", "dogs/1.jpg", "dogs/2.jpg", "dogs/only.jpg")
    _touch_all(fake, "cats/1_0.png", "dogs/1.png", "dogs/2/a.png", "any/only_3.png", "any/1.png", "only.png")
    pairs, alone = pair_files(real, fake)
    assert _paths(pairs, real, fake) == {
        "cats/1.jpg": ["cats/1_0.png"],
        "dogs/1.jpg": ["dogs/1.png"],
        "dogs/2.jpg": ["dogs/2/a.png"],
        "dogs/only.jpg": ["any/only_3.png", "only.png"],
    }
    assert [path.relative_to(fake).as_posix() for path in alone] == ["any/1.png"]  # of which of the two?


def test_variants_inside_the_folder_of_sources_are_no_sources(tmp_path: Path) -> None:
    real = _touch(tmp_path / "real", "cat.jpg")
    fake = _touch(real / "variants", "cat_0.png")
    assert _names(pair_files(real, fake)[0]) == {"cat.jpg": ["cat_0.png"]}


def test_the_mask_of_a_variant_is_no_variant(tmp_path: Path) -> None:
    real = _touch(tmp_path / "real", "cat.jpg", "gas_mask.jpg")
    fake = _touch(tmp_path / "fake", "cat_0.png", "cat_0_mask.png", "gas_mask.png")
    assert _names(pair_files(real, fake)[0]) == {"cat.jpg": ["cat_0.png"], "gas_mask.jpg": ["gas_mask.png"]}


# The command


def _run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["score", *map(str, arguments)])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.delenv("SINGAN_AUG_METRICS", raising=False)
    real, fake = tmp_path / "real", tmp_path / "fake"
    for folder, names in ((real, {"a": 0, "b": 1}), (fake, {"a_0": 0, "a_1": 2, "b": 1})):
        folder.mkdir()
        for name, seed in names.items():
            pixels_to_pil(make_photo(40, 48, seed=seed)).save(folder / f"{name}.png")
    return real, fake


def test_score_as_json(folders: tuple[Path, Path], tmp_path: Path) -> None:
    networks = _published_locally(tmp_path / "weights", None)
    result = _run(*folders, "--json", "--weights", networks)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [Path(row["fake"]).name for row in found["images"]] == ["a_0.png", "a_1.png", "b.png"]
    same, other = found["images"][0], found["images"][1]
    assert set(same) == {"real", "fake", *MEASURES}
    assert same["incoherence"] == 0 < other["incoherence"]
    for measure in ("sifid_64", "sifid_192", "lpips", "patch_distance", "copy_distance"):
        assert same[measure] == pytest.approx(0, abs=1e-6)
        assert other[measure] > 1e-3
        values = [row[measure] for row in found["images"]]
        assert found["mean"][measure] == pytest.approx(sum(values) / 3)
        assert found["median"][measure] == sorted(values)[1]
    assert same["copied_ratio"] == 1
    assert [source["fakes"] for source in found["sources"]] == [2, 1]
    assert found["sources"][0]["pixel_diversity"] > 0
    assert found["sources"][1]["pixel_diversity"] is None
    assert found["sources"][0]["lpips_between"] == pytest.approx(other["lpips"])  # the first is the source
    assert found["sources"][1]["lpips_between"] is None


def test_score_without_weights_says_where_they_come_from(folders: tuple[Path, Path]) -> None:
    result = _run(*folders)
    assert result.exit_code == 0
    assert "--download" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["image", "patch_distance", "copy_distance", "copied_ratio", "incoherence"]
    assert lines[1].split() == ["a_0.png", "0.0000", "0.0000", "1.0000", "0.0000"]
    assert [line.split()[0] for line in lines[2:6]] == ["a_1.png", "b.png", "mean", "median"]
    assert lines[6].startswith("pixel diversity")


def test_score_finds_weights_by_the_environment(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGAN_AUG_METRICS", str(_published_locally(tmp_path / "weights", None)))
    assert "sifid_192" in _run(*folders).stdout
    monkeypatch.setenv("SINGAN_AUG_METRICS", str(tmp_path / "nowhere"))
    assert _run(*folders).exit_code == 2


def test_score_leaves_out_what_is_too_small(tmp_path: Path) -> None:
    for name, seed in (("real", 0), ("fake", 1)):
        pixels_to_pil(make_photo(25, 25, seed=seed)).save(tmp_path / f"{name}.png")
    networks = _published_locally(tmp_path / "weights", None)
    result = _run(tmp_path / "real.png", tmp_path / "fake.png", "--json", "--weights", networks)
    assert result.exit_code == 0
    assert "no lpips: expected the first of at least 31 px" in result.stderr
    assert "sifid_192" in json.loads(result.stdout)["images"][0]
    assert "lpips" not in json.loads(result.stdout)["mean"]


def test_score_compares_images_of_two_sizes(tmp_path: Path) -> None:
    photo = pixels_to_pil(make_photo(64, 64))
    photo.save(tmp_path / "real.png")
    photo.resize((48, 48), Image.Resampling.BICUBIC).save(tmp_path / "fake.png")
    networks = _published_locally(tmp_path / "weights", None)
    result = _run(tmp_path / "real.png", tmp_path / "fake.png", "--json", "--weights", networks)
    assert json.loads(result.stdout)["mean"]["lpips"] > 0
    assert "another size than their source" in result.stderr


def test_many_images_are_scored_a_few_at_a_time_as_they_are_together(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_folder = _published_locally(tmp_path / "weights", None)
    arguments = (*folders, "--json", "--weights", weights_folder)
    together = json.loads(_run(*arguments).stdout)
    monkeypatch.setattr(scoring, "BATCH", 1)
    alone = json.loads(_run(*arguments).stdout)
    for rows in ("images", "sources"):
        for one, other in zip(together[rows], alone[rows], strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():  # convolutions of a batch add in another order
                expected = pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
                assert other[name] == expected


def test_fakes_of_several_sizes_have_no_pixel_diversity(folders: tuple[Path, Path]) -> None:
    real, fake = folders
    pixels_to_pil(make_photo(30, 30)).save(fake / "a_2.png")
    result = _run(real, fake, "--json")
    assert json.loads(result.stdout)["sources"][0]["pixel_diversity"] is None
    assert "several sizes" in result.stderr


def test_a_broken_file_is_named_and_the_others_are_scored(folders: tuple[Path, Path]) -> None:
    real, fake = folders
    (fake / "a_1.png").write_text("text")
    (real / "b.png").write_text("text")
    result = _run(real, fake, "--json")
    assert result.exit_code == 1
    assert [Path(row["fake"]).name for row in json.loads(result.stdout)["images"]] == ["a_0.png"]
    for path in (fake / "a_1.png", real / "b.png"):
        assert f"{path}: not an image" in result.stderr


def test_a_flat_source_has_all_other_measures(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "real.png")
    fake = tmp_path / "fake"
    fake.mkdir()
    for seed in (0, 1):
        pixels_to_pil(make_photo(40, 40, seed=seed)).save(fake / f"{seed}.png")
    result = _run(tmp_path / "real.png", fake, "--json")
    assert result.exit_code == 0
    assert "no pixel diversity: expected a source with some contrast" in result.stderr
    assert json.loads(result.stdout)["mean"]["incoherence"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "expected REAL and FAKE"),
        (["real"], 2, "expected REAL and FAKE"),
        (["real", "nowhere"], 2, "no such file"),
        (["real", "text"], 1, "not an image"),
    ],
)
def test_score_refuses(
    arguments: list[str], code: int, message: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[0].parent)
    Path("text").mkdir()
    Path("text/a.png").write_text("text")
    result = _run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


# Weights


def _states() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Of the published files, random and of the right shapes, with parts that are not needed."""
    rng = torch.Generator().manual_seed(0)
    inception = {"fc.weight": torch.zeros(2, 2)}
    for layer, (out, into, side, _, _) in zip(weights.STEM_LAYERS, STEM_CONVOLUTIONS, strict=True):
        inception[f"{layer}.conv.weight"] = torch.randn(out, into, side, side, generator=rng) / (into * side**2) ** 0.5
        for part in ("weight", "bias", "running_mean", "running_var"):
            inception[f"{layer}.bn.{part}"] = torch.rand(out, generator=rng) + 0.5
    alexnet, heads = {"classifier.1.bias": torch.zeros(2)}, {}
    for i, (index, out, into, side, _, _) in enumerate(ALEX_CONVOLUTIONS):
        alexnet[f"features.{index}.weight"] = torch.randn(out, into, side, side, generator=rng) / (into * side) ** 0.5
        alexnet[f"features.{index}.bias"] = torch.zeros(out)
        heads[f"lin{i}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=rng)
    return inception, alexnet, heads


def _published_locally(folder: Path, monkeypatch: pytest.MonkeyPatch | None) -> Path:
    """A folder of weights as the metrics read them; with `monkeypatch` the published files that they are made of."""
    folder.mkdir()
    if monkeypatch is None:
        inception, alexnet, heads = _states()
        save_file(weights.stem_from_published(inception), folder / weights.STEM)
        save_file(weights.alex_from_published(alexnet, heads), folder / weights.ALEX)
        return folder
    published = []
    for each, state in zip(weights.PUBLISHED, _states(), strict=True):
        torch.save(state, folder / each.name)
        content = (folder / each.name).read_bytes()
        published.append(weights.Published(each.url, hashlib.sha256(content).hexdigest(), len(content)))
    monkeypatch.setattr(weights, "PUBLISHED", tuple(published))
    return folder


def test_the_batch_norm_of_published_weights_is_kept(tmp_path: Path) -> None:
    inception, *_ = _states()
    save_file(weights.stem_from_published(inception), tmp_path / "stem.safetensors")
    ours = InceptionStem.load(tmp_path / "stem.safetensors").features(_photo())
    expected = _photo() * 2 - 1
    for layer, (_, _, _, stride, padding) in zip(weights.STEM_LAYERS[:3], STEM_CONVOLUTIONS, strict=False):
        made = torch.nn.functional.conv2d(expected, inception[f"{layer}.conv.weight"], None, stride, padding)
        mean, var, gain, bias = (
            inception[f"{layer}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        expected = torch.nn.functional.batch_norm(made, mean, var, gain, bias, eps=1e-3).relu()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_files_put_there_by_hand_are_converted_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _published_locally(tmp_path / "weights", monkeypatch)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    result = _run("--download", folder)
    assert result.exit_code == 0, result.output
    assert all(published.url in result.stdout for published in weights.PUBLISHED)
    assert sorted(path.name for path in folder.iterdir()) == [weights.STEM, weights.ALEX]
    InceptionStem.load(folder / weights.STEM, 192)
    LpipsAlex.load(folder / weights.ALEX)


def test_files_are_fetched_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = _published_locally(tmp_path / "there", monkeypatch)
    asked = []

    def opener(url: str, **_: Any) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO((there / url.rpartition("/")[2]).read_bytes())

    stem, alex = weights.fetch_weights(tmp_path / "here", opener=opener)
    assert asked == [published.url for published in weights.PUBLISHED]
    assert {path.name for path in (tmp_path / "here").iterdir()} == {stem.name, alex.name}


def test_another_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _published_locally(tmp_path / "weights", monkeypatch)
    with (folder / weights.PUBLISHED[1].name).open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read before it was checked"))
    with pytest.raises(ConfigError, match=f"SHA-256 {weights.PUBLISHED[1].sha256}.*delete it"):
        weights.fetch_weights(folder)


def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("torn")

    with pytest.raises(OSError, match="torn"):
        weights.fetch_weights(tmp_path, opener=lambda *_, **__: Torn())
    assert not list(tmp_path.iterdir())


def test_a_download_without_a_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(weights, "fetch_weights", lambda folder, **_: urlopen())
    result = _run("--download", tmp_path)
    assert result.exit_code == 1
    assert "no route to host" in result.stderr
    assert "Traceback" not in result.output


# Agreement with a scorer that shares no line with this one, on samples of SinGAN's own program


def test_figures_agree_with_an_independent_scorer(tmp_path: Path) -> None:
    folder = os.environ.get("SINGAN_AUG_DATA")
    if not folder or not (Path(folder) / "places50").exists() or not (Path(folder) / "metrics").exists():
        pytest.skip("SINGAN_AUG_DATA names no folder with places50 and metrics")
    photos = Path(folder) / "places50"
    for kind, suffix in (("real", "jpg"), ("singan", "png")):
        (tmp_path / kind).mkdir()
        for name in ("1", "11", "13"):
            (tmp_path / kind / f"{name}.{suffix}").symlink_to(photos / kind / f"{name}.{suffix}")
    result = _run(tmp_path / "real", tmp_path / "singan", "--weights", Path(folder) / "metrics", "--json")
    found = json.loads(result.stdout)["mean"]
    assert found["sifid_64"] == pytest.approx((0.510298 + 0.888151 + 0.816695) / 3, rel=1e-2)
    assert found["sifid_192"] == pytest.approx((9.840778 + 6.001024 + 6.144717) / 3, rel=1e-2)
    assert found["lpips"] == pytest.approx((0.250452 + 0.264910 + 0.348135) / 3, rel=1e-2)
