import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from ich_ray.statistics.by_slice import (
    ScoredSlices,
    best_f1_threshold,
    slice_differences,
    slice_figures,
)
from ich_ray.statistics.comparison import Exams


def slices(seed: int, *, apart: float = 1.5, patients: int = 12) -> ScoredSlices:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 20)
    labels = rng.random(20 * patients) < np.where(patient % 2 == 0, 0.4, 0.0)
    scores = rng.normal(apart * labels).round(1)
    return ScoredSlices(labels=labels, scores=scores, patient=patient)


def exams(patients: int = 12) -> Exams:
    return Exams(labels=np.arange(patients) % 2 == 0, patient=np.arange(patients))


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_threshold_is_that_of_the_best_f1(seed: int) -> None:
    found = slices(seed)
    best = best_f1_threshold(found)
    of = [f1_score(found.labels, found.scores >= t) for t in np.unique(found.scores)]
    assert f1_score(found.labels, found.scores >= best) == pytest.approx(max(of))
    assert best == np.unique(found.scores)[np.flatnonzero(np.isclose(of, max(of)))[-1]]


def test_without_positive_slices_p_is_one_half() -> None:
    found = ScoredSlices(labels=np.zeros(4, bool), scores=np.ones(4), patient=np.arange(4))
    assert best_f1_threshold(found) == 0.5


def test_figures_are_those_of_scikit_learn() -> None:
    models = {"a": slices(1), "b": slices(1, apart=3.0)}
    found = slice_figures(models, {"a": 1.0, "b": 2.0}, exams())
    for one, of in zip(found, models.values(), strict=True):
        assert one.auc.estimate == pytest.approx(roc_auc_score(of.labels, of.scores), abs=1e-12)
        assert one.f1.estimate == pytest.approx(f1_score(of.labels, of.scores >= one.threshold))
        assert one.f1.low < one.f1.estimate < one.f1.high
        assert (one.slices, one.positive) == (240, of.labels.sum())
    (less,) = slice_differences(models, {"a": 1.0, "b": 2.0}, exams(), [("b", "a")])
    assert less.auc.estimate == pytest.approx(found[1].auc.estimate - found[0].auc.estimate)
    assert less.f1.estimate == pytest.approx(found[1].f1.estimate - found[0].f1.estimate)


def test_slices_that_are_copies_of_others_tell_nothing_more() -> None:
    once = slices(3)
    twice = ScoredSlices(
        labels=np.tile(once.labels, 2),
        scores=np.tile(once.scores, 2),
        patient=np.tile(once.patient, 2),
    )
    (a,), (b,) = (slice_figures({"m": of}, {"m": 1.0}, exams()) for of in (once, twice))
    for metric in ("auc", "f1"):
        one, other = getattr(a, metric), getattr(b, metric)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-5)


def test_the_positive_slices_of_one_patient_make_no_auc() -> None:
    of = slices(5)
    alone = ScoredSlices(labels=of.labels & (of.patient == 0), scores=of.scores, patient=of.patient)
    (found,) = slice_figures({"m": alone}, {"m": 1.0}, exams())
    assert math.isnan(found.auc.estimate)
    (less,) = slice_differences({"m": alone}, {"m": 1.0}, exams(), [("m", "m")])
    assert math.isnan(less.auc.p)
