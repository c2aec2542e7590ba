"""How far scores are probabilities: the Brier score, and everything that is told of a model."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from ich_ray.errors import QualityError
from ich_ray.statistics.calibration.calibration import brier, calibration, model_calibration
from ich_ray.statistics.calibration.recalibration import calibration_in_the_large, calibration_slope
from ich_ray.statistics.calibration.temperature import fitted_temperature, tempered
from ich_ray.statistics.operating_points import Scored
from tests.unit.calibrated_exams import Exams, calibrated, exams

few = settings(max_examples=30)  # the whole unit tier has ten seconds


def scored(seed: int, *, slope: float, patients: int = 200) -> Scored:
    scores, labels, _ = calibrated(seed, slope=slope, patients=patients)
    return Scored(scores=scores, labels=labels)


@few
@given(exams())
def test_the_brier_score_is_that_of_scikit_learn(given_exams: Exams) -> None:
    scores, labels, patient = given_exams
    found = brier(scores, labels, patient=patient)
    assert found.estimate == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    if not math.isnan(found.low):
        assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize("of_each", [1, 3])
def test_the_interval_of_the_brier_score_is_a_sandwich_of_patients_on_the_logit(
    of_each: int,
) -> None:
    scores, labels, patient = calibrated(1, patients=40, of_each=of_each)
    squares = (scores - labels) ** 2
    sums = [(squares - squares.mean())[patient == one].sum() for one in range(40)]
    error = math.sqrt(sum(one**2 for one in sums) * 40 / 39) / len(squares)
    half_width = stats.t.ppf(0.975, 39) * error / (squares.mean() * (1 - squares.mean()))
    found = brier(scores, labels, patient=patient)
    expected = expit(logit(squares.mean()) + np.array([-half_width, half_width]))
    assert (found.low, found.high) == pytest.approx(expected.tolist(), abs=1e-12)
    if of_each == 1:
        assert brier(scores, labels) == found


def test_a_brier_score_of_nothing_or_all_has_no_width() -> None:
    labels = np.array([True, False, True])
    for scores, expected in ((labels * 1.0, 0.0), (1.0 - labels, 1.0)):
        found = brier(scores, labels)
        assert (found.low, found.estimate, found.high) == (expected, expected, expected)


def test_a_brier_score_of_one_patient_has_no_interval() -> None:
    found = brier(np.array([0.2, 0.6]), np.array([False, True]), patient=np.array([5, 5]))
    np.testing.assert_equal([found.low, found.high], [math.nan, math.nan])
    assert found.estimate == pytest.approx(0.1)


def test_saying_the_prevalence_of_every_exam_is_what_a_brier_score_is_held_against() -> None:
    labels = np.arange(40) < 10
    found = calibration(np.full(40, 0.25), labels)
    assert found.brier.estimate == pytest.approx(found.brier_of_prevalence, abs=1e-15)
    assert found.brier_of_prevalence == 0.1875
    assert found.expected_calibration_error == 0
    assert found.intercept.estimate == pytest.approx(0, abs=1e-9)
    assert math.isnan(found.slope.estimate)
    assert not found.separated


def test_every_interval_knows_of_patients() -> None:
    scores, labels, patient = calibrated(9, patients=50, of_each=4)
    found = calibration(scores, labels, patient=patient)
    assert found.brier == brier(scores, labels, patient=patient)
    assert found.slope == calibration_slope(scores, labels, patient=patient)
    assert found.intercept == calibration_in_the_large(scores, labels, patient=patient)


def test_separated_classes_are_told() -> None:
    labels = np.array([False, False, True, True])
    for sign in (1, -1):
        assert calibration(0.5 + sign * 0.3 * (labels - 0.5), labels).separated


def test_scores_are_counted_in_twenty_parts_for_a_histogram() -> None:
    scores = np.array([0.0, 0.01, 0.26, 0.96, 1.0, 1.0])
    found = calibration(scores, np.arange(6) > 2)
    counts = dict(enumerate(found.score_counts))
    assert len(counts) == 20
    assert {part: count for part, count in counts.items() if count} == {0: 2, 5: 1, 19: 3}
    assert (found.exams, found.positive_exams) == (6, 3)


def coverage(*, of_each: int, blind: bool = False) -> dict[str, float]:
    """Return how often the intervals of 200 calibrated corpora of 200 exams hold the truth."""
    logits = 2 * stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000) - 1
    truths = {"brier": float(np.mean(expit(logits) * expit(-logits))), "slope": 1, "intercept": 0}
    held = []
    for seed in range(200):
        scores, labels, patient = calibrated(seed, patients=200 // of_each, of_each=of_each)
        found = calibration(scores, labels, patient=None if blind else patient)
        intervals = {name: getattr(found, name) for name in truths}
        held.append(
            [intervals[name].low <= truths[name] <= intervals[name].high for name in truths]
        )
    return dict(zip(truths, np.mean(held, axis=0).tolist(), strict=True))


@pytest.mark.parametrize("of_each", [1, 4])
def test_intervals_hold_the_truth_as_often_as_they_say(of_each: int) -> None:
    for name, share in coverage(of_each=of_each).items():
        assert 0.91 <= share <= 0.985, name


def test_intervals_that_do_not_know_of_patients_are_too_narrow() -> None:
    assert coverage(of_each=4, blind=True)["intercept"] < 0.87


def test_a_temperature_is_fixed_on_the_tuning_exams_and_judged_on_others() -> None:
    tuning, test = (scored(seed, slope=0.3, patients=2000) for seed in (5, 6))
    patient = np.arange(2000) // 2
    found = model_calibration("a", tuning=tuning, test=test, patient=patient)
    temperature = fitted_temperature(tuning.scores, tuning.labels)
    assert (found.model, found.temperature) == ("a", temperature)
    assert found.test == calibration(test.scores, test.labels, patient=patient)
    expected = calibration(tempered(test.scores, temperature), test.labels, patient=patient)
    assert found.tempered == expected
    assert expected.brier.estimate < found.test.brier.estimate
    assert expected.slope.estimate == pytest.approx(1, abs=0.1)


def test_tuning_exams_of_one_class_fix_no_temperature() -> None:
    test = scored(7, slope=1)
    alone = Scored(scores=np.array([0.2, 0.9]), labels=np.array([True, True]))
    found = model_calibration("a", tuning=alone, test=test)
    assert (found.temperature, found.tempered) == (None, None)
    assert found.test == calibration(test.scores, test.labels)


def test_scores_of_32_bits_are_as_good() -> None:
    scores, labels, _ = calibrated(8)
    exact = dataclasses.asdict(calibration(scores, labels))
    rounded = dataclasses.asdict(calibration(scores.astype(np.float32), labels))
    for name in ("brier", "slope", "intercept"):
        assert rounded[name] == pytest.approx(exact[name], rel=1e-5, abs=1e-6)


def test_exams_that_tell_nothing_of_calibration_are_an_error() -> None:
    labels = np.array([True, False])
    for figure in (brier, calibration):
        with pytest.raises(QualityError, match="1 of 2 scores are NaN; predict again"):
            figure(np.array([0.2, np.nan]), labels)
        with pytest.raises(QualityError, match="1 of 2 scores lie outside"):
            figure(np.array([0.2, 1.5]), labels)
        with pytest.raises(QualityError, match="got 0 positive and 2 negative exams"):
            figure(np.array([0.2, 0.5]), ~labels & labels)
