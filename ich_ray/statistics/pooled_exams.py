"""Exams that were counted one by one, put together: what all models are compared on.

Beside the models stand two rivals that need no training: a plain threshold of intensity, with the
best cuts on these very exams, and empty masks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from ich_ray.errors import QualityError
from ich_ray.statistics import overlap, pixel_histograms
from ich_ray.statistics.by_slice import ScoredSlices
from ich_ray.statistics.comparison import Exams, Predicted, best_count_cut
from ich_ray.statistics.exam_statistics import ExamStatistics
from ich_ray.statistics.operating_points import Scored

THRESHOLD, EMPTY = "intensity_threshold", "empty_masks"
"""Names of the rivals."""

BRIGHTEST_BLEED_HU = 95
"""The plain threshold takes brighter pixels for bone: level 0."""

Found = Mapping[str, ExamStatistics]
"""Exam -> what one model says of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedExams:
    """The exams that all models saw, in the order of their keys."""

    keys: tuple[str, ...]
    exams: Exams


def compared_exams(found: Found, *, where: str) -> ComparedExams:
    """Return the exams to compare models on.

    Args:
        found: Of any of the models.
        where: The exams come from, for a message.

    Raises:
        QualityError: Fewer than two patients have an exam of a class.
    """
    keys = sorted(found)
    labels = np.array([found[key].facts.label for key in keys], np.bool_)
    names = np.array([found[key].facts.patient for key in keys], np.str_)
    of_class = [len(np.unique(names[members])) for members in (labels, ~labels)]
    if min(of_class) < 2:
        raise QualityError(
            f"{where} hold {int(labels.sum())} positive exams of {of_class[0]} patients and "
            f"{int((~labels).sum())} negative ones of {of_class[1]}, with labels; two patients of "
            "each are needed: widen them"
        )
    patient = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return ComparedExams(keys=tuple(keys), exams=Exams(labels=labels, patient=patient))


def by_patient(
    found: Found,
    compared: ComparedExams,
    which: Callable[[ExamStatistics], pixel_histograms.SliceHistogram],
) -> pixel_histograms.HistogramStack:
    """Return the histograms of all patients; a cluster is a patient."""
    of_patient: list[list[pixel_histograms.SliceHistogram]] = [[] for _ in compared.exams.strata]
    for key, patient in zip(compared.keys, compared.exams.patient, strict=True):
        of_patient[patient].append(which(found[key]))
    return pixel_histograms.stack([pixel_histograms.merge(one) for one in of_patient])


def predicted(found: Found, compared: ComparedExams, *, level: int) -> Predicted:
    """Return what a model says of the exams, at a pixel threshold."""
    return Predicted(
        scores=np.array([found[key].score for key in compared.keys], np.float64),
        pixels=by_patient(found, compared, lambda one: one.pixels),
        level=level,
    )


def positive_slice_dsc(found: Found, compared: ComparedExams, *, level: int) -> float:
    """Return the DSC of all pixels of slices that hold a bleed."""
    stack = by_patient(found, compared, lambda one: one.positive_pixels)
    at_level = overlap.overlap_at(stack, level)
    tp, fp, fn = (int(counts.sum()) for counts in at_level)
    return float(overlap.dice(tp, fp, fn))


def scored(found: Found) -> Scored:
    """Return scores and labels of exams, in the order of their keys."""
    exams = [one for _, one in sorted(found.items())]
    return Scored(
        scores=np.array([one.score for one in exams], np.float64),
        labels=np.array([one.facts.label for one in exams], np.bool_),
    )


def scored_slices(found: Found) -> ScoredSlices:
    """Return the labelled slices of all exams, in the order of the exams' keys."""
    exams = [one for _, one in sorted(found.items())]
    names = np.array([one.facts.patient for one in exams], np.str_)
    number = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return ScoredSlices(
        labels=np.concatenate([np.zeros(0, np.bool_), *(one.slice_labels for one in exams)]),
        scores=np.concatenate([np.zeros(0), *(one.slice_scores for one in exams)]),
        patient=np.repeat(number, [len(one.slice_labels) for one in exams]),
    )


def best_level(found: Found, *, where: Sequence[str]) -> int:
    """Return the pixel threshold of the best DSC on tuning exams.

    Raises:
        QualityError: None of them has a positive pixel.
    """
    stack = pixel_histograms.stack([one.pixels for _, one in sorted(found.items())])
    if not stack.pos.any():
        raise QualityError(
            f"evaluate.tuning={list(where)} holds no positive pixel: no pixel threshold can be "
            "fixed there; add positive exams with masks, or leave tuning empty for p=0.5"
        )
    return int(overlap.best_dice_level(stack))


def threshold_rival(found: Found, compared: ComparedExams) -> Predicted:
    """Give the plain threshold its best cuts on these very exams: no fairer rival is weaker."""
    pixels = by_patient(found, compared, lambda one: one.pixels)
    cuts = np.arange(1, BRIGHTEST_BLEED_HU + 2)
    counts = np.zeros((len(compared.keys), len(cuts)), np.int64)
    for i, key in enumerate(compared.keys):
        histogram = found[key].pixels
        pixels_at = histogram.pos + histogram.neg
        at = np.bincount(histogram.level, pixels_at, minlength=len(cuts) + 1)[: len(cuts) + 1]
        counts[i] = at[::-1].cumsum()[::-1][1:]
    cut = best_count_cut(counts, compared.exams.labels)
    return Predicted(
        scores=counts[:, cut].astype(np.float64),
        pixels=pixels,
        level=int(overlap.best_dice_level(pixels)),
    )


def empty_rival(like: Predicted) -> Predicted:
    """Return the rival that never sees a bleed: every pixel at level 0, below its threshold."""
    clusters = np.arange(like.pixels.num_clusters, dtype=np.int32)
    stack = pixel_histograms.HistogramStack(
        level=np.zeros(len(clusters), np.uint16),
        cluster=clusters,
        pos=_per_cluster(like.pixels.cluster, like.pixels.pos, len(clusters)),
        neg=_per_cluster(like.pixels.cluster, like.pixels.neg, len(clusters)),
        num_clusters=len(clusters),
    )
    return Predicted(scores=np.zeros(len(like.scores)), pixels=stack, level=1)


def _per_cluster(
    cluster: Integer[np.ndarray, " entry"], counts: Integer[np.ndarray, " entry"], size: int
) -> Integer[np.ndarray, " cluster"]:
    return np.bincount(cluster, counts, minlength=size).astype(np.uint32)
