"""Overlap exam by exam, beside that of all pixels pooled: small bleeds count as much as large ones.

Exams whose reference marks nothing are left out: a DSC of theirs is undefined, or 0 by a single
pixel. What a model marks in them shows in its false alarms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ich_ray.statistics import overlap
from ich_ray.statistics.bootstrap import Difference, Interval
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.exam_statistics import PixelCalls
from ich_ray.statistics.ratios import Counts, ratio_difference, ratio_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamOverlap:
    """One model's masks, exam by exam."""

    model: str
    exams: int
    """With a reference that marks something."""

    mean_dsc: Interval
    median_dsc: float
    missed: int
    """Of them, exams in which no pixel was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamOverlapDifference:
    """Mean DSC of model a's exams minus that of model b's."""

    a: str
    b: str
    mean_dsc: Difference


def dices(calls: Sequence[PixelCalls]) -> Float64[np.ndarray, " exam"]:
    """Return the DSC of each exam; NaN where the reference marks nothing."""
    tp, fp, fn, _ = np.array(calls, np.int64).reshape(-1, 4).T
    return np.where(tp + fn > 0, overlap.dice(tp, fp, fn), math.nan)


def exam_overlaps(
    models: Mapping[str, Float64[np.ndarray, " exam"]], exams: Exams
) -> list[ExamOverlap]:
    """Return the figures of each model.

    Args:
        models: Name -> DSC of each exam, NaN where the reference marks nothing.
        exams: In the same order.
    """
    return [
        ExamOverlap(
            model=name,
            exams=int(np.isfinite(found).sum()),
            mean_dsc=ratio_interval(_counts(found, exams), exams.strata),
            median_dsc=float(np.nanmedian(found)) if np.isfinite(found).any() else math.nan,
            missed=int((found == 0).sum()),
        )
        for name, found in models.items()
    ]


def exam_overlap_differences(
    models: Mapping[str, Float64[np.ndarray, " exam"]],
    exams: Exams,
    compared: Sequence[tuple[str, str]],
) -> list[ExamOverlapDifference]:
    """Return the differences of pairs of models."""
    counts = {name: _counts(found, exams) for name, found in models.items()}
    return [
        ExamOverlapDifference(
            a=a, b=b, mean_dsc=ratio_difference(counts[a], counts[b], exams.strata)
        )
        for a, b in compared
    ]


def iou_of(dsc: Interval) -> Interval:
    """Return the intersection over union that a DSC means: one rises with the other.

    >>> iou_of(Interval(1.0, 0.4, 1.0)).low
    0.25
    """
    estimate, low, high = (value / (2 - value) for value in (dsc.estimate, dsc.low, dsc.high))
    return Interval(estimate, low, high, dsc.num_undefined)


def _counts(found: Float64[np.ndarray, " exam"], exams: Exams) -> Counts:
    patients, known = len(exams.strata), np.isfinite(found)
    return (
        np.bincount(exams.patient, np.where(known, found, 0.0), minlength=patients),
        np.bincount(exams.patient, known, minlength=patients).astype(np.float64),
    )
