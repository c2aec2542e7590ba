"""The free-response ROC curve (FROC): lesions found against false alarms an exam.

It counts lesions and marks where a ROC curve counts exams. The marks are those of one pixel
threshold, each with its highest level as its score; a threshold on that score keeps the surer ones.
Exams without a lesion count where false alarms are shared out. Where there is no lesion at all, the
sensitivity is undefined: NaN, never 0 or 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from ich_ray.statistics.masks.lesions import ExamLesions

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False alarms an exam at which sensitivities are given. Source: van Ginneken et al. 2010."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LesionPool:
    """The lesions and false alarms of many exams, those of the highest level first."""

    lesion_level: Int64[np.ndarray, " lesion"]
    """0 where no mark touches the lesion."""

    lesion_patient: Int64[np.ndarray, " lesion"]
    alarm_level: Int64[np.ndarray, " alarm"]
    alarm_patient: Int64[np.ndarray, " alarm"]
    num_hits: Int64[np.ndarray, " patient"]
    """Marks that touch a lesion."""

    num_exams: Int64[np.ndarray, " patient"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrocCurve:
    """From no mark at all to all of them; a step wherever another lesion is found."""

    alarms: Float64[np.ndarray, " point"]
    """False alarms an exam, ascending from 0."""

    sensitivity: Float64[np.ndarray, " point"]
    """Reached from here on; the last one holds for any more false alarms. NaN without a lesion."""


def pooled(exams: Sequence[ExamLesions], patient: Integer[np.ndarray, " exam"]) -> LesionPool:
    """Put exams together.

    Args:
        exams: Of one model at one level.
        patient: Number of each exam's patient, from 0 on.
    """
    assert len(exams) == len(patient), f"{len(exams)} exams of {len(patient)} patients"
    num_patients = int(patient.max()) + 1
    lesion_level, lesion_patient = _sorted([e.found_at for e in exams], patient)
    alarm_level, alarm_patient = _sorted([e.alarm_level for e in exams], patient)
    num_hits = np.zeros(num_patients, np.int64)
    np.add.at(num_hits, patient, [e.num_hits for e in exams])
    return LesionPool(
        lesion_level=lesion_level,
        lesion_patient=lesion_patient,
        alarm_level=alarm_level,
        alarm_patient=alarm_patient,
        num_hits=num_hits,
        num_exams=np.bincount(patient, minlength=num_patients),
    )


def froc_curve(pool: LesionPool) -> FrocCurve:
    """Sensitivity against false alarms an exam, as the threshold on the marks' scores falls."""
    levels = np.unique(pool.lesion_level[pool.lesion_level > 0])[::-1]
    found = np.searchsorted(-pool.lesion_level, -levels, side="right")
    alarms = np.searchsorted(-pool.alarm_level, -levels, side="right")
    lesions = len(pool.lesion_level) or math.nan
    return FrocCurve(
        alarms=np.concatenate([[0.0], alarms / pool.num_exams.sum()]),
        sensitivity=np.concatenate([[0.0], found]) / lesions,
    )


def _sorted(
    levels: Sequence[Integer[np.ndarray, "..."]], patient: Integer[np.ndarray, " exam"]
) -> tuple[Int64[np.ndarray, " all"], Int64[np.ndarray, " all"]]:
    together = np.concatenate(levels).astype(np.int64)
    whose = np.repeat(patient, [len(of_exam) for of_exam in levels]).astype(np.int64)
    order = np.argsort(-together, kind="stable")
    return together[order], whose[order]
