"""Bins of equal mass hold equal scores together, and their distances are those of scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from ich_ray.errors import QualityError
from ich_ray.statistics.calibration.reliability import expected_calibration_error, reliability_bins
from ich_ray.statistics.proportions import wilson
from tests.unit.calibrated_exams import Exams, calibrated, exams

few = settings(max_examples=30)  # the whole unit tier has ten seconds


@pytest.mark.parametrize(("size", "bins"), [(100, 10), (200, 10), (1000, 10), (60, 6), (20, 2)])
def test_bins_are_those_of_scikit_learn_where_no_scores_are_equal(size: int, bins: int) -> None:
    scores, labels, _ = calibrated(1, patients=size)
    observed, said = calibration_curve(labels, scores, n_bins=bins, strategy="quantile")
    found = reliability_bins(scores, labels)
    assert [one.observed.estimate for one in found] == pytest.approx(observed)
    assert [one.mean_score for one in found] == pytest.approx(said)
    assert [one.exams for one in found] == [size // bins] * bins
    distance = np.mean(np.abs(observed - said))
    assert expected_calibration_error(found) == pytest.approx(distance)


@few
@given(st.integers(2, 400))
def test_bins_of_unequal_scores_differ_by_one_exam_at_most(size: int) -> None:
    found = reliability_bins(np.arange(size) / size, np.arange(size) == 0)
    masses = [one.exams for one in found]
    assert len(found) == min(10, max(1, size // 10))
    assert max(masses) - min(masses) <= 1
    assert sum(masses) == size


@few
@given(exams(), st.integers(1, 9))
def test_equal_scores_are_in_one_bin(given_exams: Exams, times: int) -> None:
    scores, labels = (np.tile(values, times) for values in given_exams[:2])
    found = reliability_bins(scores, labels)
    assert sum(one.exams for one in found) == len(scores)
    rest, edge = np.sort(scores), -1.0
    for one in found:
        mine, rest = rest[: one.exams], rest[one.exams :]
        assert edge < mine[0]
        assert one.mean_score == pytest.approx(mine.mean())
        edge = mine[-1]
        positive = int(labels[(scores >= mine[0]) & (scores <= edge)].sum())
        assert one.observed.estimate == positive / one.exams
        assert (one.observed.low, one.observed.high) == wilson(positive, one.exams)


def test_many_equal_scores_are_put_where_their_middle_is() -> None:
    # Of 100 exams 12 score the same, and reach from the first ten into the second.
    for below, masses in ((6, [6, 14]), (3, [15, 5])):
        scores = np.arange(100) / 100
        scores[below : below + 12] = scores[below]
        found = reliability_bins(scores, np.arange(100) % 2 == 0)
        assert [one.exams for one in found] == [*masses, *[10] * 8]


def test_a_bin_whose_exams_are_all_drawn_elsewhere_is_dropped() -> None:
    scores = np.concatenate([np.zeros(55), np.arange(1, 46) / 50])
    found = reliability_bins(scores, np.arange(100) % 2 == 0)
    assert [one.exams for one in found] == [55, 5, 10, 10, 10, 10]


def test_the_order_of_the_exams_is_nothing() -> None:
    scores, labels, _ = calibrated(2)
    found = reliability_bins(scores, labels)
    back = reliability_bins(scores[::-1], labels[::-1])
    assert [one.observed for one in back] == [one.observed for one in found]


def test_scores_that_are_off_by_a_tenth_have_that_error() -> None:
    scores = np.repeat([0.2, 0.7], 100)
    labels = np.concatenate([np.arange(100) < 30, np.arange(100) < 60])
    assert expected_calibration_error(reliability_bins(scores, labels)) == pytest.approx(0.1)


def test_a_calibrated_model_has_an_error_that_falls_with_exams() -> None:
    few_exams, many = (
        expected_calibration_error(reliability_bins(*calibrated(3, patients=size)[:2]))
        for size in (200, 20_000)
    )
    assert 0.03 < few_exams < 0.1
    assert many < 0.01


def test_scores_that_are_no_probabilities_are_an_error() -> None:
    with pytest.raises(QualityError, match=r"1 of 2 scores lie outside \[0, 1\]"):
        reliability_bins(np.array([0.5, 3.0]), np.array([True, False]))
