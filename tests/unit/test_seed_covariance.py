"""The covariance of several models' figures on the same patients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ich_ray.errors import QualityError
from ich_ray.statistics import roc
from ich_ray.statistics.seeds.covariance import auc_covariance, influence_covariance
from ich_ray.statistics.studentized import stratified_errors


def drawn(seed: int, *, models: int = 3) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Tied scores of exams, some patients with exams of both classes."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 25, 60)
    labels = rng.random(60) < 0.4
    shared = rng.normal(size=60) + labels
    scores = [np.round(shared + rng.normal(size=60), 1) for _ in range(models)]
    return scores, labels, patient


@given(st.integers(0, 10_000))
def test_variances_and_covariances_are_those_of_delong_s_tests(seed: int) -> None:
    scores, labels, patient = drawn(seed)
    aucs, covariance = auc_covariance(scores, labels, patient=patient)
    for i, one in enumerate(scores):
        assert aucs[i] == pytest.approx(roc_auc_score(labels, one))
        parts = roc.variance_parts(one, labels, patient=patient)
        assert covariance[i, i] == pytest.approx(sum(parts), abs=1e-12)
        for j in range(i):
            gap = roc.variance_parts(one, labels, less=scores[j], patient=patient)
            of_gap = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
            assert of_gap == pytest.approx(sum(gap), abs=1e-12)


def test_delong_s_covariance_is_that_of_his_formula_written_out() -> None:
    scores, labels, _ = drawn(5, models=2)
    components = []
    for one in scores:
        wins = (one[labels][:, None] > one[~labels]) + 0.5 * (one[labels][:, None] == one[~labels])
        components.append((wins.mean(axis=1), wins.mean(axis=0)))
    (a10, a01), (b10, b01) = components
    expected = np.cov(a10, b10) / labels.sum() + np.cov(a01, b01) / (~labels).sum()
    assert auc_covariance(scores, labels)[1] == pytest.approx(expected, abs=1e-12)


def test_a_class_of_one_patient_has_no_covariance() -> None:
    with pytest.raises(QualityError, match="from two patients"):
        auc_covariance([np.arange(4.0)], np.array([True, False, False, False]))


@given(st.integers(0, 10_000))
def test_the_diagonal_holds_the_squares_of_stratified_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, 3, 20)
    influences = rng.normal(size=(4, 20))
    covariance = influence_covariance(influences, strata)
    errors = [stratified_errors(i[None], np.ones((1, 20)), strata)[0] for i in influences]
    assert np.diag(covariance) == pytest.approx(np.square(errors), rel=1e-5)
    gap = stratified_errors((influences[0] - influences[1])[None], np.ones((1, 20)), strata)[0]
    of_gap = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert of_gap == pytest.approx(gap**2, rel=1e-4)
    assert np.array_equal(covariance, covariance.T)
