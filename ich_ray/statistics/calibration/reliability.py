"""Bins of equal mass by score: in each what was said, what was seen, and how far it lies apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.calibration.recalibration import check_probabilities
from ich_ray.statistics.proportions import wilson

MOST_BINS = 10
LEAST_EXAMS_OF_BIN = 10
"""Fewer bins are made where there are fewer than 100 exams."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreBin:
    """Exams of neighbouring scores."""

    exams: int
    mean_score: float
    observed: Interval
    """Share of positive exams; Wilson's interval, which takes exams as independent."""


def reliability_bins(
    scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]
) -> tuple[ScoreBin, ...]:
    """Put exams into bins of equal mass by their score.

    There are 10 bins, or fewer where 10 exams would not be left for each, at least one. Exams of
    equal scores are in one bin, the one that holds the middle of them; a bin that is left empty is
    dropped. Bins of tied scores are thus fewer, and of unequal mass.

    Args:
        scores: Probability of each exam.
        labels: True for a positive exam.

    Raises:
        QualityError: Only one class is present, or a score is NaN or outside [0, 1].

    >>> found = reliability_bins(np.arange(20) / 20, np.arange(20) % 2 == 0)
    >>> [(one.exams, round(one.mean_score, 3), one.observed.estimate) for one in found]
    [(10, 0.225, 0.5), (10, 0.725, 0.5)]
    """
    check_probabilities(scores, labels)
    num_bins = min(MOST_BINS, max(1, len(scores) // LEAST_EXAMS_OF_BIN))
    _, level, tied = np.unique(scores, return_inverse=True, return_counts=True)
    # Twice the exams below the middle of those that score the same: whole numbers, exactly.
    twice_middle = 2 * np.cumsum(tied) - tied
    bin_of_exam = (num_bins * twice_middle // (2 * len(scores)))[level]
    return tuple(
        _bin(scores[bin_of_exam == one], labels[bin_of_exam == one])
        for one in np.unique(bin_of_exam)
    )


def expected_calibration_error(bins: Sequence[ScoreBin]) -> float:
    """Return the mean distance between mean score and observed share, weighted by exams.

    It is biased upward, the more so the fewer the exams, since chance alone sets the two apart: a
    calibrated model of 200 exams has one of 0.03 to 0.07 on average, the sharper the less. It thus
    has no interval, and compares models on the same exams only.

    Source: Naeini et al. 2015; bins of equal mass: Nguyen and O'Connor 2015.

    >>> expected_calibration_error(reliability_bins(np.full(4, 0.25), np.arange(4) == 0))
    0.0
    """
    distances = [one.exams * abs(one.mean_score - one.observed.estimate) for one in bins]
    return math.fsum(distances) / sum(one.exams for one in bins)


def _bin(scores: Float[np.ndarray, " exam"], labels: Bool[np.ndarray, " exam"]) -> ScoreBin:
    positive, exams = int(labels.sum()), len(labels)
    return ScoreBin(
        exams=exams,
        mean_score=float(scores.mean(dtype=np.float64)),
        observed=Interval(positive / exams, *wilson(positive, exams)),
    )
