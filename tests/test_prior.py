from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from PIL import Image
from typer.testing import CliRunner

from singan_aug.cli import app
from singan_aug.config import FitConfig, trained
from singan_aug.dataset import Progress, fit_dataset, prior_images
from singan_aug.errors import ConfigError, ImageError, StoreWriteError
from singan_aug.fitting import FitEvent, Prior, fit, fit_batch, load_prior, steps_within, train_prior
from singan_aug.pyramid import Pyramid, draw, reconstruct
from singan_aug.pyramid.generated.networks import generator_from
from singan_aug.pyramid.sizes import scale_sizes, scale_widths
from singan_aug.store import make_key, open_store
from tests.conftest import make_photo, quick

PHOTOS = [make_photo(30, 40, seed=seed) for seed in range(3)]
SHIPPED_CHECKSUM = "48669f373d468e24f7be2e02b64ed9aa"


def _same(one: Pyramid, other: Pyramid) -> bool:
    a, b = one.tensors(), other.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _recipe(**changes: Any) -> FitConfig:
    """Three scales of the photos above, the finest one thinner."""
    return quick(width_fine=4, source_enters=True, mixed_starts=True, **changes)


def _wanted(config: FitConfig, width: int, channels: int) -> dict[str, torch.Tensor]:
    return dict(generator_from(config, channels, width).state_dict())


@pytest.fixture(scope="module")
def learned() -> Prior:
    return train_prior(PHOTOS, _recipe(), steps=6)


@pytest.fixture(scope="module")
def file(learned: Prior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "made" / "prior.safetensors"
    learned.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for i, photo in enumerate(PHOTOS):
        Image.fromarray(photo).save(place / f"{i}.png")
    return place


def test_a_prior_has_weights_for_each_depth(learned: Prior) -> None:
    depths = len(scale_sizes((30, 40), _recipe()))
    assert len(learned.states) == depths == 3
    for state, width in zip(learned.states, scale_widths(depths, _recipe()), strict=True):
        assert {name: t.shape for name, t in state.items()} == {
            name: t.shape for name, t in _wanted(_recipe(), width, 3).items()
        }


def test_the_same_photos_give_the_same_bytes(learned: Prior) -> None:
    assert train_prior(PHOTOS, _recipe(), steps=6).to_bytes() == learned.to_bytes()


def test_other_photos_give_other_weights(learned: Prior) -> None:
    assert train_prior(PHOTOS[:2], _recipe(), steps=6).to_bytes() != learned.to_bytes()


def test_the_global_generators_do_not_matter(learned: Prior) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = train_prior(PHOTOS, _recipe(), steps=6)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.to_bytes() == learned.to_bytes()


def test_a_file_gives_the_prior_back(learned: Prior, file: Path) -> None:
    again = load_prior(_recipe(prior=str(file)))
    assert again is not None
    assert again.recipe == learned.recipe
    for one, other in zip(again.states, learned.states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_photos_of_any_size_and_kind_teach(learned: Prior) -> None:
    mixed = [PHOTOS[0], make_photo(16, 30, 1), make_photo(40, 18, 4)]  # grey of one scale, RGB and a mask
    assert len(train_prior(mixed, _recipe(), steps=2).states) == 3


def test_progress_covers_every_depth() -> None:
    events: list[FitEvent] = []
    train_prior(PHOTOS[:1], _recipe(), steps=3, on_event=events.append)
    assert [(event.scale, event.scales, event.step) for event in events] == [(0, 3, 3), (1, 3, 3), (2, 3, 3)]
    assert events[-1].share == 1


@pytest.mark.parametrize(("images", "words"), [([], "got none"), ([np.zeros((30, 30), np.uint8)], "image 0: every")])
def test_images_that_teach_nothing_are_refused(images: list[Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        train_prior(images, _recipe(), steps=2)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_a_pyramid_of_any_number_of_scales_finds_weights_of_its_widths(learned: Prior, count: int) -> None:
    for scale, width in enumerate(scale_widths(count, _recipe())):
        wanted = _wanted(_recipe(), width, 3)
        state = learned.state(scale, count, wanted, _recipe())
        assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in wanted.items()}


def test_the_nearest_depth_of_the_same_width_is_taken(learned: Prior) -> None:
    def first(state: Any) -> torch.Tensor:
        tensor: torch.Tensor = state["body.0.0.weight"]
        return tensor

    config = _recipe()
    wanted = [_wanted(config, width, 3) for width in scale_widths(9, config)]
    depths = [
        next(
            depth
            for depth in range(3)
            if first(learned.states[depth]).shape == first(wanted[scale]).shape
            and torch.equal(first(learned.state(scale, 9, wanted[scale], config)), first(learned.states[depth]))
        )
        for scale in range(9)
    ]
    assert depths == [0, 0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_weights_are_made_to_fit_other_channels(learned: Prior, channels: int) -> None:
    config = _recipe()
    state = learned.state(0, 3, _wanted(config, 8, channels), config)
    rgb, other = generator_from(config, 3, 8), generator_from(config, channels, 8)
    rgb.load_state_dict(learned.states[0])
    other.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    if channels == 1:
        grey = torch.rand(1, 1, 20, 20, generator=generator)
        nothing = torch.zeros_like(grey)
        # tanh is nearly the identity on residuals this small, so that its mean is the mean's.
        residual = (rgb.body(torch.nn.functional.pad(grey.expand(-1, 3, -1, -1), (5,) * 4))).mean(1, keepdim=True)
        assert torch.allclose(other.body(torch.nn.functional.pad(grey + nothing, (5,) * 4)), residual, atol=1e-5)
        return
    image = torch.rand(1, channels, 20, 20, generator=generator)
    out, colours = other(image, torch.zeros_like(image)), rgb(image[:, :3], torch.zeros(1, 3, 20, 20))
    assert torch.allclose(out[:, :3], colours, atol=1e-6)
    assert torch.equal(out[:, 3:], image[:, 3:])


@pytest.mark.parametrize("change", [{"width": 16}, {"width_fine": 6}, {"layers": 4}, {"block": "residual"}])
def test_a_prior_for_other_networks_is_refused(file: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"expected a prior for .*got one for .*prior train"):
        fit(PHOTOS[0], _recipe(prior=str(file)).replace(**change))


def test_a_fit_starts_from_the_prior(file: Path, learned: Prior) -> None:
    still = {"steps_coarsest": 1, "steps_finer": 1, "learning_rate": 1e-9}
    pyramid = fit(PHOTOS[0], _recipe(prior=str(file), **still))
    for k, state in enumerate(learned.states):
        for name, tensor in state.items():
            assert torch.allclose(pyramid.tensors()[f"scales.{k}.generator.{name}"], tensor, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 20), (24, 64), (60, 80)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size_and_kind_start_from_one_prior(file: Path, size: tuple[int, int], channels: int) -> None:
    config = _recipe(prior=str(file), steps_coarsest=1, steps_finer=1)
    variant = draw(fit(make_photo(*size, channels), config), size=(20, 30))
    assert variant.shape == (1, channels, 20, 30)
    assert torch.isfinite(variant).all()


def test_a_fit_from_a_prior_depends_on_image_and_config_alone(file: Path) -> None:
    config = _recipe(prior=str(file))
    assert _same(fit(PHOTOS[1], config), fit(PHOTOS[1], config))


def test_the_digest_is_of_what_the_prior_holds_wherever_it_lies(file: Path, learned: Prior, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.safetensors", tmp_path / "other.safetensors"
    copy.write_bytes(file.read_bytes())
    train_prior(PHOTOS[:1], _recipe(), steps=1).save(other)
    digests = [_recipe(prior=prior).digest() for prior in (str(file), str(copy), str(other), "photos", None)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert str(make_key(PHOTOS[0], _recipe(prior=str(file)))) == str(make_key(PHOTOS[0], _recipe(prior=str(copy))))


def test_a_pyramid_remembers_no_folder(file: Path) -> None:
    config = _recipe(prior=str(file))
    kept = fit(PHOTOS[0], config).config
    assert kept.prior == f"prior.safetensors#{config.prior_checksum}"
    assert kept.digest() == config.digest()
    assert FitConfig.from_json(kept.to_json()) == kept  # although no such file lies here


def test_an_altered_file_is_noticed(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "prior.safetensors"
    copy.write_bytes(file.read_bytes())
    config = _recipe(prior=str(copy))
    copy.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(ConfigError, match="altered"):
        fit(PHOTOS[0], config)
    copy.unlink()
    with pytest.raises(ConfigError, match="nothing that can be read"):
        fit(PHOTOS[0], config)


def test_a_file_that_is_missing_or_none_of_ours_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prior: .*'photos' or 'dataset'.*got"):
        _recipe(prior=str(tmp_path / "none.safetensors"))
    for content in (b"", b"\x08\0\0\0\0\0\0\0{}      ", b"hello, this is text"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ConfigError, match="damaged"):
            fit(PHOTOS[0], _recipe(prior=str(tmp_path / "other")))


def test_a_prior_that_cannot_be_written_is_a_store_error(learned: Prior, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="cannot write"):
        learned.save(tmp_path / "file" / "prior.safetensors")


def test_the_source_enters_each_scale(file: Path) -> None:
    pyramid = fit(PHOTOS[0], _recipe(prior=str(file)))
    exact = torch.from_numpy(PHOTOS[0].copy()).movedim(-1, 0)[None] / 127.5 - 1
    below = torch.nn.functional.interpolate(exact, pyramid.scales[1].size, mode="bicubic", antialias=True)
    assert torch.allclose(pyramid.scales[2].entering, below, atol=1e-5)


def test_the_shipped_prior_is_what_it_was() -> None:
    # Its name stands for its content in every key: another prior needs another name.
    prior = load_prior(trained())
    assert prior is not None
    data = prior.to_bytes()
    assert len(data) <= 1_000_000
    assert xxhash.xxh3_128_hexdigest(data) == SHIPPED_CHECKSUM
    sources = (Path(__file__).parents[1] / "singan_aug" / "priors" / "SOURCES.txt").read_text()
    assert sources.count(".jpg") >= 27


def test_the_shipped_prior_is_better_than_random_weights() -> None:
    photo = make_photo(40, 52, seed=5)
    brief = {"steps_coarsest": 3, "steps_finer": 3, "prior": None}
    errors = [
        fit(photo, trained(**{**brief, "prior": prior})).provenance["reconstruction_rmse"][-1]
        for prior in (None, "photos")
    ]
    assert errors[1] < 0.5 * errors[0]


def test_a_dataset_learns_its_prior_once(folder: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    seen = []
    config = _recipe(prior="dataset")

    def note(event: Any) -> None:
        if isinstance(event, Progress) and event.path.suffix == ".safetensors":
            seen.append(event.event.share)

    first = fit_dataset([folder], store, config, jobs=1, prior_steps=3, on_event=note)
    assert len(first.with_status("fitted")) == 3
    assert seen[-1] == 1
    seen.clear()
    Image.fromarray(make_photo(30, 40, seed=9)).save(folder / "9.png")
    second = fit_dataset([folder], store, config, jobs=1, prior_steps=3, on_event=note)
    assert (len(second.with_status("present")), len(second.with_status("fitted"))) == (3, 1)
    assert seen == []
    (prior,) = (tmp_path / "store" / "priors").iterdir()
    checksums = {store.manifest(key).config.prior_checksum for key in store.keys()}
    assert checksums == {_recipe(prior=str(prior)).prior_checksum}


def test_a_datasets_prior_does_not_depend_on_names(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "renamed"
    other.mkdir()
    for i, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        Image.open(path).save(other / f"{i}.png")
    Image.fromarray(PHOTOS[0]).save(other / "again.png")
    (other / "broken.png").write_bytes(b"no image")
    chosen = [
        [np.asarray(Image.open(path)).tobytes() for path in prior_images([place], _recipe())]
        for place in (folder, other)
    ]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3


def test_a_single_fit_has_no_dataset() -> None:
    with pytest.raises(ConfigError, match="fit_dataset"):
        fit(PHOTOS[0], _recipe(prior="dataset"))


def test_steps_within_a_time_grow_with_it() -> None:
    short, long = (steps_within(seconds, PHOTOS, _recipe()) for seconds in (0.01, 1000))
    assert 1 <= short < long


def test_the_command_writes_a_prior_that_fit_takes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    done = CliRunner().invoke(
        app, ["prior", "train", str(folder), "--out", str(out), "--steps", "2", "--photos", "2", "--max-size", "40"]
    )
    assert done.exit_code == 0, done.output
    assert "2 photos, 2 steps" in done.output
    assert trained(prior=str(out)).prior_checksum


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 2, "no such file or folder"),
        (["."], 1, "no image that could be fitted"),
        ([".", "--preset", "fast"], 2, "trains generators"),
        ([".", "--device", "tpu"], 2, "--device"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["prior", "train", *arguments, "--out", "out.safetensors"])
    assert done.exit_code == code
    assert words in done.output
    assert "Traceback" not in done.output


BATCHED = {"patches": FitConfig(kind="patches", coarsest_px=16, scale_factor=0.5, patch_px=5), "trained": quick()}


@pytest.mark.parametrize("kind", sorted(BATCHED))
@pytest.mark.parametrize("batch_images", [1, 2, 16])
def test_a_batch_gives_what_single_fits_give(kind: str, batch_images: int) -> None:
    images = [*PHOTOS, make_photo(24, 20, 1)]
    fitted = fit_batch(images, BATCHED[kind], batch_images=batch_images)
    for image, pyramid in zip(images, fitted, strict=True):
        assert isinstance(pyramid, Pyramid)
        assert _same(pyramid, fit(image, BATCHED[kind]))
        assert torch.equal(reconstruct(pyramid), reconstruct(fit(image, BATCHED[kind])))


def test_an_image_that_cannot_be_fitted_stops_no_other() -> None:
    fitted = fit_batch([PHOTOS[0], np.zeros((30, 30), np.uint8), PHOTOS[1]], BATCHED["patches"])
    assert [type(each) for each in fitted] == [Pyramid, ImageError, Pyramid]


def test_a_batch_holds_as_many_images_as_it_may() -> None:
    taken: list[int] = []

    class Images(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            taken.append(place)
            return super().__getitem__(place)

    ended: list[tuple[int, int]] = []
    fit_batch(
        Images(PHOTOS), BATCHED["patches"], batch_images=2, on_event=lambda i, event: ended.append((i, max(taken)))
    )
    assert all(most <= 1 for i, most in ended if i < 2)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_images"):
        fit_batch(PHOTOS, batch_images=0)


def test_a_dataset_in_batches_is_the_same_store(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (30, 30)).save(folder / "black.png")
    config = BATCHED["patches"]
    stores = [open_store(tmp_path / name) for name in ("one", "many")]
    reports = [
        fit_dataset([folder], stores[0], config, jobs=1),
        fit_dataset([folder], stores[1], config, batch_images=2),
    ]
    assert [(o.path, o.status, o.key) for o in reports[0].outcomes] == [
        (o.path, o.status, o.key) for o in reports[1].outcomes
    ]
    for key in stores[0].keys():
        assert _same(stores[0].load(key), stores[1].load(key))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_on_a_gpu_is_as_good_as_one_on_the_cpu() -> None:
    fitted = fit_batch(PHOTOS, BATCHED["patches"], device="cuda")
    for image, pyramid in zip(PHOTOS, fitted, strict=True):
        assert isinstance(pyramid, Pyramid)
        assert pyramid.device.type == "cpu"
        assert torch.equal(reconstruct(pyramid), reconstruct(fit(image, BATCHED["patches"])))
