"""Models are compared on the same resamples of patients, however the work is divided."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from ich_ray.errors import QualityError
from ich_ray.statistics import average_precision, overlap, pixel_histograms, roc
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.comparison import (
    METRICS,
    PIXEL_METRICS,
    Compared,
    Exams,
    Predicted,
    _dsc_by_patient,
    _exchanged,
    best_count_cut,
    compare,
    errors_of,
    exam_score,
    joined,
    pairs,
    pixel_aps,
    resampled,
)
from ich_ray.statistics.studentized import stratified_errors

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
        levels = rng.integers(0, 2**16, (8, 8)) // 2 + 2**14 * mask
        histograms.append(pixel_histograms.slice_histogram(levels.astype(np.uint16), mask))
    scores = rng.random(len(exams.labels)) + 0.3 * exams.labels
    stack = pixel_histograms.stack(histograms)
    return Predicted.of_stack(scores=scores, stack=stack, level=LEVEL)


def at_level(model: Predicted, level: int) -> Predicted:
    assert isinstance(model.pixels, pixel_histograms.HistogramStack)
    return Predicted.of_stack(scores=model.scores, stack=model.pixels, level=level)


def test_a_patient_with_one_positive_exam_is_of_the_positive_stratum(exams: Exams) -> None:
    assert exams.strata.tolist() == [1, 0, 0] * 4


def compared(exams: Exams, models: dict[str, Predicted], *, resamples: int) -> Compared:
    between = pairs(list(models))
    samples = resampled(exams, models, between, seed=0, resamples=range(resamples))
    return compare(exams, models, between, samples, pixel_aps(models), seed=0)


def test_a_model_differs_from_itself_by_nothing(exams: Exams) -> None:
    found = compared(exams, {"a": predicted(1, exams), "b": predicted(1, exams)}, resamples=200)
    for one in (*found.differences["b", "a"].values(), *found.bootstrap_auc_differences.values()):
        assert (one.estimate, one.low, one.high, one.p) == (0, 0, 0, 1)


def test_every_exam_has_the_weight_of_its_patient(exams: Exams) -> None:
    model = predicted(1, exams)
    found = resampled(exams, {"a": model}, [], seed=5, resamples=range(20)).values["a"]["exam_auc"]
    weights = resample_weights(
        seed=5, resamples=range(20), num_clusters=NUM_PATIENTS, strata=exams.strata
    )
    expected = [
        metrics.roc_auc_score(exams.labels, model.scores, sample_weight=w[exams.patient])
        for w in weights
    ]
    np.testing.assert_allclose(found, expected)


def test_resamples_do_not_depend_on_how_they_are_divided(exams: Exams) -> None:
    models, between = {"a": predicted(1, exams), "b": predicted(2, exams)}, [("b", "a")]
    whole, *chunks = (
        resampled(exams, models, between, seed=5, resamples=part)
        for part in (range(30), range(7), range(7, 30))
    )
    together = joined(chunks)
    for name in models:
        for metric in METRICS:
            np.testing.assert_array_equal(together.values[name][metric], whole.values[name][metric])
    assert set(whole.errors) == set(errors_of(["a", "b"], between))
    for key, errors in whole.errors.items():
        np.testing.assert_allclose(together.errors[key], errors, rtol=1e-9)


def test_the_error_of_a_difference_is_of_what_each_patient_adds_to_it(exams: Exams) -> None:
    models = {"a": predicted(1, exams), "b": predicted(2, exams)}
    found = resampled(exams, models, [("b", "a")], seed=5, resamples=range(9))
    weights = resample_weights(
        seed=5, resamples=range(9), num_clusters=NUM_PATIENTS, strata=exams.strata
    )
    of_a, of_b = (
        average_precision.average_precisions_and_influences(models[name].pixels, weights)[1]
        for name in ("a", "b")
    )
    expected = stratified_errors(of_b - of_a, weights, exams.strata)
    np.testing.assert_array_equal(found.errors[("b", "a"), "pixel_ap"], expected)


def test_dsc_loses_without_a_patient_what_it_has_lost_without_him(exams: Exams) -> None:
    model = predicted(1, exams)
    without = np.ones((NUM_PATIENTS, NUM_PATIENTS)) - np.eye(NUM_PATIENTS)
    left = overlap.weighted_dices(overlap.overlap_at(model.pixels, LEVEL), without)
    found = _dsc_by_patient(model)
    lost = found.estimate - left
    assert np.abs(lost).max() > 0.01
    np.testing.assert_allclose(found.lost(), lost, atol=1e-12)


def test_the_only_patient_who_bleeds_makes_no_test(exams: Exams) -> None:
    exams = replace(exams, labels=np.arange(2 * NUM_PATIENTS) < 2)
    # At this level no pixel of another patient is called.
    models = {name: at_level(predicted(seed, exams), 2**15) for name, seed in (("a", 1), ("b", 2))}
    assert np.isnan(_dsc_by_patient(models["a"]).lost()[0])
    samples = resampled(exams, models, [("a", "b")], seed=0, resamples=range(50))
    with pytest.raises(QualityError, match="2 positive exams of 1"):
        compare(exams, models, [("a", "b")], samples, pixel_aps(models), seed=0)
    found = _exchanged(*(_dsc_by_patient(model) for model in models.values()), seed=0)
    assert math.isnan(found.p)
    assert math.isnan(found.low)


def test_one_patient_with_a_mask_says_nothing_of_others(exams: Exams) -> None:
    """Four patients have positive exams, and only one of them a mask."""
    models = {}
    for name, seed in (("a", 1), ("b", 2)):
        pixels = predicted(seed, exams).pixels
        alone = replace(pixels, pos=np.where(pixels.cluster == 0, pixels.pos, 0).astype(np.uint32))
        models[name] = at_level(replace(predicted(seed, exams), pixels=alone), LEVEL)
    found = compared(exams, models, resamples=50)
    for metric in PIXEL_METRICS:
        one, apart = found.intervals["a"][metric], found.differences["b", "a"][metric]
        assert 0 < one.estimate < 1
        assert np.isnan([one.low, one.high, apart.low, apart.high, apart.p]).all()
    assert not math.isnan(found.differences["b", "a"]["exam_auc"].p)


def with_loud_alarms(seed: int) -> tuple[Exams, dict[str, Predicted]]:
    """Two models of one skill, each of which is loudly wrong in a few patients."""
    rng = np.random.default_rng(seed)
    bleeds = np.arange(80) % 2 > 0
    size = np.where(bleeds, np.exp(rng.normal(6, 1.2, 80)), 0.0).astype(int)
    models = {}
    for name in "ab":
        histograms = []
        for pixels in size:
            found = rng.binomial(pixels, rng.uniform(0.3, 0.9))
            sure = rng.binomial(found, 0.5)
            loud = (rng.random() < 0.02) * int(np.exp(rng.normal(8, 1.5)))
            histograms.append(
                pixel_histograms.SliceHistogram(
                    level=np.array([0, LEVEL, 60_000], np.uint16),
                    pos=np.array([pixels - found, found - sure, sure], np.uint32),
                    neg=np.array([3_000, rng.poisson(20), loud], np.uint32),
                )
            )
        models[name] = Predicted.of_stack(
            scores=np.arange(80.0), stack=pixel_histograms.stack(histograms), level=LEVEL
        )
    return Exams(labels=bleeds, patient=np.arange(80)), models


def test_loud_false_alarms_of_a_few_patients_make_no_difference_of_models() -> None:
    """Of pixel AP a sign-flip test would see one in 22 of these."""
    refuted = dict.fromkeys(PIXEL_METRICS, 0)
    for seed in range(100):
        exams, models = with_loud_alarms(seed)
        samples = resampled(exams, models, [("a", "b")], seed=seed, resamples=range(199))
        whole = pixel_aps(models)
        found = compare(exams, models, [("a", "b")], samples, whole, seed=seed)
        for metric in PIXEL_METRICS:
            refuted[metric] += found.differences["a", "b"][metric].p < 0.05
    assert max(refuted.values()) <= 10, refuted


def test_a_model_sees_the_same_resamples_alone_and_beside_others(exams: Exams) -> None:
    model, other = predicted(1, exams), predicted(2, exams)
    alone = resampled(exams, {"a": model}, [], seed=5, resamples=range(10))
    beside = resampled(exams, {"b": other, "a": model}, [], seed=5, resamples=range(10))
    np.testing.assert_array_equal(alone.values["a"]["exam_auc"], beside.values["a"]["exam_auc"])


def test_an_estimate_lies_in_its_interval_and_is_the_plain_one(exams: Exams) -> None:
    model = predicted(3, exams)
    found = compared(exams, {"a": model}, resamples=300)
    for one in found.intervals["a"].values():
        assert 0 <= one.low < one.estimate < one.high <= 1
    of = {metric: one.estimate for metric, one in found.intervals["a"].items()}
    assert set(of) == set(METRICS)
    assert of["exam_auc"] == pytest.approx(metrics.roc_auc_score(exams.labels, model.scores))
    counts = overlap.overlap_at(model.pixels, LEVEL)
    assert of["dsc"] == pytest.approx(float(overlap.dice(*(int(c.sum()) for c in counts))))
    pixels = pixel_histograms.merge(
        [
            pixel_histograms.SliceHistogram(
                level=model.pixels.level[mine],
                pos=model.pixels.pos[mine],
                neg=model.pixels.neg[mine],
            )
            for mine in (model.pixels.cluster == c for c in range(NUM_PATIENTS))
        ]
    )
    assert of["pixel_ap"] == pytest.approx(
        average_precision.pixel_average_precision(pixels.pos, pixels.neg)
    )
    assert found.bootstrap_auc["a"].low < of["exam_auc"] < found.bootstrap_auc["a"].high
    assert found.bca_auc["a"].low < of["exam_auc"] < found.bca_auc["a"].high
    assert found.bca_auc["a"] != found.bootstrap_auc["a"]


def test_the_auc_and_its_difference_are_those_of_delong_by_patient(exams: Exams) -> None:
    models = {"a": predicted(1, exams), "b": predicted(2, exams)}
    found = compared(exams, models, resamples=50)
    a, b = (models[name].scores for name in ("a", "b"))
    of_a = roc.delong(a, exams.labels, patient=exams.patient)
    assert found.intervals["a"]["exam_auc"] == of_a != roc.delong(a, exams.labels)
    of_both = roc.paired_delong(b, a, exams.labels, patient=exams.patient)
    assert found.differences["b", "a"]["exam_auc"] == of_both


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
