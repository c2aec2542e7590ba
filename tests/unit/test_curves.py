"""The ROC curve's band, and the curve of precision and recall."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.pixel_histograms import merge, slice_histogram, stack
from ich_ray.statistics.precision_recall import precision_recall
from ich_ray.statistics.roc_band import GRID, roc_band


def test_the_band_is_of_the_curves_of_resamples() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 3 == 0
    scores = rng.normal(labels.astype(float)).round(1)
    exams = Exams(labels=labels, patient=np.repeat(np.arange(20), 2))
    found = roc_band(scores, exams, seed=5, resamples=30)
    weights = resample_weights(seed=5, resamples=range(30), num_clusters=20, strata=exams.strata)[
        :, exams.patient
    ]
    curves = []
    for row in weights:
        fpr, tpr, _ = roc_curve(labels, scores, sample_weight=row, drop_intermediate=False)
        # np.interp takes the last of several points at one place.
        curves.append(np.interp(GRID + 1e-12, fpr, tpr))
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(found.low, low, atol=1e-9)
    np.testing.assert_allclose(found.high, high, atol=1e-9)


def test_a_perfect_model_has_a_band_without_width() -> None:
    labels = np.arange(20) < 6
    exams = Exams(labels=labels, patient=np.arange(20))
    found = roc_band(labels.astype(float), exams, seed=0, resamples=20)
    assert found.low.min() == found.high.min() == 1.0


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    levels = rng.integers(0, 200, (32, 32)).astype(np.uint16)
    mask = rng.random((32, 32)) < levels / 400
    found = precision_recall(stack([slice_histogram(levels, mask)]), points=10**4)
    assert found is not None
    precision, recall, _ = precision_recall_curve(mask.ravel(), levels.ravel())
    own = {(round(r, 9), round(p, 9)) for r, p in zip(recall, precision, strict=True)}
    drawn = zip(found.recall, found.precision, strict=True)
    assert {(round(r, 9), round(p, 9)) for r, p in drawn} <= own
    assert (found.recall[-1], found.prevalence) == (1.0, pytest.approx(mask.mean()))


def test_a_curve_is_thinned_and_keeps_its_ends() -> None:
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    whole = precision_recall(stack([slice_histogram(levels, mask)]), points=10**5)
    found = precision_recall(stack([slice_histogram(levels, mask)]), points=50)
    assert whole is not None
    assert found is not None
    assert len(found.recall) <= 52
    assert (found.recall[0], found.precision[0]) == (whole.recall[0], whole.precision[0])
    assert found.recall[-1] == 1.0
    assert np.all(np.diff(found.recall) >= 0)


def test_without_a_positive_pixel_there_is_no_curve() -> None:
    nothing = slice_histogram(np.zeros((2, 2), np.uint16), np.zeros((2, 2), bool))
    assert precision_recall(stack([nothing])) is None
    assert precision_recall(stack([merge([])])) is None
