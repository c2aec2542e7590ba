"""Volumes that agree: published examples, and what may not make them look better."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.masks.agreement import (
    BlandAltman,
    absolute_agreement,
    bland_altman,
    volume_agreement,
)

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""First readings of two peak flow meters, l/min: Bland and Altman 1986, table 1."""

JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Ratings of six targets: Shrout and Fleiss 1979, table 2."""

volumes = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=3, max_size=12)


def of(first: list[float], second: list[float], patient: list[int] | None = None) -> BlandAltman:
    whose = np.arange(len(first)) if patient is None else np.array(patient)
    return bland_altman(np.array(first, float), np.array(second, float), whose)


def rounded(interval: Interval) -> tuple[float, float, float]:
    return round(interval.estimate, 1), round(interval.low, 1), round(interval.high, 1)


def test_peak_flow_meters_agree_as_bland_and_altman_have_it() -> None:
    found = of(WRIGHT, MINI)
    # They print -2.1, from -22.0 to 17.8; and a standard deviation of 38.8.
    assert rounded(found.bias) == (-2.1, -22.0, 17.8)
    half_width = (found.upper.estimate - found.lower.estimate) / 2
    assert half_width / 1.959964 == pytest.approx(38.8, abs=0.05)
    assert found.within == 16 / 17
    # They print a standard error of 16.3 for the limits, 3 s2 / n, with t = 2.12.
    assert found.upper.high - found.upper.estimate == pytest.approx(2.12 * 16.3, rel=0.05)
    assert found.lower.estimate - found.lower.low == pytest.approx(2.12 * 16.3, rel=0.05)


def test_exams_of_one_patient_do_not_add_certainty() -> None:
    once = of(WRIGHT, MINI)
    twice = of(WRIGHT * 2, MINI * 2, list(range(17)) * 2)
    assert twice.bias.low == pytest.approx(once.bias.low)
    assert twice.bias.high == pytest.approx(once.bias.high)
    apart = of(WRIGHT * 2, MINI * 2)
    assert apart.bias.low > twice.bias.low + 3


def test_a_wild_difference_widens_the_limits_intervals_beyond_the_normal_ones() -> None:
    calm = [*([1.0, -1.0] * 30), 40.0]
    found = of(calm, [0.0] * 61)
    spread = float(np.std(calm, ddof=1))
    normal = 2.0003 * spread * math.sqrt(1 / 61 + 1.96**2 / (2 * 60))
    assert found.upper.high - found.upper.estimate > 1.5 * normal
    assert found.within == 60 / 61


@given(volumes)
def test_turned_round_the_differences_change_their_sign(pairs: list[tuple[float, float]]) -> None:
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    found, turned = of(first, second), of(second, first)
    assert turned.bias.estimate == pytest.approx(-found.bias.estimate, abs=1e-9)
    assert turned.lower.low == pytest.approx(-found.upper.high, abs=1e-7)
    assert turned.lower.high == pytest.approx(-found.upper.low, abs=1e-7)
    assert turned.within == found.within


def test_a_model_that_is_always_off_by_the_same_has_limits_without_width() -> None:
    found = of([3.1, 8.1, 20.1], [3.0, 8.0, 20.0])
    for one in (found.bias, found.lower, found.upper):
        assert (one.estimate, one.low, one.high) == pytest.approx((0.1, 0.1, 0.1))
    # The last digit tells the first from the others, and is no outlier.
    assert of([math.nextafter(1.0, 2.0), *([1.0] * 30)], [0.0] * 31).within == 1


def test_judges_agree_as_shrout_and_fleiss_have_it() -> None:
    found = absolute_agreement(np.array(JUDGES, float))
    assert round(found.estimate, 2) == 0.29
    # Bounds as the R package psych gives them for ICC2.
    assert (round(found.low, 3), round(found.high, 3)) == (0.019, 0.761)


def squares_left(ratings: np.ndarray, *, exams: bool, raters: bool) -> float:
    """Sum of squares that a linear model of these effects does not explain."""
    num_exams, num_raters = ratings.shape
    of_exam, of_rater = np.divmod(np.arange(ratings.size), num_raters)
    columns = [np.ones((ratings.size, 1))]
    if exams:
        columns.append(np.eye(num_exams)[of_exam])
    if raters:
        columns.append(np.eye(num_raters)[of_rater])
    design, values = np.hstack(columns), ratings.ravel()
    return float(np.sum((values - design @ np.linalg.lstsq(design, values)[0]) ** 2))


@given(st.integers(0, 10_000))
def test_the_icc_is_that_of_an_analysis_of_variance_by_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ratings = rng.normal(0, 2, (7, 1)) + rng.normal(0, 1, (1, 2)) + rng.normal(0, 1, (7, 2))
    none = squares_left(ratings, exams=False, raters=False)
    error = squares_left(ratings, exams=True, raters=True)
    between = (none - squares_left(ratings, exams=True, raters=False)) / 6
    judges = none - squares_left(ratings, exams=False, raters=True)
    expected = (between - error / 6) / (between + error / 6 + 2 * (judges - error / 6) / 7)
    found = absolute_agreement(ratings)
    assert found.estimate == pytest.approx(expected)
    assert found.low <= found.estimate <= found.high


def test_a_constant_error_is_no_agreement_and_the_same_value_is() -> None:
    truth = np.array([1.0, 5.0, 9.0, 30.0])
    same = absolute_agreement(np.column_stack([truth, truth]))
    assert (same.estimate, same.low, same.high) == (1, 1, 1)
    assert absolute_agreement(np.column_stack([truth + 20, truth])).estimate < 0.6


def test_the_interval_of_the_icc_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ratings = rng.normal(0, math.sqrt(0.7), (20, 1)) + rng.normal(0, math.sqrt(0.3), (20, 2))
        found = absolute_agreement(ratings)
        held += found.low <= 0.7 <= found.high
    assert 0.92 < held / 400 < 0.98


def undefined(interval: Interval) -> bool:
    return all(map(math.isnan, (interval.estimate, interval.low, interval.high)))


def test_of_two_exams_nothing_is_said() -> None:
    found = of([1.0, 2.0], [2.0, 4.0])
    assert all(map(undefined, (found.bias, found.lower, found.upper)))
    assert math.isnan(found.within)
    assert undefined(absolute_agreement(np.array([[1.0, 2.0], [2.0, 4.0]])))


def test_one_patient_has_no_interval() -> None:
    found = of([1.0, 2.0, 4.0], [2.0, 4.0, 4.0], [7, 7, 7])
    assert found.bias.estimate == -1
    assert math.isnan(found.bias.low)
    assert math.isnan(found.upper.high)


def test_values_that_never_vary_have_no_icc() -> None:
    assert undefined(absolute_agreement(np.full((5, 2), 3.0)))
    found = absolute_agreement(np.tile([3.0, 4.0], (5, 1)))
    assert found.estimate == 0
    assert math.isnan(found.low)


def test_exams_without_a_bleed_do_not_make_volumes_agree() -> None:
    bleeds = np.array([5.0, 20.0, 40.0, 60.0])
    marked = np.array([7.0, 15.0, 45.0, 50.0])
    alone = volume_agreement("student", marked, bleeds, np.arange(4))
    among = volume_agreement(
        "student",
        np.concatenate([marked, np.zeros(99), [3.0, math.nan]]),
        np.concatenate([bleeds, np.zeros(100), [9.0]]),
        np.arange(105),
    )
    assert among.differences == alone.differences
    assert among.icc == alone.icc
    assert (among.num_without_bleed, among.false_ml, among.num_unknown) == (100, 0.03, 1)
    assert (among.predicted_ml.tolist(), among.reference_ml.tolist()) == (
        marked.tolist(),
        bleeds.tolist(),
    )
    assert math.isnan(alone.false_ml)
