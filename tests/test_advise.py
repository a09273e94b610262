"""advise: what is seen in a folder, what is said of it, and that a trial compares what it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from singan_aug.advise import Advice, _advice, _network, _try, advise, try_out
from singan_aug.advise._look import look
from singan_aug.cli import app
from singan_aug.errors import ConfigError, ImageError
from tests.conftest import make_photo

pytestmark = pytest.mark.usefixtures("one_thread")
DOCS = Path(_advice.__file__).parents[2] / "docs"


def _classes(top: Path, per_class: int, *, grey: bool = False, fixed: bool = False) -> Path:
    for c in range(2):
        (top / str(c)).mkdir(parents=True)
        base = make_photo(40, 40, seed=50 + c).astype(int)
        for i in range(per_class):
            pixels = np.roll(np.rot90(make_photo(40, 40, seed=100 * c + i), i), 11 * i, (0, 1)).copy()
            if fixed:
                pixels = np.clip(base + pixels.astype(int) // 8, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert("L" if grey else "RGB").save(top / str(c) / f"{i}.png")
    return top


def _masks(top: Path, count: int, *, thin: bool = False) -> Path:
    for name in ("images", "masks"):
        (top / name).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros((64, 64), np.uint8)
        if thin:
            mask[20 + i % 5] = mask[:, 30] = 1
        else:
            mask[10 : 40 + i % 5, 12:50] = 1
        pixels = make_photo(64, 64, seed=i).copy()
        pixels[mask == 1] //= 2
        Image.fromarray(pixels).save(top / "images" / f"{i}.png")
        Image.fromarray(mask).save(top / "masks" / f"{i}.png")
    return top


def _said(advice: Advice) -> dict[str, str]:
    return {line.about: line.say for line in advice.lines}


def test_what_a_folder_holds_is_seen(tmp_path: Path) -> None:
    sight = look(_masks(tmp_path / "m", 6))
    assert (len(sight.images), sight.masks, sight.classes, sight.size) == (6, 6, {}, (64, 64))
    assert sight.composition == "objects"
    assert look(_masks(tmp_path / "thin", 6, thin=True)).composition == "thin structures"
    assert look(_classes(tmp_path / "fixed", 4, fixed=True)).composition == "fixed"
    grey = look(_classes(tmp_path / "grey", 4, grey=True))
    assert (grey.composition, grey.classes, grey.per_class) == ("surfaces", {"0": 4, "1": 4}, 4)
    assert look(tmp_path / "grey", composition="objects").composition == "objects"


def test_images_under_test_are_not_trained_on(tmp_path: Path) -> None:
    _classes(tmp_path / "train", 3)
    _classes(tmp_path / "test", 5)
    assert look(tmp_path).classes == {"0": 3, "1": 3}


@pytest.mark.parametrize(
    ("kind", "worth_it", "preset", "p"),
    [("masks", True, "fast", "0.5"), ("thin", False, "smooth", "0.5"), ("fixed", True, "smooth", "1"),
     ("grey", True, "fast", "0.5"), ("photos", False, "fast", "0.5")],
)  # fmt: skip
def test_advice_follows_from_what_was_measured(kind: str, worth_it: bool, preset: str, p: str, tmp_path: Path) -> None:
    if kind in ("masks", "thin"):
        folder = _masks(tmp_path / kind, 5, thin=kind == "thin")
    else:
        folder = _classes(tmp_path / kind, 4, grey=kind == "grey", fixed=kind == "fixed")
    advice = advise(folder)
    said = _said(advice)
    assert (advice.worth_it, said["preset"], said["start scale"], said["p"]) == (worth_it, preset, "fine", p)
    assert ("labels" in said) == (kind in ("masks", "thin"))
    assert json.loads(advice.to_json())["preset"] == preset


def test_every_row_that_advice_rests_on_is_there() -> None:
    text = Path(_advice.__file__).read_text()
    for page, names in re.findall(r"\((\w+)\.md: ([\w, -]+)\)", text):
        held = (DOCS / f"{page}.md").read_text()
        for name in names.split(", "):
            assert f"\n## {name}\n" in held, f"{page}.md has no section {name}"


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected images in"):
        advise(tmp_path)
    with pytest.raises(ConfigError, match="there is no such folder"):
        advise(tmp_path / "elsewhere")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASKS", "CLASSES"):
        monkeypatch.setattr(_try, name, replace(getattr(_try, name), steps=2, views=4))


@pytest.mark.usefixtures("brief")
def test_a_trial_compares_masks(tmp_path: Path) -> None:
    outcome = try_out(_masks(tmp_path / "m", 12), minutes=1e-9)
    assert (outcome.measure, outcome.images, outcome.splits, outcome.tested) == ("dice", 5, 3, 5)
    assert [(row["arm"], row["base"]) for row in outcome.changes] == [("none+fine", "none"), ("turns+fine", "turns")]
    best = max(("none", "turns", "turns_affine"), key=lambda arm: outcome.reached[arm])
    assert {row["base"] for row in outcome.from_best} == {best}
    difference = outcome.reached["none+fine"] - outcome.reached["none"]
    assert outcome.changes[0]["difference"] == pytest.approx(difference, abs=0.02)
    assert all(row["low"] <= row["difference"] <= row["high"] for row in outcome.changes)


@pytest.mark.usefixtures("brief")
def test_a_trial_takes_ones_own_network_and_is_taken_up_again(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def build(channels: int, classes: int) -> nn.Module:
        asked.append((channels, classes))
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def run() -> Any:
        return try_out(_there, minutes=1e-9, per_class=2, network=build, work=tmp_path / "work").reached

    _there = _classes(tmp_path / "c", 8)
    first, trained = run(), len(asked)
    assert set(asked) == {(3, 2)}
    assert trained == 3 * 5 + 1  # once to look at what comes out
    assert run() == first
    assert len(asked) == trained + 1


class Grey(nn.Module):
    """A logit for each pixel, by its brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(image)
        return logits


@pytest.mark.usefixtures("brief")
def test_a_trial_trains_copies_of_a_module(tmp_path: Path) -> None:
    module = Grey()
    before = module.layer.weight.detach().clone()
    outcome = try_out(_masks(tmp_path / "m", 12), minutes=1e-9, network=module)
    assert torch.equal(module.layer.weight, before)
    assert len(outcome.reached) == 5


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Conv2d(3, 2, 1), r"expected of a network the logits \[2, 1, \d+, \d+\] .* got \[2, 2"),
        (nn.Linear(3, 2), "expected a network that takes images"),
        (5, "expected a network as a name of timm, a torch module or a function"),
    ],
)
def test_a_network_that_does_not_fit_is_told_before_anything_is_trained(
    network: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        try_out(_masks(tmp_path / "m", 12), minutes=1e-9, network=network)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("masks", [False, True])
def test_a_network_of_timm_is_trained(masks: bool, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    folder = _masks(tmp_path / "m", 12) if masks else _classes(tmp_path / "c", 8)
    outcome = try_out(folder, minutes=1e-9, per_class=2, network="resnet10t")
    assert all(0 <= value <= 100 for value in outcome.reached.values())
    with pytest.raises(ConfigError, match="expected a model of timm, got 'resnet0'"):
        try_out(folder, minutes=1e-9, per_class=2, network="resnet0")


def test_features_of_several_sizes_become_a_logit_for_each_pixel() -> None:
    class Encoder(nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image, image[..., ::2, ::2].repeat(1, 2, 1, 1), image[..., ::4, ::4].repeat(1, 3, 1, 1)]

    network = _network._Decoded(Encoder(), [3, 6, 9], 1).eval()
    image = torch.rand(1, 3, 37, 50)
    assert network(image).shape == (1, 1, 37, 50)
    other = image.clone()
    other[..., 11, 17] += 1  # between the places that coarser features see
    changed = (network(image) != network(other))[0, 0].nonzero()
    assert len(changed)
    assert (changed - torch.tensor([11, 17])).abs().max() <= 1


@pytest.mark.usefixtures("brief")
def test_a_set_too_small_for_a_trial_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected more images to train on"):
        try_out(_masks(tmp_path / "m", 4), minutes=1e-9)


@pytest.mark.usefixtures("brief")
def test_the_command_says_it_and_tries_it(tmp_path: Path) -> None:
    folder = str(_masks(tmp_path / "m", 12))
    before = sorted(tmp_path.rglob("*"))
    run = CliRunner().invoke(app, ["advise", folder, "--json", "--train", "--minutes", "0.1"])
    assert run.exit_code == 0
    found = json.loads(run.stdout)
    assert found["trial"]["measure"] == "dice"
    assert sorted(tmp_path.rglob("*")) == before
    told = CliRunner().invoke(app, ["advise", folder])
    assert told.exit_code == 0
    assert "12 images" in told.stdout
    wrong = CliRunner().invoke(app, ["advise", folder, "--composition", "odd"])
    assert wrong.exit_code != 0
