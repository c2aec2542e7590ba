"""What the mask of a whole exam says at a model's pixel threshold: lesions, surfaces, volumes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from ich_ray.exam_summary import voxel_mm3
from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.masks.lesions import ExamLesions, LeastSize, ScoredExam, exam_lesions
from ich_ray.statistics.masks.surfaces import ExamSurfaces, Spacing, exam_surfaces

UNEVEN = 0.25
"""Extents that differ by more than this share make no common spacing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExamMasks:
    """A model's mask of an exam against the reference."""

    lesions: ExamLesions
    surfaces: ExamSurfaces
    predicted_ml: float
    """Marked volume; NaN where the size of a marked voxel is not known."""

    reference_ml: float


def exam_masks(
    slices: Sequence[CountedSlice], *, level: int, least: LeastSize | None = None
) -> ExamMasks | None:
    """Look at the masks of an exam in three dimensions.

    Slices of another size than the first that is marked make an exam without masks: nothing lies
    on one grid then.

    Args:
        slices: In order; those without a reference mask are left out, and break what they part.
        level: Pixels at or above it are called bleed.
        least: Of lesions and marks; one voxel if absent.

    Returns:
        None where no slice has a mask.
    """
    marked = [item for item in slices if item.levels is not None and item.reference is not None]
    if not marked or len({item.levels.shape for item in marked if item.levels is not None}) > 1:
        return None
    box = _box(marked, level)
    levels = np.stack([item.levels[box] for item in marked if item.levels is not None])
    reference = np.stack([item.reference[box] for item in marked if item.reference is not None])
    valid = None
    if any(item.valid is not None for item in marked):
        every = np.ones(levels.shape[1:], np.bool_)
        valid = np.stack([every if item.valid is None else item.valid[box] for item in marked])
    follows = np.array([False, *(b.previous == a.key for a, b in pairwise(marked))], dtype=np.bool_)
    spacing = _spacing(marked) if follows[1:].all() else None
    called = levels >= level if valid is None else (levels >= level) & valid
    true = reference if valid is None else reference & valid
    return ExamMasks(
        lesions=exam_lesions(
            ScoredExam(
                levels=levels,
                reference=reference,
                follows=follows,
                valid=valid,
                voxel_mm3=None if spacing is None else math.prod(spacing),
            ),
            level=level,
            least=least,
        ),
        surfaces=exam_surfaces(called, true, spacing),
        predicted_ml=_volume_ml(marked, [int(one.sum()) for one in called]),
        reference_ml=_volume_ml(marked, [int(one.sum()) for one in true]),
    )


def _box(slices: Sequence[CountedSlice], level: int) -> tuple[slice, slice]:
    """Return the rows and columns that hold all that is marked: far less than the whole head."""
    rows, columns = [], []
    for item in slices:
        assert item.levels is not None, item.key
        assert item.reference is not None, item.key
        marked = (item.levels >= level) | item.reference
        rows.append(np.flatnonzero(marked.any(axis=1)))
        columns.append(np.flatnonzero(marked.any(axis=0)))
    found = [np.concatenate(places) for places in (rows, columns)]
    if not len(found[0]):
        return slice(0, 1), slice(0, 1)
    down, across = (slice(int(places.min()), int(places.max()) + 1) for places in found)
    return down, across


def _volume_ml(slices: Sequence[CountedSlice], pixels: Sequence[int]) -> float:
    """Return a volume; slices without a pixel need no size."""
    sizes = [voxel_mm3(item.spacing_mm, item.extent_mm) for item in slices]
    parts = [(n, size) for n, size in zip(pixels, sizes, strict=True) if n]
    if any(size is None for _, size in parts):
        return math.nan
    return sum(n * size for n, size in parts if size is not None) / 1000


def _spacing(slices: Sequence[CountedSlice]) -> Spacing | None:
    """Return the common spacing of slices; None where it is not known, or uneven."""
    extents = [item.extent_mm for item in slices if item.extent_mm is not None]
    within = slices[0].spacing_mm
    if within is None or len(extents) < len(slices):
        return None
    step = median(extents)
    if any(abs(extent - step) > UNEVEN * step for extent in extents):
        return None
    return step, *within
