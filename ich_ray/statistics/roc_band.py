"""A band around a ROC curve: where the sensitivity lies at each specificity, patients resampled."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.comparison import Exams

GRID = np.linspace(0, 1, 101)
RESAMPLES = 500
AT_ONCE = 2**22
"""Weights in each temporary array."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RocBand:
    """Bounds of the sensitivity, of 95 % at each point by itself."""

    fpr: Float64[np.ndarray, " point"]
    """1 - specificity."""

    low: Float64[np.ndarray, " point"]
    high: Float64[np.ndarray, " point"]


def roc_band(
    scores: Float64[np.ndarray, " exam"], exams: Exams, *, seed: int, resamples: int = RESAMPLES
) -> RocBand:
    """Return the band of a model.

    Args:
        scores: Of its exams.
        exams: With labels of both classes, and patients.
        seed: Of the resamples.
        resamples: How many.

    Source: vertical averaging, Fawcett 2006, 8.1; percentiles over resampled patients.
    """
    levels, of_exam = np.unique(-scores, return_inverse=True)
    at_once = max(1, AT_ONCE // len(scores))
    curves = []
    for first in range(0, resamples, at_once):
        weights = resample_weights(
            seed=seed,
            resamples=range(first, min(first + at_once, resamples)),
            num_clusters=len(exams.strata),
            strata=exams.strata,
        )[:, exams.patient]
        for row in weights:
            curves.append(_sensitivities(row, of_exam.astype(np.int64), len(levels), exams))
    low, high = np.nanquantile(np.array(curves), [0.025, 0.975], axis=0)
    return RocBand(fpr=GRID, low=low, high=high)


def _sensitivities(
    weights: Int64[np.ndarray, " exam"],
    of_exam: Int64[np.ndarray, " exam"],
    levels: int,
    exams: Exams,
) -> Float64[np.ndarray, " point"]:
    """Return the sensitivity of one resample at each false positive rate of the grid."""
    positive = np.bincount(of_exam, weights * exams.labels, minlength=levels).cumsum()
    negative = np.bincount(of_exam, weights * ~exams.labels, minlength=levels).cumsum()
    if positive[-1] == 0 or negative[-1] == 0:
        return np.full(len(GRID), np.nan)
    tpr = np.concatenate([[0.0], positive / positive[-1]])
    fpr = np.concatenate([[0.0], negative / negative[-1]])
    # Where a curve rises straight up, the end of the rise counts.
    last = np.searchsorted(fpr, GRID, side="right") - 1
    after = np.minimum(last + 1, len(fpr) - 1)
    run = fpr[after] - fpr[last]
    part = np.divide(GRID - fpr[last], run, out=np.zeros(len(GRID)), where=run > 0)
    return np.asarray(tpr[last] + part * (tpr[after] - tpr[last]))
