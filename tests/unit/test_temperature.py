"""A temperature makes the tuning exams likeliest, and divides logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from ich_ray.errors import QualityError
from ich_ray.statistics.calibration.recalibration import calibration_slope
from ich_ray.statistics.calibration.temperature import (
    COLDEST,
    HOTTEST,
    fitted_temperature,
    tempered,
)
from ich_ray.statistics.roc import auc
from tests.unit.calibrated_exams import Exams, calibrated, exams

few = settings(max_examples=30)  # the whole unit tier has ten seconds


@pytest.mark.parametrize("slope", [0.2, 1.0, 3.0])
def test_the_temperature_has_the_least_log_loss(slope: float) -> None:
    scores, labels, _ = calibrated(1, slope=slope)

    def loss(log_temperature: float) -> float:
        return float(log_loss(labels, tempered(scores, float(np.exp(log_temperature)))))

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), options={"xatol": 1e-7}).x)
    assert fitted_temperature(scores, labels) == pytest.approx(expected, rel=1e-4)


def test_scores_that_are_twice_too_extreme_want_a_temperature_of_two() -> None:
    scores, labels, _ = calibrated(2, patients=4000, slope=0.5)
    assert fitted_temperature(scores, labels) == pytest.approx(2, rel=0.1)


@few
@given(exams())
def test_no_temperature_within_bounds_is_likelier(given_exams: Exams) -> None:
    scores, labels, _ = given_exams
    found = fitted_temperature(scores, labels)
    assert COLDEST <= found <= HOTTEST
    least = log_loss(labels, tempered(scores, found))
    for other in np.clip([found / 1.1, found * 1.1, COLDEST, HOTTEST], COLDEST, HOTTEST):
        assert log_loss(labels, tempered(scores, float(other))) >= least - 1e-9


def test_tempered_exams_want_no_other_temperature_and_have_so_much_more_of_a_slope() -> None:
    scores, labels, _ = calibrated(3, slope=0.3)
    found = fitted_temperature(scores, labels)
    after = tempered(scores, found)
    assert fitted_temperature(after, labels) == pytest.approx(1, abs=1e-6)
    before = calibration_slope(scores, labels).estimate
    assert calibration_slope(after, labels).estimate == pytest.approx(before * found, rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "labels", "temperature"),
    [
        ([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], COLDEST),
        ([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1], COLDEST),
        ([0.1, 0.2, 0.6, 0.9], [1, 1, 0, 0], HOTTEST),
        ([0.1, 0.1, 0.9, 0.9], [0, 1, 0, 1], HOTTEST),
        ([0.5, 0.5, 0.5], [0, 1, 0], 1.0),
    ],
)
def test_a_temperature_of_hopeless_exams_is_bounded(
    scores: list[float], labels: list[int], temperature: float
) -> None:
    assert fitted_temperature(np.array(scores), np.array(labels, bool)) == temperature


@few
@given(exams(), st.floats(0.5, HOTTEST))
def test_a_temperature_ranks_exams_as_before(given_exams: Exams, temperature: float) -> None:
    scores, labels, _ = given_exams
    assert auc(tempered(scores, temperature), labels) == auc(scores, labels)


def test_a_temperature_of_one_changes_nothing_but_0_and_1() -> None:
    scores = np.array([0.0, 1e-6, 0.3, 1.0])
    assert tempered(scores, 1.0) == pytest.approx(scores, abs=2**-23)


def test_scores_that_are_no_probabilities_are_an_error() -> None:
    with pytest.raises(QualityError, match=r"1 of 2 scores lie outside \[0, 1\]"):
        tempered(np.array([0.5, -3.0]), 2.0)
    with pytest.raises(QualityError, match="1 of 2 scores are NaN"):
        tempered(np.array([0.5, np.nan]), 2.0)
    with pytest.raises(QualityError, match="got 2 positive and 0 negative exams"):
        fitted_temperature(np.array([0.5, 0.7]), np.array([True, True]))
