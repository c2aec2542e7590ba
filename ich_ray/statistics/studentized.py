"""Intervals and tests from resamples whose figures come with their standard errors: bootstrap-t.

How far a resample's figure lies from that of all the data is measured in the resample's own
standard error. A resample with few bleeding patients has a figure far off and a large error: taken
by themselves such figures make intervals that are too narrow, as percentile intervals are where
few patients matter. The error is that of the figure's influence function: what each cluster adds
to it, to first order.
"""

import math

import numpy as np
from jaxtyping import Float64, Integer, Real
from scipy.special import expit, logit

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics.bootstrap import Difference, Interval


def stratified_errors(
    influence: Float64[np.ndarray, "resample cluster"],
    weights: Real[np.ndarray, "resample cluster"],
    strata: Integer[np.ndarray, " cluster"],
) -> Float64[np.ndarray, " resample"]:
    """Return the standard error of a figure in each resample, strata drawn apart.

    Args:
        influence: Derivative of each resample's figure by each cluster's weight.
        weights: How often each resample holds each cluster.
        strata: Stratum of each cluster; each holds as many in every resample.

    Returns:
        Standard errors, to 6 digits: the sums behind influences have another order, and another
        last digit, where other threads make them. A stratum of one cluster adds nothing: no
        resample varies it.

    Source: Davison and Hinkley 1997, 2.7.2 (nonparametric delta method), 3.2 (strata).

    >>> mean_of_three = np.array([[-1.0, 0.0, 1.0]]) / 3
    >>> stratified_errors(mean_of_three, np.ones((1, 3)), np.zeros(3, np.int64)).round(5)
    array([0.57735])
    """
    variance = np.zeros(len(weights))
    for stratum in np.unique(strata):
        members = strata == stratum
        size = int(members.sum())
        if size < 2:
            continue
        here, times = influence[:, members], weights[:, members]
        centred = here - (np.einsum("rc,rc->r", times, here) / size)[:, None]
        variance += size / (size - 1) * np.einsum("rc,rc,rc->r", times, centred, centred)
    return rounded(np.sqrt(variance))


def rounded(values: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Keep 6 digits: those below depend on the order in which other threads add."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(mantissa * 2**20) / 2**20, exponent))


def studentized_interval(
    point: tuple[float, float],
    resampled: tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, " resample"]],
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of a figure between 0 and 1, symmetric on the scale of its logit.

    Args:
        point: The figure on all the data, and its standard error.
        resampled: The same in each resample. Undefined (NaN) ones are left out and counted.
        level: Confidence level, between 0 and 1.

    Returns:
        The interval; a figure of exactly 0 or 1 has one without width. NaN bounds where the figure
        or its error is undefined.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        QualityError: There is no resample.

    Source: Hall 1992, 3.5 (symmetric bootstrap-t); Davison and Hinkley 1997, 5.2.1 (transformed).
    """
    estimate, error = point
    undefined = int(np.isnan(_check(*resampled, level)).sum())
    if math.isnan(estimate) or math.isnan(error):
        return Interval(estimate, math.nan, math.nan, undefined)
    if estimate in (0.0, 1.0):
        return Interval(estimate, estimate, estimate, undefined)
    (centre,), (on_scale,) = _on_logit_scale(np.array([estimate]), np.array([error]))
    distances = _distances(float(centre), *_on_logit_scale(*resampled), level=level)
    half_width = _half_width(distances, float(on_scale), level)
    return Interval(
        estimate=estimate,
        low=float(expit(centre - half_width)),
        high=float(expit(centre + half_width)),
        num_undefined=len(resampled[0]) - len(distances),
    )


def studentized_positive(
    point: tuple[float, float],
    resampled: tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, " resample"]],
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of a figure above 0, symmetric on the scale of its logarithm.

    Args:
        point: The figure on all the data, and its standard error.
        resampled: The same in each resample. Undefined (NaN) ones are left out and counted; one of
            0 lies endlessly far.
        level: Confidence level, between 0 and 1.

    Returns:
        The interval, from 0 to infinity where the resamples set no bound.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        QualityError: There is no resample.

    Source: As `studentized_interval`.

    >>> values = np.exp(np.linspace(-1, 1, 41))
    >>> found = studentized_positive((1.0, 0.5), (values, 0.5 * values))
    >>> round(found.low * found.high, 6)
    1.0
    """
    estimate, error = point
    values, errors = resampled
    on_scale = np.full(values.shape, 0.0)
    np.divide(errors, values, out=on_scale, where=values > 0)
    with np.errstate(divide="ignore"):
        logarithms = np.asarray(np.log(values))
    distances = _distances(math.log(estimate), logarithms, on_scale, level=level)
    half_width = _half_width(distances, error / estimate, level)
    return Interval(
        estimate=estimate,
        low=estimate * math.exp(-half_width),
        high=estimate * float(np.exp(half_width)),
        num_undefined=len(values) - len(distances),
    )


def studentized_difference(
    point: tuple[float, float],
    resampled: tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, " resample"]],
    *,
    level: float = 0.95,
) -> Difference:
    """Symmetric interval and two-sided p-value of a paired difference of figures up to 1.

    With B resamples, k of which lie at least as far from the difference of all the data as that
    lies from 0, each in its own standard error, p = (1 + k) / (1 + B): never below 1 / (1 + B).

    Args:
        point: First figure minus second on all the data, and the standard error of that.
        resampled: The same in each resample, both figures on the same weights. Undefined (NaN) ones
            are left out and counted.
        level: Confidence level, between 0 and 1.

    Returns:
        The difference, its bounds within [-1, 1]. Models that differ nowhere have p = 1; NaN bounds
        and p where the difference or its error is undefined.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        QualityError: There is no resample.

    Source: Hall 1992, 3.5 (symmetric bootstrap-t); Davison and Hinkley 1997, 4.2.1 (the added 1).
    """
    estimate, error = point
    distances = _distances(estimate, *resampled, level=level)
    half_width = _half_width(distances, error, level)
    undefined = len(resampled[0]) - len(distances)
    if math.isnan(half_width):
        return Difference(estimate, math.nan, math.nan, math.nan, undefined)
    from_zero = _distances(estimate, np.zeros(1), np.array([error]), level=level)
    as_far = int(np.count_nonzero(distances >= from_zero))
    return Difference(
        estimate=estimate,
        low=max(-1.0, estimate - half_width),
        high=min(1.0, estimate + half_width),
        p=(1 + as_far) / (1 + len(distances)),
        num_undefined=undefined,
    )


def _on_logit_scale(
    values: Float64[np.ndarray, " figure"], errors: Float64[np.ndarray, " figure"]
) -> tuple[Float64[np.ndarray, " figure"], Float64[np.ndarray, " figure"]]:
    """Return figures and errors there; at exactly 0 and 1 infinite, without an error."""
    slope = values * (1 - values)
    scaled = np.where(np.isnan(errors), np.nan, 0.0)
    np.divide(errors, slope, out=scaled, where=slope > 0)
    return np.asarray(logit(values)), scaled


def _distances(
    centre: float,
    values: Float64[np.ndarray, " resample"],
    errors: Float64[np.ndarray, " resample"],
    *,
    level: float,
) -> Float64[np.ndarray, " defined"]:
    """Return how many of its errors each defined figure lies from the centre."""
    both = _check(values, errors, level)
    away = np.abs(values[~np.isnan(both)] - centre)
    error = errors[~np.isnan(both)]
    # Without an error: at the centre no distance at all, elsewhere an endless one.
    found = np.where(away > 0, np.inf, 0.0)
    with np.errstate(over="ignore"):
        np.divide(away, error, out=found, where=error > 0)
    return found


def _half_width(distances: Float64[np.ndarray, " defined"], error: float, level: float) -> float:
    """Return the error times the distance that a share of `level` of the resamples keeps to."""
    if not len(distances) or math.isnan(error):
        return math.nan
    if error == 0:
        return 0.0
    place = math.ceil(level * (len(distances) + 1))
    return error * float(np.sort(distances)[place - 1]) if place <= len(distances) else math.inf


def _check(
    values: Float64[np.ndarray, " resample"],
    errors: Float64[np.ndarray, " resample"],
    level: float,
) -> Float64[np.ndarray, " resample"]:
    """Return an array that is NaN where a value or its error is."""
    if not 0 < level < 1:
        raise ConfigError(f"need 0 < level < 1, got {level}; 0.95 is usual")
    if len(values) == 0:
        raise QualityError("no resamples: an interval needs at least one, and 1,000 to be of use")
    return np.where(np.isnan(values), np.nan, errors)
