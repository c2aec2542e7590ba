"""What a model found in an exam, in the few numbers that a reading room asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

from ich_ray import volume
from ich_ray.statistics.comparison import exam_score


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedSlice:
    """A slice of an exam, and what a model marked on it."""

    slice: str
    """Pseudonym."""

    number: int
    """Its place in the exam, along the normal; the first is 1."""

    p: float
    """Probability that the slice bleeds."""

    pixels: int
    """Marked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamSummary:
    """What a model found in one exam."""

    exam: str
    score: float
    """Mean of the highest slice probabilities."""

    slices: int
    positive_slices: int
    """Slices with a marked pixel."""

    volume_ml: float | None
    """Of the marked pixels; None where a marked slice has no spacing or no extent."""

    top_slices: tuple[MarkedSlice, ...]
    """Of the highest probabilities, the highest first."""


def summary_of(
    exam: str,
    slices: Sequence[MarkedSlice],
    voxels_mm3: Sequence[float | None],
    *,
    score_slices: int,
    top_slices: int,
) -> ExamSummary:
    """Summarise what a model found in an exam.

    Args:
        exam: Pseudonym.
        slices: All of the exam, of which there is at least one.
        voxels_mm3: What a pixel of each stands for (see `voxel_mm3`).
        score_slices: Highest slice probabilities whose mean is the exam's score.
        top_slices: How many slices are named.

    >>> one = MarkedSlice(slice="a", number=1, p=0.75, pixels=200)
    >>> found = summary_of("e", [one], [5.0], score_slices=1, top_slices=3)
    >>> found.volume_ml, found.score, found.positive_slices
    (1.0, 0.75, 1)
    """
    marked = [(item, voxel) for item, voxel in zip(slices, voxels_mm3, strict=True) if item.pixels]
    known = [item.pixels * voxel for item, voxel in marked if voxel is not None]
    # The sort is stable: of equal probabilities the first slice comes first.
    ranked = sorted(slices, key=lambda item: -item.p)
    return ExamSummary(
        exam=exam,
        score=exam_score([item.p for item in slices], slices=score_slices),
        slices=len(slices),
        positive_slices=len(marked),
        volume_ml=sum(known) / 1000 if len(known) == len(marked) else None,
        top_slices=tuple(ranked[:top_slices]),
    )


def voxel_mm3(spacing_mm: tuple[float, float] | None, extent_mm: float | None) -> float | None:
    """Return what one pixel of a slice stands for, None where that is not known.

    Args:
        spacing_mm: Of the pixels, (row, column).
        extent_mm: Of the slice along its normal (see `extents_mm`).
    """
    if spacing_mm is None or extent_mm is None:
        return None
    return spacing_mm[0] * spacing_mm[1] * extent_mm


def extents_mm(
    positions_mm: Sequence[float | None], thickness_mm: Sequence[float | None]
) -> list[float | None]:
    """Return how much of the patient each slice stands for, along the normal, mm.

    It is half of the way to either neighbour, so that slices which overlap are not counted twice,
    and what lies between slices is counted. At an end, or beside a gap, the way to the other
    neighbour counts on both sides; a slice without neighbours is as thick as it says. Along the
    normal of a tilted gantry the product with the area of a pixel is its volume all the same.

    Args:
        positions_mm: Of the slices of one series along their normal, ascending, None last.
        thickness_mm: Of the same slices.

    >>> extents_mm([0.0, 5.0, 11.0], [10.0, 10.0, 10.0])
    [5.0, 5.5, 6.0]
    >>> extents_mm([None], [4.0])
    [4.0]
    """
    extents: list[float | None] = []
    for here, near, thick in zip(
        positions_mm, volume.neighbours(positions_mm), thickness_mm, strict=True
    ):
        beside = [positions_mm[index] for index in near if index is not None]
        ways = [abs(there - here) for there in beside if there is not None and here is not None]
        extents.append(sum(ways) / len(ways) if ways else thick)
    return extents
