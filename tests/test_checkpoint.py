"""A fit that was killed goes on from its last state, and nothing of the pyramid tells."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xxhash
from PIL import Image

from singan_aug import fit
from singan_aug.config import FitConfig
from singan_aug.dataset import Progress, fit_dataset
from singan_aug.errors import FitDivergedError
from singan_aug.fitting import FitEvent, checkpoint
from singan_aug.fitting.generated import training
from singan_aug.pyramid import Pyramid
from singan_aug.store import DirectoryStore
from tests.conftest import copies, make_photo, mixed, quick, quick_paper

LOSSES = ("wgan_gp", "non_saturating_r1", "hinge_spectral", "semi_dual", "sliced_wasserstein")
PAPER = quick_paper(steps_coarsest=24, steps_finer=12)
PHOTO = make_photo(26, 34, seed=1)


class _Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _at_each_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state is kept whenever losses are reported, every few steps."""
    monkeypatch.setattr(checkpoint, "LEAST_SEC", 0.0)
    monkeypatch.setattr(checkpoint, "SPENT_SHARE", 0.0)
    monkeypatch.setattr(training, "REPORT_EVERY", 4)


def _same(one: Pyramid, other: Pyramid) -> bool:
    a, b = one.tensors(), other.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _interrupted(config: FitConfig, path: Path, after: int) -> list[tuple[int, int]]:
    """Begin a fit, or go on with it, and end it at so many events; the scales and steps that were told of."""
    told: list[tuple[int, int]] = []

    def tell(event: FitEvent) -> None:
        told.append((event.scale, event.step))
        if len(told) == after:
            raise _Killed

    with pytest.raises(_Killed):
        fit(PHOTO, config, checkpoint=path, on_event=tell)
    return told


@pytest.mark.parametrize(
    "config",
    [
        *(PAPER.replace(loss=loss) for loss in LOSSES),
        PAPER.replace(crop_px=11),
        mixed(steps_coarsest=24),
        quick(steps_coarsest=12, steps_finer=12),
    ],
    ids=[*LOSSES, "crops", "mixed", "quick"],
)
def test_a_fit_that_is_killed_again_and_again_gives_the_same_pyramid(config: FitConfig, tmp_path: Path) -> None:
    path, events = tmp_path / "state", list[FitEvent]()
    whole = fit(PHOTO, config, on_event=events.append)
    trained = [(event.scale, event.step) for event in events if event.steps > 1]
    told = _interrupted(config, path, after=3)
    for _ in range(len(trained) // 2 - 2):
        again = _interrupted(config, path, after=3)
        assert again[0] > told[0]  # it goes on, and not from the beginning
        told = again
    rest: list[FitEvent] = []
    assert _same(fit(PHOTO, config, checkpoint=path, on_event=rest.append), whole)
    assert len(rest) < len(events)


def test_another_image_config_or_version_begins_at_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    _interrupted(PAPER, path, after=4)
    kept = path.read_bytes()
    for image, config in ((PHOTO[::-1].copy(), PAPER), (PHOTO, PAPER.replace(seed=1))):
        path.write_bytes(kept)
        assert _same(fit(image, config, checkpoint=path), fit(image, config))
    path.write_bytes(kept)
    monkeypatch.setattr(checkpoint, "__version__", "another")
    first: list[FitEvent] = []
    fit(PHOTO, PAPER, checkpoint=path, on_event=first.append)
    assert (first[0].scale, first[0].step) == (0, 4)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"0" + data[41:]]
)
def test_a_damaged_state_counts_as_none(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "state"
    _interrupted(PAPER, path, after=4)
    path.write_bytes(damage(path.read_bytes()))
    assert _same(fit(PHOTO, PAPER, checkpoint=path), fit(PHOTO, PAPER))


@pytest.mark.parametrize(
    "name",
    [
        "generator.body.0.0.weight",
        "0.generator.body.0.0.weight",
        "rng",
        "adam.0.exp_avg",
        "z_star",
        "entering",
        "step",
        "attempt",
    ],
)
def test_a_state_that_somebody_made_up_counts_as_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    _interrupted(PAPER, path, after=9)  # in the second scale
    data = path.read_bytes()[33:]
    tensors = safetensors.torch.load(data)
    assert name in tensors
    tensors[name] = torch.tensor(99) if name in ("attempt", "step") else torch.zeros(3)
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
    made = safetensors.torch.save(tensors, {"of": header.split('"of":"')[1].split('"')[0]})
    path.write_bytes(xxhash.xxh3_128_hexdigest(made).encode() + b"\n" + made)
    assert _same(fit(PHOTO, PAPER, checkpoint=path), fit(PHOTO, PAPER))


def test_a_second_attempt_goes_on_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_check, path = training._check_alive, tmp_path / "state"
    attempts: list[int] = []

    def diverges_at_first(drawn: torch.Tensor, real: torch.Tensor, k: int, step: int) -> None:
        if attempts[-1] == 0:
            raise FitDivergedError("as it may be", scale=k, step=step)
        true_check(drawn, real, k, step)

    def tell(event: FitEvent) -> None:
        attempts.append(event.attempt)
        if event.attempt == 1 and event.step == 12 and stops:
            stops.clear()
            raise _Killed

    monkeypatch.setattr(training, "_check_alive", diverges_at_first)
    stops: list[int] = []
    whole = fit(PHOTO, PAPER, on_event=tell)
    stops.append(1)
    with pytest.raises(_Killed):
        fit(PHOTO, PAPER, on_event=tell, checkpoint=path)
    attempts.clear()
    again = fit(PHOTO, PAPER, on_event=tell, checkpoint=path)
    assert set(attempts) == {1}
    assert _same(again, whole)
    assert again.provenance["attempt"] == 1


def test_at_most_a_twentieth_of_a_long_run_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    clock = [0.0]
    kept = checkpoint.Checkpoint(tmp_path / "state", "of this", clock=lambda: clock[0])
    state = {"scale": torch.tensor(0), "step": torch.tensor(0)}
    lost, written, writes = [], 0.0, 0
    while clock[0] < 40_000:  # seconds, as a fit by `paper` takes on a core
        clock[0] += 4.0
        if kept.is_due:
            kept.write(state, 0)
            written, writes = clock[0], writes + 1
        lost.append((clock[0] - written) / max(clock[0], 200.0))
    assert max(lost) < 0.05
    assert writes < 500
    later = checkpoint.Checkpoint(tmp_path / "state", "of this", clock=lambda: 7.0)
    assert later.spent_sec == pytest.approx(written)


def test_what_cannot_be_written_stops_no_fit(tmp_path: Path) -> None:
    assert _same(fit(PHOTO, PAPER, checkpoint=tmp_path / "not" / "there" / "state"), fit(PHOTO, PAPER))
    assert not (tmp_path / "not").exists()


def test_pyramids_without_training_keep_no_state(tmp_path: Path) -> None:
    fit(PHOTO, copies(), checkpoint=tmp_path / "state")
    assert not list(tmp_path.iterdir())


# In a store


def test_a_process_killed_in_a_dataset_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "photos" / "a.png")
    store = DirectoryStore(tmp_path / "store")
    child = os.fork()
    if not child:

        def die(event: object) -> None:
            if isinstance(event, Progress) and (event.event.scale, event.event.step) == (1, 8):
                os.kill(os.getpid(), signal.SIGKILL)

        fit_dataset([tmp_path / "photos"], store, PAPER, jobs=1, on_event=die)
        os._exit(70)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (unfinished,) = (tmp_path / "store" / "unfinished").iterdir()
    events: list[Progress] = []

    def tell(event: object) -> None:
        if isinstance(event, Progress):
            events.append(event)

    # it is fitted in a process of its own now, since it may have been the image that ended the last one
    report = fit_dataset([tmp_path / "photos"], store, PAPER, on_event=tell)
    assert [outcome.status for outcome in report.outcomes] == ["fitted"]
    assert not unfinished.exists()
    assert events[0].event.scale == 1
    (key,) = store.keys()
    again = DirectoryStore(tmp_path / "unbroken")
    fit_dataset([tmp_path / "photos"], again, PAPER, jobs=1)
    assert _same(store.load(key), again.load(key))


def test_states_of_what_is_fitted_are_swept_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.ascontiguousarray(PHOTO)).save(tmp_path / "photos" / "a.png")
    store = DirectoryStore(tmp_path / "store")
    fit_dataset([tmp_path / "photos"], store, copies(), jobs=1)
    (key,) = store.keys()
    other = f"{'0' * 32}-{'0' * 16}"
    for name in (key, f"{key}.77", other):
        path = store.unfinished(name[:49])
        assert path is not None
        path.parent.mkdir(exist_ok=True)
        path.with_name(name).write_text("state")
    store.sweep()
    assert [path.name for path in (tmp_path / "store" / "unfinished").iterdir()] == [other]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.prepare()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / "unfinished").symlink_to(tmp_path / "elsewhere")
    assert store.unfinished(f"{'0' * 32}-{'0' * 16}") is None
