"""HU to the network's grid and back: air outside, means kept, centres aligned."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.config import InputConfig
from ich_ray.exam import IGNORED
from ich_ray.windows import (
    LEVELS,
    head_box,
    mask_to_grid,
    preprocessing_id,
    side_of,
    to_input,
    upsample,
)

few = settings(max_examples=30)  # the whole unit tier has ten seconds

WINDOW = (-40.0, 160.0)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def noise(rows: int, columns: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-100, 200, (rows, columns)).astype(np.float32)


def ramp(rows: int, columns: int) -> np.ndarray:
    """A plane over the pixel centres: bilinear interpolation leaves it a plane."""
    y, x = np.mgrid[:rows, :columns]
    return np.asarray(2 * y + 3 * x, dtype=np.float32)


def test_the_window_s_ends_are_the_lowest_and_the_highest_level() -> None:
    hu = np.array([[-1000, -40], [160, 3000]], np.float32).repeat(4, 0).repeat(4, 1)
    assert np.unique(to_input(hu, window=WINDOW, size=0)).tolist() == [0, LEVELS]


def test_levels_are_fine_enough_for_a_hundredth_of_a_hu() -> None:
    hu = noise(8, 8)
    low, high = WINDOW
    back = to_input(hu, window=WINDOW, size=0) / LEVELS * (high - low) + low
    np.testing.assert_allclose(back, np.clip(hu, low, high), atol=0.01)


def test_size_zero_keeps_the_pixels_and_pads_with_air_to_the_stride() -> None:
    hu = np.full((10, 13), 160, np.float32)
    levels = to_input(hu, window=WINDOW, size=0)
    assert levels.shape == (16, 16)
    assert head_box(levels) == (3, 1, 13, 14)
    assert levels.sum() == 10 * 13 * LEVELS


def test_a_slice_that_is_not_square_keeps_its_proportions() -> None:
    levels = to_input(np.full((20, 40), 160, np.float32), window=WINDOW, size=16)
    top, left, bottom, right = head_box(levels)
    assert (left, right) == (0, 16)
    # The half of the width, and half a pixel of blur at either edge.
    assert 8 <= bottom - top <= 10
    assert top == 16 - bottom


@few
@given(side=st.integers(1, 48), size=st.integers(1, 6), seed=st.integers(0, 99))
def test_resizing_keeps_a_constant_and_stays_in_the_window(side: int, size: int, seed: int) -> None:
    constant = to_input(np.full((side, side), 60, np.float32), window=WINDOW, size=8 * size)
    assert np.abs(constant.astype(int) - 32768).max() <= 1
    levels = to_input(noise(side, side, seed=seed), window=WINDOW, size=8 * size)
    assert levels.shape == (8 * size, 8 * size)


@few
@given(factor=st.integers(1, 8), seed=st.integers(0, 99))
def test_shrinking_keeps_the_mean_of_what_is_not_at_the_edge(factor: int, seed: int) -> None:
    side = 16 * factor
    hu = np.full((side, side), -1000, np.float32)
    inner = slice(2 * factor, -2 * factor)
    hu[inner, inner] = noise(12 * factor, 12 * factor, seed=seed)
    whole = to_input(hu, window=WINDOW, size=0) if side % 8 == 0 else None
    small = to_input(hu, window=WINDOW, size=16)
    assert whole is not None
    assert small.mean() == pytest.approx(whole.mean(), rel=1e-3, abs=1)


@few
@given(shape=shapes, size=st.sampled_from([0, 16]))
def test_a_constant_map_is_constant_at_full_resolution(shape: tuple[int, int], size: int) -> None:
    rows, columns = shape
    cells = (size or side_of(shape, size=0)) // 8
    full = upsample(np.full((cells, cells), 3.0, np.float16), rows=rows, columns=columns, size=size)
    np.testing.assert_allclose(full, np.full(shape, 3.0), rtol=1e-6)


def test_upsampling_to_the_map_s_own_size_changes_nothing() -> None:
    logits = noise(8, 8)
    np.testing.assert_array_equal(upsample(logits, rows=8, columns=8, size=64), logits)


def test_upsampling_aligns_centres_of_cells_and_pixels() -> None:
    full = upsample(ramp(4, 4), rows=32, columns=32, size=32)
    inside = slice(4, -4)  # beyond the outermost centres, the edge repeats
    expected = ramp(32, 32) / 8 + (2 + 3) * (0.5 / 8 - 0.5)
    np.testing.assert_allclose(full[inside, inside], expected[inside, inside], atol=1e-5)
    np.testing.assert_array_equal(full[0, :4], 0)


def test_a_map_covers_the_padded_square_and_is_cut_to_the_slice() -> None:
    whole = upsample(noise(2, 2), rows=16, columns=16, size=0)
    cut = upsample(noise(2, 2), rows=10, columns=13, size=0)
    np.testing.assert_array_equal(cut, whole[3:13, 1:14])


@few
@given(shape=shapes, size=st.sampled_from([0, 8, 24]))
def test_masks_on_the_grid_lie_where_their_slice_does(shape: tuple[int, int], size: int) -> None:
    full = mask_to_grid(np.ones(shape, np.uint8), size=size)
    image = to_input(np.full(shape, 160, np.float32), window=WINDOW, size=size)
    np.testing.assert_array_equal(full == 1, image >= LEVELS / 2)


def test_a_grid_pixel_bleeds_where_half_of_it_does_whatever_the_type() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16], mask[16:24, 8:16] = 1, 5
    mask[24, 24] = 3
    on_grid = mask_to_grid(mask, size=8)
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6, 2:4] = 1
    np.testing.assert_array_equal(on_grid, expected)


def test_ignored_pixels_stay_ignored_where_they_prevail() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:, :8] = IGNORED
    np.testing.assert_array_equal(mask_to_grid(mask, size=0), mask)
    halves = np.repeat(np.array([[IGNORED, 0]], np.uint8), 4, 1).repeat(8, 0)
    np.testing.assert_array_equal(mask_to_grid(mask, size=8), halves)


@pytest.mark.parametrize(
    "changed", [{"window": (0.0, 80.0)}, {"size": 256}, {"channels": "single"}]
)
def test_another_preprocessing_has_another_id(changed: dict[str, object]) -> None:
    config = InputConfig()
    assert preprocessing_id(config) == preprocessing_id(InputConfig())
    assert preprocessing_id(dataclasses.replace(config, **changed)) != preprocessing_id(config)  # type: ignore[arg-type]


def test_the_head_box_of_air_is_the_whole_grid() -> None:
    assert head_box(np.zeros((8, 8), np.uint16)) == (0, 0, 8, 8)
