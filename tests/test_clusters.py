"""Fits on the workers of a cluster, and parts of a dataset on machines that know nothing of each other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from singan_aug.cli import app
from singan_aug.clusters import connected, is_lost
from singan_aug.dataset import Event, Outcome, fit_dataset, plan_dataset, read_shard
from singan_aug.errors import ConfigError
from singan_aug.store import DirectoryStore
from tests.conftest import copies, make_photo, quick

ROOT = Path(__file__).parents[1]
TINY = copies(coarsest_px=16, scale_factor=0.5, patch_px=5)
SLOWER = quick(coarsest_px=13, finest_px=34, steps_coarsest=60, steps_finer=60)
COUNT = 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(COUNT):
        Image.fromarray(make_photo(26, 34, seed=seed)).save(folder / f"{seed}.png")
    return folder


def _same(one: DirectoryStore, other: DirectoryStore) -> bool:
    keys = list(one.keys())
    pairs = [(one.load(key).tensors(), other.load(key).tensors()) for key in keys]
    return keys == list(other.keys()) and all(torch.equal(a[name], b[name]) for a, b in pairs for name in a | b)


# Shards


def test_shards_divide_a_dataset_copies_of_an_image_together(photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "0.png").rotate(90, expand=True).save(photos / "turned.png")
    (photos / "broken.png").write_text("text")
    whole, shared = DirectoryStore(tmp_path / "whole"), DirectoryStore(tmp_path / "shared")
    fit_dataset([photos], whole, TINY, masks="none", jobs=1)
    reports = [fit_dataset([photos], shared, TINY, masks="none", jobs=1, shard=(number, 3)) for number in (2, 3, 1)]
    assert _same(whole, shared)
    told = [outcome.path.name for report in reports for outcome in report.outcomes]
    assert sorted(told) == sorted(path.name for path in photos.iterdir())
    assert all(len(report.outcomes) + report.of_other_shards == COUNT + 2 for report in reports)
    (turned,) = [report for report in reports if any(outcome.path.name == "turned.png" for outcome in report.outcomes)]
    assert {"0.png"} < {outcome.path.name for outcome in turned.outcomes}
    again = plan_dataset([photos], shared, TINY, masks="none", shard=(2, 3))
    assert again.todo == ()  # the same part, once more


def test_a_shard_does_not_change_when_images_come_and_go(photos: Path, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    before = {item.path.name for item in plan_dataset([photos], store, TINY, masks="none", shard=(1, 2)).todo}
    (photos / "3.png").unlink()
    Image.fromarray(make_photo(26, 34, seed=99)).save(photos / "0 new.png")
    after = {item.path.name for item in plan_dataset([photos], store, TINY, masks="none", shard=(1, 2)).todo}
    assert before - {"3.png"} == after - {"0 new.png"}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "1.5/2", ""])
def test_a_shard_that_does_not_exist_is_refused(text: str, photos: Path) -> None:
    with pytest.raises(ConfigError, match="3/8"):
        read_shard(text)
    result = CliRunner().invoke(app, ["fit", str(photos), "--shard", text])
    assert result.exit_code == 2


def test_the_command_fits_its_shard_and_counts_the_others(photos: Path, tmp_path: Path) -> None:
    fit = ["fit", str(photos), "--store", str(tmp_path / "store"), "--max-size", "32", "--jobs", "1"]
    results = [CliRunner().invoke(app, [*fit, "--shard", f"{number}/2"]) for number in (1, 2)]
    assert [result.exit_code for result in results] == [0, 0]
    assert all("of other shards" in result.stdout for result in results)
    assert len(list(DirectoryStore(tmp_path / "store").keys())) == COUNT


# Clusters


def test_another_backend_is_refused_and_an_address_alone(photos: Path) -> None:
    with pytest.raises(ConfigError, match="dask or ray"):
        fit_dataset([photos], str(photos / "store"), TINY, masks="none", backend="spark")
    result = CliRunner().invoke(app, ["fit", str(photos), "--address", "tcp://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "--backend" in result.stderr


def test_only_what_an_engine_gave_up_is_a_lost_worker() -> None:
    assert is_lost(type("KilledWorker", (Exception,), {})())
    assert not is_lost(ValueError())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _dask(workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers, each a process of its own with one thread; they start in another folder."""
    pytest.importorskip("distributed", reason="dask is not installed")
    address = f"tcp://127.0.0.1:{_free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
            cwd="/",
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    scheduler = start("dask_scheduler", "--port", address.rpartition(":")[2], "--host", "127.0.0.1", "--no-dashboard")
    each = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    started = [start("dask_worker", address, *each) for _ in range(workers)]
    try:
        yield address, started
    finally:
        for process in [*started, scheduler]:
            process.kill()
            process.wait()


def test_a_dask_cluster_whose_workers_are_killed_fits_what_one_machine_fits(photos: Path, tmp_path: Path) -> None:
    from singan_aug.workers import side_by_side

    here, there = DirectoryStore(tmp_path / "here"), DirectoryStore(tmp_path / "there")
    fit_dataset([photos], here, SLOWER, masks="none", jobs=1)
    events: list[Event] = []
    with _dask(3) as (address, workers):

        def notify(event: Event) -> None:
            events.append(event)
            if sum(isinstance(each, Outcome) for each in events) == 1:
                workers[0].send_signal(signal.SIGKILL)  # in the midst of it

        report = fit_dataset(
            [os.path.relpath(photos)], there, SLOWER, masks="none", backend="dask", address=address, on_event=notify
        )
        assert workers[0].wait() == -signal.SIGKILL
        assert {outcome.status for outcome in report.outcomes} <= {"fitted", "present"}
        assert len(report.outcomes) == COUNT
        assert _same(here, there)
        with connected("dask", address) as backend:
            assert sorted(side_by_side(divmod, [(7, 2), (9, 4)], 1, backend=backend)) == [(2, 1), (3, 1)]
            with pytest.raises(ZeroDivisionError):
                list(side_by_side(divmod, [(1, 0)], 1, backend=backend))


def test_a_cluster_that_is_not_there_is_an_error(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask", reason="dask is not installed")
    pytest.importorskip("distributed", reason="dask is not installed")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(ConfigError, match="cannot reach"):
        fit_dataset([photos], str(tmp_path / "store"), TINY, masks="none", backend="dask", address="tcp://127.0.0.1:9")
