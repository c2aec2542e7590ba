"""Exchanging two models' predictions: p as SciPy has it, and the interval is what p leaves over."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ich_ray.errors import ConfigError
from ich_ray.statistics.bootstrap import Difference
from ich_ray.statistics.permutation import paired_permutation

few = settings(max_examples=30)  # the whole unit tier has ten seconds


def drawn(seed: int, patients: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shares = rng.exponential(size=patients)
    return rng.normal(0.01, 0.05, patients), shares / shares.sum()


def permuted(changes: np.ndarray, shares: np.ndarray, *, tosses: int = 2_000) -> Difference:
    return paired_permutation(float(changes.sum()), changes, shares, seed=1, tosses=tosses)


@pytest.mark.parametrize("seed", range(4))
def test_p_is_close_to_that_of_all_exchanges_by_scipy(seed: int) -> None:
    changes, shares = drawn(seed, 10)
    expected = stats.permutation_test(
        (changes, np.zeros(10)),
        lambda a, b, axis: np.sum(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    found = permuted(changes, shares, tosses=20_000).p
    assert found == pytest.approx(expected, abs=0.015)


@few
@given(st.integers(0, 99), st.integers(2, 30), st.integers(0, 5), st.floats(-0.5, 0.5))
def test_the_interval_holds_what_a_test_of_it_does_not_refute(
    seed: int, patients: int, others: int, asked: float
) -> None:
    changes, shares = drawn(seed, patients + others)
    shares[patients:] = 0
    shares /= shares.sum()
    found = permuted(changes, shares)
    assert (found.low <= 0 <= found.high) == (found.p > 0.05)
    # Less than asked, each patient's part of it taken off, against none at all.
    p = permuted(changes - asked * shares, shares).p
    if min(abs(asked - found.low), abs(asked - found.high)) > 1e-9:
        assert (found.low <= asked <= found.high) == (p > 0.05)


@pytest.mark.parametrize("patients", range(2, 6))
@pytest.mark.parametrize("seed", range(5))
def test_up_to_five_patients_cannot_show_anything(patients: int, seed: int) -> None:
    _, shares = drawn(seed, patients)
    found = permuted(0.3 * shares, shares)
    assert found.p > 0.05
    assert (found.low, found.high) == (-1.0, 1.0)


@few
@given(st.integers(0, 99), st.integers(2, 30))
def test_swapping_the_models_mirrors_the_difference(seed: int, patients: int) -> None:
    changes, shares = drawn(seed, patients)
    forth, back = permuted(changes, shares), permuted(-changes, shares)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
    assert forth.p == back.p
    assert forth.low <= forth.estimate <= forth.high


def test_models_that_differ_nowhere_have_p_one_and_no_width() -> None:
    found = permuted(np.zeros(20), np.full(20, 0.05))
    assert (found.estimate, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_patients_without_a_share_blur_the_others() -> None:
    clear, shares = np.full(12, 0.02), np.concatenate([np.full(12, 1 / 12), np.zeros(12)])
    noise = np.random.default_rng(3).normal(0, 0.05, 12)
    alone = permuted(clear, shares[:12])
    beside = permuted(np.concatenate([clear, noise - noise.mean()]), shares)
    assert alone.p < 0.01 < beside.p
    assert beside.high - beside.low > 2 * (alone.high - alone.low)


def test_the_estimate_is_divided_by_share() -> None:
    changes, shares = drawn(5, 15)
    changes -= changes.mean()
    divided = paired_permutation(0.3, changes, shares, seed=1)
    expected = permuted(changes + 0.3 * shares, shares, tosses=10_000)
    assert (divided.low, divided.high) == pytest.approx((expected.low, expected.high))
    assert divided.p == expected.p


def test_the_tosses_are_those_of_the_seed() -> None:
    changes, shares = drawn(7, 9)
    assert permuted(changes, shares) == permuted(changes, shares)
    other = paired_permutation(float(changes.sum()), changes, shares, seed=2, tosses=2_000)
    assert other.low != permuted(changes, shares).low


def test_few_tosses_have_no_bounds() -> None:
    changes, shares = drawn(8, 9)
    found = permuted(changes, shares, tosses=10)
    assert (found.low, found.high) == (-1.0, 1.0)


def test_a_difference_without_a_value_has_no_bounds() -> None:
    for estimate, changes in ((math.nan, np.zeros(3)), (0.1, np.array([math.nan, 0.0, 0.1]))):
        found = paired_permutation(estimate, changes, np.full(3, 1 / 3), seed=1)
        assert all(math.isnan(value) for value in (found.low, found.high, found.p))


def test_a_share_of_percent_is_an_error() -> None:
    with pytest.raises(ConfigError, match="0 < level < 1, got 95"):
        paired_permutation(0.1, np.zeros(3), np.full(3, 1 / 3), seed=1, level=95.0)


def test_every_toss_of_three_coins_comes_equally_often() -> None:
    """Of 8 tosses p is the share of those as large, and they are all different here."""
    changes = np.array([0.1, 0.02, 0.005])
    found = permuted(changes, np.full(3, 1 / 3), tosses=50_000)
    every = [abs(np.dot(signs, changes)) for signs in itertools.product((-1, 1), repeat=3)]
    share = np.mean(np.array(every) >= changes.sum() - 1e-12)
    assert found.p == pytest.approx(float(share), abs=0.01)
