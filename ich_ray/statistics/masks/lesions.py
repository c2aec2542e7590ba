"""The lesions of an exam: connected parts of its masks, what finds them, and the false alarms.

A lesion is a connected part of the reference, a mark one of the prediction: in three dimensions,
over faces, edges and corners (26 neighbours), never across missing slices. A mark finds every
lesion that it touches, be it in one voxel; a mark that touches none is a false alarm. This says
where a model looks, not how well it outlines: one mark over the whole head finds every lesion
without a false alarm. The Dice coefficient catches that; read both together.

Parts below a least size are neither missed nor false. A small lesion is not counted, and what
touches it is no false alarm. A small mark is none at all: it alarms nobody, and finds nothing, or
else specks everywhere would find all lesions for free.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt16
from scipy import ndimage

from ich_ray.errors import QualityError

SIDES_EDGES_AND_CORNERS = np.ones((3, 3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeastSize:
    """What a lesion or a mark must measure to count."""

    amount: float = 1.0
    unit: Literal["voxels", "mm3"] = "voxels"

    def __str__(self) -> str:
        """Return it for a person.

        >>> str(LeastSize(amount=30.0, unit="mm3")), str(LeastSize())
        ('30 mm3', '1 voxel')
        """
        return "1 voxel" if self == LeastSize() else f"{self.amount:g} {self.unit}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredExam:
    """An exam's slices in their order, each voxel with its score and its truth."""

    levels: UInt16[np.ndarray, "slice row column"]
    """Score level of each voxel, see score_levels.py."""

    reference: Bool[np.ndarray, "slice row column"]
    follows: Bool[np.ndarray, " slice"]
    """Whether a slice is the physical neighbour of the one before; of the first it says nothing."""

    valid: Bool[np.ndarray, "slice row column"] | None = None
    """False where a voxel is in neither mask; what it held together falls apart."""

    voxel_mm3: float | None = None
    """None where it is not known, or not the same in all slices."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExamLesions:
    """The lesions and the false alarms of one exam, all of them of the least size or more."""

    voxels: Int64[np.ndarray, " lesion"]
    found_at: UInt16[np.ndarray, " lesion"]
    """Highest level in a mark that touches the lesion; 0: none does."""

    alarm_voxels: Int64[np.ndarray, " alarm"]
    alarm_level: UInt16[np.ndarray, " alarm"]
    """Highest level in a mark that touches no lesion, small ones included."""

    num_hits: int
    """Marks that touch a lesion."""

    num_small_lesions: int
    """Below the least size, and so not among the lesions."""

    num_small_marks: int
    voxel_mm3: float | None

    @property
    def volume_ml(self) -> Float64[np.ndarray, " lesion"]:
        """Of each lesion; NaN where the size of a voxel is not known."""
        return self.voxels * (math.nan if self.voxel_mm3 is None else self.voxel_mm3 / 1000)


def exam_lesions(exam: ScoredExam, *, level: int, least: LeastSize | None = None) -> ExamLesions:
    """Find the lesions of an exam, the marks that touch them, and those that touch none.

    Args:
        exam: Scores and truth of its voxels.
        level: Voxels at or above this level are called bleed.
        least: Of lesions and marks; one voxel if absent.

    Returns:
        Levels of marks are at least 1, also where `level` is 0, since 0 stands for "no mark".

    Raises:
        QualityError: The least size is in mm3, and the size of a voxel is not known.

    Source: 26 neighbours, touching in one voxel: the lesion-wise F1 of the ISLES 2022 challenge
    (Hernandez Petzsche et al., Sci Data 9 (2022) 762).

    >>> levels = np.array([[[9, 7, 0, 0, 8]]], np.uint16)
    >>> reference = np.array([[[False, True, False, False, False]]])
    >>> exam = ScoredExam(levels=levels, reference=reference, follows=np.array([False]))
    >>> found = exam_lesions(exam, level=7)
    >>> found.found_at.tolist(), found.alarm_level.tolist()
    ([9], [8])
    """
    least_voxels = _in_voxels(least or LeastSize(), exam.voxel_mm3)
    called, reference = exam.levels >= level, exam.reference
    if exam.valid is not None:
        called, reference = called & exam.valid, reference & exam.valid
    lesion_of, lesion_voxels = _parts(reference, exam.follows)
    mark_of, mark_voxels = _parts(called, exam.follows)
    lesion_counts, mark_counts = lesion_voxels >= least_voxels, mark_voxels >= least_voxels
    highest = np.zeros(len(mark_voxels), np.uint16)
    np.maximum.at(highest, mark_of[called], np.maximum(exam.levels[called], 1))

    both = called & reference
    lesion, mark = lesion_of[both], mark_of[both]
    found_at = np.zeros(len(lesion_voxels), np.uint16)
    np.maximum.at(found_at, lesion, np.where(mark_counts, highest, 0)[mark])
    touches, hits = np.zeros((2, len(mark_voxels)), np.bool_)
    touches[mark] = True
    hits[mark[lesion_counts[lesion]]] = True
    alarms = mark_counts & ~touches
    return ExamLesions(
        voxels=lesion_voxels[lesion_counts],
        found_at=found_at[lesion_counts],
        alarm_voxels=mark_voxels[alarms],
        alarm_level=highest[alarms],
        num_hits=int((mark_counts & hits).sum()),
        num_small_lesions=int((~lesion_counts).sum()),
        num_small_marks=int((~mark_counts).sum()),
        voxel_mm3=exam.voxel_mm3,
    )


def _parts(
    mask: Bool[np.ndarray, "slice row column"], follows: Bool[np.ndarray, " slice"]
) -> tuple[Int32[np.ndarray, "slice row column"], Int64[np.ndarray, " part"]]:
    """Number the connected parts from 0, and count their voxels; -1 outside of the mask."""
    part_of, num_parts = np.full(mask.shape, -1, np.int32), 0
    gaps = 1 + np.flatnonzero(~follows[1:])
    for run, into in zip(np.split(mask, gaps), np.split(part_of, gaps), strict=True):
        found, here = ndimage.label(run, SIDES_EDGES_AND_CORNERS)
        into[run] = found[run] + (num_parts - 1)
        num_parts += here
    return part_of, np.bincount(part_of[mask], minlength=num_parts)


def _in_voxels(least: LeastSize, voxel_mm3: float | None) -> float:
    if least.unit == "voxels":
        return least.amount
    if voxel_mm3 is None:
        raise QualityError(
            f"lesions of at least {least} were asked for, and the exam's voxels have no known "
            "size; give the least size in voxels, or leave the exam out"
        )
    # Seven voxels of 0.3 mm3 are 2.1 mm3, whatever the last digit says.
    return least.amount / voxel_mm3 * (1 - 1e-9)
