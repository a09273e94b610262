from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singan_aug.config import FitConfig, Networks
from singan_aug.errors import ImageError, StartScaleError
from singan_aug.presets import fast, learned, paper
from singan_aug.pyramid.sizes import (
    SMALLEST_SIDE_PX,
    Size,
    resolve_start_scale,
    scale_sizes,
    scale_widths,
    sizes_for,
    stack_sizes,
    working_size,
)

COUNTS = [((186, 248), 9), ((188, 250), 10), ((128, 128), 8), ((64, 64), 6), ((32, 32), 3)]

UNHURRIED = settings(deadline=None)
SIZES = st.tuples(st.integers(12, 400), st.integers(12, 400))
CONFIGS = st.builds(
    paper, coarsest_px=st.integers(8, 64), finest_px=st.integers(64, 400), scale_factor=st.floats(0.2, 0.95)
)


@pytest.mark.parametrize(("size", "count"), COUNTS)
def test_the_count_is_the_papers(size: Size, count: int) -> None:
    assert len(scale_sizes(size, paper())) == count


@pytest.mark.parametrize(("size", "count"), COUNTS)
def test_the_count_does_not_depend_on_orientation(size: Size, count: int) -> None:
    assert len(scale_sizes(size[::-1], paper())) == count


@pytest.mark.parametrize(("size", "count"), COUNTS)
def test_both_ends_land_exactly(size: Size, count: int) -> None:
    sizes = scale_sizes(size, paper())
    assert min(sizes[0]) == 25
    assert sizes[-1] == size


@UNHURRIED
@given(SIZES, CONFIGS)
def test_the_last_size_is_the_finest(finest: Size, config: FitConfig) -> None:
    assert scale_sizes(finest, config)[-1] == finest


@UNHURRIED
@given(SIZES, CONFIGS)
def test_the_short_side_of_the_first_is_the_coarsest(finest: Size, config: FitConfig) -> None:
    assert min(scale_sizes(finest, config)[0]) == min(config.sizes.coarsest_px, *finest)


@UNHURRIED
@given(SIZES, CONFIGS)
def test_sizes_never_shrink(finest: Size, config: FitConfig) -> None:
    sizes = scale_sizes(finest, config)
    for below, above in pairwise(sizes):
        assert below[0] <= above[0]
        assert below[1] <= above[1]


@UNHURRIED
@given(SIZES, CONFIGS)
def test_sizes_are_transposed_with_the_image(finest: Size, config: FitConfig) -> None:
    assert scale_sizes(finest[::-1], config) == tuple(size[::-1] for size in scale_sizes(finest, config))


@UNHURRIED
@given(SIZES, CONFIGS)
def test_every_scale_keeps_the_aspect(finest: Size, config: FitConfig) -> None:
    for height, width in scale_sizes(finest, config):
        assert abs(height - width * finest[0] / finest[1]) <= 1 + finest[0] / finest[1]


@UNHURRIED
@given(SIZES, CONFIGS)
def test_neighbouring_scales_are_no_further_apart_than_the_factor(finest: Size, config: FitConfig) -> None:
    sizes = scale_sizes(finest, config)
    for below, above in pairwise(sizes):
        assert min(below) + 1 >= min(above) * config.sizes.scale_factor


@pytest.mark.parametrize("size", [(25, 25), (25, 200), (12, 40)])
def test_an_image_no_larger_than_the_coarsest_scale_has_one_scale(size: Size) -> None:
    assert scale_sizes(size, paper()) == (size,)


def test_widths_double_every_four_scales_up_to_the_most() -> None:
    assert scale_widths(13, Networks()) == (32,) * 4 + (64,) * 4 + (128,) * 5


def test_widths_without_doubling_are_constant() -> None:
    assert scale_widths(6, Networks(width=20, width_doubles_every=0)) == (20,) * 6


def test_widths_are_capped() -> None:
    assert scale_widths(4, Networks(width=10, width_max=25, width_doubles_every=1)) == (10, 20, 25, 25)


def test_the_width_of_the_coarsest_scale_is_capped_too() -> None:
    assert scale_widths(2, Networks(width=64, width_max=16)) == (16, 16)


@UNHURRIED
@given(SIZES, CONFIGS)
def test_the_sizes_for_the_same_finest_are_the_same(finest: Size, config: FitConfig) -> None:
    sizes = scale_sizes(finest, config)
    assert sizes_for(sizes, finest) == sizes


@UNHURRIED
@given(SIZES, st.tuples(st.integers(1, 500), st.integers(1, 500)))
def test_the_sizes_for_another_finest_end_there_and_are_positive(finest: Size, other: Size) -> None:
    sizes = sizes_for(scale_sizes(finest, paper()), other)
    assert sizes[-1] == other
    assert min(min(size) for size in sizes) >= 1


def test_the_sizes_for_twice_the_height_are_twice_as_tall() -> None:
    sizes = scale_sizes((128, 96), paper())
    assert sizes_for(sizes, (256, 96)) == tuple((2 * height, width) for height, width in sizes)


@pytest.mark.parametrize(("start", "scale"), [(0, 0), (4, 4), (-1, 4), (-5, 0)])
def test_a_start_scale_counts_from_either_end(start: int, scale: int) -> None:
    assert resolve_start_scale(start, 5) == scale


@pytest.mark.parametrize("start", [5, -6, 100])
def test_a_start_scale_that_is_not_there_is_refused(start: int) -> None:
    with pytest.raises(StartScaleError, match=rf"0\.\.4.*got {start}.*5 scales"):
        resolve_start_scale(start, 5)


def test_the_error_for_one_scale_is_in_the_singular() -> None:
    with pytest.raises(StartScaleError, match=r"1 scale$"):
        resolve_start_scale(1, 1)


def test_a_large_image_is_shrunk_to_its_long_side() -> None:
    assert working_size((1500, 2000), paper()) == (188, 250)


@UNHURRIED
@given(st.tuples(st.integers(12, 250), st.integers(12, 250)))
def test_a_small_image_keeps_its_size(size: Size) -> None:
    assert working_size(size, paper()) == size


def test_too_small_an_image_is_refused_with_its_size() -> None:
    with pytest.raises(ImageError, match=rf"{SMALLEST_SIDE_PX} px.*got 30x11"):
        working_size((11, 30), paper())


def test_too_elongated_an_image_is_refused_with_both_sizes() -> None:
    with pytest.raises(ImageError, match="got 5000x200, fitted at 250x10"):
        working_size((200, 5000), paper())


def test_the_smallest_side_is_accepted() -> None:
    assert working_size((SMALLEST_SIDE_PX, 250), paper()) == (SMALLEST_SIDE_PX, 250)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_first_copied_scale_has_the_size_of_the_last_generated_one(scales: int) -> None:
    config = learned(milder_ratio=0.0).replace(scales=scales)
    generated, copied = stack_sizes((188, 250), config)
    assert len(generated) == scales
    assert generated[-1] == copied[0]
    assert (*generated, *copied[1:]) == scale_sizes((188, 250), config)


def test_more_generated_scales_than_there_are_leave_one_to_copy() -> None:
    assert stack_sizes((40, 40), learned(scales=9)) == (((25, 25), (32, 32), (40, 40)), ((40, 40),))
    assert stack_sizes((20, 24), learned(milder_ratio=0.0)) == (((20, 24),), ((20, 24),))


def test_a_milder_start_has_the_size_of_the_generated_scale() -> None:
    without = stack_sizes((188, 250), learned(milder_ratio=0.0))
    generated, copied = stack_sizes((188, 250), learned(milder_ratio=0.5))
    assert (generated, copied) == (without[0] * 2, without[1])


def test_scales_of_one_sort_are_all() -> None:
    sizes = scale_sizes((60, 80), fast())
    assert stack_sizes((60, 80), fast()) == ((), sizes)
    assert stack_sizes((60, 80), paper(scale_factor=0.45)) == (sizes, ())
