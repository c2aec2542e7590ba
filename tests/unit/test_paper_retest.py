"""The paired t-test over resamples is SciPy's, and mostly calls equal models different."""

import math

import numpy as np
import pytest
from scipy import stats

from ich_ray.statistics.overlap import Overlap, weighted_dices
from ich_ray.statistics.paper.retest import false_alarms, retest

NAN = float("nan")


def test_each_test_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = [(rng.normal(size=50), rng.normal(0.1, 1, 50)) for _ in range(3)]
    found = retest(values)
    for of, (a, b) in zip(found.segmentations, values, strict=True):
        expected = stats.ttest_rel(a, b)
        assert (of.t, of.p) == pytest.approx((expected.statistic, expected.pvalue))
    together = stats.ttest_rel(*(np.concatenate(side) for side in zip(*values, strict=True)))
    assert (found.together.t, found.together.p) == pytest.approx(
        (together.statistic, together.pvalue)
    )
    assert found.together.replicates == 150


def equal_models(rng: np.random.Generator, num_slices: int) -> tuple[Overlap, Overlap]:
    """Two models that find as much of each bleed by chance as the other, on the same slices."""
    bleed = rng.integers(50, 400, num_slices)
    overlaps = []
    for _ in range(2):
        found = rng.binomial(bleed, rng.beta(8, 2, num_slices))
        overlaps.append(Overlap(tp=found, fp=rng.poisson(30, num_slices), fn=bleed - found))
    return overlaps[0], overlaps[1]


def p_of_equal_models(rng: np.random.Generator, replicates: int) -> float:
    first, second = equal_models(rng, 100)
    weights = rng.multinomial(100, np.full(100, 1 / 100), replicates)
    return retest([(weighted_dices(first, weights), weighted_dices(second, weights))]).together.p


@pytest.mark.parametrize("replicates", [50, 150])
def test_equal_models_are_called_different_most_of_the_time(replicates: int) -> None:
    rng = np.random.default_rng(1)
    wrong = np.mean([p_of_equal_models(rng, replicates) < 0.05 for _ in range(300)])
    assert wrong > 0.7
    assert wrong == pytest.approx(false_alarms(replicates), abs=0.08)


def test_more_resamples_of_the_same_slices_make_false_alarms_surer() -> None:
    rates = [false_alarms(replicates) for replicates in (2, 10, 50, 150, 10**6)]
    assert rates == sorted(rates)
    assert rates[2] == pytest.approx(0.78, abs=0.005)
    assert rates[-1] > 0.99
    assert math.isnan(false_alarms(1))


def test_a_resample_without_a_figure_of_either_model_is_left_out() -> None:
    found = retest([(np.array([0.5, 0.75, NAN, 1.0]), np.array([0.5, 0.5, 0.5, NAN]))]).together
    assert (found.replicates, found.difference) == (2, 0.125)
    assert found.false_alarms == false_alarms(2)


@pytest.mark.parametrize(
    ("differences", "t", "p"),
    [
        ([0.0, 0.0, 0.0], 0.0, 1.0),
        ([-0.1, -0.1, -0.1], -math.inf, 0.0),
        ([0.5, NAN], NAN, NAN),
        ([NAN, NAN], NAN, NAN),
    ],
)
def test_what_does_not_vary_is_certain_and_one_resample_says_nothing(
    differences: list[float], t: float, p: float
) -> None:
    found = retest([(np.array(differences), np.zeros(len(differences)))]).together
    assert (found.t, found.p) == pytest.approx((t, p), nan_ok=True)
