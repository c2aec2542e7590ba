"""The AUC is a share of pairs, exactly; DeLong's interval and the weighted form agree with it."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from ich_ray.errors import QualityError
from ich_ray.statistics import roc

few = settings(max_examples=30)  # the whole unit tier has ten seconds

Exams = tuple[np.ndarray, np.ndarray]


@st.composite
def exams(draw: st.DrawFn, *, of_each_class: int = 1) -> Exams:
    """Heavily tied scores, and labels of both classes."""
    size = draw(st.integers(2 * of_each_class, 40))
    scores = draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    assume(of_each_class <= np.count_nonzero(labels) <= size - of_each_class)
    return np.array(scores) / 4, labels


def resampled_weights(seed: int, *, num_exams: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (2, num_exams))


@few
@given(exams())
def test_auc_is_that_of_scikit_learn(given_exams: Exams) -> None:
    scores, labels = given_exams
    expected = metrics.roc_auc_score(labels, scores)
    assert roc.auc(scores, labels) == pytest.approx(expected, abs=1e-12)


@few
@given(exams())
def test_auc_is_the_share_of_pairs_in_order_and_half_the_ties(given_exams: Exams) -> None:
    scores, labels = given_exams
    margin = scores[labels][:, None] - scores[~labels][None, :]
    assert roc.auc(scores, labels) == float(np.mean((np.sign(margin) + 1) / 2))


@few
@given(exams())
def test_swapping_the_classes_mirrors_the_auc(given_exams: Exams) -> None:
    scores, labels = given_exams
    mirrored = 1 - roc.auc(scores, ~labels)
    assert roc.auc(scores, labels) == pytest.approx(mirrored, abs=1e-15)


@few
@given(exams())
def test_a_monotone_change_of_scale_changes_nothing(given_exams: Exams) -> None:
    scores, labels = given_exams
    assert roc.auc(np.exp(3 * scores) - 7, labels) == roc.auc(scores, labels)


def test_equal_scores_are_worth_a_half_and_infinite_ones_are_only_large() -> None:
    labels = np.array([True, False, False])
    assert roc.auc(np.zeros(3), labels) == 0.5
    infinite = np.array([np.inf, np.inf, -np.inf])
    assert roc.auc(infinite, labels) == 0.75
    assert roc.weighted_aucs(infinite, labels, np.ones((1, 3))).tolist() == [0.75]


@few
@given(exams())
def test_the_curve_is_that_of_scikit_learn_and_its_area_the_auc(given_exams: Exams) -> None:
    scores, labels = given_exams
    curve = roc.roc_curve(scores, labels)
    fpr, tpr, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    area = np.trapezoid(curve.tpr, curve.fpr)
    assert area == pytest.approx(roc.auc(scores, labels), abs=1e-12)


@few
@given(exams(), st.integers(0, 99))
def test_weighted_aucs_are_those_of_scikit_learn(given_exams: Exams, seed: int) -> None:
    scores, labels = given_exams
    weights = resampled_weights(seed, num_exams=len(scores))
    for found, weight in zip(roc.weighted_aucs(scores, labels, weights), weights, strict=True):
        held = weight > 0
        if np.unique(labels[held]).size < 2:
            assert math.isnan(found)
            continue
        expected = metrics.roc_auc_score(labels[held], scores[held], sample_weight=weight[held])
        assert found == pytest.approx(expected, abs=1e-12)


@few
@given(exams(), st.integers(0, 99))
def test_a_weight_is_a_number_of_repeats(given_exams: Exams, seed: int) -> None:
    scores, labels = given_exams
    weights = resampled_weights(seed, num_exams=len(scores))[:1]
    repeated = np.repeat(labels, weights[0])
    assume(0 < np.count_nonzero(repeated) < len(repeated))
    expected = roc.auc(np.repeat(scores, weights[0]), repeated)
    assert roc.weighted_aucs(scores, labels, weights).tolist() == [expected]
    assert roc.weighted_aucs(scores, labels, weights / 4).tolist() == [expected]


def test_weighted_aucs_do_not_depend_on_how_many_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.normal(size=50), rng.random(50) < 0.4
    weights = resampled_weights(3, num_exams=50)
    together = roc.weighted_aucs(scores, labels, weights).tolist()
    monkeypatch.setattr(roc, "VALUES_AT_ONCE", 100)
    assert roc.weighted_aucs(scores, labels, weights).tolist() == together


@few
@given(exams(of_each_class=2))
def test_delong_is_the_variance_of_the_placements(given_exams: Exams) -> None:
    scores, labels = given_exams
    won = (np.sign(scores[labels][:, None] - scores[~labels][None, :]) + 1) / 2
    by_positive, by_negative = won.mean(axis=1), won.mean(axis=0)
    variance = np.var(by_positive, ddof=1) / len(by_positive)
    variance += np.var(by_negative, ddof=1) / len(by_negative)
    found = roc.delong(scores, labels)
    auc = found.estimate
    assert auc == roc.auc(scores, labels)
    if auc in (0.0, 1.0):
        assert (found.low, found.high) == (auc, auc)
        return
    half_width = 1.959963984540054 * math.sqrt(variance) / (auc * (1 - auc))
    odds = auc / (1 - auc)
    for bound, factor in ((found.low, math.exp(-half_width)), (found.high, math.exp(half_width))):
        assert bound == pytest.approx(odds * factor / (1 + odds * factor), abs=1e-12)


def test_delong_has_no_width_at_perfect_separation() -> None:
    found = roc.delong(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    assert (found.low, found.estimate, found.high) == (1.0, 1.0, 1.0)


def test_delong_is_close_to_the_bootstrap() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(400) < 150
    scores = rng.normal(size=400) + 1.5 * labels
    weights = rng.multinomial(400, np.full(400, 1 / 400), size=2000)
    resampled = roc.weighted_aucs(scores, labels, weights)
    found = roc.delong(scores, labels)
    expected = 2 * 1.96 * float(np.std(resampled))
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


@few
@given(exams(of_each_class=2), st.randoms(use_true_random=False))
def test_swapping_the_models_mirrors_the_difference(given_exams: Exams, random: object) -> None:
    scores, labels = given_exams
    other = np.array(random.sample(scores.tolist(), len(scores)))  # type: ignore[attr-defined]
    forth = roc.paired_delong(scores, other, labels)
    back = roc.paired_delong(other, scores, labels)
    assert forth.estimate == -back.estimate
    assert forth.estimate == pytest.approx(
        roc.auc(scores, labels) - roc.auc(other, labels), abs=1e-12
    )
    assert (forth.low, forth.high, forth.p) == (-back.high, -back.low, back.p)
    assert 0 <= forth.p <= 1


def test_the_difference_has_the_textbook_covariance() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(60) < 25
    models = rng.normal(size=(2, 60)).round(1) + labels
    won = (np.sign(models[:, labels][:, :, None] - models[:, ~labels][:, None, :]) + 1) / 2
    covariance = np.cov(won.mean(axis=2)) / 25 + np.cov(won.mean(axis=1)) / 35
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = roc.paired_delong(*models, labels)
    assert found.high - found.estimate == pytest.approx(1.959963984540054 * error, abs=1e-12)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.estimate) / error), abs=1e-12)


def clustered_error(a: np.ndarray, b: np.ndarray, labels: np.ndarray, patient: np.ndarray) -> float:
    """The error of a difference of AUCs as Obuchowski 1997 writes it, patient by patient."""
    won = [(np.sign(s[labels][:, None] - s[~labels][None, :]) + 1) / 2 for s in (a, b)]
    placed = np.zeros(len(labels))
    placed[labels] = (won[0] - won[1]).mean(axis=1)
    placed[~labels] = (won[0] - won[1]).mean(axis=0)
    difference = placed[labels].mean()
    parts = []
    for one in np.unique(patient):
        mine = patient == one
        parts.append(
            [
                placed[mine & kind].sum() - np.count_nonzero(mine & kind) * difference
                for kind in (labels, ~labels)
            ]
        )
    x, y = np.array(parts).T
    m, n = labels.sum(), (~labels).sum()
    with_x, with_y = (len(np.unique(patient[kind])) for kind in (labels, ~labels))
    s_10, s_01 = with_x / ((with_x - 1) * m) * x @ x, with_y / ((with_y - 1) * n) * y @ y
    s_11 = len(x) / (len(x) - 1) * x @ y
    return math.sqrt(s_10 / m + s_01 / n + 2 * s_11 / (m * n))


@pytest.mark.parametrize("seed", range(5))
def test_patients_with_several_exams_are_clusters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 20, 60)
    labels = rng.random(60) < 0.4
    a, b = rng.normal(size=(2, 20))[:, patient].round(1) + rng.normal(size=(2, 60)) + labels
    found = roc.paired_delong(a, b, labels, patient=patient)
    error = (found.high - found.estimate) / 1.959963984540054
    assert error == pytest.approx(clustered_error(a, b, labels, patient), abs=1e-12)


def test_an_exam_that_is_read_twice_adds_nothing() -> None:
    rng = np.random.default_rng(7)
    labels = np.arange(40) < 15
    scores = rng.normal(size=40) + labels
    twice = np.repeat(np.arange(40), 2)
    once = roc.delong(scores, labels)
    found = roc.delong(scores[twice], labels[twice], patient=twice)
    assert (found.low, found.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert roc.delong(scores[twice], labels[twice]).low > once.low + 0.01


def test_two_equal_models_do_not_differ() -> None:
    rng = np.random.default_rng(6)
    scores, labels = rng.normal(size=30), np.arange(30) < 10
    found = roc.paired_delong(scores, 2 * scores, labels)
    assert (found.estimate, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_difference_without_variance_is_certain() -> None:
    labels = np.array([False, False, True, True])
    found = roc.paired_delong(1.0 * labels, -1.0 * labels, labels)
    assert (found.estimate, found.p) == (1.0, 0.0)


def test_paired_delong_keeps_its_level_when_nothing_differs() -> None:
    rng = np.random.default_rng(8)
    labels = np.arange(200) < 80
    p = [roc.paired_delong(*(rng.normal(size=(2, 200)) + labels), labels).p for _ in range(400)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_one_class_is_an_error_that_counts_both() -> None:
    scores, none = np.array([0.2, 0.4, 0.9]), np.zeros(3, dtype=bool)
    message = "got 0 positive and 3 negative exams"
    with pytest.raises(QualityError, match=message):
        roc.auc(scores, none)
    with pytest.raises(QualityError, match=message):
        roc.roc_curve(scores, none)
    with pytest.raises(QualityError, match=message):
        roc.weighted_aucs(scores, none, np.ones((2, 3)))
    with pytest.raises(QualityError, match="got 3 positive and 0 negative exams"):
        roc.paired_delong(scores, scores, ~none)


def test_delong_of_a_single_positive_exam_is_an_error() -> None:
    scores, labels = np.array([0.2, 0.4, 0.9]), np.array([False, False, True])
    with pytest.raises(QualityError, match="got 1 positive exams of 1 and 2 negative ones of 2"):
        roc.delong(scores, labels)
    with pytest.raises(QualityError, match="got 2 positive exams of 1 and 2 negative ones of 2"):
        roc.delong(scores[[0, 1, 2, 2]], labels[[0, 1, 2, 2]], patient=np.array([0, 1, 2, 2]))


def test_a_missing_score_is_an_error() -> None:
    with pytest.raises(QualityError, match="1 of 3 scores are NaN"):
        roc.auc(np.array([0.2, np.nan, 0.9]), np.array([False, False, True]))
