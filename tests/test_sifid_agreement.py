"""SIFID is what an independent implementation finds: torchvision's Inception and scipy's matrix root."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks._photos import opened, unit
from benchmarks.sifid import pairs_in
from singan_aug.metrics import InceptionStem, sifid
from singan_aug.pyramid.noise import generator_for
from tests.conftest import make_photo

pytest.importorskip("scipy", reason="the bench extra is not installed")
_fid = pytest.importorskip("benchmarks._fid")

WIDTHS = ((32, 3, 3), (32, 32, 3), (64, 32, 3), (80, 64, 1), (192, 80, 3))


def _random_weights(folder: Path) -> Path:
    """In the shapes of FID's, for lack of them."""
    rng = generator_for("inception")
    held: dict[str, torch.Tensor] = {}
    for i, (out, into, side) in enumerate(WIDTHS):
        held[f"conv{i}.weight"] = torch.randn(out, into, side, side, generator=rng) * (2 / (into * side**2)) ** 0.5
        held[f"conv{i}.beta"] = torch.randn(out, generator=rng) * 0.1
        held[f"conv{i}.mean"] = torch.randn(out, generator=rng) * 0.1
        held[f"conv{i}.var"] = torch.rand(out, generator=rng) + 0.5
    save_file(held, folder / "stem.safetensors")
    return folder / "stem.safetensors"


@pytest.mark.parametrize("channels", [64, 192])
def test_random_weights_give_what_the_other_implementation_gives(channels: int, tmp_path: Path) -> None:
    for name, seed in (("real", 0), ("fake", 5)):
        Image.fromarray(make_photo(72, 96, seed=seed)).save(tmp_path / f"{name}.png")
    weights, (real, fake) = _random_weights(tmp_path), (tmp_path / "real.png", tmp_path / "fake.png")
    ours = float(sifid(unit(opened(real)), unit(opened(fake)), InceptionStem.load(weights, channels)))
    theirs = _fid.sifid_by_scipy(real, fake, _fid.fid_stem(weights, channels))
    assert ours > 0.01
    assert ours == pytest.approx(theirs, rel=1e-4)  # float32 features, one with BatchNorm folded


@pytest.mark.parametrize("channels", [64, 192])
def test_samples_of_other_programs_score_alike_in_both(channels: int) -> None:
    folder = os.environ.get("SINGAN_AUG_DATA")
    if not folder:
        pytest.skip("SINGAN_AUG_DATA names no folder of research data")
    weights = Path(folder) / "metrics" / "inception_stem.safetensors"
    if not weights.exists() or not (Path(folder) / "places50").is_dir():
        pytest.skip("the folder that SINGAN_AUG_DATA names holds no metrics/inception_stem.safetensors and no places50")
    own, other = InceptionStem.load(weights, channels), _fid.fid_stem(weights, channels)
    for pairs in pairs_in(Path(folder) / "places50").values():
        for real, fake in pairs[:3]:
            ours = float(sifid(unit(opened(real)), unit(opened(fake)), own))
            assert ours == pytest.approx(_fid.sifid_by_scipy(real, fake, other), rel=1e-4)


def test_pairs_are_found_by_name(tmp_path: Path) -> None:
    for folder, names in (("real", "ab"), ("one", "ab"), ("other", "b")):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / folder / f"{name}.png")
    found = pairs_in(tmp_path)
    assert {name: len(pairs) for name, pairs in found.items()} == {"one": 2, "other": 1, "another photo": 1}
    assert [path.stem for path in found["other"][0]] == ["b", "b"]
    assert pairs_in(tmp_path / "real") == {}
