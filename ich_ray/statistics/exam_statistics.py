"""What one model says of one exam, counted where its pixels lie: small enough to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.masks.exam_masks import ExamMasks, exam_masks
from ich_ray.statistics.masks.lesions import LeastSize
from ich_ray.statistics.pixel_histograms import SliceHistogram, merge, slices_histogram

Subtypes = tuple[bool, bool, bool, bool, bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamFacts:
    """What is known of an exam beside any model."""

    exam: str
    patient: str
    corpus: str
    """Where it comes from; its exams are a group of their own."""

    label: bool
    subtypes: Subtypes | None = None
    """In the order of HEMORRHAGE_TYPES; None where nobody said."""

    thickness_mm: float | None = None


class PixelCalls(NamedTuple):
    """Pixels of the slices with a reference mask, by what they are and what they were called."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExamStatistics:
    """One model on one exam: all that is gathered of each exam, and nothing by score level."""

    model: str
    facts: ExamFacts
    score: float
    """Of the exam."""

    largest_slice: str
    """The slice with most reference pixels, or the one with the highest probability."""

    slice_labels: Bool[np.ndarray, " slice"] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Of the slices that have one."""

    slice_scores: Float64[np.ndarray, " slice"] = field(default_factory=lambda: np.zeros(0))

    calls: PixelCalls | None = None
    """At the model's pixel threshold, once that is known; zeros without reference masks."""

    pixels: SliceHistogram | None = None
    """Of slices with a reference mask; only of what has few levels, and no threshold yet."""

    slice_pixels: tuple[SliceHistogram, ...] = ()
    """Of each slice with a reference mask; only where they are asked for."""

    masks: ExamMasks | None = None
    """At the model's pixel threshold, once that is known; None without reference masks."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CountedExam:
    """One model on one exam, with its pixels: these stay where they are counted."""

    statistics: ExamStatistics
    pixels: SliceHistogram
    """Of slices with a reference mask."""

    positive_pixels: SliceHistogram
    """Of those whose reference holds a bleed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """What is counted of an exam beside its pixels by score level."""

    level: int | None = None
    """The model's pixel threshold; None: neither calls are counted nor masks looked at."""

    masks: bool = True
    """Whether masks are looked at, at that level."""

    lesion_voxels: int = 1
    """Smaller lesions and marks do not count."""

    single_slices: bool = False
    """Whether the histogram of each slice is kept."""


def count_exam(
    model: str,
    facts: ExamFacts,
    slices: Sequence[CountedSlice],
    *,
    score: float,
    counting: Counting | None = None,
) -> CountedExam:
    """Count what a model says of an exam.

    Args:
        model: Its name.
        facts: Of the exam.
        slices: Those of which a reader said something, in order.
        score: Of the exam.
        counting: What else is counted.
    """
    wanted = counting or Counting()
    marked = [item for item in slices if item.levels is not None and item.reference is not None]
    single = [_histogram([item]) for item in marked] if wanted.single_slices else []
    pixels = merge(single) if single else _histogram(marked)
    labelled = [item for item in slices if item.label is not None]
    return CountedExam(
        statistics=ExamStatistics(
            model=model,
            facts=facts,
            score=score,
            largest_slice=max(slices, key=lambda item: (item.area, item.score, item.key)).key,
            slice_labels=np.array([item.label for item in labelled], np.bool_),
            slice_scores=np.array([item.score for item in labelled], np.float64),
            calls=None if wanted.level is None else calls_at(pixels, wanted.level),
            slice_pixels=tuple(single),
            masks=_masks(slices, wanted),
        ),
        pixels=pixels,
        positive_pixels=_histogram([item for item in marked if item.area]),
    )


def calls_at(pixels: SliceHistogram, level: int) -> PixelCalls:
    """Count calls at a threshold: pixels at it or above are called bleed.

    >>> from ich_ray.statistics.pixel_histograms import slice_histogram
    >>> one = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, False, True]]))
    >>> calls_at(one, 9)
    PixelCalls(tp=1, fp=0, fn=1, tn=1)
    """
    first = int(np.searchsorted(pixels.level, level))
    fn, tn = (int(counts[:first].sum(dtype=np.int64)) for counts in (pixels.pos, pixels.neg))
    tp, fp = (int(counts[first:].sum(dtype=np.int64)) for counts in (pixels.pos, pixels.neg))
    return PixelCalls(tp=tp, fp=fp, fn=fn, tn=tn)


def _histogram(slices: Sequence[CountedSlice]) -> SliceHistogram:
    """Count the pixels of some slices, all of which have levels and a reference."""
    return slices_histogram(
        [
            (item.levels, item.reference, item.valid)
            for item in slices
            if item.levels is not None and item.reference is not None
        ]
    )


def _masks(slices: Sequence[CountedSlice], wanted: Counting) -> ExamMasks | None:
    if wanted.level is None or not wanted.masks:
        return None
    least = LeastSize(amount=float(wanted.lesion_voxels))
    return exam_masks(slices, level=wanted.level, least=least)
