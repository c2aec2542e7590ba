"""Two segmentations of the same exams: how far they agree, pixel by pixel, on surfaces, in volume.

No model can be asked to agree with a reader more than a second reading does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt16

from ich_ray.statistics.bootstrap import Interval, resample_weights
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.masks.agreement import VolumeAgreement, volume_agreement
from ich_ray.statistics.masks.exam_masks import ExamMasks, exam_masks
from ich_ray.statistics.masks.surfaces import SurfaceDistances, surface_distances
from ich_ray.statistics.ratios import ratio_interval
from ich_ray.statistics.score_levels import NUM_LEVELS

MARKED = NUM_LEVELS - 1
"""The score level of what the other reading marks."""

RESAMPLES = 1_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadExam:
    """One exam by both readings."""

    exam: str
    patient: str
    tp: int
    """Pixels that both mark."""

    fp: int
    """Pixels that the second alone marks."""

    fn: int
    masks: ExamMasks | None
    """In three dimensions, the first being the reference; None without a common grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingAgreement:
    """Two readings of the exams that the first marks, or the second."""

    a: str
    b: str
    exams: int
    dsc: Interval
    """Of all pixels pooled; patients are the clusters."""

    mean_dsc: Interval
    """Of exams."""

    surfaces: SurfaceDistances
    volumes: VolumeAgreement


def read_levels(mask: Bool[np.ndarray, "rows columns"]) -> UInt16[np.ndarray, "rows columns"]:
    """Return a reading's mask as score levels, as a model's would be."""
    return np.where(mask, MARKED, 0).astype(np.uint16)


def read_exam(exam: str, patient: str, slices: Sequence[CountedSlice]) -> ReadExam:
    """Count an exam by both readings.

    Args:
        exam: Its key.
        patient: Its patient's.
        slices: Those that both readings hold, in order: `reference` by the first, `levels` by the
            second, as `read_levels` makes them.
    """
    tp = fp = fn = 0
    for item in slices:
        if item.levels is None or item.reference is None:
            continue
        valid = True if item.valid is None else item.valid
        second, first = (item.levels == MARKED) & valid, item.reference & valid
        tp += int((first & second).sum())
        fp += int((second & ~first).sum())
        fn += int((first & ~second).sum())
    masks = exam_masks(slices, level=MARKED)
    return ReadExam(exam=exam, patient=patient, tp=tp, fp=fp, fn=fn, masks=masks)


def reading_agreement(
    a: str, b: str, exams: Sequence[ReadExam], *, seed: int, resamples: int = RESAMPLES
) -> ReadingAgreement:
    """Return how far two readings agree.

    Args:
        a: Name of the first.
        b: Name of the second.
        exams: In any order; those that neither marks are left out, since they agree on nothing.
        seed: Of the resamples of patients, for the surfaces.
        resamples: How many.
    """
    marked = sorted((one for one in exams if one.tp + one.fp + one.fn), key=lambda one: one.exam)
    patient = _patients(marked)
    tp, fp, fn = (
        np.array([getattr(one, name) for one in marked], np.float64) for name in ("tp", "fp", "fn")
    )
    twice, whole = 2 * tp, 2 * tp + fp + fn
    solid = [one for one in marked if one.masks is not None]
    of_solid = _patients(solid)
    masks = [one.masks for one in solid if one.masks is not None]
    weights = resample_weights(
        seed=seed, resamples=range(resamples), num_clusters=max(1, len(set(of_solid.tolist())))
    )
    return ReadingAgreement(
        a=a,
        b=b,
        exams=len(marked),
        dsc=_share(twice, whole, patient),
        mean_dsc=_share(twice / whole, np.ones(len(marked)), patient),
        surfaces=surface_distances(b, [one.surfaces for one in masks], of_solid, weights),
        volumes=volume_agreement(
            b,
            np.array([one.predicted_ml for one in masks], np.float64),
            np.array([one.reference_ml for one in masks], np.float64),
            of_solid,
        ),
    )


def _patients(exams: Sequence[ReadExam]) -> np.ndarray:
    names = np.array([one.patient for one in exams], np.str_)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _share(
    part: Float64[np.ndarray, " exam"], whole: Float64[np.ndarray, " exam"], patient: np.ndarray
) -> Interval:
    """Return a share of sums over exams; a cluster is a patient."""
    parts, wholes = (np.bincount(patient, of).astype(np.float64) for of in (part, whole))
    return ratio_interval((parts, wholes), np.zeros(len(parts), np.int64))
