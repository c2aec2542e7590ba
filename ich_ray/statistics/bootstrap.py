"""Resampling with replacement: integer weights, percentile intervals, paired differences.

The unit of resampling is the cluster, a patient or an exam: slices and pixels of one patient are
not independent. A resample is an integer weight per cluster, and a metric takes the weights of many
resamples at once. Where several exams share a patient, `weights[:, patient_of_exam]` gives every
exam the weight of its patient.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from ich_ray.errors import ConfigError, QualityError


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval, in the units of the figure."""

    estimate: float
    """The figure on all the data; NaN where it is undefined."""

    low: float
    """Lower bound."""

    high: float
    """Upper bound."""

    num_undefined: int = 0
    """Resamples left out because the figure was undefined in them; 0 where none were drawn."""

    def as_dict(self) -> dict[str, float | int | None]:
        """Field -> value for JSON, None instead of NaN."""
        return _as_dict(self)


@dataclass(frozen=True)
class Difference:
    """A difference between two figures, first minus second, with its interval and p-value."""

    estimate: float
    """The difference on all the data; NaN where it is undefined."""

    low: float
    """Lower bound."""

    high: float
    """Upper bound."""

    p: float
    """Two-sided p-value of no difference."""

    num_undefined: int = 0
    """Resamples left out because the difference was undefined in them."""

    def as_dict(self) -> dict[str, float | int | None]:
        """Field -> value for JSON, None instead of NaN."""
        return _as_dict(self)


def resample_weights(
    *,
    seed: int,
    resamples: range | Integer[np.ndarray, " resample"],
    num_clusters: int,
    strata: Integer[np.ndarray, " cluster"] | None = None,
) -> Int64[np.ndarray, "resample cluster"]:
    """How often each resample draws each cluster, with replacement.

    A row depends on `seed` and its resample's index alone, so that any division of the resamples
    among workers gives the same rows.

    Args:
        seed: Seed of the run, not negative.
        resamples: Indices of the resamples wanted, not negative.
        num_clusters: Clusters to draw from; every resample draws as many.
        strata: Stratum of each cluster, e.g. its label: each stratum keeps its number of clusters
            in every resample. A stratum of one cluster is thus never varied.

    Returns:
        Counts; each row sums to `num_clusters`.

    Raises:
        QualityError: There is no cluster to draw from.

    Source: Davison and Hinkley 1997, 2.2 and 3.8 (cases, strata); numpy `SeedSequence` spawn keys.

    >>> resample_weights(seed=7, resamples=range(2, 4), num_clusters=5).sum(axis=1)
    array([5, 5])
    """
    if num_clusters < 1:
        raise QualityError("nothing to resample: 0 clusters; check the selection of exams")
    if strata is None:
        strata = np.zeros(num_clusters, dtype=np.int64)
    assert len(strata) == num_clusters, f"{len(strata)} strata of {num_clusters} clusters"
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    weights = np.empty((len(resamples), num_clusters), dtype=np.int64)
    for row, index in enumerate(resamples):
        # A spawn key, not more entropy: (seed, 0) as entropy is the stream of the seed itself.
        sequence = np.random.SeedSequence(seed, spawn_key=(int(index),))
        rng = np.random.default_rng(sequence)
        for clusters in members:
            drawn = rng.integers(len(clusters), size=len(clusters))
            weights[row, clusters] = np.bincount(drawn, minlength=len(clusters))
    return weights


def interval(
    estimate: float, resampled: Float64[np.ndarray, " resample"], *, level: float = 0.95
) -> Interval:
    """Percentile interval of a figure from its values in the resamples.

    Resamples in which the figure is undefined (NaN) are left out and counted; where it is undefined
    in all of them, the bounds are NaN.

    Args:
        estimate: The figure on all the data.
        resampled: The figure in each resample.
        level: Confidence level, between 0 and 1.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        QualityError: There is no resample.

    Source: Efron and Tibshirani 1993, 13.3, with numpy's linear quantile.

    >>> interval(2.0, np.array([0.0, 1.0, 2.0, 3.0, 4.0, np.nan]), level=0.5)
    Interval(estimate=2.0, low=1.0, high=3.0, num_undefined=1)
    """
    defined = _defined(resampled, level)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(defined, tails) if len(defined) else (math.nan, math.nan)
    return Interval(
        estimate=estimate,
        low=float(low),
        high=float(high),
        num_undefined=len(resampled) - len(defined),
    )


def difference(
    estimate: float, resampled: Float64[np.ndarray, " resample"], *, level: float = 0.95
) -> Difference:
    """Percentile interval and two-sided p-value of a paired difference.

    The p-value inverts the percentile interval: with B resamples, and k the smaller of the number
    of resampled differences <= 0 and the number >= 0, p = min(1, 2 (1 + k) / (1 + B)). It is never
    below 2 / (1 + B). Undefined (NaN) resamples are left out of B and counted; where all are
    undefined, bounds and p-value are NaN.

    Args:
        estimate: First figure minus second, on all the data.
        resampled: First figure minus second in each resample, both on the same weights.
        level: Confidence level, between 0 and 1.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        QualityError: There is no resample.

    Source: Davison and Hinkley 1997, 4.2.1 (the added 1), 5.3 (inverting the interval).

    >>> difference(0.2, np.linspace(0.1, 0.3, 99)).p
    0.02
    """
    bounds = interval(estimate, resampled, level=level)
    defined = _defined(resampled, level)
    fewer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    p = min(1.0, 2 * (1 + int(fewer)) / (1 + len(defined))) if len(defined) else math.nan
    return Difference(
        estimate=estimate,
        low=bounds.low,
        high=bounds.high,
        p=p,
        num_undefined=bounds.num_undefined,
    )


def _defined(
    resampled: Float64[np.ndarray, " resample"], level: float
) -> Float64[np.ndarray, " defined"]:
    if not 0 < level < 1:
        raise ConfigError(f"need 0 < level < 1, got {level}; 0.95 is usual")
    if len(resampled) == 0:
        raise QualityError("no resamples: an interval needs at least one, and 1,000 to be of use")
    return np.asarray(resampled[~np.isnan(resampled)])


def _as_dict(figure: Interval | Difference) -> dict[str, float | int | None]:
    values = dataclasses.asdict(figure)
    return {name: None if math.isnan(value) else value for name, value in values.items()}
