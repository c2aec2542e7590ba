"""How far apart the surfaces of two masks lie: the 95th percentile of distances (HD95), and NSD.

A surface is the faces of a mask's voxels that look outside; each stands for its area, at its
centre. Voxels of a CT are no cubes: were surface voxels counted alike, the top of a bleed in slices
of 5 mm would weigh ten times its area, and distances between their centres be whole slices too
long. The edge of the image is outside.

Empty masks cannot be used to look well. Where only one mask is empty, HD95 is infinite and NSD 0,
and both count. Where both are, there is no surface: NaN. Over exams, HD95 is given as the median,
which a few infinite ones do not carry away, of the exams whose reference holds a bleed: the same
for every model, whatever it marks elsewhere.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Integer
from scipy import ndimage
from scipy.spatial import KDTree

from ich_ray.errors import QualityError
from ich_ray.statistics.bootstrap import Interval, interval
from ich_ray.statistics.overlap import share_of

PERCENTILE = 0.95
TOLERANCES_MM = (1.0, 2.0)

LEAF_SIZE = 64
"""Faces in a leaf of the search tree: where specks lie all over the head, half the time of 10."""

VALUES_AT_ONCE = 2**22
"""Weights in each temporary array."""

Spacing = tuple[float, float, float]
"""Between slices, rows and columns, mm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamSurfaces:
    """The distance between the surfaces of prediction and reference of one exam."""

    bleeds: bool
    """Whether the reference marks anything."""

    marked: bool
    """Whether the prediction does."""

    hd95_mm: float
    nsd_1mm: float
    """Share of both surfaces that lies within 1 mm of the other one."""

    nsd_2mm: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SurfaceDistances:
    """A model's surfaces over exams, with percentile intervals over patients."""

    model: str
    num_exams: int
    """Whose reference holds a bleed and whose spacing is known: those that the figures are of."""

    num_missed: int
    """Of these, without any mark: at an infinite distance, NSD 0."""

    num_unknown: int
    """Whose reference holds a bleed, left out since their spacing is not known."""

    num_false: int
    """Exams with a mark where the reference holds no bleed; in none of the figures."""

    hd95_mm: Interval
    """The median; infinite, in JSON null, where half of the exams are missed (`num_missed`)."""

    nsd_1mm: Interval
    """The mean."""

    nsd_2mm: Interval


def exam_surfaces(
    predicted: Bool[np.ndarray, "slice row column"],
    reference: Bool[np.ndarray, "slice row column"],
    spacing_mm: Spacing | None,
    *,
    valid: Bool[np.ndarray, "slice row column"] | None = None,
) -> ExamSurfaces:
    """Measure how far the surfaces of two masks lie apart.

    HD95 is the larger of both directions: 95 % of either surface lie no further from the other.

    Args:
        predicted: The mask of a model.
        reference: The true one.
        spacing_mm: None where it is not known, or slices are missing: every figure is NaN.
        valid: False where a voxel is in neither mask. Both are cut there, so that the cuts agree.

    Raises:
        QualityError: A spacing is not a length above 0.

    Source: NSD, and surfaces by their area: Nikolov et al., J Med Internet Res 23 (2021) e26151;
    HD95: Maier-Hein et al., Nat Methods 21 (2024) 195.

    >>> reference = np.zeros((1, 1, 9), np.bool_)
    >>> reference[0, 0, 2:4] = True
    >>> exam_surfaces(np.roll(reference, 3), reference, (5.0, 0.5, 0.5)).hd95_mm
    1.5
    """
    if valid is not None:
        predicted, reference = predicted & valid, reference & valid
    bleeds, marked = bool(reference.any()), bool(predicted.any())
    hd95_mm, nsd = math.nan, [math.nan, math.nan]
    if spacing_mm is not None:
        if not all(0 < apart < math.inf for apart in spacing_mm):
            raise QualityError(
                f"a spacing of {spacing_mm} mm between slices, rows and columns has no surfaces; "
                "correct it, or give none where it is not known"
            )
        if bleeds and marked:
            hd95_mm, nsd = _distances(predicted, reference, np.array(spacing_mm))
        elif bleeds or marked:
            hd95_mm, nsd = math.inf, [0.0, 0.0]
    return ExamSurfaces(
        bleeds=bleeds, marked=marked, hd95_mm=hd95_mm, nsd_1mm=nsd[0], nsd_2mm=nsd[1]
    )


def surface_distances(
    model: str,
    exams: Sequence[ExamSurfaces],
    patient: Integer[np.ndarray, " exam"],
    weights: Integer[np.ndarray, "resample patient"],
) -> SurfaceDistances:
    """Return a model's figures over exams, with 95 % percentile intervals.

    Args:
        model: Its name.
        exams: One by one.
        patient: Number of each exam's patient, from 0 on.
        weights: How often each resample holds each patient.
    """
    assert len(exams) == len(patient), f"{len(exams)} exams of {len(patient)} patients"
    with_bleed = [i for i, exam in enumerate(exams) if exam.bleeds]
    chosen = [i for i in with_bleed if not math.isnan(exams[i].hd95_mm)]
    once = np.ones((1, len(chosen)), np.int64)
    hd95_mm, nsd_1mm, nsd_2mm = (
        np.array([getattr(exams[i], name) for i in chosen], np.float64)
        for name in ("hd95_mm", "nsd_1mm", "nsd_2mm")
    )
    columns = patient[chosen]
    medians = _of_blocks(_medians, hd95_mm, weights, columns)
    median = float(_medians(hd95_mm, once)[0])
    # Between two values, of which one may be infinite, this method picks one.
    low, high = np.quantile(
        medians[~np.isnan(medians)] if len(chosen) else np.full(1, math.nan),
        [0.025, 0.975],
        method="inverted_cdf",
    )
    undefined = int(np.isnan(medians).sum())
    return SurfaceDistances(
        model=model,
        num_exams=len(chosen),
        num_missed=sum(not exams[i].marked for i in chosen),
        num_unknown=len(with_bleed) - len(chosen),
        num_false=sum(exam.marked and not exam.bleeds for exam in exams),
        hd95_mm=Interval(median, float(low), float(high), undefined),
        nsd_1mm=interval(
            float(_means(nsd_1mm, once)[0]), _of_blocks(_means, nsd_1mm, weights, columns)
        ),
        nsd_2mm=interval(
            float(_means(nsd_2mm, once)[0]), _of_blocks(_means, nsd_2mm, weights, columns)
        ),
    )


def _distances(
    a: Bool[np.ndarray, "slice row column"],
    b: Bool[np.ndarray, "slice row column"],
    spacing_mm: Float64[np.ndarray, " 3"],
) -> tuple[float, list[float]]:
    (box,) = ndimage.find_objects((a | b).astype(np.int8))
    (points_a, areas_a), (points_b, areas_b) = (_surface(m[box], spacing_mm) for m in (a, b))
    # To a millionth of a mm: ten voxels of 0.1 mm are 1 mm.
    from_a = KDTree(points_b, LEAF_SIZE).query(points_a)[0].round(6)
    from_b = KDTree(points_a, LEAF_SIZE).query(points_b)[0].round(6)
    hd95_mm = max(_percentile(from_a, areas_a), _percentile(from_b, areas_b))
    whole = areas_a.sum() + areas_b.sum()
    within = [areas_a[from_a <= t].sum() + areas_b[from_b <= t].sum() for t in TOLERANCES_MM]
    return hd95_mm, [float(area / whole) for area in within]


def _surface(
    mask: Bool[np.ndarray, "slice row column"], spacing_mm: Float64[np.ndarray, " 3"]
) -> tuple[Float64[np.ndarray, "face 3"], Float64[np.ndarray, " face"]]:
    """Centres of the faces that look outside, mm, and their areas, mm2."""
    padded = np.pad(mask, 1)
    inside, flat = np.flatnonzero(padded), padded.ravel()
    centres, areas = [], []
    for axis, (step, apart) in enumerate(zip(padded.strides, spacing_mm, strict=True)):
        for side in (-1, 1):
            at_edge = inside[~flat[inside + side * step]]
            places = np.column_stack(np.unravel_index(at_edge, padded.shape)).astype(np.float64)
            places[:, axis] += side / 2
            centres.append(places * spacing_mm)
            areas.append(np.full(len(at_edge), np.prod(spacing_mm) / apart))
    return np.concatenate(centres), np.concatenate(areas)


def _percentile(
    distances: Float64[np.ndarray, " face"], areas: Float64[np.ndarray, " face"]
) -> float:
    """Smallest distance that the stated share of the area keeps to."""
    order = np.argsort(distances, kind="stable")
    covered = np.cumsum(areas[order])
    # Sums of the same areas in another order differ in their last digits.
    place = np.searchsorted(covered, covered[-1] * PERCENTILE * (1 - 1e-12))
    return float(distances[order][place])


def _of_blocks(
    figure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    values: Float64[np.ndarray, " exam"],
    weights: Integer[np.ndarray, "resample patient"],
    patient: Integer[np.ndarray, " exam"],
) -> Float64[np.ndarray, " resample"]:
    """Return a figure of each resample of exams, a few resamples at a time."""
    at_once = max(1, VALUES_AT_ONCE // max(1, len(patient)))
    blocks = [
        figure(values, weights[start : start + at_once, patient].astype(np.int64))
        for start in range(0, len(weights), at_once)
    ]
    return np.concatenate(blocks)


def _medians(
    values: Float64[np.ndarray, " exam"], weights: Integer[np.ndarray, "resample exam"]
) -> Float64[np.ndarray, " resample"]:
    if not len(values):
        return np.full(len(weights), math.nan)
    order = np.argsort(values)
    twice = 2 * np.cumsum(weights[:, order], axis=1)
    half = twice[:, -1:] // 2
    lower = values[order][np.argmax(twice >= half, axis=1)]
    upper = values[order][np.argmax(twice > half, axis=1)]
    return np.where(half[:, 0] > 0, (lower + upper) / 2, math.nan)


def _means(
    values: Float64[np.ndarray, " exam"], weights: Integer[np.ndarray, "resample exam"]
) -> Float64[np.ndarray, " resample"]:
    return share_of(np.einsum("re,e->r", weights, values), weights.sum(axis=1).astype(np.float64))
