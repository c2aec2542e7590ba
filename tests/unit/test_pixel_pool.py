"""Pooled pixels are those of all exams, however many: what a threshold and a curve rest on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.statistics.overlap import best_dice_level, overlap_at
from ich_ray.statistics.pixel_histograms import SliceHistogram, merge, slice_histogram, stack
from ich_ray.statistics.pixel_pool import PixelPool
from ich_ray.statistics.precision_recall import precision_recall


def exams(seed: int, count: int) -> list[SliceHistogram]:
    rng = np.random.default_rng(seed)
    return [
        slice_histogram(rng.integers(0, 90, (9, 9)).astype(np.uint16), rng.random((9, 9)) < 0.2)
        for _ in range(count)
    ]


def pooled(histograms: list[SliceHistogram]) -> PixelPool:
    pool = PixelPool()
    for one in histograms:
        pool.add(one)
    return pool


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(0, 95))
def test_a_pool_says_of_all_exams_what_their_stack_says(seed: int, count: int, level: int) -> None:
    histograms = exams(seed, count)
    pool, whole = pooled(histograms), stack(histograms)
    assert pool.num_pixels == 81 * count
    assert pool.num_positive == int(whole.pos.sum())
    assert pool.floors().tolist() == whole.floors().tolist()
    assert [int(part.sum()) for part in overlap_at(whole, level)] == [
        int(part.sum()) for part in overlap_at(pool.stack(), level)
    ]
    if pool.num_positive:
        assert best_dice_level(pool.stack()) == best_dice_level(whole)
        curve, expected = precision_recall(pool.stack()), precision_recall(whole)
        assert curve is not None
        assert expected is not None
        np.testing.assert_array_equal(curve.recall, expected.recall)
        np.testing.assert_array_equal(curve.precision, expected.precision)


def test_a_pool_of_pools_is_that_of_all() -> None:
    histograms = exams(3, 4)
    again = pooled([pooled(histograms[:3]).histogram(), pooled(histograms[3:]).histogram()])
    expected = merge(histograms)
    np.testing.assert_array_equal(again.histogram().pos, expected.pos)
    np.testing.assert_array_equal(again.histogram().neg, expected.neg)


def test_a_pool_has_room_for_more_pixels_than_32_bits_count() -> None:
    one = SliceHistogram(
        level=np.array([5], np.uint16),
        pos=np.array([3], np.uint32),
        neg=np.array([2**32 - 1], np.uint32),
    )
    pool = pooled([one, one])
    assert pool.stack().neg.tolist() == [2 * (2**32 - 1)]
    assert pool.num_pixels == 2 * (2**32 + 2)
