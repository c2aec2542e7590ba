"""Temperature scaling: a number, fitted on tuning exams, that divides the logits of all scores."""

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.optimize import brentq
from scipy.special import expit

from ich_ray.statistics.calibration.recalibration import check_probabilities, check_scores, logits

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature: where the best one lies beyond, the nearer bound is taken."""


def fitted_temperature(
    scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]
) -> float:
    """Return the temperature that makes the labels of tuning exams likeliest.

    Fit it on tuning exams: fitted on the test exams, it flatters the model.

    Args:
        scores: Probability of each tuning exam.
        labels: True for a positive exam.

    Returns:
        Above 1 where the scores are too extreme, below 1 where they are too timid; within
        `COLDEST` and `HOTTEST`. The first where 1/2 separates the classes, the second where the
        scores are worth nothing or upside down. 1 where every score is 1/2 and none changes it.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].

    Source: Guo et al. 2017, 4.2.

    >>> scores, labels = np.array([0.1, 0.1, 0.1, 0.9]), np.array([0, 0, 1, 1], bool)
    >>> round(fitted_temperature(scores, labels), 6)  # 3 of 4 on the right side: log 9 over log 3
    2.0
    """
    check_probabilities(scores, labels)
    x = logits(scores)
    if not x.any():
        return 1.0

    if _likelier_if_steeper(1 / HOTTEST, x, labels) <= 0:
        return HOTTEST
    if _likelier_if_steeper(1 / COLDEST, x, labels) >= 0:
        return COLDEST
    bounds = (1 / HOTTEST, 1 / COLDEST)
    return 1 / float(brentq(_likelier_if_steeper, *bounds, args=(x, labels), xtol=1e-12))


def tempered(
    scores: Float[np.ndarray, " exam"], temperature: float
) -> Float64[np.ndarray, " exam"]:
    """Return scores whose logits are divided by a temperature.

    Their order stays, but for scores so near to 0 or 1 that they become equal: rank by the others.

    Raises:
        QualityError: A score is NaN or outside [0, 1].

    >>> tempered(np.array([0.1, 0.5, 0.9]), 2.0)
    array([0.25, 0.5 , 0.75])
    """
    assert temperature > 0, temperature
    check_scores(scores)
    return np.asarray(expit(logits(scores) / temperature))


def _likelier_if_steeper(
    slope: float, x: Float64[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]
) -> float:
    """Derivative of the log-likelihood by the slope of the logits; it falls all the way."""
    return float((x * (labels - expit(slope * x))).sum())
