"""Models are compared on the same resamples of patients, however the work is divided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from ich_ray import overlap, roc
from ich_ray.bootstrap import resample_weights
from ich_ray.comparison import (
    METRICS,
    Exams,
    Predicted,
    best_count_cut,
    differences,
    estimates,
    exam_score,
    intervals,
    pairs,
    resampled,
)

NUM_PATIENTS, LEVEL = 12, 32768


@pytest.fixture
def exams() -> Exams:
    """Two exams of each patient; every third patient bleeds, in one of them."""
    patient = np.repeat(np.arange(NUM_PATIENTS), 2)
    return Exams(labels=np.arange(2 * NUM_PATIENTS) % 6 == 0, patient=patient)


def predicted(seed: int, exams: Exams) -> Predicted:
    rng = np.random.default_rng(seed)
    histograms = []
    for stratum in exams.strata:
        mask = (rng.random((8, 8)) < 0.3) & (stratum == 1)
        levels = rng.integers(0, 2**16, (8, 8)) // 2 + 2**15 * mask
        histograms.append(overlap.slice_histogram(levels.astype(np.uint16), mask))
    scores = rng.random(len(exams.labels)) + 0.3 * exams.labels
    return Predicted(scores=scores, pixels=overlap.stack(histograms), level=LEVEL)


def test_a_patient_with_one_positive_exam_is_of_the_positive_stratum(exams: Exams) -> None:
    assert exams.strata.tolist() == [1, 0, 0] * 4


def test_without_resampling_the_metrics_are_the_plain_ones(exams: Exams) -> None:
    model = predicted(1, exams)
    found = estimates(exams, model)
    assert found["exam_auc"] == pytest.approx(metrics.roc_auc_score(exams.labels, model.scores))
    counts = overlap.overlap_at(model.pixels, LEVEL)
    expected = overlap.dice(*(np.asarray(c.sum()) for c in counts))
    assert found["dsc"] == pytest.approx(float(expected))
    assert set(found) == set(METRICS)


def test_a_model_differs_from_itself_by_nothing(exams: Exams) -> None:
    models = {"a": predicted(1, exams), "b": predicted(1, exams)}
    samples = resampled(exams, models, seed=0, resamples=range(200))
    points = intervals(exams, models, samples)
    for found in differences("a", "b", points, samples).values():
        assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_every_exam_has_the_weight_of_its_patient(exams: Exams) -> None:
    model = predicted(1, exams)
    found = resampled(exams, {"a": model}, seed=5, resamples=range(20))["a"]["exam_auc"]
    weights = resample_weights(
        seed=5, resamples=range(20), num_clusters=NUM_PATIENTS, strata=exams.strata
    )
    expected = [
        metrics.roc_auc_score(exams.labels, model.scores, sample_weight=w[exams.patient])
        for w in weights
    ]
    np.testing.assert_allclose(found, expected)


def test_resamples_do_not_depend_on_how_they_are_divided(exams: Exams) -> None:
    models = {"a": predicted(1, exams), "b": predicted(2, exams)}
    whole = resampled(exams, models, seed=5, resamples=range(30))
    chunks = [resampled(exams, models, seed=5, resamples=part) for part in (range(7), range(7, 30))]
    for name in models:
        for metric in METRICS:
            joined = np.concatenate([chunk[name][metric] for chunk in chunks])
            np.testing.assert_array_equal(joined, whole[name][metric])


def test_a_model_sees_the_same_resamples_alone_and_beside_others(exams: Exams) -> None:
    model = predicted(1, exams)
    alone = resampled(exams, {"a": model}, seed=5, resamples=range(10))
    beside = resampled(exams, {"b": predicted(2, exams), "a": model}, seed=5, resamples=range(10))
    np.testing.assert_array_equal(alone["a"]["exam_auc"], beside["a"]["exam_auc"])


def test_an_estimate_lies_in_its_interval(exams: Exams) -> None:
    models = {"a": predicted(3, exams)}
    found = intervals(exams, models, resampled(exams, models, seed=0, resamples=range(300)))["a"]
    assert all(found[m].low <= found[m].estimate <= found[m].high for m in METRICS)


def test_each_later_model_is_compared_with_each_earlier_one() -> None:
    assert pairs(["a", "b", "c"]) == [("b", "a"), ("c", "a"), ("c", "b")]
    assert pairs(["a"]) == []


def test_the_best_cut_ranks_the_exams_best() -> None:
    labels = np.array([False, False, True, True])
    counts = np.array([[9, 5, 1], [8, 0, 1], [7, 4, 1], [6, 8, 1]])
    assert roc.auc(counts[:, 1].astype(np.float64), labels) == 0.75
    assert best_count_cut(counts, labels) == 1


def test_of_cuts_that_rank_alike_the_first_is_taken() -> None:
    labels = np.array([False, True])
    assert best_count_cut(np.array([[5, 1, 2], [5, 3, 4]]), labels) == 1


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(1, 50))
def test_an_exam_scores_between_its_mean_and_its_maximum(p: list[float], slices: int) -> None:
    score = exam_score(p, slices=slices)
    assert exam_score(p, slices=1) == max(p)
    assert np.mean(p) - 1e-12 <= score <= max(p)
    assert exam_score(p[::-1], slices=slices) == score


def test_slices_that_an_exam_does_not_have_do_not_count() -> None:
    assert exam_score([0.5, 0.25], slices=3) == 0.375
