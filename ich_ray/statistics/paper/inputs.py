"""What the published procedure of Lin & Yuh needs of exams, slices and two models."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from ich_ray.errors import QualityError
from ich_ray.statistics.pixel_histograms import HistogramStack


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PaperExams:
    """The exams of the test corpus, and how many of them have masks."""

    labels: Bool[np.ndarray, " exam"]
    subtypes: Bool[np.ndarray, "exam 5"] | None = None
    """In the order of HEMORRHAGE_TYPES; False throughout for an exam whose are not known."""

    num_marked: int = 0
    """Exams that the slices come from."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PaperModel:
    """What a model says of these exams."""

    name: str
    scores: Float[np.ndarray, " exam"]
    level: int
    """Pixels at or above this score level are called bleed."""

    segmentations: tuple[HistogramStack, ...] = ()
    """Pixels by score level, a cluster being a slice, against each segmentation of the same slices.
    The first gives DSC and pixel AP, all of them the test-retest study; without any, only the
    exams are compared."""


Models = tuple[PaperModel, PaperModel]
"""First and second, whose difference is first minus second."""


def num_slices_of(exams: PaperExams, models: Models) -> int:
    """Return the number of slices with masks, 0 where the models have none.

    Raises:
        QualityError: No mask holds a bleed, or the models were not given the same masks.
    """
    a, b = models
    if not a.segmentations and not b.segmentations:
        return 0
    stacks = [*a.segmentations, *b.segmentations]
    num_slices = stacks[0].num_clusters
    if len(a.segmentations) != len(b.segmentations) or any(
        _positives(one).tolist() != _positives(other).tolist()
        for one, other in zip(a.segmentations, b.segmentations, strict=True)
    ):
        raise QualityError(
            f"{a.name} and {b.name} were not given the same masks; count the pixels of both "
            "against the same slices, in the same order"
        )
    if any(stack.num_clusters != num_slices for stack in stacks):
        raise QualityError("segmentations are not of the same slices; keep those that all have")
    empty = sum(not stack.pos.any() for stack in a.segmentations)
    if empty:
        raise QualityError(
            f"{empty} of {len(a.segmentations)} segmentations of {num_slices} slices mark no "
            "bleed, so DSC and pixel AP say nothing; leave them out, or check the masks"
        )
    if not 1 <= exams.num_marked <= num_slices:
        raise QualityError(
            f"{num_slices} slices cannot come from {exams.num_marked} exams; give the number of "
            "exams with masks"
        )
    return num_slices


def _positives(stack: HistogramStack) -> Int64[np.ndarray, " slice"]:
    sums = np.bincount(stack.cluster, stack.pos, minlength=stack.num_clusters)
    return sums.astype(np.int64)
