"""Slices called positive: their AUC, and their F1 at a threshold that tuning slices fixed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ich_ray.statistics import roc
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.ratios import Counts, ratio_difference, ratio_interval

NO_TUNING = 0.5
"""Threshold where no slices fix one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredSlices:
    """Slices that have a label, with a model's probabilities."""

    labels: Bool[np.ndarray, " slice"]
    scores: Float64[np.ndarray, " slice"]
    patient: Int64[np.ndarray, " slice"]
    """Number of each slice's patient."""

    @property
    def both_classes(self) -> bool:
        """Whether two patients have a positive slice, and two a negative one."""
        return all(len(np.unique(self.patient[m])) > 1 for m in (self.labels, ~self.labels))


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceFigures:
    """One model on the slices that have a label."""

    model: str
    slices: int
    positive: int
    auc: Interval
    f1: Interval
    threshold: float
    """Slices at or above this are called positive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceDifferences:
    """Model a minus model b, on the same slices."""

    a: str
    b: str
    auc: Difference
    f1: Difference


def best_f1_threshold(tuning: ScoredSlices) -> float:
    """Return the threshold of the largest F1; of equals the highest. 0.5 without a positive slice.

    >>> labels, scores = np.array([False, True, True]), np.array([0.2, 0.4, 0.9])
    >>> slices = ScoredSlices(labels=labels, scores=scores, patient=np.arange(3))
    >>> best_f1_threshold(slices)
    0.4
    """
    if not tuning.labels.any():
        return NO_TUNING
    levels, of_level = np.unique(tuning.scores, return_inverse=True)
    positive = np.bincount(of_level, tuning.labels, minlength=len(levels))[::-1].cumsum()
    called = np.bincount(of_level, minlength=len(levels))[::-1].cumsum()
    f1 = 2 * positive / (called + int(tuning.labels.sum()))
    return float(levels[::-1][np.argmax(f1)])


def slice_figures(
    models: Mapping[str, ScoredSlices], thresholds: Mapping[str, float], exams: Exams
) -> list[SliceFigures]:
    """Return the figures of each model; patients are the clusters of all.

    Args:
        models: Name -> the same slices with its scores.
        thresholds: Name -> fixed on other slices.
        exams: Whose slices they are.

    Returns:
        An AUC of NaN where fewer than two patients have a positive, or a negative, slice.

    Source: AUC with clusters, Obuchowski 1997; F1 is the Dice coefficient of slices.
    """
    return [
        SliceFigures(
            model=name,
            slices=len(found.labels),
            positive=int(found.labels.sum()),
            auc=_auc(found),
            f1=ratio_interval(_f1_counts(found, thresholds[name], exams), exams.strata),
            threshold=thresholds[name],
        )
        for name, found in models.items()
    ]


def slice_differences(
    models: Mapping[str, ScoredSlices],
    thresholds: Mapping[str, float],
    exams: Exams,
    compared: Sequence[tuple[str, str]],
) -> list[SliceDifferences]:
    """Return the differences of pairs of models, each at its own threshold."""
    counts = {name: _f1_counts(found, thresholds[name], exams) for name, found in models.items()}
    return [
        SliceDifferences(
            a=a,
            b=b,
            auc=_auc_difference(models[a], models[b]),
            f1=ratio_difference(counts[a], counts[b], exams.strata),
        )
        for a, b in compared
    ]


def _auc(found: ScoredSlices) -> Interval:
    if not found.both_classes:
        return Interval(math.nan, math.nan, math.nan)
    return roc.delong(found.scores, found.labels, patient=found.patient)


def _auc_difference(a: ScoredSlices, b: ScoredSlices) -> Difference:
    if not a.both_classes:
        return Difference(math.nan, math.nan, math.nan, math.nan)
    return roc.paired_delong(a.scores, b.scores, a.labels, patient=a.patient)


def _f1_counts(found: ScoredSlices, threshold: float, exams: Exams) -> Counts:
    called = found.scores >= threshold
    patients = len(exams.strata)
    right = np.bincount(found.patient, called & found.labels, minlength=patients)
    either = np.bincount(found.patient, called.astype(float) + found.labels, minlength=patients)
    return 2 * right.astype(np.float64), either.astype(np.float64)
