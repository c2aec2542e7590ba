"""Bias-corrected and accelerated (BCa) intervals: percentiles that are moved by what is known of
the figure.

By how much more than half of the resamples lie below the figure of all the data is its bias; how
its error changes with it, the acceleration, is seen where one patient after the other is left out.
Both move the percentiles that become the bounds.

Source: Efron, J Am Stat Assoc 82 (1987) 171-185; several samples, here the strata of patients: the
acceleration of Davison and Hinkley 1997, 5.4, as `scipy.stats.bootstrap` has it.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer
from scipy.special import ndtr, ndtri

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics import roc
from ich_ray.statistics.bootstrap import Difference, Interval


def aucs_without_each(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    patient: Integer[np.ndarray, " exam"],
) -> Float64[np.ndarray, " patient"]:
    """Return the exact AUC without each patient; NaN where only one class is left.

    Args:
        scores: One score per exam, higher is more suspect.
        labels: True for a positive exam.
        patient: Number of each exam's patient, 0 .. patients - 1.

    Raises:
        QualityError: Only one class is present, or a score is NaN.

    >>> scores, labels = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    >>> aucs_without_each(scores, labels, np.array([0, 1, 2, 3]))
    array([0.75, 1.  , 1.  , 0.75])
    """
    of_positive, of_negative = roc.placements(scores, labels)
    size = int(patient.max()) + 1
    whose = [patient[labels], patient[~labels]]
    lost = np.bincount(whose[0], of_positive, minlength=size)
    lost += np.bincount(whose[1], of_negative, minlength=size)
    positive, negative = (np.bincount(who, minlength=size) for who in whose)
    # His own pairs were taken away twice.
    for both in np.flatnonzero((positive > 0) & (negative > 0)):
        own = patient == both
        lost[both] -= roc.placements(scores[own], labels[own])[0].sum()
    pairs = 2 * (labels.sum() - positive) * ((~labels).sum() - negative)
    left = np.full(size, math.nan)
    np.divide(of_positive.sum() - lost, pairs, out=left, where=pairs > 0)
    return left


def bca_interval(
    estimate: float,
    resampled: Float64[np.ndarray, " resample"],
    left_out: Float64[np.ndarray, " patient"],
    strata: Integer[np.ndarray, " patient"],
    *,
    level: float = 0.95,
) -> Interval:
    """Return the BCa interval of a figure.

    Args:
        estimate: The figure on all the data.
        resampled: The figure in each resample. Undefined (NaN) ones are left out and counted;
            those that equal the estimate count half below it.
        left_out: The figure without each patient.
        strata: Stratum of each patient, as they were drawn.
        level: Confidence level, between 0 and 1.

    Returns:
        The interval; without width where all resamples equal the estimate, as those of an AUC of
        exactly 1. NaN bounds where all lie on one side of it, so that the bias has no measure, or
        where leaving a patient out leaves the figure undefined.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        QualityError: There is no resample.

    >>> values = np.linspace(0.0, 1.0, 101)
    >>> without = np.array([0.4, 0.5, 0.6])
    >>> found = bca_interval(0.5, values, without, np.zeros(3, np.int64), level=0.9)
    >>> round(found.low, 6), round(found.high, 6)
    (0.05, 0.95)
    """
    if not 0 < level < 1:
        raise ConfigError(f"need 0 < level < 1, got {level}; 0.95 is usual")
    if len(resampled) == 0:
        raise QualityError("no resamples: an interval needs at least one, and 1,000 to be of use")
    defined = resampled[~np.isnan(resampled)]
    undefined = len(resampled) - len(defined)
    if len(defined) and (defined == estimate).all():
        return Interval(estimate, estimate, estimate, undefined)
    bias, acceleration = _bias(estimate, defined), _acceleration(left_out, strata)
    tails = [_moved(float(ndtri((1 + side * level) / 2)), bias, acceleration) for side in (-1, 1)]
    if not len(defined) or not np.isfinite(tails).all():
        return Interval(estimate, math.nan, math.nan, undefined)
    low, high = (float(bound) for bound in np.quantile(defined, tails))
    return Interval(estimate, low, high, undefined)


def bca_difference(
    estimate: float,
    resampled: Float64[np.ndarray, " resample"],
    left_out: Float64[np.ndarray, " patient"],
    strata: Integer[np.ndarray, " patient"],
) -> Difference:
    """Return a paired difference with its 95 % BCa interval, and the p-value that inverts it.

    That is twice the tail at which a bound of the interval reaches 0, with the share of resamples
    on the other side of 0 counted as in `bootstrap.difference`.

    Args:
        estimate: First figure minus second, on all the data.
        resampled: The same in each resample.
        left_out: The same without each patient.
        strata: Stratum of each patient.

    Raises:
        QualityError: There is no resample.

    >>> without = np.array([0.19, 0.2, 0.21])
    >>> found = bca_difference(0.2, np.linspace(0.1, 0.3, 99), without, np.zeros(3, np.int64))
    >>> round(found.p, 3)
    0.02
    """
    bounds = bca_interval(estimate, resampled, left_out, strata)
    defined = resampled[~np.isnan(resampled)]
    if math.isnan(bounds.low):
        p = math.nan
    elif bounds.low == bounds.high == estimate:
        p = float(estimate == 0)
    else:
        bias, acceleration = _bias(estimate, defined), _acceleration(left_out, strata)
        below, above = (
            _tail(
                (1 + int(np.count_nonzero(side))) / (1 + len(defined)),
                turn * bias,
                turn * acceleration,
            )
            for side, turn in ((defined <= 0, 1), (defined >= 0, -1))
        )
        p = min(1.0, 2 * min(below, above))
    return Difference(estimate, bounds.low, bounds.high, p, bounds.num_undefined)


def _bias(estimate: float, defined: Float64[np.ndarray, " resample"]) -> float:
    """Return the normal quantile of the share of resamples below the estimate; infinite at 0, 1."""
    if not len(defined):
        return math.nan
    below = (defined < estimate).mean() / 2 + (defined <= estimate).mean() / 2
    return float(ndtri(below))


def _acceleration(
    left_out: Float64[np.ndarray, " patient"], strata: Integer[np.ndarray, " patient"]
) -> float:
    """Return how the error changes with the figure; a stratum of one patient tells nothing."""
    cubes = squares = 0.0
    for stratum in np.unique(strata):
        of = left_out[strata == stratum]
        away = (len(of) - 1) * (of.mean() - of)
        cubes += float((away**3).sum()) / len(of) ** 3
        squares += float((away**2).sum()) / len(of) ** 2
    # Where nobody changes the figure, its error cannot change with it.
    return cubes / (6 * squares**1.5) if squares != 0 else 0.0


def _moved(quantile: float, bias: float, acceleration: float) -> float:
    """Return the percentile that a bound lies at; NaN beyond where the error falls to nothing."""
    from_bias = bias + quantile
    falling = 1 - acceleration * from_bias
    return float(ndtr(bias + from_bias / falling)) if falling > 0 else math.nan


def _tail(share: float, bias: float, acceleration: float) -> float:
    """Return the tail whose bound lies at that share of the resamples: `_moved`, turned round."""
    from_bias = float(ndtri(share)) - bias
    rising = 1 + acceleration * from_bias
    return float(ndtr(from_bias / rising - bias)) if rising > 0 else 0.0
