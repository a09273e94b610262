"""Fits on the workers of a cluster, and parts of a dataset on machines that know nothing of each other."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from singan_aug.cli import app
from singan_aug.clusters import connected, is_lost
from singan_aug.config import FitConfig
from singan_aug.dataset import Event, FitReport, Outcome, fit_dataset, plan_dataset, read_shard
from singan_aug.errors import ConfigError, WorkerLostError
from singan_aug.images import LoadedImage, files
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


def test_shards_divide_a_dataset_copies_of_a_file_together(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(photos / "0.png", photos / "a copy.png")
    (photos / "broken.png").write_text("text")
    whole, shared = DirectoryStore(tmp_path / "whole"), DirectoryStore(tmp_path / "shared")
    fit_dataset([photos], whole, TINY, masks="none", jobs=1)
    reports = [fit_dataset([photos], shared, TINY, masks="none", jobs=1, shard=(number, 3)) for number in (2, 3, 1)]
    assert _same(whole, shared)
    told = [outcome.path.name for report in reports for outcome in report.outcomes]
    assert sorted(told) == sorted(path.name for path in photos.iterdir())
    assert all(len(report.outcomes) + report.of_other_shards == COUNT + 2 for report in reports)
    (both,) = [report for report in reports if any(outcome.path.name == "a copy.png" for outcome in report.outcomes)]
    assert {"0.png"} < {outcome.path.name for outcome in both.outcomes}
    decoded: list[str] = []
    true_load = files.load_image

    def load_image(path: Path) -> LoadedImage:
        decoded.append(Path(path).name)
        return true_load(path)

    monkeypatch.setattr(files, "load_image", load_image)
    again = plan_dataset([photos], shared, TINY, masks="none", shard=(2, 3))
    assert again.todo == ()  # the same part, once more
    assert sorted(decoded) == sorted(outcome.path.name for outcome in again.known)  # and no image of another part


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


def test_an_image_that_was_turned_is_fitted_once_whatever_its_shard(photos: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        Image.open(photos / f"{number}.png").rotate(90, expand=True).save(photos / f"turned {number}.png")
    store = DirectoryStore(tmp_path / "store")
    reports = [fit_dataset([photos], store, TINY, masks="none", jobs=1, shard=(number, 2)) for number in (1, 2)]
    statuses = [outcome.status for report in reports for outcome in report.outcomes]
    assert len(statuses) == 2 * COUNT
    assert statuses.count("fitted") == COUNT == len(list(store.keys()))


def test_one_process_for_each_device_fits_each_image_once(photos: Path, tmp_path: Path) -> None:
    from singan_aug.workers import side_by_side

    store = tmp_path / "store"
    tasks = [([photos], str(store), TINY, f"cpu:{number}") for number in (0, 1)]  # as cuda:0 and cuda:1 are named
    reports = list(side_by_side(_fit_on, tasks, 2))
    statuses = [outcome.status for report in reports for outcome in report.outcomes]
    assert statuses.count("fitted") == COUNT == len(list(DirectoryStore(store).keys()))
    assert set(statuses) <= {"fitted", "present"}


def _fit_on(paths: list[Path], store: str, config: FitConfig, device: str) -> FitReport:
    return fit_dataset(paths, store, config, masks="none", device=device, batch_images=2)


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


def _started(*words: str, own_session: bool = False) -> subprocess.Popen[bytes]:
    """A process that sees this package, in another folder than this one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(
        command,
        cwd="/",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=own_session,
    )


@contextmanager
def _dask(workers: int, _: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """A scheduler and workers, each a process of its own with one thread."""
    pytest.importorskip("distributed", reason="dask is not installed")
    address = f"tcp://127.0.0.1:{_free_port()}"
    port = address.rpartition(":")[2]
    at = ["distributed.cli.dask_scheduler", "--port", port, "--host", "127.0.0.1", "--no-dashboard"]
    each = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    scheduler, *started = _started(*at), *(_started(*each) for _ in range(workers))

    def kill() -> int:
        started[0].send_signal(signal.SIGKILL)
        assert started[0].wait() == -signal.SIGKILL
        return started[0].pid

    try:
        yield address, kill
    finally:
        for process in [*started, scheduler]:
            process.kill()
            process.wait()


@contextmanager
def _ray(workers: int, folder: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """One node, which starts a process for each of its processors."""
    pytest.importorskip("ray", reason="ray is not installed")
    address = f"127.0.0.1:{_free_port()}"
    port = address.rpartition(":")[2]
    own = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the names of its sockets have to be short
    at = ["ray.scripts.scripts", "start", "--head", "--port", port, "--num-cpus", str(workers), "--block"]
    at += ["--include-dashboard", "false", "--temp-dir", str(own), "--object-store-memory", "80000000"]
    node = _started(*at, own_session=True)

    def kill() -> int:
        """Of the node's processes one that fits."""
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                group = os.getsid(int(status.parent.name))
                if group == node.pid and status.read_bytes().startswith(b"ray::_called"):
                    os.kill(int(status.parent.name), signal.SIGKILL)
                    return int(status.parent.name)
        raise AssertionError("no worker of ray's is at work")

    try:
        _wait_for(int(port))
        yield address, kill
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait()
        shutil.rmtree(own, ignore_errors=True)


def _wait_for(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError(f"nobody listens at {port}")


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_cluster_whose_workers_are_killed_fits_what_one_machine_fits(
    engine: str, photos: Path, tmp_path: Path
) -> None:
    from singan_aug.workers import side_by_side

    here, there = DirectoryStore(tmp_path / "here"), DirectoryStore(tmp_path / "there")
    killed: list[int] = []
    with {"dask": _dask, "ray": _ray}[engine](3, tmp_path) as (address, kill):
        fit_dataset([photos], here, SLOWER, masks="none", jobs=1)

        def notify(event: Event) -> None:
            if isinstance(event, Outcome) and not killed:
                killed.append(kill())  # in the midst of it

        report = fit_dataset(
            [os.path.relpath(photos)], there, SLOWER, masks="none", backend=engine, address=address, on_event=notify
        )
        assert killed
        assert {outcome.status for outcome in report.outcomes} <= {"fitted", "present"}
        assert len(report.outcomes) == COUNT
        assert _same(here, there)
        with connected(engine, address) as cluster:
            assert sorted(side_by_side(divmod, [(7, 2), (9, 4)], 1, cluster=cluster)) == [(2, 1), (3, 1)]
            with pytest.raises(ZeroDivisionError):
                list(side_by_side(divmod, [(1, 0)], 1, cluster=cluster))
            if engine == "ray":  # dask's workers would all be gone
                with pytest.raises(WorkerLostError):
                    list(side_by_side(os._exit, [(3,)], 1, cluster=cluster))


def test_a_cluster_that_is_not_there_is_an_error(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask", reason="dask is not installed")
    pytest.importorskip("distributed", reason="dask is not installed")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(ConfigError, match="cannot reach"):
        fit_dataset([photos], str(tmp_path / "store"), TINY, masks="none", backend="dask", address="tcp://127.0.0.1:9")
