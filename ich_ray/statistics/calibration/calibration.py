"""Whether exam scores are the probabilities that they look like: Brier, bins, slope, intercept.

A calibrated model is right 30 times in 100 where it says 0.3. That depends on the share of positive
exams: a model that is calibrated at one site may not be so where hemorrhage is rarer.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import expit

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.calibration.clusters import clustered_half_width
from ich_ray.statistics.calibration.recalibration import (
    calibration_in_the_large,
    calibration_slope,
    check_probabilities,
)
from ich_ray.statistics.calibration.reliability import (
    ScoreBin,
    expected_calibration_error,
    reliability_bins,
)
from ich_ray.statistics.calibration.temperature import fitted_temperature, tempered
from ich_ray.statistics.operating_points import Scored

NUM_SCORE_PARTS = 20
"""Equal parts of [0, 1] in which scores are counted for a histogram."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How far the scores of some exams are probabilities."""

    exams: int
    positive_exams: int
    brier: Interval
    expected_calibration_error: float
    """Biased upward; see `expected_calibration_error`."""

    slope: Interval
    """1 is right; below, the scores are too extreme. Infinite, in JSON null, where a threshold
    separates the classes; null too where all scores are alike."""

    intercept: Interval
    """In the large: 0 is right; below, the scores are too high."""

    bins: tuple[ScoreBin, ...]
    """By ascending score, for a reliability diagram."""

    score_counts: tuple[int, ...]
    """Exams in each of `NUM_SCORE_PARTS` equal parts of [0, 1]."""

    @property
    def brier_of_prevalence(self) -> float:
        """What saying the share of positive exams of every exam would score."""
        share = self.positive_exams / self.exams
        return share * (1 - share)

    @property
    def separated(self) -> bool:
        """Whether a threshold separates the classes, so that no slope is finite."""
        return math.isinf(self.slope.estimate)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCalibration:
    """A model's calibration on the test exams, as it is and after its temperature is set."""

    model: str
    test: Calibration
    temperature: float | None
    """Fitted on the tuning exams; None where these are not of both classes."""

    tempered: Calibration | None
    """On the test exams with that temperature, whose own error is not counted."""


def calibration(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> Calibration:
    """Tell how far scores are probabilities.

    Args:
        scores: Probability of each exam.
        labels: True for a positive exam.
        patient: Number of each exam's patient, whose exams are not independent; each exam is of
            another patient if absent.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].

    >>> found = calibration(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0, 1, 0, 1], bool))
    >>> round(found.brier.estimate, 2), round(found.slope.estimate, 2), len(found.bins)
    (0.2, 1.1, 1)
    """
    bins = reliability_bins(scores, labels)
    counts = np.histogram(scores, NUM_SCORE_PARTS, (0, 1))[0]
    return Calibration(
        exams=len(labels),
        positive_exams=int(labels.sum()),
        brier=brier(scores, labels, patient=patient),
        expected_calibration_error=expected_calibration_error(bins),
        slope=calibration_slope(scores, labels, patient=patient),
        intercept=calibration_in_the_large(scores, labels, patient=patient),
        bins=bins,
        score_counts=tuple(int(count) for count in counts),
    )


def model_calibration(
    model: str,
    *,
    tuning: Scored,
    test: Scored,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> ModelCalibration:
    """Tell a model's calibration on the test exams, before and after a temperature is set.

    Args:
        model: Its name.
        tuning: Exams that fix the temperature; none is fixed where they are not of both classes.
        test: Exams that judge it.
        patient: Number of the patient of each test exam.

    Raises:
        QualityError: The test exams are of one class, or a score is NaN or outside [0, 1].
    """
    temperature = fitted_temperature(tuning.scores, tuning.labels) if tuning.both_classes else None
    after = None
    if temperature is not None:
        after = calibration(tempered(test.scores, temperature), test.labels, patient=patient)
    return ModelCalibration(
        model=model,
        test=calibration(test.scores, test.labels, patient=patient),
        temperature=temperature,
        tempered=after,
    )


def brier(
    scores: Float[np.ndarray, " exam"],
    labels: Bool[np.ndarray, " exam"],
    *,
    patient: Integer[np.ndarray, " exam"] | None = None,
) -> Interval:
    """Mean squared distance of score and label, with its 95 % interval.

    The interval is normal on the scale of the logit, which keeps it within [0, 1] and lets it reach
    further up than down. It cannot know of errors that these exams have not shown: a model that is
    sure and right of all of them has an interval of hardly any width.

    Args:
        scores: Probability of each exam.
        labels: True for a positive exam.
        patient: Number of each exam's patient; each exam is of another patient if absent.

    Returns:
        0 is best; NaN bounds where all exams are of one patient, no width at 0 and at 1.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].

    Source: Brier 1950; the error is robust to exams that share a patient (Liang and Zeger 1986).

    >>> round(brier(np.array([0.1, 0.4, 0.9]), np.array([False, True, True])).estimate, 6)
    0.126667
    """
    check_probabilities(scores, labels)
    squares = (scores.astype(np.float64) - labels) ** 2
    estimate = float(squares.mean())
    if not 0 < estimate < 1:
        return Interval(estimate, estimate, estimate)
    half_width = clustered_half_width((squares - estimate) / len(squares), patient)
    logit, half_width = math.log(estimate / (1 - estimate)), half_width / (estimate - estimate**2)
    return Interval(estimate, float(expit(logit - half_width)), float(expit(logit + half_width)))
