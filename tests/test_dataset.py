from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import singan_aug.fitting
from singan_aug.config import FitConfig
from singan_aug.dataset import Event, FitReport, Outcome, Plan, Progress, find_images, fit_dataset, plan_dataset
from singan_aug.errors import ConfigError, FitDivergedError, ImageError, StoreFormatError, StoreWriteError
from singan_aug.images import load_image
from singan_aug.store import DirectoryStore, make_key
from tests.conftest import make_photo, quick

ROOT = Path(__file__).parents[1]
TINY = quick(coarsest_px=13, finest_px=40, steps_coarsest=2, steps_finer=2)
SIZE = (26, 34)


def _photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_photo(*SIZE, seed=seed)).save(path)
    return path


def _key(seed: int, config: FitConfig = TINY) -> str:
    return str(make_key(make_photo(*SIZE, seed=seed), config))


def _statuses(report: FitReport) -> dict[str, str]:
    return {outcome.path.name: outcome.status for outcome in report.outcomes}


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed in range(3):
        _photo(folder / f"{seed}.png", seed)
    return folder


# Walking


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images([folder]).images]


def test_images_are_found_at_any_depth(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "b/c.png", "b/d/e/f/g.png")
    assert _names(tmp_path) == ["a.png", "b/c.png", "b/d/e/f/g.png"]


def test_suffixes_are_read_without_regard_to_case(tmp_path: Path) -> None:
    _touch(tmp_path, "A.JPG", "b.Jpeg", "c.TIFF", "d.WebP", "e.notes.PNG")
    assert len(_names(tmp_path)) == 5


def test_other_files_are_counted_and_left_out(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "notes.txt", "b/Makefile", "b/png", "b/a.png.bak")
    found = find_images([tmp_path])
    assert [path.name for path in found.images] == ["a.png"]
    assert found.ignored == 4


def test_names_that_start_with_a_dot_are_left_out(tmp_path: Path) -> None:
    _touch(tmp_path, ".hidden.png", ".git/a.png", "b/.thumbs/c.png", "b/d.png")
    assert _names(tmp_path) == ["b/d.png"]


def test_a_folder_named_outright_is_entered_even_where_its_name_starts_with_a_dot(tmp_path: Path) -> None:
    _touch(tmp_path, ".photos/a.png")
    assert [path.name for path in find_images([tmp_path / ".photos"]).images] == ["a.png"]


def test_a_folder_whose_name_looks_like_an_image_is_a_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg/b.png")
    assert _names(tmp_path) == ["a.jpg/b.png"]


def test_a_loop_of_links_ends_and_a_linked_folder_is_entered_at_each_place(tmp_path: Path) -> None:
    _touch(tmp_path, "a/b/c.png")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "z").symlink_to(tmp_path / "a")
    assert _names(tmp_path) == ["a/b/c.png", "z/b/c.png"]


def test_links_to_folders_and_files_elsewhere_are_followed(tmp_path: Path) -> None:
    _touch(tmp_path, "elsewhere/a.png", "elsewhere/b.png", "here/c.png")
    (tmp_path / "here" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "file.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    assert _names(tmp_path / "here") == ["c.png", "file.png", "folder/a.png", "folder/b.png"]


def test_a_file_named_outright_is_kept_whatever_its_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "scan", "a.png")
    assert find_images([tmp_path / "scan", tmp_path / "a.png"]).images == (tmp_path / "scan", tmp_path / "a.png")


def test_a_path_given_twice_is_found_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "b/c.png")
    found = find_images([tmp_path, tmp_path / "a.png", str(tmp_path / "b"), tmp_path])
    assert sorted(found.images) == [tmp_path / "a.png", tmp_path / "b" / "c.png"]


def test_the_walk_is_sorted_whatever_the_order_of_creation(tmp_path: Path) -> None:
    _touch(tmp_path, "c.png", "a.png", "b.png", "z/2.png", "z/1.png", "y/1.png")
    assert _names(tmp_path) == ["a.png", "b.png", "c.png", "y/1.png", "z/1.png", "z/2.png"]


@pytest.mark.parametrize("refused", ["", "b"])
def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    _touch(tmp_path, "a.png", "b/c.png", "d/e.png")
    real = os.scandir

    def scandir(path: str) -> object:  # a superuser may list any folder, so its mode would not do
        if Path(path) == tmp_path / refused:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_images([tmp_path])
    ((folder, reason),) = found.unreadable
    assert folder == tmp_path / refused
    assert "Permission denied" in reason
    assert [path.name for path in found.images] == ([] if refused == "" else ["a.png", "e.png"])


# Planning


def test_a_plan_names_what_is_to_be_fitted_and_at_which_size(tmp_path: Path, store: DirectoryStore) -> None:
    _photo(tmp_path / "photos" / "a.png", 0)
    Image.fromarray(make_photo(60, 80, channels=1).squeeze(-1)).save(tmp_path / "photos" / "b.png")
    plan = plan_dataset([tmp_path / "photos"], store, TINY)
    assert [(item.path.name, item.size, item.channels) for item in plan.todo] == [
        ("a.png", (26, 34), 3),
        ("b.png", (30, 40), 1),
    ]
    assert plan.todo[0].key == _key(0)
    assert plan.known == ()


def test_planning_writes_nothing(photos: Path, store: DirectoryStore) -> None:
    plan_dataset([photos], store, TINY)
    assert not store.root.exists()


def test_what_is_stored_is_present_for_its_own_config_alone(photos: Path, store: DirectoryStore) -> None:
    fit_dataset([photos / "0.png"], store, TINY, jobs=1)
    plan = plan_dataset([photos], store, TINY)
    assert [item.path.name for item in plan.todo] == ["1.png", "2.png"]
    assert [(outcome.path.name, outcome.status, outcome.key) for outcome in plan.known] == [
        ("0.png", "present", _key(0))
    ]
    assert len(plan_dataset([photos], store, TINY.replace(seed=1)).todo) == 3


@pytest.mark.parametrize("copy", ["same bytes", "another format", "mirrored", "turned"])
def test_an_image_under_two_names_is_fitted_once(tmp_path: Path, store: DirectoryStore, copy: str) -> None:
    first = _photo(tmp_path / "photos" / "a.png", 0)
    second = first.with_name("b.bmp" if copy == "another format" else "b.png")
    image = Image.fromarray(make_photo(*SIZE, seed=0))
    if copy == "same bytes":
        shutil.copy(first, second)
    elif copy == "another format":
        image.save(second)
    else:
        turn = Image.Transpose.FLIP_LEFT_RIGHT if copy == "mirrored" else Image.Transpose.ROTATE_90
        image.transpose(turn).save(second)
    report = fit_dataset([first.parent], store, TINY, jobs=1)
    assert _statuses(report) == {"a.png": "fitted", second.name: "duplicate"}
    assert str(first) in report.with_status("duplicate")[0].message
    assert list(store.keys()) == [_key(0)]


def test_a_plan_names_each_failure_and_its_reason(photos: Path, store: DirectoryStore) -> None:
    (photos / "broken.jpg").write_text("not an image")
    plan = plan_dataset([photos, photos / "gone.png"], store, TINY)
    assert len(plan.todo) == 3
    failed = {outcome.path.name: outcome for outcome in plan.known}
    assert {outcome.status for outcome in failed.values()} == {"failed"}
    assert "not an image" in failed["broken.jpg"].message
    assert "no such file" in failed["gone.png"].message


def test_a_limit_bounds_how_many_images_are_looked_at(photos: Path, store: DirectoryStore) -> None:
    plan = plan_dataset([photos], store, TINY, limit=2)
    assert [item.path.name for item in plan.todo] == ["0.png", "1.png"]


def test_two_threads_that_decode_at_once_do_not_change_each_others_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning decodes in threads. The filters of `warnings` belong to the whole process."""
    first, bomb = _photo(tmp_path / "first.png", 0), tmp_path / "bomb.png"
    Image.fromarray(make_photo(40, 60)).save(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # half the bomb's: a warning of Pillow's, not yet its error
    first_is_in, bomb_is_in, first_is_done = threading.Event(), threading.Event(), threading.Event()
    real = Image.open

    def interleaved(path: Path) -> Image.Image:
        # The first enters, the bomb enters, the first leaves, and only then is the bomb opened. The limits are for a
        # build that lets one in at a time.
        if path == first:
            first_is_in.set()
            bomb_is_in.wait(1)
        else:
            bomb_is_in.set()
            first_is_done.wait(1)
        return real(path)

    monkeypatch.setattr(Image, "open", interleaved)
    results: dict[Path, object] = {}

    def look(path: Path) -> None:
        try:
            results[path] = load_image(path)
        except ImageError as error:
            results[path] = error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        threads = [threading.Thread(target=look, args=[path]) for path in (first, bomb)]
        threads[0].start()
        first_is_in.wait(1)
        threads[1].start()
        threads[0].join()
        first_is_done.set()
        threads[1].join()
        after = list(warnings.filters)
    assert isinstance(results[bomb], ImageError)
    assert after == before


# Fitting


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_image_is_fitted_and_stored_under_its_key(photos: Path, store: DirectoryStore, jobs: int) -> None:
    report = fit_dataset([photos], store, TINY, jobs=jobs)
    assert _statuses(report) == {"0.png": "fitted", "1.png": "fitted", "2.png": "fitted"}
    assert sorted(store.keys()) == sorted(_key(seed) for seed in range(3))
    for outcome in report.outcomes:
        manifest = store.manifest(outcome.key)
        assert manifest.name == outcome.path.name
        assert manifest.source_size == SIZE
        assert manifest.config == TINY
        assert outcome.process_sec > 0


def test_the_number_of_workers_changes_no_bit_of_what_is_learned(photos: Path, tmp_path: Path) -> None:
    alone, beside = DirectoryStore(tmp_path / "alone"), DirectoryStore(tmp_path / "beside")
    fit_dataset([photos], alone, TINY, jobs=1)
    fit_dataset([photos], beside, TINY, jobs=2)
    assert list(alone.keys()) == list(beside.keys())
    for key in alone.keys():
        expected, found = alone.load(key).tensors(), beside.load(key).tensors()
        assert expected.keys() == found.keys()
        assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_folder_name_and_the_default_store_will_do(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_dataset([photos / "0.png"], str(tmp_path / "named"), TINY, jobs=1)
    assert list(DirectoryStore(tmp_path / "named").keys()) == [_key(0)]
    monkeypatch.setenv("SINGAN_AUG_STORE", str(tmp_path / "default"))
    fit_dataset([photos / "1.png"], None, TINY, jobs=1)
    assert list(DirectoryStore(tmp_path / "default").keys()) == [_key(1)]


def test_a_second_call_fits_only_what_was_added(
    photos: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_dataset([photos / "0.png", photos / "2.png"], store, TINY, jobs=1)
    before = _files(store.root / "pyramids")
    assert _statuses(fit_dataset([photos], store, TINY, jobs=1)) == {
        "0.png": "present",
        "1.png": "fitted",
        "2.png": "present",
    }
    after = _files(store.root / "pyramids")
    assert before.items() <= after.items()

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(singan_aug.fitting, "fit", refuse)
    assert set(_statuses(fit_dataset([photos], store, TINY, jobs=1)).values()) == {"present"}
    assert _files(store.root / "pyramids") == after


def test_nothing_to_fit_writes_nothing(tmp_path: Path, store: DirectoryStore) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "masks").mkdir()
    for paths, found in (
        ([tmp_path / "empty"], r"images in .*empty, got none: name"),
        ([tmp_path / "empty", tmp_path / "masks"], r"empty, .*masks, got none: name"),
        ([], "got an empty list"),
        (iter(()), "got an empty list"),
    ):
        with pytest.raises(ImageError, match=f"expected .*{found}"):
            fit_dataset(paths, store, TINY)
        with pytest.raises(ImageError):
            plan_dataset(paths, store, TINY)
    assert not store.root.exists()


@pytest.mark.parametrize("paths", ["", [""], None, [None], 5])
def test_what_is_no_path_is_refused(paths: Any, store: DirectoryStore) -> None:
    with pytest.raises(ConfigError, match="expected paths of image files or folders, got"):
        fit_dataset(paths, store, TINY)
    assert not store.root.exists()


def test_where_every_image_fails_there_is_an_empty_store(tmp_path: Path, store: DirectoryStore) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert len(fit_dataset([tmp_path / "a.png"], store, TINY).failed) == 1
    assert store.exists()
    assert list(store.keys()) == []


def test_bad_images_never_stop_the_others(photos: Path, store: DirectoryStore) -> None:
    (photos / "00 first.png").write_bytes(b"")
    (photos / "1 between.jpg").write_text("text")
    Image.new("RGB", (30, 30), "red").save(photos / "9 last.png")
    report = fit_dataset([photos], store, TINY, jobs=1)
    assert sorted(outcome.path.name for outcome in report.failed) == ["00 first.png", "1 between.jpg", "9 last.png"]
    assert len(report.with_status("fitted")) == 3
    assert all(outcome.message and "\n" not in outcome.message for outcome in report.failed)


ENOUGH = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 30000000000 bytes."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FitDivergedError("losses went non-finite", scale=1, step=7), "non-finite at scale 1, step 7"),
        (MemoryError(), "memory"),
        (RuntimeError(ENOUGH), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "memory"),
    ],
    ids=["diverged", "python memory", "torch memory", "cuda memory"],
)
def test_a_fit_that_fails_fails_its_own_image_alone(
    photos: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    real, second = singan_aug.fitting.fit, make_photo(*SIZE, seed=1)

    def fit(image: object, *args: object, **kwargs: object) -> object:
        if np.array_equal(np.asarray(image), second):
            raise error
        return real(image, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(singan_aug.fitting, "fit", fit)
    report = fit_dataset([photos], store, TINY, jobs=1)
    assert _statuses(report) == {"0.png": "fitted", "1.png": "failed", "2.png": "fitted"}
    assert words in report.failed[0].message
    assert sorted(store.keys()) == sorted([_key(0), _key(2)])


def test_an_image_that_vanishes_after_planning_fails_alone(photos: Path, store: DirectoryStore) -> None:
    def vanish(event: Event) -> None:
        if isinstance(event, Plan):
            (photos / "0.png").unlink()

    report = fit_dataset([photos], store, TINY, jobs=1, on_event=vanish)
    assert _statuses(report) == {"0.png": "failed", "1.png": "fitted", "2.png": "fitted"}


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_image_that_is_replaced_after_planning_fails_and_says_so(
    photos: Path, store: DirectoryStore, at_once: int
) -> None:
    def replace(event: Event) -> None:
        if isinstance(event, Plan):
            _photo(photos / "0.png", 7)

    report = fit_dataset([photos], store, TINY, jobs=1, batch_images=at_once, on_event=replace)
    assert _statuses(report) == {"0.png": "failed", "1.png": "fitted", "2.png": "fitted"}
    assert "was changed while others were fitted" in report.failed[0].message
    assert sorted(store.keys()) == sorted([_key(1), _key(2)])


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_deleted_from_the_store_meanwhile_has_failed(photos: Path, store: DirectoryStore, at_once: int) -> None:
    fit_dataset([photos / "0.png"], store, TINY, jobs=1)

    def delete(event: Event) -> None:
        if isinstance(event, Outcome) and event.path.name == "1.png":
            shutil.rmtree(store.root)

    report = fit_dataset([photos], store, TINY, jobs=1, batch_images=at_once, on_event=delete)
    assert [outcome.path.name for outcome in report.deleted] == ["0.png", "1.png"]
    assert _statuses(report) == {"0.png": "failed", "1.png": "failed", "2.png": "fitted"}
    again = fit_dataset([photos], store, TINY, jobs=1)
    assert _statuses(again) == {"0.png": "fitted", "1.png": "fitted", "2.png": "present"}


# Events


class _Log:
    """Keeps events. With `patient`, the first progress is held up until an image is done, so what may overtake does."""

    def __init__(self, *, patient: bool) -> None:
        self.events: list[Event] = []
        self.patient = patient
        self.fitted = threading.Event()
        self.inside = 0
        self.overlapped = False

    def __call__(self, event: Event) -> None:
        self.inside += 1
        self.overlapped |= self.inside > 1
        if isinstance(event, Outcome) and event.status == "fitted":
            self.fitted.set()
        elif isinstance(event, Progress) and self.patient:
            self.patient = False
            self.fitted.wait(5)
        self.events.append(event)
        self.inside -= 1


@pytest.fixture(scope="module", params=[1, 2], ids=["one job", "two jobs"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Log:
    folder = tmp_path_factory.mktemp("events")
    for seed in range(3):
        _photo(folder / "photos" / f"{seed}.png", seed)
    (folder / "photos" / "broken.png").write_text("text")
    log = _Log(patient=request.param > 1)
    config = TINY.replace(steps_coarsest=21, steps_finer=11)  # more than one event at each scale
    fit_dataset([folder / "photos"], str(folder / "store"), config, jobs=request.param, on_event=log)
    return log


def test_the_plan_is_the_first_event_and_each_image_has_one_outcome(log: _Log) -> None:
    assert isinstance(log.events[0], Plan)
    assert sum(isinstance(event, Plan) for event in log.events) == 1
    outcomes = [(event.path.name, event.status) for event in log.events if isinstance(event, Outcome)]
    assert sorted(outcomes) == [
        ("0.png", "fitted"),
        ("1.png", "fitted"),
        ("2.png", "fitted"),
        ("broken.png", "failed"),
    ]


def test_the_progress_of_each_image_is_ordered_and_complete(log: _Log) -> None:
    for name in ("0.png", "1.png", "2.png"):
        steps = [e.event for e in log.events if isinstance(e, Progress) and e.path.name == name]
        places = [(step.scale, step.step) for step in steps]
        shares = [step.share for step in steps]
        assert places == sorted(set(places))
        assert shares == sorted(set(shares))
        assert shares[-1] == pytest.approx(1.0)
        assert (steps[-1].scale, steps[-1].step) == (steps[-1].scales - 1, steps[-1].steps)
        assert {step.scale for step in steps} == set(range(steps[0].scales))


def test_no_progress_of_an_image_comes_after_its_outcome(log: _Log) -> None:
    done: set[Path] = set()
    for event in log.events:
        if isinstance(event, Outcome):
            done.add(event.path)
        elif isinstance(event, Progress):
            assert event.path not in done


def test_events_come_one_at_a_time(log: _Log) -> None:
    assert not log.overlapped


# The store beneath


def test_a_full_disk_fails_what_it_has_no_room_for_and_harms_nothing_stored(
    photos: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DirectoryStore.save
    saved: list[str] = []

    def save(self: DirectoryStore, key: object, *args: object, **kwargs: object) -> object:
        if len(saved) == 2:
            raise StoreWriteError("cannot write to the store: No space left on device")
        saved.append(str(key))
        return real(self, key, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as full:
        full.setattr(DirectoryStore, "save", save)
        report = fit_dataset([photos], store, TINY, jobs=1)
    assert sorted(_statuses(report).values()) == ["failed", "fitted", "fitted"]
    assert "No space left" in report.failed[0].message
    assert sorted(store.keys()) == sorted(saved)
    for key in saved:
        store.load(key)
    before = _files(store.root / "pyramids")
    assert sorted(_statuses(fit_dataset([photos], store, TINY, jobs=1)).values()) == ["fitted", "present", "present"]
    assert before.items() <= _files(store.root / "pyramids").items()


def test_a_store_that_cannot_be_made_is_a_write_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreWriteError, match="file"):
        fit_dataset([photos], str(tmp_path / "file" / "store"), TINY, jobs=1)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_store_of_a_newer_format_is_refused_and_left_alone(photos: Path, store: DirectoryStore) -> None:
    store.prepare()
    text = (store.root / "store.json").read_text()
    newer = json.dumps({**json.loads(text), "format_version": 99})
    (store.root / "store.json").write_text(newer)
    before = _files(store.root)
    with pytest.raises(StoreFormatError, match="newer"):
        fit_dataset([photos], store, TINY, jobs=1)
    assert _files(store.root) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_claims_are_released_and_nothing_partial_is_left(photos: Path, store: DirectoryStore, jobs: int) -> None:
    store.prepare()
    (store.root / "partial" / f"{_key(2)}.crashed").mkdir()  # left by a process that died while it wrote
    fit_dataset([photos], store, TINY, jobs=jobs)
    for seed in range(3):
        with store.claim(_key(seed), wait=False) as mine:
            assert mine
    assert store.incomplete() == []
    assert list((store.root / "partial").iterdir()) == []


def test_a_write_error_in_a_worker_fails_its_own_image_alone(photos: Path, store: DirectoryStore) -> None:
    store.prepare()
    (store.root / "claims" / f"{_key(1)}.lock").mkdir()  # where a file must be made: stands for a read-only store
    report = fit_dataset([photos], store, TINY, jobs=2)
    assert _statuses(report) == {"0.png": "fitted", "1.png": "failed", "2.png": "fitted"}
    assert "cannot write to the store" in report.failed[0].message
    for key in store.keys():
        store.load(key)


_SHARE = """
import json, sys, time
from pathlib import Path

import singan_aug.fitting
from singan_aug.config import FitConfig
from singan_aug.dataset import fit_dataset

folder, mine, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
real = singan_aug.fitting.fit


def fit(pixels, config, **more):
    time.sleep(0.2)  # so that both meet images that the other is at
    pyramid = real(pixels, config, **more)
    with (folder / f"{mine}.log").open("a") as log:
        print(int(pixels.astype(int).sum()), file=log)
    return pyramid


singan_aug.fitting.fit = fit
(folder / f"{mine}.ready").touch()
while not (folder / f"{other}.ready").exists():
    time.sleep(0.01)
config = FitConfig.from_json((folder / "config.json").read_text())
report = fit_dataset([folder / "photos"], str(folder / "store"), config, jobs=1)
print(json.dumps({outcome.path.name: outcome.status for outcome in report.outcomes}))
"""


def test_two_processes_share_the_work_and_fit_each_image_once(tmp_path: Path) -> None:
    for seed in range(4):
        _photo(tmp_path / "photos" / f"{seed}.png", seed)
    (tmp_path / "config.json").write_text(TINY.to_json())
    (tmp_path / "share.py").write_text(_SHARE)
    processes = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "share.py"), str(tmp_path), mine, other],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine, other in (("a", "b"), ("b", "a"))
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [(stderr, code) for _, stderr, code in ended] == [("", 0), ("", 0)]
    first, second = (json.loads(stdout) for stdout, _, _ in ended)
    for seed in range(4):
        assert sorted([first[f"{seed}.png"], second[f"{seed}.png"]]) == ["fitted", "present"]
    fitted = [line for log in tmp_path.glob("*.log") for line in log.read_text().split()]
    assert len(fitted) == len(set(fitted)) == 4
    store = DirectoryStore(tmp_path / "store")
    assert sorted(store.keys()) == sorted(_key(seed) for seed in range(4))
    for key in store.keys():
        store.load(key)
    assert store.incomplete() == []
