"""What one model says of one exam, counted where its pixels lie: small enough to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64

from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.masks.exam_masks import ExamMasks, exam_masks
from ich_ray.statistics.masks.lesions import LeastSize
from ich_ray.statistics.pixel_histograms import SliceHistogram, merge, slice_histogram

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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExamStatistics:
    """One model on one exam."""

    model: str
    facts: ExamFacts
    score: float
    """Of the exam."""

    pixels: SliceHistogram
    """Of slices with a reference mask."""

    positive_pixels: SliceHistogram
    """Of those whose reference holds a bleed."""

    largest_slice: str
    """The slice with most reference pixels, or the one with the highest probability."""

    slice_labels: Bool[np.ndarray, " slice"] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Of the slices that have one."""

    slice_scores: Float64[np.ndarray, " slice"] = field(default_factory=lambda: np.zeros(0))

    slice_pixels: tuple[SliceHistogram, ...] = ()
    """Of each slice with a reference mask; only where they are asked for."""

    masks: ExamMasks | None = None
    """At the model's pixel threshold, once that is known; None without reference masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """What is counted of an exam beside its pixels by score level."""

    level: int | None = None
    """The model's pixel threshold; None: masks are not looked at."""

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
) -> ExamStatistics:
    """Count what a model says of an exam.

    Args:
        model: Its name.
        facts: Of the exam.
        slices: Those of which a reader said something, in order.
        score: Of the exam.
        counting: What else is counted.
    """
    wanted = counting or Counting()
    least = LeastSize(amount=float(wanted.lesion_voxels))
    histograms, positive = [], []
    for item in slices:
        if item.levels is None or item.reference is None:
            continue
        histograms.append(slice_histogram(item.levels, item.reference, valid=item.valid))
        if item.area:
            positive.append(histograms[-1])
    labelled = [item for item in slices if item.label is not None]
    return ExamStatistics(
        model=model,
        facts=facts,
        score=score,
        pixels=merge(histograms),
        positive_pixels=merge(positive),
        largest_slice=max(slices, key=lambda item: (item.area, item.score, item.key)).key,
        slice_labels=np.array([item.label for item in labelled], np.bool_),
        slice_scores=np.array([item.score for item in labelled], np.float64),
        slice_pixels=tuple(histograms) if wanted.single_slices else (),
        masks=None if wanted.level is None else exam_masks(slices, level=wanted.level, least=least),
    )
