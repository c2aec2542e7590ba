"""What a table of pseudo-labels is like: whose the positives are, how large, how sure, how right.

Diagnostics are for a person. Nothing that ranks, labels or trains may read them: what a corpus'
hidden labels say of pseudo-labels would else become a label by another way.

Labels are 1 (positive), 0 (negative) or IGNORED, as in masks; hidden labels 1, 0 or UNKNOWN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int8, Int64, UInt8

from ich_ray.exam import IGNORED
from ich_ray.statistics import roc
from ich_ray.statistics.proportions import wilson

UNKNOWN = -1
"""Hidden label of a slice of which a corpus says nothing."""

TOPS = (1, 5, 10)
"""Patients whose share of the positives is told."""

LEAST = 1e-6
"""A probability within this of 0 or 1 counts as this far from it: its logit is finite."""

LOGIT_EDGES = tuple(edge / 2 for edge in range(-28, 29))
"""Of the score histograms; the logit of LEAST lies in the outermost bins."""

VOLUME_EDGES_ML = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, math.inf)
"""Small lesions are those below 3 mL (method.md 3)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledSlices:
    """Columns of a table of pseudo-labels, and of the corpora that it labels."""

    key: np.ndarray
    """Of the slice: corpus and pseudonym, bytes. It tells equal probabilities apart."""

    exam: np.ndarray
    patient: np.ndarray
    label: UInt8[np.ndarray, " slice"]
    p: Float32[np.ndarray, " slice"]
    """The teacher's, by which slices are ranked."""

    hidden: Int8[np.ndarray, " slice"]
    """The corpus' own label: 1, 0 or UNKNOWN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatientShares:
    """Who holds the positives."""

    patients: int
    with_positive: int
    positives: int
    top_shares: dict[int, float]
    """Patients -> the share of the positives that those with most of them hold."""

    effective: float
    """Patients, as many as would hold the positives in equal parts with the same concentration."""

    bins: tuple[tuple[int, int, int], ...]
    """(from, to, patients): how many patients have so many positive slices."""

    cumulative: tuple[float, ...]
    """Share of the positives held by 0, 1, ... 100 % of the patients that have any, most first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamVolume:
    """What is marked in one exam with a positive slice."""

    exam: str
    positive_slices: int
    volume_ml: float | None
    """Pixels above K; None where they are not labelled, or a marked slice has no spacing or step.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Volumes:
    """Predicted lesion volumes of the exams with a positive slice, mL."""

    exams: int
    unknown: int
    empty: int
    """Exams whose positive slices have no pixel above K: the label is of the whole slice alone."""

    total_ml: float
    quartiles_ml: tuple[float, float, float]
    """Of the exams with a known volume above 0; NaN where there is none."""

    largest_ml: float
    bins: tuple[int, ...]
    """Exams with a volume above 0 between each two of VOLUME_EDGES_ML."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoreHistograms:
    """Slices by the logit of their probability, between each two of LOGIT_EDGES."""

    all: Int64[np.ndarray, " bin"]
    positive: Int64[np.ndarray, " bin"]
    ignored: Int64[np.ndarray, " bin"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proportion:
    """A proportion with Wilson's interval, 95 %; NaN where nothing was tried."""

    successes: int
    trials: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AtPercentile:
    """How right the top C % of the ranking are, by hidden labels."""

    percent: float
    precision: Proportion
    """Share of truly positive slices among the top C % of which the corpus says something."""

    recall: Proportion
    """Share of the truly positive slices that are within the top C %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenLabels:
    """What the corpus' own labels say of pseudo-labels: a diagnostic that never feeds back.

    Slices are taken as independent. Those of a patient are not, so intervals are too narrow.
    """

    slices: int
    """With a hidden label."""

    positive: int
    auc: float | None
    """Of the slices, by the teacher's probability; None where only one class is there."""

    precision: Proportion
    """Of the pseudo-labels themselves, as they were cut."""

    recall: Proportion
    false_negative: Proportion
    """Share of truly positive slices among those with a negative pseudo-label."""

    percentiles: tuple[AtPercentile, ...]


def logits(p: Float[np.ndarray, " slice"]) -> Float64[np.ndarray, " slice"]:
    """Return log odds, LEAST away from 0 and 1.

    >>> logits(np.array([0.5, 1.0])).round(3).tolist()
    [0.0, 13.816]
    """
    inside = np.clip(p.astype(np.float64), LEAST, 1 - LEAST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def patient_shares(patient: np.ndarray, positive: Bool[np.ndarray, " slice"]) -> PatientShares:
    """Tell how the positive slices are spread over patients.

    Args:
        patient: Pseudonym of each slice's patient.
        positive: Whether its pseudo-label is.

    Source of the effective number: the inverse of Simpson's concentration (Hill, Ecology 54
    (1973) 427-432, order 2).

    >>> found = patient_shares(np.array(["a", "a", "a", "b"]), np.array([True, True, True, True]))
    >>> found.top_shares[1], found.effective, found.bins
    (0.75, 1.6, ((0, 0, 0), (1, 1, 1), (2, 3, 1)))
    """
    names, of_slice = np.unique(patient, return_inverse=True)
    each = np.bincount(of_slice[positive], minlength=len(names))
    held = np.sort(each[each > 0])[::-1]
    total = int(held.sum())
    running = np.concatenate([[0.0], np.cumsum(held) / max(total, 1)])
    places = np.linspace(0, len(held), 101)
    return PatientShares(
        patients=len(names),
        with_positive=len(held),
        positives=total,
        top_shares={top: float(running[min(top, len(held))]) for top in TOPS},
        effective=float(total**2 / (held.astype(np.float64) ** 2).sum()) if total else 0.0,
        bins=tuple(_doubling_bins(each)),
        cumulative=tuple(np.interp(places, np.arange(len(running)), running).tolist()),
    )


def _doubling_bins(counts: Int64[np.ndarray, " patient"]) -> list[tuple[int, int, int]]:
    """Count patients in the bins 0, 1, 2-3, 4-7, ... up to the largest."""
    largest = int(counts.max(initial=0))
    edges = [0, *(2**i for i in range(largest.bit_length() + 1))]
    return [
        (low, end - 1, int(((counts >= low) & (counts < end)).sum()))
        for low, end in pairwise(edges)
    ]


def volumes_of(exams: Sequence[ExamVolume]) -> Volumes:
    """Summarise the volumes of the exams that have a positive slice.

    >>> exams = [ExamVolume(exam=str(ml), positive_slices=1, volume_ml=ml) for ml in (0.0, 2.0)]
    >>> found = volumes_of(exams)
    >>> found.empty, found.quartiles_ml[1], found.bins
    (1, 2.0, (0, 0, 0, 1, 0, 0, 0, 0))
    """
    known = np.array([e.volume_ml for e in exams if e.volume_ml is not None], np.float64)
    marked = known[known > 0]
    quartiles = np.quantile(marked, (0.25, 0.5, 0.75)) if len(marked) else np.full(3, np.nan)
    # The last bin of numpy holds its upper edge too, which is infinite here.
    bins = np.histogram(marked, np.array(VOLUME_EDGES_ML))[0]
    return Volumes(
        exams=len(exams),
        unknown=len(exams) - len(known),
        empty=int((known == 0).sum()),
        total_ml=float(marked.sum()),
        quartiles_ml=(float(quartiles[0]), float(quartiles[1]), float(quartiles[2])),
        largest_ml=float(marked.max(initial=0.0)),
        bins=tuple(bins.tolist()),
    )


def score_histograms(
    p: Float32[np.ndarray, " slice"], label: UInt8[np.ndarray, " slice"]
) -> ScoreHistograms:
    """Count slices by the logit of their probability: all, the positive, the ignored."""
    of_slice = logits(p)
    edges = np.array(LOGIT_EDGES)

    def counts(members: Float64[np.ndarray, " member"]) -> Int64[np.ndarray, " bin"]:
        return np.histogram(members, edges)[0].astype(np.int64)

    return ScoreHistograms(
        all=counts(of_slice),
        positive=counts(of_slice[label == 1]),
        ignored=counts(of_slice[label == IGNORED]),
    )


def proportion(successes: int, trials: int) -> Proportion:
    """Return a proportion with its interval.

    >>> found = proportion(2, 20)
    >>> found.estimate, round(found.low, 3), round(found.high, 3)
    (0.1, 0.028, 0.301)
    """
    low, high = wilson(successes, trials)
    return Proportion(
        successes=successes,
        trials=trials,
        estimate=successes / trials if trials else math.nan,
        low=low,
        high=high,
    )


def against_hidden(slices: LabelledSlices, percentiles: Sequence[float]) -> HiddenLabels | None:
    """Compare pseudo-labels, and the ranking at other cuts, with the corpus' own labels.

    Args:
        slices: All of the ranking. Those without a hidden label take their places in it, and count
            neither as right nor as wrong.
        percentiles: Values of C.

    Returns:
        None where no slice has a hidden label.
    """
    known, true = slices.hidden != UNKNOWN, slices.hidden == 1
    if not known.any():
        return None
    num_true = int(true.sum())
    positive, negative = slices.label == 1, slices.label == 0
    # As the ranker: of equal probabilities the first key comes first (np.lexsort: last is first).
    order = np.lexsort((slices.key, -slices.p))
    found, seen = np.cumsum(true[order]), np.cumsum(known[order])
    rows = []
    for percent in percentiles:
        last = num_within(len(order), percent) - 1
        hits = int(found[last])
        rows.append(
            AtPercentile(
                percent=percent,
                precision=proportion(hits, int(seen[last])),
                recall=proportion(hits, num_true),
            )
        )
    both = 0 < num_true < int(known.sum())
    return HiddenLabels(
        slices=int(known.sum()),
        positive=num_true,
        auc=roc.auc(slices.p[known], true[known]) if both else None,
        precision=proportion(int((positive & true).sum()), int((positive & known).sum())),
        recall=proportion(int((positive & true).sum()), num_true),
        false_negative=proportion(int((negative & true).sum()), int((negative & known).sum())),
        percentiles=tuple(rows),
    )


def num_within(slices: int, percent: float) -> int:
    """Return how many slices the top C % are, as `Ranking.num_positive`.

    >>> num_within(64, 10.0)
    6
    """
    return int(np.clip(round(slices * percent / 100), 1, max(slices - 1, 1)))
