"""Tests of normality with mean and deviation taken from the values."""

import math

import numpy as np
import pytest
from scipy import stats

from ich_ray.statistics.paper.normality import normality

CRITICAL = {0.10: 0.805, 0.05: 0.886, 0.01: 1.031}
"""Of sqrt(n) times the distance, for more than 30 values. Source: Lilliefors 1967, table 1."""


def stretched(statistic: float, size: int) -> np.ndarray:
    """Values whose distance from the normal is the one wanted, to 4 digits: a skew of that size."""
    quantiles = stats.norm.ppf((np.arange(size) + 0.5) / size)
    low, high = 0.0, 1.0
    for _ in range(40):
        skew = (low + high) / 2
        values = np.exp(skew * quantiles)
        found = stats.kstest(values, "norm", args=(values.mean(), values.std(ddof=1))).statistic
        low, high = (skew, high) if found < statistic else (low, skew)
    return np.asarray(values)


@pytest.mark.parametrize("p", CRITICAL)
def test_p_at_the_critical_values_is_that_of_lilliefors_table(p: float) -> None:
    values = stretched(CRITICAL[p] / math.sqrt(200), 200)
    found = normality(values, seed=1)
    assert found.statistic == pytest.approx(CRITICAL[p] / math.sqrt(200), rel=1e-3)
    # The error of 1,999 simulations, and what has been mended in the table since.
    assert found.p_lilliefors == pytest.approx(p, abs=4 * math.sqrt(p / 1999))


def test_the_uncorrected_test_almost_never_rejects_what_is_normal() -> None:
    rng = np.random.default_rng(3)
    found = [normality(rng.normal(size=30), seed=0) for _ in range(60)]
    rejected = sum(one.p_uncorrected < 0.05 for one in found)
    corrected = sum(one.p_lilliefors < 0.05 for one in found)
    assert rejected == 0
    assert 1 <= corrected <= 9


def test_skewed_values_that_the_uncorrected_test_lets_pass_are_rejected() -> None:
    found = normality(stretched(0.075, 200), seed=0)
    assert found.p_uncorrected > 0.15
    assert found.p_lilliefors < 0.02


def test_scale_and_place_change_nothing() -> None:
    values = np.random.default_rng(4).normal(size=100)
    found, other = normality(values, seed=0), normality(1e-3 * values + 0.03, seed=0)
    assert found.p_lilliefors == other.p_lilliefors
    assert found.statistic == pytest.approx(other.statistic)


@pytest.mark.parametrize("values", [[], [0.1, 0.2, 0.4], [0.1] * 10])
def test_few_or_equal_values_say_nothing(values: list[float]) -> None:
    found = normality(np.array(values), seed=0)
    assert all(map(math.isnan, (found.statistic, found.p_uncorrected, found.p_lilliefors)))
