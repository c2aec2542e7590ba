import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.statistics.ratios import ratio_difference, ratio_interval

ONE_STRATUM = np.zeros(40, np.int64)


def counts(seed: int, *, clusters: int = 40, share: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    whole = rng.poisson(5, clusters).astype(np.float64)
    return rng.binomial(whole.astype(int), share).astype(np.float64), whole


def test_one_thing_a_cluster_has_the_error_of_a_proportion() -> None:
    part = np.array([1.0] * 28 + [0.0] * 12)
    found = ratio_interval((part, np.ones(40)), ONE_STRATUM)
    # The plain standard error with n - 1, on the logit scale, and t of 39 degrees.
    error = math.sqrt(0.7 * 0.3 / 39) / (0.7 * 0.3)
    assert math.log(found.high / (1 - found.high)) == pytest.approx(
        math.log(0.7 / 0.3) + 2.0226909 * error, rel=1e-5
    )


@given(st.integers(0, 10**6))
def test_the_order_of_the_clusters_changes_nothing(seed: int) -> None:
    part, whole = counts(seed)
    order = np.random.default_rng(seed).permutation(40)
    one = ratio_interval((part, whole), ONE_STRATUM)
    other = ratio_interval((part[order], whole[order]), ONE_STRATUM)
    assert (one.estimate, one.low, one.high) == pytest.approx(
        (other.estimate, other.low, other.high), nan_ok=True
    )


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, differs = 0, 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        whole = rng.poisson(6, 60).astype(np.float64)
        # Things of one cluster are alike: its own share varies around 0.7.
        own = rng.beta(7, 3, 60)
        a, b = (rng.binomial(whole.astype(int), own).astype(np.float64) for _ in range(2))
        strata = np.zeros(60, np.int64)
        found = ratio_interval((a, whole), strata)
        held += found.low <= 0.7 <= found.high
        differs += ratio_difference((a, whole), (b, whole), strata).p < 0.05
    assert 0.92 < held / 600 < 0.98
    assert 0.025 < differs / 600 < 0.08


def test_equal_shares_are_not_told_apart_and_opposite_ones_are() -> None:
    a = counts(1)
    same = ratio_difference(a, a, ONE_STRATUM)
    assert (same.estimate, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    better = (a[1] - 0.1, a[1])
    assert ratio_difference(better, a, ONE_STRATUM).p < 1e-6
    turned = ratio_difference(a, better, ONE_STRATUM)
    assert turned.estimate == -ratio_difference(better, a, ONE_STRATUM).estimate


def test_one_cluster_says_nothing_of_others() -> None:
    one = np.zeros(40)
    one[3] = 4.0
    found = ratio_interval((one / 2, one), ONE_STRATUM)
    assert found.estimate == 0.5
    assert math.isnan(found.low)
    assert math.isnan(ratio_interval((0 * one, 0 * one), ONE_STRATUM).estimate)
    assert math.isnan(ratio_difference((one / 2, one), (one, one), ONE_STRATUM).p)
    assert math.isnan(ratio_difference((one, 0 * one), (one, one), ONE_STRATUM).estimate)


def test_all_and_nothing_have_no_width() -> None:
    whole = np.ones(40)
    assert ratio_interval((whole, whole), ONE_STRATUM).low == 1.0
    assert ratio_interval((0 * whole, whole), ONE_STRATUM).high == 0.0
