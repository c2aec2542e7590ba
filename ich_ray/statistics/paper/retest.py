"""The paper's test-retest study: paired t-tests over resamples of the same slices.

A test that must not be believed, kept to show what it gives: a resample is no new slice, so that
enough of them make any difference significant.

Source: Lin & Yuh, sections 2.5 and 3.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

Values = tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, " resample"]]
"""Of the first and of the second model, in the same resamples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedT:
    """A paired t-test of two models over resamples, first minus second."""

    difference: float
    """Mean over the resamples; NaN where it is defined in none."""

    t: float
    """Infinite where the difference is the same, and not 0, in all."""

    p: float
    """Two-sided, as if resamples were independent observations."""

    replicates: int
    """Resamples in which both models' figures are defined."""

    @property
    def false_alarms(self) -> float:
        """How often this test calls equal models different at p < 0.05."""
        return false_alarms(self.replicates)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retest:
    """The paper's paired t-tests of one metric."""

    segmentations: tuple[PairedT, ...]
    """Each segmentation of the slices by itself."""

    together: PairedT
    """Over the resamples of all segmentations."""


def retest(values: Sequence[Values]) -> Retest:
    """Compare two models by a paired t-test over resamples, for each segmentation and for all.

    Args:
        values: Of each segmentation, at least one: the first and the second model's figure in the
            same resamples.

    >>> found = retest([(np.array([0.75, 0.5, 1.0]), np.array([0.5, 0.5, 0.5]))])
    >>> round(found.together.t, 3), round(found.together.p, 3)
    (1.732, 0.225)
    """
    differences = [first - second for first, second in values]
    return Retest(
        segmentations=tuple(_paired_t(each) for each in differences),
        together=_paired_t(np.concatenate(differences)),
    )


def false_alarms(replicates: int) -> float:
    """Return how often the paired t-test calls equal models different at p < 0.05.

    Args:
        replicates: Resamples of the same data.

    Returns:
        A probability; NaN for fewer than 2 resamples.

    Source: if the estimate d is normal around 0 and each resample's difference around d, both with
    the same variance, then t over B resamples is sqrt(B + 1) times a variable of Student's
    distribution with B - 1 degrees of freedom.

    >>> [round(false_alarms(replicates), 2) for replicates in (2, 50, 150)]
    [0.09, 0.78, 0.87]
    """
    if replicates < 2:
        return math.nan
    critical = stats.t.ppf(0.975, replicates - 1)
    return float(2 * stats.t.sf(critical / math.sqrt(replicates + 1), replicates - 1))


def _paired_t(differences: Float64[np.ndarray, " resample"]) -> PairedT:
    defined = differences[~np.isnan(differences)]
    mean = float(defined.mean()) if len(defined) else math.nan
    if len(defined) < 2:
        t, p = math.nan, math.nan
    elif np.ptp(defined) == 0:
        t, p = (0.0, 1.0) if mean == 0 else (math.copysign(math.inf, mean), 0.0)
    else:
        found = stats.ttest_1samp(defined, 0.0)
        t, p = float(found.statistic), float(found.pvalue)
    return PairedT(difference=mean, t=t, p=p, replicates=len(defined))
