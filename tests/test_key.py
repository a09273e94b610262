from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from singan_aug.config import FitConfig
from singan_aug.errors import ImageError
from singan_aug.images import Pixels, inverse_turn, turn, turn_between, turn_pixels
from singan_aug.presets import paper
from singan_aug.store import FORMAT_VERSION, fingerprint, make_key
from singan_aug.store import _key as key_module
from tests.conftest import copies, make_photo, mixed, quick

PHOTO = make_photo(20, 28)
GREY = make_photo(20, 28, channels=1)
MASKED = make_photo(20, 28, channels=4)
TURNS = range(8)

# Few values and small sides: symmetric pictures, of which several orientations are the same, come up often.
few_values = st.sampled_from([0, 1, 255])
small_pixels = npst.arrays(
    np.uint8,
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3])),
    elements=st.one_of(few_values, st.integers(0, 255)),
)
a_turn = st.integers(0, 7)
few = settings(max_examples=100, deadline=None, derandomize=True)


def _tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)


def _symmetric() -> dict[str, Pixels]:
    half = PHOTO[:20, :14]
    square = PHOTO[:20, :20]
    diagonal = np.maximum(square, square.transpose(1, 0, 2))
    return {
        "left-right": np.concatenate([half, half[:, ::-1]], axis=1),
        "up-down": np.concatenate([half, half[::-1]], axis=0),
        "half turn": np.concatenate([half, half[::-1, ::-1]], axis=0),
        "diagonal": diagonal,
        "quarter turns": np.maximum.reduce([np.rot90(square, k) for k in range(4)]),
        "constant": np.full((5, 7, 3), 9, np.uint8),
        "one pixel": np.full((1, 1, 3), [1, 2, 3], np.uint8),
        "one row": PHOTO[:1],
        "one column": PHOTO[:, :1],
        "balanced": np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.uint8)[..., None],  # no moment tells it apart
    }


def _all_turns_agree(pixels: Pixels) -> bool:
    """Equal digests, and every copy's turn leads to the same picture."""
    copies = [np.ascontiguousarray(turn_pixels(pixels, code)) for code in TURNS]
    found = [fingerprint(copy) for copy in copies]
    upright = {turn_pixels(copy, each.turn_code).tobytes() for copy, each in zip(copies, found, strict=True)}
    return len({each.digest for each in found}) == 1 and len(upright) == 1


def test_a_fingerprint_is_the_same_for_every_kind_of_image() -> None:
    found = {
        fingerprint(image)
        for image in (
            PHOTO,
            Image.fromarray(PHOTO),
            _tensor(PHOTO),
            _tensor(PHOTO).float() / 255,
            _tensor(PHOTO).double() / 255,
            np.asfortranarray(PHOTO),
        )
    }
    assert len(found) == 1


def test_all_values_survive_a_float_tensor() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert fingerprint((_tensor(ramp).float() / 255).to(dtype)) == fingerprint(ramp)


def test_the_words_of_a_fingerprint() -> None:
    found = fingerprint(PHOTO)
    assert len(found.digest) == 32
    assert set(found.digest) <= set("0123456789abcdef")
    assert found.turn_code in TURNS


def test_what_is_hashed_is_what_the_format_describes() -> None:
    found = fingerprint(PHOTO)
    upright = np.ascontiguousarray(turn_pixels(PHOTO, found.turn_code))
    height, width, channels = upright.shape
    assert found.digest == xxhash.xxh3_128_hexdigest(f"{height}x{width}x{channels}".encode() + upright.tobytes())


@few
@given(small_pixels)
def test_the_eight_orientations_share_a_fingerprint(pixels: Pixels) -> None:
    assert _all_turns_agree(pixels)


@pytest.mark.parametrize("kind", sorted(_symmetric()))
def test_the_eight_orientations_of_a_symmetric_picture_share_a_fingerprint(kind: str) -> None:
    assert _all_turns_agree(_symmetric()[kind])


def test_the_eight_orientations_of_a_photo_have_eight_turn_codes() -> None:
    codes = {fingerprint(np.ascontiguousarray(turn_pixels(PHOTO, code))).turn_code for code in TURNS}
    assert codes == set(TURNS)


@few
@given(small_pixels, a_turn, a_turn)
def test_turn_codes_bring_one_copy_onto_another(pixels: Pixels, own: int, wanted: int) -> None:
    one, other = (np.ascontiguousarray(turn_pixels(pixels, code)) for code in (own, wanted))
    brought = turn_between(_tensor(one), fingerprint(one).turn_code, fingerprint(other).turn_code)
    assert torch.equal(brought, _tensor(other))


def test_grey_is_the_same_as_one_channel_or_three() -> None:
    three = np.repeat(GREY, 3, axis=-1)
    assert (
        fingerprint(GREY)
        == fingerprint(three)
        == fingerprint(Image.fromarray(GREY[..., 0]))
        == fingerprint(GREY[..., 0])
    )
    assert fingerprint(_tensor(three).float() / 255) == fingerprint(GREY)


def test_alpha_is_ignored() -> None:
    colour = np.ascontiguousarray(MASKED[..., :3])
    assert fingerprint(MASKED) == fingerprint(Image.fromarray(MASKED, "RGBA")) == fingerprint(colour)
    assert fingerprint(MASKED) == fingerprint(Image.fromarray(colour))


def test_the_alpha_of_grey_is_ignored() -> None:
    pixels = np.concatenate([np.repeat(GREY, 3, axis=-1), MASKED[..., 3:]], axis=-1)
    assert fingerprint(pixels) == fingerprint(GREY)


@few
@given(small_pixels, st.data())
def test_one_changed_value_changes_the_fingerprint(pixels: Pixels, data: st.DataObject) -> None:
    place = tuple(data.draw(st.integers(0, side - 1)) for side in pixels.shape)
    changed = pixels.copy()
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    # A picture may become one of its own turns: [0, 1] and [1, 0] are two orientations of one.
    turns = {turn_pixels(changed, code).tobytes() for code in TURNS if turn_pixels(changed, code).shape == pixels.shape}
    assert (fingerprint(changed).digest == fingerprint(pixels).digest) == (pixels.tobytes() in turns)


def test_one_changed_value_of_a_photo_changes_the_fingerprint() -> None:
    rng = np.random.default_rng(0)
    seen = {fingerprint(PHOTO).digest}
    for _ in range(30):
        changed = PHOTO.copy()
        changed[tuple(rng.integers(side) for side in PHOTO.shape)] ^= 1
        seen.add(fingerprint(changed).digest)
    assert len(seen) > 25  # the same place may come up twice


def test_the_shape_is_hashed() -> None:
    flat = np.full((4, 6, 1), 7, np.uint8)
    shapes = [(4, 6), (2, 12), (1, 24), (3, 8)]
    assert len({fingerprint(flat.reshape(*shape, 1)).digest for shape in shapes}) == len(shapes)


def test_what_is_no_image_has_no_fingerprint() -> None:
    with pytest.raises(ImageError):
        fingerprint("photo.png")


def test_fingerprinting_leaves_the_image() -> None:
    pixels = PHOTO.copy()
    fingerprint(pixels)
    assert np.array_equal(pixels, PHOTO)


@few
@given(small_pixels, a_turn)
def test_a_turn_is_undone_by_its_inverse(pixels: Pixels, code: int) -> None:
    image = _tensor(pixels)
    assert torch.equal(turn(turn(image, code), inverse_turn(code)), image)
    assert torch.equal(turn(turn(image, inverse_turn(code)), code), image)


def test_the_inverse_of_an_inverse_is_the_turn() -> None:
    assert [inverse_turn(inverse_turn(code)) for code in TURNS] == list(TURNS)


def test_the_turns_are_a_group() -> None:
    image = _tensor(PHOTO)
    turned = [turn(image, code) for code in TURNS]
    for first in turned:
        for code in TURNS:
            again = turn(first, code)
            assert sum(again.shape == each.shape and torch.equal(again, each) for each in turned) == 1


@few
@given(small_pixels, a_turn, a_turn, a_turn)
def test_turns_between_copies_compose(pixels: Pixels, a: int, b: int, c: int) -> None:
    image = _tensor(pixels)
    assert torch.equal(turn_between(turn_between(image, a, b), b, c), turn_between(image, a, c))
    assert torch.equal(turn_between(image, a, a), image)


def test_a_key_is_the_fingerprint_and_a_digest() -> None:
    key = make_key(PHOTO, quick())
    first, _, second = str(key).partition("-")
    assert first == fingerprint(PHOTO).digest
    assert second == key.digest
    assert len(second) == 16
    assert set(second) <= set("0123456789abcdef")


def test_a_key_depends_on_nothing_else() -> None:
    assert make_key(PHOTO, quick()) == make_key(Image.fromarray(PHOTO), FitConfig.from_json(quick().to_json()))


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"width": 9}, {"resample": "bilinear"}, {"batch_norm": True}, {"noise_gain": 1.5000001}],
    ids=str,
)
def test_a_changed_config_changes_the_key_alone(changes: dict[str, float]) -> None:
    base, other = make_key(PHOTO, quick()), make_key(PHOTO, quick(**changes))
    assert base.fingerprint == other.fingerprint
    assert base.digest != other.digest


def _other(name: str, value: Any) -> Any:
    if name in ("patch_px", "search_patch_px"):
        return value + 2  # odd
    if isinstance(value, str):
        return value + "2"
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 0.8 * value + 0.03


@pytest.mark.parametrize("base", [paper(), quick(), mixed(), copies()], ids=["paper", "quick", "mixed", "copies"])
def test_every_leaf_of_the_config_is_in_the_key(base: FitConfig) -> None:
    digests = {make_key(PHOTO, base).digest}
    for name, value in base.leaves().items():
        digests.add(make_key(PHOTO, base.replace(**{name: _other(name, value)})).digest)
    assert len(digests) == 1 + len(base.leaves())


def test_a_mask_changes_the_key_alone() -> None:
    plain = make_key(np.ascontiguousarray(MASKED[..., :3]), quick())
    masked = make_key(MASKED, quick())
    other = MASKED.copy()
    other[0, 0, 3] ^= 1
    assert plain.fingerprint == masked.fingerprint == make_key(other, quick()).fingerprint
    assert len({plain.digest, masked.digest, make_key(other, quick()).digest}) == 3


@pytest.mark.parametrize("code", TURNS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_turned_image_has_the_same_key(code: int, channels: int) -> None:
    pixels = {1: GREY, 3: PHOTO, 4: MASKED}[channels]
    assert str(make_key(turn_pixels(pixels, code), quick())) == str(make_key(pixels, quick()))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_format_version_changes_the_key_alone(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    pixels = {1: GREY, 3: PHOTO, 4: MASKED}[channels]
    before = make_key(pixels, quick())
    monkeypatch.setattr(key_module, "FORMAT_VERSION", FORMAT_VERSION + 1)
    after = make_key(pixels, quick())
    assert before.fingerprint == after.fingerprint
    assert before.digest != after.digest


@pytest.mark.parametrize("masked", [False, True])
def test_the_digest_is_what_the_format_describes(masked: bool) -> None:
    pixels = MASKED if masked else PHOTO
    key = make_key(pixels, quick())
    text = f"{FORMAT_VERSION}/{masked}/{quick().digest()}"
    if masked:
        mask = np.ascontiguousarray(turn_pixels(pixels[..., 3:], key.fingerprint.turn_code)).astype("<i4")
        height, width, _ = mask.shape
        text += xxhash.xxh3_128_hexdigest(f"{height}x{width}x1".encode() + mask.tobytes())
    assert key.digest == xxhash.xxh3_64_hexdigest(text.encode())
