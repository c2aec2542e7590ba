"""Slope and intercept are those of a logistic regression, with patients as clusters."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ich_ray.errors import QualityError
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.calibration.recalibration import (
    LEAST,
    calibration_in_the_large,
    calibration_slope,
    logits,
)
from tests.unit.calibrated_exams import Exams, calibrated, exams

few = settings(max_examples=30)  # the whole unit tier has ten seconds


def sandwich_half_width(
    design: np.ndarray, p: np.ndarray, labels: np.ndarray, patient: np.ndarray
) -> float:
    """Of the last coefficient, as a textbook writes it, patient by patient."""
    bread = np.linalg.inv(sum(q * (1 - q) * np.outer(z, z) for q, z in zip(p, design, strict=True)))
    meat = np.zeros_like(bread)
    for one in set(patient.tolist()):
        mine = patient == one
        score = ((labels - p)[mine, None] * design[mine]).sum(axis=0)
        meat += np.outer(score, score)
    patients = len(set(patient.tolist()))
    variance = bread @ meat @ bread * patients / (patients - 1)
    return float(stats.t.ppf(0.975, patients - 1) * math.sqrt(variance[-1, -1]))


def half_width(found: Interval) -> float:
    assert found.high - found.estimate == pytest.approx(found.estimate - found.low)
    return (found.high - found.low) / 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("of_each", [1, 3])
def test_the_slope_is_that_of_scikit_learn_with_a_sandwich_of_patients(
    seed: int, of_each: int
) -> None:
    scores, labels, patient = calibrated(seed, patients=60, of_each=of_each, slope=0.5)
    x = np.log(scores / (1 - scores))
    model = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(
        x[:, None], labels
    )
    found = calibration_slope(scores, labels, patient=patient)
    assert found.estimate == pytest.approx(model.coef_[0, 0], rel=1e-6)
    design = np.stack([np.ones_like(x), x], axis=1)
    p = model.predict_proba(x[:, None])[:, 1]
    expected = sandwich_half_width(design, p, labels, patient)
    assert half_width(found) == pytest.approx(expected, rel=1e-5)
    if of_each == 1:
        assert calibration_slope(scores, labels) == found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("of_each", [1, 3])
def test_the_intercept_is_the_likeliest_shift_with_a_sandwich_of_patients(
    seed: int, of_each: int
) -> None:
    scores, labels, patient = calibrated(seed, patients=60, of_each=of_each)
    x = np.log(scores / (1 - scores)) + 1.5

    def surprise(shift: float) -> float:
        return float(np.logaddexp(0, np.where(labels, -1, 1) * (shift + x)).sum())

    expected = minimize_scalar(surprise, bounds=(-20, 20), options={"xatol": 1e-9}).x
    found = calibration_in_the_large(expit(x), labels, patient=patient)
    assert found.estimate == pytest.approx(expected, abs=1e-6)
    p = expit(x + found.estimate)
    expected = sandwich_half_width(np.ones((len(x), 1)), p, labels, patient)
    assert half_width(found) == pytest.approx(expected, rel=1e-6)
    if of_each == 1:
        assert calibration_in_the_large(expit(x), labels) == found


@few
@given(exams())
def test_the_intercept_makes_as_many_exams_positive_as_are(given_exams: Exams) -> None:
    found = calibration_in_the_large(given_exams.scores, given_exams.labels)
    expected = expit(logits(given_exams.scores) + found.estimate).sum()
    assert expected == pytest.approx(given_exams.labels.sum(), abs=1e-6)
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)


@few
@given(exams())
def test_swapping_the_classes_mirrors_the_intercept_and_keeps_the_slope(given_exams: Exams) -> None:
    scores, labels, patient = given_exams
    there = calibration_in_the_large(scores, labels, patient=patient)
    back = calibration_in_the_large(1 - scores, ~labels, patient=patient)
    expected = [-back.high, -back.estimate, -back.low]
    got = [there.low, there.estimate, there.high]
    assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)
    there, back = calibration_slope(scores, labels), calibration_slope(1 - scores, ~labels)
    expected = [back.low, back.estimate, back.high]
    got = [there.low, there.estimate, there.high]
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


@few
@given(exams())
def test_the_order_of_the_exams_is_nothing(given_exams: Exams) -> None:
    scores, labels, patient = (values[::-1] for values in given_exams)
    for figure in (calibration_slope, calibration_in_the_large):
        there = figure(given_exams.scores, given_exams.labels, patient=given_exams.patient)
        back = figure(scores, labels, patient=patient + 70)
        expected = [there.low, there.estimate, there.high]
        got = [back.low, back.estimate, back.high]
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


@few
@given(exams())
def test_a_slope_is_finite_unless_a_threshold_separates_the_classes(given_exams: Exams) -> None:
    scores, labels, _ = given_exams
    assume(len(set(scores.tolist())) > 1)
    found = calibration_slope(scores, labels).estimate
    # A threshold may tie exams of both classes: those above and below it must be of one each.
    separating = [
        sense
        for at in scores
        for sense in (1, -1)
        if labels[sense * (scores - at) > 0].all() and not labels[sense * (scores - at) < 0].any()
    ]
    assert (
        (math.isinf(found), np.sign(found)) == (True, separating[0])
        if separating
        else (math.isfinite(found))
    )


def test_scores_that_are_too_extreme_have_a_slope_below_one() -> None:
    for slope in (0.5, 1.0, 2.0):
        found = calibration_slope(*calibrated(1, patients=4000, slope=slope)[:2])
        assert found.low < slope < found.high
        assert found.high - found.low < 0.15 * slope


def test_scores_at_too_high_odds_have_an_intercept_below_zero() -> None:
    scores, labels, _ = calibrated(2, patients=4000)
    too_high = expit(np.log(scores / (1 - scores)) + 0.7)
    right, found = (calibration_in_the_large(s, labels) for s in (scores, too_high))
    assert right.low < 0 < right.high
    assert found.estimate == pytest.approx(right.estimate - 0.7, abs=1e-9)


def test_an_exam_that_is_read_twice_adds_nothing() -> None:
    scores, labels, patient = calibrated(3)
    twice = np.repeat(np.arange(200), 2)
    for figure in (calibration_slope, calibration_in_the_large):
        once, found = (
            figure(scores, labels),
            figure(scores[twice], labels[twice], patient=patient[twice]),
        )
        assert (found.low, found.high) == pytest.approx((once.low, once.high), abs=1e-9)
        assert figure(scores[twice], labels[twice]).low > once.low + 0.05


def of(scores: list[float], labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(scores), np.array(labels, bool)


@pytest.mark.parametrize(
    ("scores", "labels", "slope"),
    [
        ([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], math.inf),
        ([0.1, 0.2, 0.6, 0.9], [1, 1, 0, 0], -math.inf),
        ([0.1, 0.6, 0.6, 0.9], [0, 0, 1, 1], math.inf),
        ([0.6, 0.6, 0.6, 0.9], [0, 0, 1, 1], math.inf),
        ([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1], math.inf),
        ([0.0, LEAST / 9, 1.0], [1, 0, 1], math.inf),  # both are LEAST
        ([0.3, 0.3, 0.3], [0, 1, 0], math.nan),
        ([0.3, 0.3 + 1e-8, 0.3 - 1e-8], [0, 1, 0], math.nan),
    ],
)
def test_a_slope_that_is_not_finite_has_no_bounds(
    scores: list[float], labels: list[int], slope: float
) -> None:
    found = calibration_slope(*of(scores, labels))
    np.testing.assert_equal([found.estimate, found.low, found.high], [slope, math.nan, math.nan])


def test_a_slope_that_is_all_but_infinite_has_no_bounds() -> None:
    # Ranked rightly but for two exams, whose scores differ in the fifth digit.
    apart = np.array([-0.4, -3e-5, -2e-5, -1e-5, 0, 1e-5, 2e-5, 0.4])
    found = calibration_slope(*of((0.5 + apart).tolist(), [0, 0, 0, 1, 0, 1, 1, 1]))
    np.testing.assert_equal([found.estimate, found.low, found.high], [math.inf, math.nan, math.nan])


def test_one_exam_across_the_threshold_makes_the_slope_finite() -> None:
    found = calibration_slope(*of([0.1, 0.2, 0.6, 0.7, 0.9], [0, 0, 1, 0, 1]))
    assert 0 < found.estimate < 10
    assert found.low < 0 < found.high


def test_scores_of_0_and_1_have_the_odds_of_one_in_sixteen_million() -> None:
    scores, labels = of([0.0] * 4 + [1.0] * 4, [0, 0, 0, 1, 1, 1, 1, 0])
    expected = math.log(3) / math.log(2**24 - 1)
    assert calibration_slope(scores, labels).estimate == pytest.approx(expected, rel=1e-9)


def test_sure_and_right_scores_say_little_of_the_intercept() -> None:
    labels = np.arange(200) < 100
    found = calibration_in_the_large(np.where(labels, 0.9999, 0.0001), labels)
    assert found.estimate == pytest.approx(0, abs=1e-6)
    # 200 exams at odds of 1 to 10^4: shifted by 4, not one error in ten would be expected yet.
    assert found.high > 4


def test_exams_of_one_patient_have_no_interval() -> None:
    scores, labels, _ = calibrated(4)
    for figure in (calibration_slope, calibration_in_the_large):
        found = figure(scores, labels, patient=np.full(200, 7))
        assert found.estimate == figure(scores, labels).estimate
        assert math.isnan(found.low)
        assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.2, 0.4], [0, 0], "got 0 positive and 2 negative exams; widen the selection"),
        ([0.2, 0.4], [1, 1], "got 2 positive and 0 negative exams; widen the selection"),
        ([0.2, math.nan], [0, 1], "1 of 2 scores are NaN; predict again"),
        ([-0.1, 1.1], [0, 1], r"2 of 2 scores lie outside \[0, 1\].* turn logits into"),
        ([math.inf, 0.5], [0, 1], "1 of 2 scores lie outside"),
    ],
)
def test_exams_that_tell_nothing_of_calibration_are_an_error(
    scores: list[float], labels: list[int], message: str
) -> None:
    for figure in (calibration_slope, calibration_in_the_large):
        with pytest.raises(QualityError, match=message):
            figure(*of(scores, labels))
