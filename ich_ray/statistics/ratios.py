"""Shares of pooled counts whose clusters are not independent: intervals and differences.

A share here is a sum over clusters (patients) divided by another such sum: the F1 of slices, the
mean DSC of exams. Its error is that of its influence function, strata apart, to first order.
"""

import math

import numpy as np
from jaxtyping import Float64, Integer
from scipy.special import expit, logit
from scipy.stats import t

from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.studentized import stratified_errors

Counts = tuple[Float64[np.ndarray, " cluster"], Float64[np.ndarray, " cluster"]]
"""What each cluster adds to the part, and to the whole."""


def ratio_interval(
    counts: Counts, strata: Integer[np.ndarray, " cluster"], *, level: float = 0.95
) -> Interval:
    """Return a share of pooled counts, and its interval on the scale of the logit.

    Args:
        counts: Of each cluster: of the part, and of the whole that holds it.
        strata: Stratum of each cluster, e.g. whether a patient bleeds.
        level: Confidence level, between 0 and 1.

    Returns:
        NaN where the whole is nothing; NaN bounds where fewer than two clusters add to it. A share
        of exactly 0 or 1 has an interval without width.

    Source: linearised variance of a ratio, Cochran 1977, 6.4; quantile of t with one degree of
    freedom less than clusters that add anything.

    >>> part, whole = np.array([3.0, 1.0, 2.0]), np.array([4.0, 4.0, 4.0])
    >>> found = ratio_interval((part, whole), np.zeros(3, np.int64))
    >>> found.estimate, round(found.low, 3), round(found.high, 3)
    (0.5, 0.077, 0.923)
    """
    part, whole = counts
    adding = int(np.count_nonzero(whole))
    if adding == 0:
        return Interval(math.nan, math.nan, math.nan)
    estimate = float(part.sum() / whole.sum())
    if adding < 2:
        return Interval(estimate, math.nan, math.nan)
    if estimate in (0.0, 1.0):
        return Interval(estimate, estimate, estimate)
    error = _error(_influence(counts), strata) / (estimate * (1 - estimate))
    half_width = float(t.ppf((1 + level) / 2, adding - 1)) * error
    centre = float(logit(estimate))
    low, high = (float(expit(centre + side * half_width)) for side in (-1, 1))
    return Interval(estimate, low, high)


def ratio_difference(
    a: Counts, b: Counts, strata: Integer[np.ndarray, " cluster"], *, level: float = 0.95
) -> Difference:
    """Return share a minus share b of the same clusters, with interval and two-sided p-value.

    Args:
        a: As of `ratio_interval`.
        b: The other's, cluster by cluster.
        strata: Stratum of each cluster.
        level: Confidence level, between 0 and 1.

    Returns:
        Bounds within [-1, 1]. NaN where a share is undefined, or fewer than two clusters add to
        one. Shares that differ in no cluster have p = 1.

    Source: as `ratio_interval`, plain scale.
    """
    adding = min(int(np.count_nonzero(whole)) for _, whole in (a, b))
    if adding == 0:
        return Difference(math.nan, math.nan, math.nan, math.nan)
    estimate = float(a[0].sum() / a[1].sum() - b[0].sum() / b[1].sum())
    if adding < 2:
        return Difference(estimate, math.nan, math.nan, math.nan)
    error = _error(_influence(a) - _influence(b), strata)
    half_width = float(t.ppf((1 + level) / 2, adding - 1)) * error
    tail = float(t.sf(abs(estimate) / error, adding - 1)) if error > 0 else 0.5 * (estimate == 0)
    return Difference(
        estimate=estimate,
        low=max(-1.0, estimate - half_width),
        high=min(1.0, estimate + half_width),
        p=2 * tail,
    )


def _influence(counts: Counts) -> Float64[np.ndarray, " cluster"]:
    part, whole = counts
    return np.asarray((part - part.sum() / whole.sum() * whole) / whole.sum())


def _error(
    influence: Float64[np.ndarray, " cluster"], strata: Integer[np.ndarray, " cluster"]
) -> float:
    return float(stratified_errors(influence[None, :], np.ones((1, len(strata))), strata)[0])
