from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from singan_aug.config import Copied, FitConfig, Generated
from singan_aug.fitting import fit
from singan_aug.images import Pixels
from singan_aug.presets import learned, paper
from singan_aug.pyramid import Pyramid
from singan_aug.pyramid.generated.scale import GeneratedScale

# What runs in the background of a script ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test asks how fast the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

PHOTO_SIZE = (36, 48)


def quick(**changes: Any) -> FitConfig:
    """A critic-free config that fits in a fraction of a second, every value spelled out."""
    values: dict[str, Any] = {
        "coarsest_px": 16,
        "scale_factor": 0.5,
        "width": 8,
        "width_doubles_every": 0,
        "batch_norm": False,
        "padding": "reflect",
        "anchor": "blurred",
        "amplitude": "local",
        "noise_coarsest": 0.3,
        "noise_coarsest_shared": False,
        "noise_gain": 1.5,
        "loss": "sliced_wasserstein",
        "objective_weight": 20.0,
        "projections": 16,
        "decay": "cosine",
        "steps_coarsest": 4,
        "steps_finer": 3,
        "generator_updates": 1,
        "learning_rate": 3e-2,  # a few steps have to move pixels, from a generator that begins as the identity
        "learning_rate_drop": 0.05,
        "beta1": 0.9,
        "refresh_steps": 2,
    }
    made = paper(**{**values, "anchor_blur_px": 1.5})
    return made.replace(**changes)


def copies(**changes: Any) -> FitConfig:
    """A config that copies every scale."""
    return FitConfig(copied=Copied(patch_px=7)).replace(**changes)


def mixed(**changes: Any) -> FitConfig:
    """One generated scale under copied ones, trained in a fraction of a second; without what only `learned` has."""
    brief = {"coarsest_px": 14, "steps_coarsest": 12, "width": 8, "shift_step_px": 2}
    without = {"milder_ratio": 0.0, "search_patch_px": 5, "drift_px": 0.0}
    return learned(**brief, **without).replace(**changes)


def generated_of(config: FitConfig) -> Generated:
    assert config.generated is not None
    return config.generated


def copied_of(config: FitConfig) -> Copied:
    assert config.copied is not None
    return config.copied


def quick_paper(**changes: Any) -> FitConfig:
    """The paper's recipe with thin networks, few scales and few steps."""
    values: dict[str, Any] = {
        "coarsest_px": 16,
        "scale_factor": 0.5,
        "width": 8,
        "width_max": 16,
        "width_doubles_every": 2,
        "steps_coarsest": 12,  # fewer leave the statistics of BatchNorm where they started
        "steps_finer": 2,
    }
    return paper(**{**values, **changes})


def convolutional_scales(pyramid: Pyramid) -> list[GeneratedScale]:
    assert all(isinstance(scale, GeneratedScale) for scale in pyramid.scales)
    return [scale for scale in pyramid.scales if isinstance(scale, GeneratedScale)]


def z_star(pyramid: Pyramid) -> torch.Tensor:
    noise = convolutional_scales(pyramid)[0].z_star
    assert noise is not None
    return noise


def make_photo(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """A sky, a disk and 1/f texture that the channels share for the most part; read-only."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) + 1 / max(height, width)
    noise = rng.standard_normal((1, height, width)) + 0.2 * rng.standard_normal((channels, height, width))
    texture = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
    texture /= np.abs(texture).max(axis=(1, 2), keepdims=True)
    tints = np.array([0.9, 0.7, 0.4, 0.6])[:channels, None, None]
    sky = tints * (1 - rows / height)
    disk = (np.hypot(rows - height / 2, columns - width / 3) < min(height, width) / 4) * tints[::-1]
    image = np.clip(0.15 + 0.4 * sky + 0.3 * disk + 0.3 * texture, 0, 1)
    pixels = np.ascontiguousarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0))
    pixels.setflags(write=False)
    return pixels


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small take longer with more threads than with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photo() -> Pixels:
    return make_photo(*PHOTO_SIZE)


@pytest.fixture(scope="session")
def fast_like(photo: Pixels) -> Pyramid:
    return fit(photo, quick(width=16, learning_rate=5e-3, steps_coarsest=40, steps_finer=20))


@pytest.fixture(scope="session")
def paper_like(photo: Pixels) -> Pyramid:
    return fit(photo, quick_paper(steps_coarsest=20, steps_finer=5))


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies of remote stores are kept during a test."""
    place = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr("singan_aug.store._local.platformdirs.user_cache_path", lambda *_, **__: place)
    return place


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3-compatible server on this machine, with a bucket named "bucket"."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    variables = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem(use_listings_cache=False).mkdir("bucket")
        yield address
    server.stop()
