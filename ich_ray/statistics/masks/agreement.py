"""Agreement of predicted and reference volumes: Bland and Altman's limits, and the ICC.

Both are of the exams whose reference holds a bleed: pairs of nothing and nothing agree without
telling anything, and the more of them, the better a model looks. What a model marks in exams
without a bleed is a figure of its own. Of fewer than three exams nothing is said: NaN.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Integer
from scipy import stats

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.overlap import share_of

CONFIDENCE = 0.95
FEWEST = 3
"""Exams of which anything is said."""

WITHIN_LIMITS = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
UNDEFINED = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlandAltman:
    """Differences between two measurements of the same exams, first minus second."""

    bias: Interval
    """Their mean."""

    lower: Interval
    """The limits of agreement: 95 % of differences lie between them, if they are normal."""

    upper: Interval
    within: float
    """Share of the differences that do lie between them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VolumeAgreement:
    """A model's volumes against the reference, in the exams whose reference holds a bleed."""

    model: str
    predicted_ml: Float64[np.ndarray, " exam"] = field(metadata={"record": False})
    reference_ml: Float64[np.ndarray, " exam"] = field(metadata={"record": False})
    differences: BlandAltman
    """Predicted minus reference, ml."""

    icc: Interval
    num_unknown: int
    """Exams left out, since their volumes are not known."""

    num_without_bleed: int
    false_ml: float
    """Mean volume marked in those; NaN if there are none."""


def volume_agreement(
    model: str,
    predicted_ml: Float64[np.ndarray, " exam"],
    reference_ml: Float64[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"],
) -> VolumeAgreement:
    """Compare a model's volumes with the reference.

    Args:
        model: Its name.
        predicted_ml: Marked volume of each exam; NaN where it is not known.
        reference_ml: True volume of each exam; NaN where it is not known.
        patient: Number of each exam's patient.
    """
    known = ~(np.isnan(predicted_ml) | np.isnan(reference_ml))
    bleeds, without = known & (reference_ml > 0), known & (reference_ml == 0)
    predicted, reference = predicted_ml[bleeds], reference_ml[bleeds]
    whole = share_of(np.array([predicted_ml[without].sum()]), np.array([float(without.sum())]))
    return VolumeAgreement(
        model=model,
        predicted_ml=predicted,
        reference_ml=reference,
        differences=bland_altman(predicted, reference, patient[bleeds]),
        icc=absolute_agreement(np.column_stack([predicted, reference])),
        num_unknown=int((~known).sum()),
        num_without_bleed=int(without.sum()),
        false_ml=float(whole[0]),
    )


def bland_altman(
    first: Float64[np.ndarray, " exam"],
    second: Float64[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"],
) -> BlandAltman:
    """Return bias and limits of agreement of two measurements, with 95 % intervals.

    The bias has the t interval of the mean, with patients as clusters: where each has one exam, the
    usual one. A limit has Bland and Altman's interval, or that of patients' influences on it, the
    wider one: the former takes differences to be normal, which those of volumes are not, and the
    latter is too narrow of 20 exams. It still is where a few large bleeds make the limits.

    Args:
        first: One value an exam.
        second: Of the same exams.
        patient: Number of each exam's patient, whose exams are not independent.

    Returns:
        NaN of fewer than three exams; without bounds of fewer than two patients.

    Source: Bland and Altman, Lancet 327 (1986) 307, and Stat Methods Med Res 8 (1999) 135.

    >>> found = bland_altman(np.array([1.0, 3.0, 5.0]), np.array([2.0, 2.0, 2.0]), np.arange(3))
    >>> found.bias.estimate, round(found.upper.estimate, 2)
    (1.0, 4.92)
    """
    differences, num_exams = first - second, len(first)
    if num_exams < FEWEST:
        return BlandAltman(bias=UNDEFINED, lower=UNDEFINED, upper=UNDEFINED, within=math.nan)
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    away = differences - mean
    of_mean = away / num_exams
    of_spread = np.zeros(num_exams)
    if spread > 0:
        of_spread = (away**2 - np.mean(away**2)) / (2 * spread * num_exams)
    half_width = WITHIN_LIMITS * spread
    # The variance of a limit is that of the mean and, as of normal values, of the spread.
    textbook = spread * math.sqrt(1 / num_exams + WITHIN_LIMITS**2 / (2 * (num_exams - 1)))
    lower, upper = (
        _t_interval(
            mean + side * half_width,
            of_mean + side * WITHIN_LIMITS * of_spread,
            patient,
            at_least=textbook,
        )
        for side in (-1, 1)
    )
    return BlandAltman(
        bias=_t_interval(mean, of_mean, patient),
        lower=lower,
        upper=upper,
        # Rounding must not tell equal differences from their mean.
        within=float(np.mean(np.abs(away) <= half_width + 1e-9)),
    )


def absolute_agreement(ratings: Float64[np.ndarray, "exam rater"]) -> Interval:
    """Return the intraclass correlation ICC(2,1) with its 95 % interval from F.

    Of all the variance of single measurements, the share that lies between exams: a model that is
    off by the same volume in each does not agree. The interval takes exams as independent, and
    values as normal.

    Args:
        ratings: What each rater measured in each exam; two raters or more.

    Returns:
        NaN of fewer than three exams, or where all values are the same; NaN bounds where no exam
        differs from another. Below 0 is possible.

    Source: Shrout and Fleiss, Psychol Bull 86 (1979) 420, ICC(2,1); McGraw and Wong, Psychol
    Methods 1 (1996) 30, ICC(A,1).

    >>> absolute_agreement(np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]])).estimate
    0.6666666666666666
    """
    (n, k) = ratings.shape
    if n < FEWEST or np.ptp(ratings) == 0:
        return UNDEFINED
    of_exam, of_rater = ratings.mean(axis=1), ratings.mean(axis=0)
    mean = of_exam.mean()
    rows = k * float(np.sum((of_exam - mean) ** 2)) / (n - 1)
    columns = n * float(np.sum((of_rater - mean) ** 2)) / (k - 1)
    rest = ratings - of_exam[:, None] - of_rater + mean
    error = float(np.sum(rest**2)) / ((n - 1) * (k - 1))
    icc = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    if icc == 1:
        return Interval(icc, icc, icc)
    if rows == error == 0:
        return Interval(icc, math.nan, math.nan)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / (
        (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    low, high = (
        n * (rows - f * error) / (f * (k * columns + (k * n - k - n) * error) + n * rows)
        for f in (
            stats.f.ppf((1 + CONFIDENCE) / 2, n - 1, freedom),
            1 / stats.f.ppf((1 + CONFIDENCE) / 2, freedom, n - 1),
        )
    )
    return Interval(icc, float(low), float(high))


def _t_interval(
    estimate: float,
    influence: Float64[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"],
    *,
    at_least: float = 0.0,
) -> Interval:
    """Interval of a figure from what each exam adds to it, summed by patient."""
    _, whose = np.unique(patient, return_inverse=True)
    sums = np.bincount(whose, influence)
    if len(sums) < 2:
        return Interval(estimate, math.nan, math.nan)
    error = math.sqrt(len(sums) / (len(sums) - 1) * float(np.sum(sums**2)))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sums) - 1)) * max(error, at_least)
    return Interval(estimate, estimate - reach, estimate + reach)
