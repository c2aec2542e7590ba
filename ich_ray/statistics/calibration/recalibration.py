"""Slope and intercept that would make exam scores right.

Each is a logistic regression of the label on the logit of the score, by maximum likelihood. Scores
within `LEAST` of 0 or 1 count as `LEAST` away: the logit of 0 is infinite, and a single positive
exam that scored it would make every other one worthless.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer
from scipy import special
from scipy.optimize import OptimizeResult, brentq, root

from ich_ray.errors import QualityError
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.calibration.clusters import clustered_half_width

LEAST = 2.0**-24
"""The largest 32-bit number below 1 is 1 - 2**-24; the logit of a score is thus within +-16.64."""

LEAST_SPREAD = 1e-6
"""Logits that differ by less are taken as equal: so much do 32-bit scores by rounding."""

STEEPEST = 1000.0
"""Per standard deviation of the logits: classes that ask for more count as separated, and the
search for the likeliest slope is sure to end below."""


def calibration_slope(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> Interval:
    """Slope of the label on the logit of the score, with its 95 % interval.

    It is 1 where the scores are calibrated, below 1 where they are too extreme, above 1 where they
    are too timid, and negative where they are upside down.

    Args:
        scores: Probability of each exam.
        labels: True for a positive exam.
        patient: Number of each exam's patient; each exam is of another patient if absent.

    Returns:
        Infinite, with NaN bounds, where a threshold separates the classes, ties at it aside: no
        finite slope is the likeliest. So, too, above `STEEPEST`; negative for upside down. All NaN
        where the scores are equal. NaN bounds where all exams are of one patient.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].

    Source: Cox 1958; Van Calster et al. 2019; separation: Albert and Anderson 1984; the error is
    robust to exams that share a patient (Liang and Zeger 1986).

    >>> scores, labels = np.array([0.2, 0.2, 0.8, 0.8, 0.8]), np.array([0, 1, 0, 1, 1], bool)
    >>> round(calibration_slope(scores, labels).estimate, 6)  # log 2 over log 16
    0.25
    """
    check_probabilities(scores, labels)
    x = logits(scores)
    if np.ptp(x) < LEAST_SPREAD:
        return Interval(math.nan, math.nan, math.nan)
    sense = _sense_of_separation(x, labels)
    if sense:
        return Interval(sense * math.inf, math.nan, math.nan)
    deviation = float(x.std())
    z = (x - x.mean()) / deviation
    found = _fit(z, labels)
    at, slope = found.x
    if abs(slope) > STEEPEST:
        return Interval(math.copysign(math.inf, slope), math.nan, math.nan)
    assert found.success, found.message
    p = special.expit(at + slope * z)
    (a, b), (_, c) = _information(p, z)
    influence = (labels - p) * (a * z - b) / (a * c - b * b) / deviation
    return _around(float(slope) / deviation, clustered_half_width(influence, patient))


def calibration_in_the_large(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> Interval:
    """Intercept of the label on the logit of the score, the slope being 1, with its 95 % interval.

    It is 0 where as many exams are positive as the scores say, below 0 where the scores are too
    high, above 0 where they are too low.

    Args:
        scores: Probability of each exam.
        labels: True for a positive exam.
        patient: Number of each exam's patient; each exam is of another patient if absent.

    Returns:
        NaN bounds where all exams are of one patient. Where a threshold separates the classes the
        residuals may all be near 0 and tell no error: that of the likelihood is taken if larger.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].

    Source: Van Calster et al. 2019; the error is robust to exams that share a patient.

    >>> found = calibration_in_the_large(np.full(4, 0.5), np.array([True, False, False, False]))
    >>> round(found.estimate, 6), round(found.low, 2), round(found.high, 2)  # log 1/3
    (-1.098612, -5.34, 3.14)
    """
    check_probabilities(scores, labels)
    x = logits(scores)
    # Beyond, all exams but one are expected to be of one class.
    reach = float(np.abs(x).max()) + math.log(len(x)) + 1
    found = brentq(lambda at: (labels - special.expit(at + x)).sum(), -reach, reach, xtol=1e-12)
    p = special.expit(found + x)
    information = float((p * (1 - p)).sum())
    least_error = 1 / math.sqrt(information) if _sense_of_separation(x, labels) else 0.0
    influence = (labels - p) / information
    # Found to 12 digits: nothing is nothing, and not less.
    return _around(
        round(found, 10) + 0.0, clustered_half_width(influence, patient, least_error=least_error)
    )


def logits(scores: Float[np.ndarray, " exam"]) -> Float64[np.ndarray, " exam"]:
    """Return log odds of scores, `LEAST` away from 0 and 1.

    >>> logits(np.array([0.0, 0.5, 0.75])).round(4)
    array([-16.6355,   0.    ,   1.0986])
    """
    return np.asarray(special.logit(np.clip(scores.astype(np.float64), LEAST, 1 - LEAST)))


def check_probabilities(
    scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]
) -> None:
    """Refuse exams of which no calibration can be told.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].
    """
    num_positive = int(np.count_nonzero(labels))
    num_negative = len(labels) - num_positive
    if num_positive == 0 or num_negative == 0:
        raise QualityError(
            f"calibration needs both classes, got {num_positive} positive and {num_negative} "
            "negative exams; widen the selection, or check its labels"
        )
    check_scores(scores)


def check_scores(scores: Float[np.ndarray, " exam"]) -> None:
    """Refuse scores that are no probabilities.

    Raises:
        QualityError: A score is NaN or outside [0, 1].
    """
    num_nan = int(np.count_nonzero(np.isnan(scores)))
    if num_nan > 0:
        raise QualityError(
            f"{num_nan} of {len(scores)} scores are NaN; predict again, or leave these exams out"
        )
    num_outside = int(np.count_nonzero((scores < 0) | (scores > 1)))
    if num_outside > 0:
        raise QualityError(
            f"{num_outside} of {len(scores)} scores lie outside [0, 1], so they are no "
            "probabilities; turn logits into probabilities first"
        )


def _sense_of_separation(x: Float64[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]) -> int:
    """1 where no negative exam is above a positive one, -1 where none is below, else 0."""
    positive, negative = x[labels], x[~labels]
    if negative.max() <= positive.min():
        return 1
    return -1 if positive.max() <= negative.min() else 0


def _fit(z: Float64[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]) -> OptimizeResult:
    """Find where the likelihood of a line through logits of mean 0 and deviation 1 is level."""
    # The log-likelihood is concave: one point is level. Levenberg-Marquardt finds it from afar.
    return root(
        _gradient,
        np.zeros(2),
        args=(z, labels),
        jac=_curvature,
        method="lm",
        options={"xtol": 1e-12, "ftol": 1e-12},
    )


def _gradient(
    line: Float64[np.ndarray, " 2"],
    x: Float64[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
) -> Float64[np.ndarray, " 2"]:
    residual = labels - special.expit(line[0] + line[1] * x)
    return np.array([residual.sum(), (residual * x).sum()])


def _curvature(
    line: Float64[np.ndarray, " 2"],
    x: Float64[np.ndarray, " exam"],
    _: Bool[np.ndarray, " exam"],
) -> Float64[np.ndarray, "2 2"]:
    return -_information(special.expit(line[0] + line[1] * x), x)


def _information(
    p: Float64[np.ndarray, " exam"], x: Float64[np.ndarray, " exam"]
) -> Float64[np.ndarray, "2 2"]:
    weight = p * (1 - p)
    mixed = (weight * x).sum()
    return np.array([[weight.sum(), mixed], [mixed, (weight * x * x).sum()]])


def _around(estimate: float, half_width: float) -> Interval:
    return Interval(estimate, estimate - half_width, estimate + half_width)
