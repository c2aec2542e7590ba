"""Shares of counted things: their intervals, two shares of the same things, several tests at once.

The things are taken as independent: where patients have several exams, resample patients instead.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from scipy.stats import binom

CONFIDENCE = 0.95


def wilson(successes: int, trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's interval of a proportion; (0, 1) where nothing was tried.

    Source: E. B. Wilson, JASA 22 (1927) 209-212: all proportions that the score test accepts.

    >>> [round(end, 4) for end in wilson(2, 20)]
    [0.0279, 0.301]
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    # At 0 and all of them an end is exact, and rounding may pass it.
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided mid-p-value of two shares of the same things.

    Of the outcomes as likely as the one seen half are counted: the exact test, which counts all, is
    conservative. With few things neither can reject: of 10, hardly ever.

    Args:
        only_a: Things that the first alone gets right.
        only_b: Things that the second alone gets right.

    Returns:
        1 where they differ in nothing.

    Source: McNemar 1947; mid-p: Fagerland, Lydersen and Laake, BMC Med Res Methodol 13 (2013) 91.

    >>> round(mcnemar(8, 1), 6)
    0.021484
    """
    pairs, fewer = only_a + only_b, min(only_a, only_b)
    return float(2 * binom.cdf(fewer, pairs, 0.5) - binom.pmf(fewer, pairs, 0.5))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: each that is below alpha may be claimed.

    Source: Holm 1979, step-down Bonferroni; the order of the p-values is kept.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return adjusted
