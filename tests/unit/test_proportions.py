"""Intervals and tests of shares equal other ways to compute them."""

from fractions import Fraction
from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ich_ray.statistics.proportions import holm, mcnemar, wilson

shares = st.lists(st.floats(0, 1), min_size=1, max_size=7)


def test_the_interval_is_that_of_scipy() -> None:
    for trials in (1, 7, 20, 500):
        for successes in {0, 1, trials // 3, trials}:
            expected = binomtest(successes, trials).proportion_ci(method="wilson")
            assert wilson(successes, trials) == pytest.approx((expected.low, expected.high))
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_counts_more_uneven_ways_and_half_of_the_equal_ones(
    only_a: int, only_b: int
) -> None:
    pairs, fewer = only_a + only_b, min(only_a, only_b)
    more_uneven = sum(comb(pairs, k) for k in range(fewer))
    expected = Fraction(2 * more_uneven + comb(pairs, fewer), 2**pairs)
    assert mcnemar(only_a, only_b) == pytest.approx(float(expected), abs=1e-12)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@given(shares)
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    # A hypothesis is rejected if every set that holds it is, by Bonferroni.
    for index, adjusted in enumerate(holm(p)):
        sets = [
            members
            for size in range(1, len(p) + 1)
            for members in combinations(range(len(p)), size)
            if index in members
        ]
        closed = max(min(1.0, len(members) * min(p[i] for i in members)) for members in sets)
        assert adjusted == pytest.approx(closed, abs=1e-12)


@given(shares)
def test_holm_never_turns_the_order_round_nor_lowers_a_p(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(after >= before for after, before in zip(adjusted, p, strict=True))
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
