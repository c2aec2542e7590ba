"""Is the difference of two models chance? A sign-flip test of what each patient adds to it.

If neither model is better, whose prediction of a patient is called the first model's is as good as
the toss of a coin, and what the patient adds to the difference has either sign. Each toss of all
coins gives a difference that chance makes; how often these are as large as the one found is the
p-value, and the differences that would not be refuted make the interval.
"""

import math

import numpy as np
from jaxtyping import Float64

from ich_ray.errors import ConfigError
from ich_ray.statistics.bootstrap import Difference

TOSSES = 10_000
AT_ONCE = 500
"""Tosses in each temporary array, at most."""

VALUES_AT_ONCE = 2**22
"""In each of them, 32 MB: of more than 8,000 patients fewer tosses."""

GRAINS = 2**40
"""Of which a change of 1 has so many."""


def paired_permutation(  # noqa: PLR0913  (a test and its interval, of one call)
    estimate: float,
    changes: Float64[np.ndarray, " patient"],
    shares: Float64[np.ndarray, " patient"],
    *,
    seed: int,
    tosses: int = TOSSES,
    level: float = 0.95,
) -> Difference:
    """Test a paired difference of two figures up to 1, and give it an interval.

    A difference d is not refuted while the tosses that are at least as large as the rest, once
    each patient's part of d is taken off him, are more than 1 - `level` of all.

    Args:
        estimate: First figure minus second, on all patients.
        changes: What the difference loses without each patient, beyond what it is on all: about 0
            in all, since some pull it up and others down.
        shares: Each patient's part of a difference that is the same everywhere, 1 in all. The
            estimate is divided by them, and each part added to the patient's change.
        seed: Of the tosses; the same seed tosses the same for all figures.
        tosses: How often all coins are tossed.
        level: Confidence level, between 0 and 1.

    Returns:
        The difference, its bounds within [-1, 1]. The p-value is two-sided, never below
        1 / (1 + tosses); the interval holds 0 where p is above 1 - `level`, and has no width where
        no patient changes the difference, as of two DSCs of 0. NaN where the estimate or a change
        is.

    Raises:
        ConfigError: `level` is not between 0 and 1.

    Source: Fisher 1935, 21 (exchange and interval); Davison and Hinkley 1997, 4.3 (the added 1).

    >>> found = paired_permutation(0.4, np.full(8, 0.05), np.full(8, 0.125), seed=0)
    >>> round(found.p * 2**8)
    2
    """
    if not 0 < level < 1:
        raise ConfigError(f"need 0 < level < 1, got {level}; 0.95 is usual")
    if math.isnan(estimate) or np.isnan(changes).any():
        return Difference(estimate, math.nan, math.nan, math.nan)
    if estimate == 0 and not changes.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    whole = changes + (estimate - changes.sum()) * shares
    # Whole numbers, so that a sum is the same in any order, of any number of threads.
    parts_of = np.rint(np.stack([whole, shares], axis=1) * GRAINS)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 1)))
    parts = []
    at_once = min(AT_ONCE, max(1, VALUES_AT_ONCE // len(changes)))
    for first in range(0, tosses, at_once):
        size = (min(at_once, tosses - first), len(changes))
        signs = 2.0 * rng.integers(2, size=size, dtype=np.int8) - 1
        parts.append(signs @ parts_of)
    tossed, of_shares = np.concatenate(parts).T / GRAINS
    # Where all coins that matter fell alike, rounding must not tell.
    alike = np.abs(of_shares) > 1 - 1e-8
    of_shares[alike] = np.sign(of_shares[alike])
    same = alike & (np.abs(tossed - of_shares * estimate) < 1e-8)
    # |tossed - d of_shares| >= |estimate - d| between the two d where both are equal.
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack(
            [(estimate - tossed) / (1 - of_shares), (estimate + tossed) / (1 + of_shares)]
        )
    # The very toss that was found, or its reverse: it refutes nothing.
    lows = np.where(same, -np.inf, ends.min(axis=0))
    highs = np.where(same, np.inf, ends.max(axis=0))
    # Equal but for rounding: the coins that all fell alike among them.
    as_large = np.abs(tossed) >= abs(estimate) - 1e-8
    place = math.floor(round((1 - level) * (tosses + 1), 9)) - 1
    low, high = (np.sort(lows)[place], -np.sort(-highs)[place]) if place >= 0 else (-np.inf, np.inf)
    return Difference(
        estimate=estimate,
        low=max(-1.0, float(low)),
        high=min(1.0, float(high)),
        p=(1 + int(np.count_nonzero(as_large))) / (1 + tosses),
    )
