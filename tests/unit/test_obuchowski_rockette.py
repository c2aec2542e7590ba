"""Trainings and patients at once, against a published analysis and against their limiting cases.

The published one is of Van Dyke's data, 5 readers of 114 patients by two techniques, 45 of whom
have a dissection: RJafroc's book, "Hand calculation" (commit 11cd7348), whose figures its author
checked against Iowa's OR-DBM MRMC 2.51.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from ich_ray.statistics.seeds.obuchowski_rockette import (
    Scatter,
    bounds,
    components_of,
    difference_scatter,
    equality_of,
    mean_scatter,
    p_value,
)

PRINTED = np.array(
    [[0.9196, 0.8588, 0.9039, 0.9731, 0.8298], [0.9478, 0.9053, 0.9217, 0.9994, 0.9300]]
)
FIGURES = np.rint(PRINTED * 2 * 45 * 69) / (2 * 45 * 69)
"""An empirical AUC is a number of half pairs: four digits tell which."""

ERROR_OF_TECHNIQUE, COV2_OF_TECHNIQUE = (0.0010141, 0.0005905), (0.0004840, 0.0002042)
COV1, COV3 = 3.4661371e-4, 2.3902837e-4


def van_dyke() -> np.ndarray:
    """Covariances whose averages are those that are printed."""
    errors = np.full((2, 5, 2, 5), COV3)
    for technique in range(2):
        errors[technique, :, technique, :] = COV2_OF_TECHNIQUE[technique]
        for reader in range(5):
            errors[technique, reader, technique, reader] = ERROR_OF_TECHNIQUE[technique]
            errors[technique, reader, 1 - technique, reader] = COV1
    return errors


def test_the_published_components_are_found() -> None:
    found = components_of(FIGURES, van_dyke())
    assert found.error == pytest.approx(8.0228827e-4, rel=1e-4)
    assert (found.cov1, found.cov3) == (pytest.approx(COV1), pytest.approx(COV3))
    assert found.cov2 == pytest.approx(3.4407483e-4, rel=1e-3)
    assert found.place == pytest.approx(0.0015350, abs=5e-8)
    assert found.seed == pytest.approx(0.0002004, abs=5e-8)


def test_the_published_test_of_equality_is_found() -> None:
    found = equality_of(FIGURES, van_dyke())
    assert found.f == pytest.approx(4.456, abs=5e-4)
    assert found.numerator == 1
    assert found.denominator == pytest.approx(15.26, abs=5e-3)
    assert found.p == pytest.approx(0.05167, abs=2e-5)


def test_the_published_difference_is_found() -> None:
    scatter = difference_scatter(FIGURES, van_dyke())
    estimate = float(FIGURES[0].mean() - FIGURES[1].mean())
    assert bounds(estimate, scatter) == pytest.approx((-0.0879595, 0.0003589), abs=2e-6)
    assert p_value(estimate, scatter) == pytest.approx(0.05167, abs=2e-5)
    # Of these readers alone, printed as FRRC.
    assert math.sqrt(scatter.of_patients) == pytest.approx(0.01872, abs=5e-6)
    patients = replace(scatter, variance=scatter.of_patients, freedom=math.inf)
    assert bounds(estimate, patients) == pytest.approx((-0.08049, -0.007115), abs=1e-5)
    assert p_value(estimate, patients) == pytest.approx(0.01928, abs=1e-5)
    assert scatter.of_seeds == pytest.approx(2 / 5 * 0.0002004, abs=5e-8)


@pytest.mark.parametrize(
    ("technique", "printed"),
    [
        (0, (0.03317, 12.74, 0.8252, 0.9689, 0.02429)),
        (1, (0.02157, 12.71, 0.8941, 0.9875, 0.01678)),
    ],
)
def test_the_published_means_are_found(technique: int, printed: tuple[float, ...]) -> None:
    error, freedom, low, high, of_patients = printed
    of_one = van_dyke()[technique, :, technique, :]
    scatter = mean_scatter(FIGURES[technique], of_one)
    assert math.sqrt(scatter.variance) == pytest.approx(error, abs=5e-6)
    assert scatter.freedom == pytest.approx(freedom, abs=1e-2)
    assert bounds(float(FIGURES[technique].mean()), scatter) == pytest.approx((low, high), abs=6e-5)
    assert math.sqrt(scatter.of_patients) == pytest.approx(of_patients, abs=5e-6)


figures = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 4), st.integers(2, 5)), elements=st.floats(0.1, 0.9)
)


@given(figures)
def test_where_patients_do_not_vary_it_is_scipy_s_paired_t_test(figures: np.ndarray) -> None:
    first, second = figures[:2]
    scatter = difference_scatter(figures[:2], np.zeros((2, figures.shape[1]) * 2))
    if scatter.variance < 1e-12:
        return
    theirs = stats.ttest_rel(first, second)
    estimate = float(first.mean() - second.mean())
    assert scatter.freedom == pytest.approx(figures.shape[1] - 1)
    assert p_value(estimate, scatter) == pytest.approx(theirs.pvalue, abs=1e-9)
    assert bounds(estimate, scatter) == pytest.approx(tuple(theirs.confidence_interval()), abs=1e-9)
    assert scatter.of_patients == 0


@given(figures)
def test_where_patients_do_not_vary_a_mean_is_scipy_s_t_interval(figures: np.ndarray) -> None:
    seeds = figures.shape[1]
    scatter = mean_scatter(figures[0], np.zeros((seeds, seeds)))
    if scatter.variance < 1e-12:
        return
    theirs = stats.ttest_1samp(figures[0], 0.0).confidence_interval()
    assert bounds(float(figures[0].mean()), scatter) == pytest.approx(tuple(theirs), abs=1e-9)


@given(figures)
def test_where_trainings_are_equal_patients_alone_decide(figures: np.ndarray) -> None:
    recipes, seeds = figures.shape
    equal = np.repeat(figures[:, :1], seeds, axis=1)
    rng = np.random.default_rng(recipes * 10 + seeds)
    root = rng.normal(size=(recipes, recipes))
    of_recipes = root @ root.T
    errors = np.broadcast_to(of_recipes[:, None, :, None], (recipes, seeds) * 2)
    scatter = difference_scatter(equal[:2], errors[:2, :, :2])
    expected = of_recipes[0, 0] + of_recipes[1, 1] - 2 * of_recipes[0, 1]
    assert scatter.variance == pytest.approx(expected)
    assert math.isinf(scatter.freedom) or scatter.freedom > 1e6
    assert scatter.of_patients == pytest.approx(expected)
    one = difference_scatter(equal[:2, :1], errors[:2, :1, :2, :1])
    assert one.variance == pytest.approx(expected)
    assert math.isinf(one.freedom)
    assert math.isnan(one.of_seeds)


@given(figures, st.integers(0, 2**31))
def test_swapping_recipes_or_reordering_seeds_changes_nothing(
    figures: np.ndarray, seed: int
) -> None:
    pair, seeds = figures[:2], figures.shape[1]
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2 * seeds, 2 * seeds))
    errors = (root @ root.T).reshape(2, seeds, 2, seeds) / 1000
    found = difference_scatter(pair, errors)
    if found.seeds_alone < 1e-12:
        return
    order = rng.permutation(seeds)
    again = difference_scatter(pair[::-1, order], errors[::-1, order][:, :, ::-1][:, :, :, order])
    for name in ("variance", "freedom", "of_seeds", "of_patients", "seeds_alone"):
        assert getattr(again, name) == pytest.approx(getattr(found, name))


def test_seeds_and_patients_together_are_wider_than_patients_alone_where_seeds_vary() -> None:
    scatter = difference_scatter(FIGURES, van_dyke())
    assert scatter.of_seeds + scatter.of_patients == pytest.approx(scatter.variance)


def test_a_difference_without_any_scatter_is_told_from_none() -> None:
    nothing = Scatter(
        variance=0.0, freedom=math.inf, of_seeds=0.0, of_patients=0.0, seeds_alone=0.0
    )
    assert (p_value(0.0, nothing), p_value(0.1, nothing)) == (1.0, 0.0)


def test_three_recipes_of_one_training_each_are_tested_over_patients_by_chi_squared() -> None:
    rng = np.random.default_rng(3)
    figures, spread = np.array([[0.8], [0.82], [0.85]]), rng.uniform(0.5, 1)
    # Compound symmetry, under which the statistic is chi-squared exactly.
    errors = (1e-4 * (spread * np.eye(3) + 1)).reshape(3, 1, 3, 1)
    found = equality_of(figures, errors)
    statistic = ((figures - figures.mean()) ** 2).sum() / (1e-4 * spread)
    assert found.p == pytest.approx(stats.chi2.sf(statistic, 2))
