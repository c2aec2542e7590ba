"""Several models on the same exams: exam AUC, DSC and pixel AP, resampled together.

Patients are resampled, stratified by whether they bleed: slices of one patient are not
independent, and every model sees the same resample. Source: statistics.md, the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Integer

from ich_ray import overlap, roc
from ich_ray.bootstrap import Difference, Interval, difference, interval, resample_weights

Metric = Literal["exam_auc", "dsc", "pixel_ap"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exams:
    """The exams of a test corpus: their truth, and which patient each belongs to."""

    labels: Bool[np.ndarray, " exam"]
    patient: Integer[np.ndarray, " exam"]
    """0 .. patients - 1."""

    @property
    def independent(self) -> bool:
        """Whether each is of another patient, as tests without resampling take them."""
        return len(self.labels) == len(self.strata)

    @property
    def strata(self) -> Integer[np.ndarray, " patient"]:
        """1 for a patient with a positive exam, else 0."""
        strata = np.zeros(int(self.patient.max()) + 1, np.int64)
        strata[self.patient[self.labels]] = 1
        return strata


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What one model says of those exams, as sufficient statistics."""

    scores: Float64[np.ndarray, " exam"]
    pixels: overlap.HistogramStack
    """Pixels by score level; a cluster is a patient."""

    level: int
    """Pixels at or above this level are called bleed."""


def estimates(exams: Exams, predicted: Predicted) -> dict[Metric, float]:
    """Return the metrics of one model on all exams."""
    ones = np.ones((1, len(exams.strata)), np.int64)
    return {name: float(values[0]) for name, values in _weighted(exams, predicted, ones).items()}


def resampled(
    exams: Exams, models: Mapping[str, Predicted], *, seed: int, resamples: range
) -> dict[str, dict[Metric, Float64[np.ndarray, " resample"]]]:
    """Return the metrics of every model on some resamples of the patients.

    Each resample comes from (seed, its index): chunks may be computed anywhere.
    """
    weights = resample_weights(
        seed=seed, resamples=resamples, num_clusters=len(exams.strata), strata=exams.strata
    )
    return {name: _weighted(exams, model, weights) for name, model in models.items()}


def intervals(
    exams: Exams,
    models: Mapping[str, Predicted],
    samples: Mapping[str, Mapping[Metric, Float64[np.ndarray, " resample"]]],
) -> dict[str, dict[Metric, Interval]]:
    """Return estimate and 95 % percentile interval of each metric of each model."""
    found = {}
    for name, model in models.items():
        point = estimates(exams, model)
        found[name] = {m: interval(point[m], samples[name][m]) for m in METRICS}
    return found


def differences(
    a: str,
    b: str,
    points: Mapping[str, Mapping[Metric, Interval]],
    samples: Mapping[str, Mapping[Metric, Float64[np.ndarray, " resample"]]],
) -> dict[Metric, Difference]:
    """Return a - b for each metric, paired by resample."""
    return {
        m: difference(points[a][m].estimate - points[b][m].estimate, samples[a][m] - samples[b][m])
        for m in METRICS
    }


def exam_score(slice_probabilities: Sequence[float], *, slices: int) -> float:
    """Return an exam's score: the mean of its highest slice probabilities.

    Args:
        slice_probabilities: Of all slices of the exam, of which there is at least one.
        slices: How many of them count; 1 is the maximum, as in Lin & Yuh.

    >>> exam_score([0.25, 1.0, 0.5], slices=2)
    0.75
    """
    return float(np.mean(sorted(slice_probabilities, reverse=True)[:slices]))


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return which differences are reported: each later model minus each earlier one.

    >>> pairs(["baseline", "semi_supervised"])
    [('semi_supervised', 'baseline')]
    """
    return [(b, a) for i, a in enumerate(names) for b in names[i + 1 :]]


def best_count_cut(
    counts: Integer[np.ndarray, "exam cut"], labels: Bool[np.ndarray, " exam"]
) -> int:
    """Return the cut whose pixel counts rank the exams best; of equal ones the first.

    Args:
        counts: Pixels of each exam at or above each cut.
        labels: Truth.
    """
    aucs = [roc.auc(counts[:, i].astype(np.float64), labels) for i in range(counts.shape[1])]
    return int(np.argmax(aucs))


def _weighted(
    exams: Exams, predicted: Predicted, weights: Integer[np.ndarray, "resample patient"]
) -> dict[Metric, Float64[np.ndarray, " resample"]]:
    at_level = overlap.overlap_at(predicted.pixels, predicted.level)
    return {
        "exam_auc": roc.weighted_aucs(predicted.scores, exams.labels, weights[:, exams.patient]),
        "dsc": overlap.weighted_dices(at_level, weights),
        "pixel_ap": overlap.weighted_average_precisions(predicted.pixels, weights),
    }
