"""Which differences of two models a test corpus of some size can show, told from a pilot.

A difference varies from one corpus to another, with a variance that falls as one over their size; a
pilot tells it (pilots.py). The tests are those of comparison.py, taken as normal, and the variance
as the same whatever the true difference is. What the pilot's patients leave open of the variance
makes the interval of each answer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from ich_ray.errors import ConfigError
from ich_ray.statistics.bootstrap import Interval

ALPHA = 0.05
LEAST_OF_A_CLASS = 10
"""In a planned corpus; of fewer the tests are not normal."""

_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(1 - ALPHA / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pilot:
    """How far the difference of two models varies, as the patients of a pilot tell it."""

    metric: Literal["exam AUC", "DSC"]
    unit: Literal["exams", "patients"]
    """What the size of a corpus counts."""

    prevalence: float
    """Share of the planned corpus that is positive, or for a DSC marked; within (0, 1)."""

    patients: tuple[int, int]
    """Of the pilot: with a positive exam, or marked; and with a negative exam, or not marked."""

    variance: Interval
    """Of the difference in a corpus of that prevalence, times the size of the corpus; above 0."""


def power(pilot: Pilot, difference: float, *, size: int) -> Interval:
    """Return how often a corpus shows a true difference, by a two-sided test at 5 %.

    Args:
        pilot: Tells how the difference varies.
        difference: The true one; its sign does not matter.
        size: Of the corpus, in the pilot's unit.

    Raises:
        ConfigError: The corpus would hold fewer than LEAST_OF_A_CLASS of a class.

    >>> pilot = Pilot(metric="exam AUC", unit="exams", prevalence=0.5, patients=(50, 50),
    ...               variance=Interval(0.04, 0.03, 0.05))
    >>> round(power(pilot, 0.0, size=100).estimate, 6), round(power(pilot, 0.04, size=100).low, 3)
    (0.05, 0.432)
    """
    size = _checked(pilot, size)
    return _answer(pilot, lambda variance: _power(_in_errors(difference, variance / size)))


def power_of_non_inferiority(
    pilot: Pilot, margin: float, *, size: int, difference: float = 0.0
) -> Interval:
    """Return how often a corpus shows that the first model loses less than a margin.

    It does where the 95 % interval of the difference lies above -`margin`: one-sided, at 2.5 %.

    Args:
        pilot: Tells how the difference varies.
        margin: The loss that is not to be borne, above 0.
        size: Of the corpus, in the pilot's unit.
        difference: The true one, first model minus second.

    Raises:
        ConfigError: `margin` is not above 0, or the corpus would hold fewer than LEAST_OF_A_CLASS
            of a class.

    Source: Julious, Stat Med 23 (2004) 1921-1986; of a paired design by the difference's variance.

    >>> pilot = Pilot(metric="DSC", unit="patients", prevalence=0.5, patients=(50, 50),
    ...               variance=Interval(0.04, 0.03, 0.05))
    >>> round(power_of_non_inferiority(pilot, 0.05, size=100, difference=-0.05).estimate, 6)
    0.025
    """
    if not margin > 0:
        raise ConfigError(f"need a margin above 0, got {margin}: the loss that is not to be borne")
    size, above = _checked(pilot, size), margin + difference
    return _answer(pilot, lambda variance: _NORMAL.cdf(_in_errors(above, variance / size) - _Z))


def detectable(pilot: Pilot, *, size: int, at: float = 0.8) -> Interval:
    """Return the smallest true difference that a corpus shows with a power of `at`.

    Args:
        pilot: Tells how the difference varies.
        size: Of the corpus, in the pilot's unit.
        at: Power, above 0.05 and below 1.

    Raises:
        ConfigError: No difference has that power, or the corpus would hold fewer than
            LEAST_OF_A_CLASS of a class.

    >>> pilot = Pilot(metric="exam AUC", unit="exams", prevalence=0.5, patients=(50, 50),
    ...               variance=Interval(0.04, 0.03, 0.05))
    >>> round(detectable(pilot, size=100).estimate, 4)
    0.056
    """
    size, shift = _checked(pilot, size), _shift(at)
    return _answer(pilot, lambda variance: shift * math.sqrt(variance / size))


def size_needed(pilot: Pilot, difference: float, *, at: float = 0.8) -> Interval:
    """Return the smallest corpus that shows a true difference with a power of `at`.

    Args:
        pilot: Tells how the difference varies.
        difference: The true one, not 0; its sign does not matter.
        at: Power, above 0.05 and below 1.

    Returns:
        Whole numbers, in the pilot's unit; none so small that the corpus would hold fewer than
        LEAST_OF_A_CLASS of a class.

    Raises:
        ConfigError: `difference` is 0, or no difference has that power.

    >>> pilot = Pilot(metric="exam AUC", unit="exams", prevalence=0.5, patients=(50, 50),
    ...               variance=Interval(0.04, 0.03, 0.05))
    >>> size_needed(pilot, 0.05).estimate
    126.0
    """
    if difference == 0:
        raise ConfigError("no corpus shows a difference of 0; name the smallest one that matters")
    factor, least = (_shift(at) / difference) ** 2, least_size(pilot.prevalence)
    # Not math.ceil: an endless variance needs an endless corpus.
    return _answer(pilot, lambda variance: float(max(np.ceil(factor * variance), least)))


def least_size(prevalence: float) -> int:
    """Return the smallest corpus that holds LEAST_OF_A_CLASS of each class.

    >>> least_size(0.1)
    100
    """
    return math.ceil(round(LEAST_OF_A_CLASS / min(prevalence, 1 - prevalence), 9))


def _answer(pilot: Pilot, of_variance: Callable[[float], float]) -> Interval:
    """Return an answer that grows or falls with the variance, from end to end of its interval."""
    found = pilot.variance
    low, high = sorted(of_variance(variance) for variance in (found.low, found.high))
    return Interval(estimate=of_variance(found.estimate), low=low, high=high)


def _checked(pilot: Pilot, size: int) -> int:
    least = least_size(pilot.prevalence)
    if size < least:
        raise ConfigError(
            f"of {size} {pilot.unit}, {100 * pilot.prevalence:.3g} % of them positive, fewer than "
            f"{LEAST_OF_A_CLASS} would be of one class, too few for a normal test; plan for "
            f"{least} or more"
        )
    return size


def _in_errors(difference: float, variance: float) -> float:
    """Return a difference in standard errors; endless where nothing varies."""
    if variance > 0:
        return difference / math.sqrt(variance)
    return math.copysign(math.inf, difference) if difference else 0.0


def _power(shift: float) -> float:
    return _NORMAL.cdf(shift - _Z) + _NORMAL.cdf(-shift - _Z)


def _shift(at: float) -> float:
    """Return the standard errors that a difference must have for this power."""
    if not ALPHA < at < 1:
        raise ConfigError(f"need {ALPHA} < power < 1, got {at}; 0.8 is usual")
    return float(brentq(lambda shift: _power(shift) - at, 0.0, 40.0))
