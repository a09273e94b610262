"""Needs nnU-Net v2: pip install nnunetv2. Its programs are run on twelve small photos: three processor minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from singan_aug import fit_dataset
from singan_aug.errors import ConfigError, LabelError
from tests.hosts.conftest import CONFIG, Drawn, Labelled, labelled_photo

pytest.importorskip("nnunetv2", reason="needs nnunetv2: pip install nnunetv2")
pytestmark = pytest.mark.filterwarnings("default")

from singan_aug.transforms.nnunet import VariantCases, field_of_crop, nnUNetTrainerSinGAN  # noqa: E402


class Preprocessed:
    """What nnU-Net makes of one image: two channels, cut to a box, normalised, resampled by `times`."""

    identifiers = ("case",)

    def __init__(self, labelled: Labelled, box: tuple[tuple[int, int], tuple[int, int]], times: int = 1) -> None:
        (top, bottom), (left, right) = box
        grey = labelled.pixels[top:bottom, left:right].mean(-1, dtype=np.float32)
        channels = np.stack([(grey - 100) / 30, -grey])[:, None]
        self.data = channels.repeat(times, -2).repeat(times, -1)
        seg = labelled.mask[None, None, top:bottom, left:right].astype(np.int8)
        self.seg = seg.repeat(times, -2).repeat(times, -1)
        self.properties: dict[str, Any] = {
            "bbox_used_for_cropping": [[0, 1], [top, bottom], [left, right]],
            "shape_before_cropping": (1, *labelled.mask.shape),
            "class_locations": {1: np.zeros((1, 4), int), (1, 2): np.zeros((1, 4), int)},
        }

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        assert identifier == "case"
        return self.data, self.seg, None, self.properties


@pytest.fixture
def file(labelled: Labelled, tmp_path: Path) -> dict[str, str]:
    Image.fromarray(labelled.pixels).save(tmp_path / "case_0000.png")
    return {"case": str(tmp_path / "case_0000.png")}


def _cases(cases: Preprocessed, file: dict[str, str], labelled: Labelled, **changes: Any) -> VariantCases:
    return VariantCases(cases, file, {"start_scale": 0, "p": 1.0, "store": labelled.store, **changes})


def test_every_channel_and_the_segmentation_go_where_the_pixels_go(
    labelled: Labelled, file: dict[str, str], drawn: Drawn
) -> None:
    own = Preprocessed(labelled, ((0, 48), (0, 64)))
    data, seg, before, properties = _cases(own, file, labelled).load_case("case")
    assert np.array_equal(data, drawn.carried(own.data))
    assert np.array_equal(seg, drawn.carried(own.seg))
    assert before is None
    assert (data.dtype, seg.dtype) == (np.float32, np.int8)
    places = properties["class_locations"]
    assert (seg[tuple(places[1].T)] == 1).all()
    assert len(places[1]) == (seg == 1).sum()
    assert len(places[1, 2]) == (seg > 0).sum()
    assert own.properties["class_locations"][1].shape == (1, 4)


def test_a_crop_moves_within_itself_and_what_comes_from_outside_stays(
    labelled: Labelled, file: dict[str, str], drawn: Drawn
) -> None:
    box = ((8, 44), (10, 60))
    own = Preprocessed(labelled, box)
    data, seg, _, _ = _cases(own, file, labelled).load_case("case")
    rows, columns = drawn.field[:, 8:44, 10:60].numpy()
    inside = (rows >= 8) & (rows < 44) & (columns >= 10) & (columns < 60)
    assert 0.2 < inside.mean() < 1
    grey = (labelled.pixels.mean(-1, dtype=np.float32) - 100) / 30
    assert np.array_equal(data[0, 0][inside], grey[rows, columns][inside])
    assert np.array_equal(seg[0, 0][inside], labelled.mask[rows, columns][inside])
    assert np.array_equal(data[..., ~inside], own.data[..., ~inside])
    assert np.array_equal(seg[..., ~inside], own.seg[..., ~inside])


def test_a_case_that_was_resampled_is_moved_at_its_own_size(labelled: Labelled, file: dict[str, str]) -> None:
    own = Preprocessed(labelled, ((0, 48), (0, 64)))
    plain = _cases(own, file, labelled, seed=1).load_case("case")
    finer = _cases(Preprocessed(labelled, ((0, 48), (0, 64)), times=2), file, labelled, seed=1).load_case("case")
    assert finer[0].shape == (2, 1, 96, 128)
    for small, large, before in zip(plain[:2], finer[:2], (own.data, own.seg), strict=True):
        assert np.isin(large, before).all()  # moved, never mixed
        for corner in (large[..., ::2, ::2], large[..., 1::2, 1::2]):
            assert np.mean(small == corner) > 0.95  # at the larger size edges of pieces run aslant


def test_an_identity_stays_one_through_crop_and_resampling() -> None:
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij")
    field = field_of_crop(torch.stack([rows, columns]), ((3, 15), (5, 25)), (24, 40))
    own = torch.meshgrid(torch.arange(24), torch.arange(40), indexing="ij")
    assert torch.equal(field, torch.stack(own))


def test_chance_leaves_a_case_as_it_is(labelled: Labelled, file: dict[str, str]) -> None:
    own = Preprocessed(labelled, ((0, 48), (0, 64)))
    cases = _cases(own, file, labelled, p=0.0)
    assert cases["case"][0] is own.data
    assert cases.stats()["left by p"] == 1
    assert cases.identifiers == ("case",)


def test_wrong_settings_and_other_images_are_refused(
    labelled: Labelled, unlabelled: Labelled, file: dict[str, str]
) -> None:
    own = Preprocessed(labelled, ((0, 48), (0, 64)))
    with pytest.raises(ConfigError, match=r"start_scale.*got scale"):
        _cases(own, file, labelled, scale=1)
    with pytest.raises(LabelError, match="singan-aug fit --masks"):
        _cases(own, file, unlabelled).load_case("case")
    own.properties["shape_before_cropping"] = (1, 64, 48)
    with pytest.raises(LabelError, match=r"2-D image of \[48, 64\].*got \[1, 64, 48\]"):
        _cases(own, file, labelled).load_case("case")


def test_a_3d_configuration_is_refused() -> None:
    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=(8, 8, 8)), configuration_name="3d_fullres"
    )
    with pytest.raises(ConfigError, match="configuration 2d, got 3d_fullres"):
        nnUNetTrainerSinGAN.get_tr_and_val_datasets(trainer)  # type: ignore[arg-type]


TRAINER = """
from singan_aug.transforms.nnunet import nnUNetTrainerSinGAN as Trainer


class nnUNetTrainerSinGAN(Trainer):
    augment = {{"start_scale": "medium", "p": 0.5, "store": {store!r}}}

    def initialize(self):
        super().initialize()
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1

    def on_train_end(self):
        super().on_train_end()
        print("stats", sum(self.dataloader_train.data_loader._data.stats().values()))
"""


def _run(folder: Path, processes: str, *command: str) -> str:
    names = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
    places = {name: str(folder / place) for name, place in names.items()}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {"nnUNet_extTrainer": str(folder / "trainers"), "nnUNet_compile": "f", "nnUNet_n_proc_DA": processes}
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **places, **settings, "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


def test_its_own_programs_train_with_variants(tmp_path: Path) -> None:
    data, masks = tmp_path / "raw" / "Dataset001_Photos", tmp_path / "masks"
    for folder in (data / "imagesTr", data / "labelsTr", masks, tmp_path / "trainers"):
        folder.mkdir(parents=True)
    for i in range(12):
        pixels, mask = labelled_photo(i)
        Image.fromarray(pixels).save(data / "imagesTr" / f"photo{i}_0000.png")
        Image.fromarray(mask).save(data / "labelsTr" / f"photo{i}.png")
        Image.fromarray(mask).save(masks / f"photo{i}_0000.png")
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "one": 1, "two": 2},
        "numTraining": 12,
        "file_ending": ".png",
    }
    (data / "dataset.json").write_text(json.dumps(description))
    store = str(tmp_path / "store")
    report = fit_dataset([data / "imagesTr"], store, CONFIG, masks=masks, jobs=1)
    assert len(report.with_status("fitted")) == 12
    (tmp_path / "trainers" / "photos.py").write_text(TRAINER.format(store=store))
    _run(tmp_path, "1", "nnUNetv2_plan_and_preprocess", "-d", "1", "-c", "2d", "-np", "1", "-npfp", "1")
    said = _run(tmp_path, "0", "nnUNetv2_train", "1", "2d", "0", "-tr", "nnUNetTrainerSinGAN", "-device", "cpu")
    assert "Mean Validation Dice" in said
    assert int(said.split("stats ")[1].split()[0]) > 0
