"""Exams that were counted one by one, put together: what all models are compared on.

Beside the models stand two rivals that need no training: a plain threshold of intensity, with the
best cuts on these very exams, and empty masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ich_ray.errors import QualityError
from ich_ray.statistics import overlap, pixel_histograms
from ich_ray.statistics.by_slice import ScoredSlices
from ich_ray.statistics.comparison import Exams, Predicted, best_count_cut
from ich_ray.statistics.counted_model import CountedModel
from ich_ray.statistics.exam_statistics import ExamStatistics, PixelCalls
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


def calls_of(found: Found, compared: ComparedExams) -> list[PixelCalls]:
    """Return the calls of the exams, in their order."""
    calls = [found[key].calls for key in compared.keys]
    known = [one for one in calls if one is not None]
    assert len(known) == len(calls), "exams were counted before the pixel threshold was known"
    return known


def patient_calls(found: Found, compared: ComparedExams) -> Int64[np.ndarray, "4 patient"]:
    """Return true positives, false ones, false negatives and true ones of all patients' pixels."""
    counts = np.array(calls_of(found, compared), np.int64)
    sums = np.zeros((len(compared.exams.strata), 4), np.int64)
    np.add.at(sums, compared.exams.patient, counts)
    return sums.T


def patient_overlap(found: Found, compared: ComparedExams) -> overlap.Overlap:
    """Return the overlap of each patient's pixels, at the threshold of the calls."""
    tp, fp, fn, _ = patient_calls(found, compared)
    return overlap.Overlap(tp=tp, fp=fp, fn=fn)


def scores_of(found: Found, compared: ComparedExams) -> Float64[np.ndarray, " exam"]:
    """Return the scores of the exams, in their order."""
    return np.array([found[key].score for key in compared.keys], np.float64)


def predicted(
    found: Found,
    compared: ComparedExams,
    pixels: pixel_histograms.PixelCounts,
    *,
    level: int,
) -> Predicted:
    """Return what a model says of the exams.

    Args:
        found: Its statistics, with calls at the level.
        compared: The exams.
        pixels: By score level and patient.
        level: The model's pixel threshold.
    """
    return Predicted(
        scores=scores_of(found, compared),
        at_level=patient_overlap(found, compared),
        pixels=pixels,
        level=level,
    )


def positive_slice_dsc(found: CountedModel, *, level: int) -> float:
    """Return the DSC of all pixels of slices that hold a bleed."""
    at_level = overlap.overlap_at(found.positive_pixels.stack(), level)
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


def best_level(found: CountedModel, *, where: Sequence[str]) -> int:
    """Return the pixel threshold of the best DSC on tuning exams.

    Raises:
        QualityError: None of them has a positive pixel.
    """
    if not found.pixels.num_positive:
        raise QualityError(
            f"evaluate.tuning={list(where)} holds no positive pixel: no pixel threshold can be "
            "fixed there; add positive exams with masks, or leave tuning empty for p=0.5"
        )
    return int(overlap.best_dice_level(found.pixels.stack()))


def threshold_rival(found: Found, compared: ComparedExams) -> Predicted:
    """Give the plain threshold its best cuts on these very exams: no fairer rival is weaker."""
    histograms = [_kept(found[key]) for key in compared.keys]
    cuts = np.arange(1, BRIGHTEST_BLEED_HU + 2)
    counts = np.zeros((len(compared.keys), len(cuts)), np.int64)
    for i, histogram in enumerate(histograms):
        pixels_at = histogram.pos + histogram.neg
        at = np.bincount(histogram.level, pixels_at, minlength=len(cuts) + 1)[: len(cuts) + 1]
        counts[i] = at[::-1].cumsum()[::-1][1:]
    cut = best_count_cut(counts, compared.exams.labels)
    exams = compared.exams
    stack = pixel_histograms.stack_of(histograms, exams.patient, num_clusters=len(exams.strata))
    return Predicted.of_stack(
        scores=counts[:, cut].astype(np.float64),
        stack=stack,
        level=int(overlap.best_dice_level(stack)),
    )


def empty_rival(found: Found, compared: ComparedExams) -> Predicted:
    """Return the rival that never sees a bleed: every pixel at level 0, below its threshold.

    Args:
        found: Of any of the models: it has the same pixels.
        compared: The exams.
    """
    tp, fp, fn, tn = patient_calls(found, compared)
    stack = pixel_histograms.HistogramStack(
        level=np.zeros(len(tp), np.uint16),
        cluster=np.arange(len(tp), dtype=np.int32),
        pos=tp + fn,
        neg=fp + tn,
        num_clusters=len(tp),
    )
    return Predicted.of_stack(scores=np.zeros(len(compared.keys)), stack=stack, level=1)


def _kept(one: ExamStatistics) -> pixel_histograms.SliceHistogram:
    assert one.pixels is not None, "the pixels of what has few levels are kept"
    return one.pixels
