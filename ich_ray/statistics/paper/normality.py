"""Are values normal? The Kolmogorov-Smirnov test, as often misused and as Lilliefors mends it.

Not to reject does not confirm: with few values hardly anything is rejected.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

SIMULATIONS = 1999
"""Of normal values: the p-value is a multiple of 1/2000."""

FEWEST = 4
"""Values, of Lilliefors' own tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normality:
    """How far values lie from the normal distribution with their own mean and deviation."""

    statistic: float
    """The largest distance of the two cumulative distributions; NaN where nothing varies."""

    p_uncorrected: float
    """As if mean and deviation were known beforehand: far too large."""

    p_lilliefors: float
    """With both taken from the values."""


def normality(values: Float64[np.ndarray, " value"], *, seed: int) -> Normality:
    """Test values for normality, with mean and standard deviation estimated from them.

    Args:
        values: All defined.
        seed: Of the simulated values behind the corrected p-value.

    Returns:
        NaN with fewer than 4 values, or where all are equal.

    Source: Lilliefors 1967; its distribution simulated by SciPy's `goodness_of_fit`.

    >>> found = normality(np.arange(20.0) ** 3, seed=0)
    >>> round(found.statistic, 3), round(found.p_uncorrected, 2), round(found.p_lilliefors, 2)
    (0.2, 0.35, 0.03)
    """
    if len(values) < FEWEST or np.ptp(values) == 0:
        return Normality(statistic=math.nan, p_uncorrected=math.nan, p_lilliefors=math.nan)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 2)))
    corrected = stats.goodness_of_fit(
        stats.norm, values, statistic="ks", n_mc_samples=SIMULATIONS, rng=rng
    )
    uncorrected = stats.kstest(values, "norm", args=(mean, deviation))
    return Normality(
        statistic=float(uncorrected.statistic),
        p_uncorrected=float(uncorrected.pvalue),
        p_lilliefors=float(corrected.pvalue),
    )
