"""The receiver operating characteristic (ROC): curve, area (AUC), and DeLong's interval.

A positive exam should score higher than a negative one; the AUC is the share of such pairs in
which it does, a tie counting one half. Scores are only compared: any monotone scale will do.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer, Real
from scipy.special import expit

from ich_ray.errors import QualityError
from ich_ray.statistics.bootstrap import Difference, Interval

VALUES_AT_ONCE = 2**18
"""Weights in each temporary array of `weighted_aucs`: 2 MB, to stay in cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """One point per distinct score, from "nothing is positive" to "everything is"."""

    fpr: Float64[np.ndarray, " point"]
    """False positive rate, 1 - specificity, ascending from 0 to 1."""

    tpr: Float64[np.ndarray, " point"]
    """True positive rate, sensitivity, ascending from 0 to 1."""

    thresholds: Float64[np.ndarray, " point"]
    """Exams scoring this or more are called positive; descending from infinity."""


class VarianceParts(NamedTuple):
    """DeLong's variance by the exams that it comes from; their sum is the variance."""

    positive: float
    """Of the positive exams; it falls as their number grows."""

    negative: float
    """Of the negative exams."""

    both: float
    """Of patients with exams of both classes; below 0 where theirs make up for each other."""


class PatientShares(NamedTuple):
    """An AUC by the patients that it comes from."""

    mean: float
    """The AUC: the mean share of pairs that are rightly ordered."""

    added: Float64[np.ndarray, "2 patient"]
    """What a patient's positive exams add to it beyond the mean, and his negative ones."""

    counts: tuple[int, int]
    """Patients with a positive exam, and with a negative one."""


def auc(scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]) -> float:
    """Exact area under the ROC curve, ties at midranks.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.

    Raises:
        QualityError: Only one class is present, or a score is NaN.

    Source: Mann and Whitney 1947; Hanley and McNeil 1982.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    of_positive, of_negative = placements(scores, labels)
    return float(of_positive.sum() / (2 * len(of_positive) * len(of_negative)))


def roc_curve(scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]) -> RocCurve:
    """Sensitivity against 1 - specificity at every distinct score.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.

    Raises:
        QualityError: Only one class is present, or a score is NaN.

    Source: Fawcett 2006, algorithm 1; no point is dropped.

    >>> roc_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])).tpr
    array([0. , 0.5, 1. , 1. ])
    """
    _check(scores, labels)
    levels, level_of_exam = np.unique(scores, return_inverse=True)
    all_exams = np.bincount(level_of_exam, minlength=len(levels))
    positive = np.bincount(level_of_exam[labels], minlength=len(levels))
    tp, called = np.cumsum(positive[::-1]), np.cumsum(all_exams[::-1])
    num_positive, num_negative = int(tp[-1]), int(called[-1] - tp[-1])
    return RocCurve(
        fpr=np.concatenate([[0.0], (called - tp) / num_negative]),
        tpr=np.concatenate([[0.0], tp / num_positive]),
        thresholds=np.concatenate([[np.inf], levels[::-1].astype(np.float64)]),
    )


def delong(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
    level: float = 0.95,
) -> Interval:
    """AUC with DeLong's interval, normal on the scale of the AUC's logit.

    Of 100 exams with 10 positives at an AUC of 0.9 it holds the truth 90 times in 100, the plain
    AUC +- z times its error 83 times. At perfect separation it has no width.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.
        patient: Number of each exam's patient, whose exams are not independent; each exam is of
            another patient if absent.
        level: Confidence level, between 0 and 1.

    Raises:
        QualityError: Fewer than two patients have an exam of a class, or a score is NaN.

    Source: DeLong et al. 1988; placements from sorted scores, as in Sun and Xu 2014; patients with
    several exams: Obuchowski 1997; logit: Pepe 2003.

    >>> found = delong(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    >>> found.estimate, round(found.low, 3), round(found.high, 3)
    (0.875, 0.228, 0.994)
    """
    of_positive, of_negative = placements(scores, labels)
    estimate, error = _mean_and_error(of_positive, of_negative, labels, patient)
    if not 0 < estimate < 1:
        return Interval(estimate=estimate, low=estimate, high=estimate)
    logit = math.log(estimate / (1 - estimate))
    half_width = NormalDist().inv_cdf((1 + level) / 2) * error / (estimate * (1 - estimate))
    low, high = (float(expit(logit + side * half_width)) for side in (-1, 1))
    return Interval(estimate=estimate, low=low, high=high)


def paired_delong(
    a: Float[np.ndarray, " exam"],
    b: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
    level: float = 0.95,
) -> Difference:
    """AUC of `a` minus AUC of `b` on the same exams, with DeLong's interval and test.

    The interval is plain normal, clipped to [-1, 1]; the p-value is two-sided. Without any variance
    p is 1 for equal AUCs and 0 for different ones.

    Args:
        a: One score per exam, from the first model.
        b: One score per exam, from the second model.
        labels: True for a positive exam.
        patient: As in `delong`.
        level: Confidence level, between 0 and 1.

    Raises:
        QualityError: Fewer than two patients have an exam of a class, or a score is NaN.

    Source: DeLong et al. 1988; Sun and Xu 2014; Obuchowski 1997.

    >>> scores, labels = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    >>> paired_delong(scores, scores, labels).p
    1.0
    """
    a_of_positive, a_of_negative = placements(a, labels)
    b_of_positive, b_of_negative = placements(b, labels)
    # The variance of the difference of placements holds their covariance already.
    estimate, error = _mean_and_error(
        a_of_positive - b_of_positive, a_of_negative - b_of_negative, labels, patient
    )
    half_width = NormalDist().inv_cdf((1 + level) / 2) * error
    return Difference(
        estimate=estimate,
        low=max(-1.0, estimate - half_width),
        high=min(1.0, estimate + half_width),
        p=math.erfc(abs(estimate) / error / math.sqrt(2)) if error > 0 else float(estimate == 0),
    )


def variance_parts(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    less: Float[np.ndarray, " exam"] | None = None,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> VarianceParts:
    """DeLong's variance of an AUC, or of its difference to another model's, in its parts.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.
        less: Scores of the model whose AUC is taken off; of the AUC itself if absent.
        patient: As in `delong`.

    Raises:
        QualityError: Fewer than two patients have an exam of a class, or a score is NaN.

    Source: As `delong`; the parts are S10 / m, S01 / n and 2 S11 / (m n) of Obuchowski 1997.

    >>> found = variance_parts(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    >>> found.positive, found.negative, found.both
    (0.015625, 0.015625, 0.0)
    """
    of_positive, of_negative = placements(scores, labels)
    if less is not None:
        less_of_positive, less_of_negative = placements(less, labels)
        of_positive, of_negative = of_positive - less_of_positive, of_negative - less_of_negative
    return _mean_and_parts(of_positive, of_negative, labels, patient)[1]


def patient_shares(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> PatientShares:
    """Return what each patient adds to an AUC, for covariances of several models.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.
        patient: As in `delong`.

    Raises:
        QualityError: Fewer than two patients have an exam of a class, or a score is NaN.

    Source: As `delong`.

    >>> patient_shares(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])).added
    array([[ 0.    ,  0.    , -0.0625,  0.0625],
           [ 0.0625, -0.0625,  0.    ,  0.    ]])
    """
    return _shares(*placements(scores, labels), labels, patient)


def weighted_aucs(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    weights: Real[np.ndarray, "resample exam"],
) -> Float64[np.ndarray, " resample"]:
    """Exact AUC of every resample, ties at midranks.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.
        weights: How often each resample holds each exam, not negative.

    Returns:
        One AUC per resample; NaN where a resample holds only one class.

    Raises:
        QualityError: Only one class is present in all the exams, or a score is NaN.

    Source: `auc` over tied levels: sum of w+ (2 W- below + w- tied) / (2 W+ W-).

    >>> scores, labels = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    >>> weighted_aucs(scores, labels, np.array([[1, 1, 1, 1], [0, 2, 2, 0], [2, 2, 0, 0]]))
    array([0.875, 0.5  ,   nan])
    """
    _check(scores, labels)
    order = np.argsort(scores, kind="stable")
    first_of_level = np.unique(scores[order], return_index=True)[1]
    aucs = np.full(len(weights), np.nan)
    at_once = max(1, VALUES_AT_ONCE // len(scores))
    for start in range(0, len(weights), at_once):
        # Products of integers stay exact in float64, up to 9e15 pairs.
        sorted_weights = weights[start : start + at_once, order].astype(np.float64)
        held = np.add.reduceat(sorted_weights, first_of_level, axis=1)
        positive = np.add.reduceat(sorted_weights * labels[order], first_of_level, axis=1)
        negative = held - positive
        twice_below = 2 * np.cumsum(negative, axis=1) - negative
        won = np.einsum("rl,rl->r", positive, twice_below)
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        np.divide(won, 2 * pairs, out=aucs[start : start + at_once], where=pairs > 0)
    return aucs


def placements(
    scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]
) -> tuple[Int64[np.ndarray, " positive"], Int64[np.ndarray, " negative"]]:
    """Return twice the exams of the other class that each is rightly placed against, ties half.

    Doubled, they are integers: sums are exact, and equal models differ by exactly nothing.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.

    Returns:
        Of the positive exams, and of the negative ones.

    Raises:
        QualityError: Only one class is present, or a score is NaN.

    >>> placements(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    (array([3, 4]), array([4, 3]))
    """
    _check(scores, labels)
    positive, negative = np.sort(scores[labels]), np.sort(scores[~labels])
    of_positive = _twice_below(negative, scores[labels])
    of_negative = 2 * len(positive) - _twice_below(positive, scores[~labels])
    return of_positive, of_negative


def _twice_below(
    sorted_scores: Float[np.ndarray, " other"], scores: Float[np.ndarray, " exam"]
) -> Int64[np.ndarray, " exam"]:
    return np.searchsorted(sorted_scores, scores, "left") + np.searchsorted(
        sorted_scores, scores, "right"
    )


def _mean_and_error(
    of_positive: Int64[np.ndarray, " positive"],
    of_negative: Int64[np.ndarray, " negative"],
    labels: Bool[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"] | None,
) -> tuple[float, float]:
    """Mean share of pairs and its standard error, from doubled placements."""
    mean, parts = _mean_and_parts(of_positive, of_negative, labels, patient)
    # Both parts of a patient can only cancel out; rounding may leave less than nothing.
    return mean, math.sqrt(max(sum(parts), 0.0))


def _mean_and_parts(
    of_positive: Int64[np.ndarray, " positive"],
    of_negative: Int64[np.ndarray, " negative"],
    labels: Bool[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"] | None,
) -> tuple[float, VarianceParts]:
    mean, added, counts = _shares(of_positive, of_negative, labels, patient)
    positive, negative = (
        count / (count - 1) * float(np.sum(row * row))
        for count, row in zip(counts, added, strict=True)
    )
    everyone = added.shape[1]
    both = 2 * everyone / (everyone - 1) * float(np.sum(added[0] * added[1]))
    return mean, VarianceParts(positive=positive, negative=negative, both=both)


def _shares(
    of_positive: Int64[np.ndarray, " positive"],
    of_negative: Int64[np.ndarray, " negative"],
    labels: Bool[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"] | None,
) -> PatientShares:
    num_positive, num_negative = len(of_positive), len(of_negative)
    mean = of_positive.sum() / (2 * num_positive * num_negative)
    _, patient = np.unique(
        np.arange(len(labels)) if patient is None else patient, return_inverse=True
    )
    added, counts = np.zeros((2, patient.max() + 1)), []
    for row, members, placements, others in (
        (0, labels, of_positive, num_negative),
        (1, ~labels, of_negative, num_positive),
    ):
        whose = patient[members]
        shares = (placements / (2 * others) - mean) / len(placements)
        added[row] = np.bincount(whose, shares, minlength=added.shape[1])
        counts.append(len(np.unique(whose)))
    if min(counts) < 2:
        raise QualityError(
            "DeLong's variance needs exams of each class from two patients, got "
            f"{num_positive} positive exams of {counts[0]} and {num_negative} negative ones of "
            f"{counts[1]}; report the AUC alone"
        )
    return PatientShares(mean=float(mean), added=added, counts=(counts[0], counts[1]))


def _check(scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]) -> None:
    num_positive = int(np.count_nonzero(labels))
    num_negative = len(labels) - num_positive
    if num_positive == 0 or num_negative == 0:
        raise QualityError(
            f"a ROC curve needs both classes, got {num_positive} positive and {num_negative} "
            "negative exams; widen the selection, or check its labels"
        )
    num_nan = int(np.count_nonzero(np.isnan(scores)))
    if num_nan > 0:
        raise QualityError(
            f"{num_nan} of {len(scores)} scores are NaN; predict again, or leave these exams out"
        )
