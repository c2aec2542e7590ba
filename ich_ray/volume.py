"""The geometry of a series: where a slice lies, in which order, and who its neighbours are."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median

import numpy as np
from jaxtyping import Float64

from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Plane

SAME_PLACE_MM = 0.01
"""Slices closer than this lie at the same place: copies, or another reconstruction."""

LARGEST_STEP = 1.5
"""A step of more than this many steps around it is a gap, and what lies beyond no neighbour."""

OFF_GRID = 0.25
"""Pixels further apart than this, in pixels, are not the same."""

STEPS_AROUND = 5
"""Steps on either side that say how far apart slices lie hereabouts."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a series without the slices that its spacing leads one to expect."""

    after_mm: float
    """Position of the last slice before it ..."""

    before_mm: float
    """... and of the first one beyond."""

    missing: int
    """About how many slices; they are never made up."""


def normal_of(orientation: Sequence[float]) -> Float64[np.ndarray, " axis"]:
    """Return the unit normal of a slice.

    Args:
        orientation: Image Orientation (Patient) (0020,0037): direction of a row, then of a column.

    Raises:
        InvalidExam: The six numbers are no two directions at right angles.

    Source: DICOM PS3.3 C.7.6.2.1.1.

    >>> normal_of([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    array([0., 0., 1.])
    """
    a, b, c, d, e, f = (float(number) for number in orientation)
    return _normal(a, b, c, d, e, f)


# The slices of a series share it.
@lru_cache(maxsize=256)
def _normal(  # noqa: PLR0913  (six numbers are one orientation)
    a: float, b: float, c: float, d: float, e: float, f: float
) -> Float64[np.ndarray, " axis"]:
    # np.cross gives the same bits, at thirty times the cost.
    normal = np.array([b * f - c * e, c * d - a * f, a * e - b * d])
    length = float(np.linalg.norm(normal))
    # NaN and infinity fail this comparison too.
    if not abs(length - 1) < 0.05:
        raise InvalidExam(
            Reason.BAD_HEADER,
            "Image Orientation (0020,0037) is no pair of directions; re-export the series",
        )
    unit: Float64[np.ndarray, " axis"] = normal / length
    unit.flags.writeable = False
    return unit


def position_along(normal: Float64[np.ndarray, " axis"], corner: Sequence[float]) -> float:
    """Return where a slice lies along its normal, mm.

    Args:
        normal: Unit normal of the slice.
        corner: Image Position (Patient) (0020,0032), mm.

    Ordering by z alone is wrong for a tilted gantry only by scale, but wrong altogether for
    other orientations; the projection is right for all.
    """
    a, b, c = normal.tolist()
    x, y, z = corner
    return float(a * x + b * y + c * z)


def tilt_of(normal: Float64[np.ndarray, " axis"]) -> float:
    """Return the angle between a slice's normal and the patient's long axis, degrees.

    >>> tilt_of(np.array([0.0, 0.0, -1.0]))
    0.0
    """
    return math.degrees(math.acos(min(1.0, abs(float(normal[2])))))


def same_pixels(a: Plane, b: Plane, shape: tuple[int, int]) -> bool:
    """Tell whether the pixels of one plane lie on those of another.

    Args:
        a: A plane, whose pixels are the measure.
        b: Another.
        shape: (rows, columns) of both.

    >>> across = Plane.of([0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.5, 0.5])
    >>> other = Plane.of([0.0, 0.1, 5.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.5, 0.5])
    >>> same_pixels(across, across, (512, 512)), same_pixels(across, other, (512, 512))
    (True, True)
    >>> wider = Plane.of([0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.501, 0.501])
    >>> same_pixels(across, wider, (512, 512))
    False
    """
    rows, columns = shape
    # The planes are affine: what holds at three corners holds at all pixels between them.
    corners = np.array([(1, 0, 0), (1, columns - 1, 0), (1, 0, rows - 1)], np.float64)
    # Hostile headers hold any numbers; NaN and infinity fail the comparison.
    with np.errstate(all="ignore"):
        a_mm, b_mm = (
            corners @ np.array([p.corner_mm, p.column_step_mm, p.row_step_mm]) for p in (a, b)
        )
        pixel_mm = min(np.linalg.norm(a.column_step_mm), np.linalg.norm(a.row_step_mm))
        return bool((np.linalg.norm(a_mm - b_mm, axis=1) <= OFF_GRID * pixel_mm).all())


def order(positions_mm: Sequence[float | None]) -> list[int]:
    """Return the indices of slices along the normal; those without a position last, as given.

    >>> order([5.0, None, 0.0])
    [2, 0, 1]
    """
    return sorted(
        range(len(positions_mm)),
        key=lambda i: (positions_mm[i] is None, positions_mm[i] or 0.0),
    )


def places(positions_mm: Iterable[float | None]) -> list[float]:
    """Return the distinct positions, ascending.

    >>> places([5.0, None, 0.0, 5.0])
    [0.0, 5.0]
    """
    found: list[float] = []
    for position in sorted(p for p in positions_mm if p is not None):
        if not found or position - found[-1] > SAME_PLACE_MM:
            found.append(position)
    return found


def spacing_mm(positions_mm: Iterable[float | None]) -> float | None:
    """Return the median step between the places of a series, None below two places.

    >>> spacing_mm([0.0, 5.0, 5.0, 10.0, 40.0])
    5.0
    """
    found = places(positions_mm)
    return median(b - a for a, b in pairwise(found)) if len(found) > 1 else None


def gaps(positions_mm: Iterable[float | None]) -> list[Gap]:
    """Return where slices of a series are missing, along the normal.

    A step is a gap if it is longer than `LARGEST_STEP` times the median of the `STEPS_AROUND`
    steps before it, and of those after it. One side suffices to make it regular: head scans
    change from thin slices through the skull base to thick ones above it, and the first thick step
    is like those that follow. The median of the whole series would take all of those for gaps.

    >>> gaps([0.0, 5.0, 10.0, 25.0])
    [Gap(after_mm=10.0, before_mm=25.0, missing=2)]
    >>> gaps([0.0, 4.0, 8.0, 9.0, 16.0, 23.0, 30.0, 37.0])
    []
    """
    found = places(positions_mm)
    steps = [after - before for before, after in pairwise(found)]
    missing: list[Gap] = []
    if not steps or max(steps) <= LARGEST_STEP * min(steps):
        # Whatever is usual beside a step is at least the smallest: nearly every series ends here.
        return missing
    for i, step in enumerate(steps):
        sides = steps[max(0, i - STEPS_AROUND) : i], steps[i + 1 : i + 1 + STEPS_AROUND]
        usual = max((median(side) for side in sides if side), default=step)
        if step > LARGEST_STEP * usual:
            missing.append(Gap(found[i], found[i + 1], max(1, round(step / usual) - 1)))
    return missing


def neighbours(positions_mm: Sequence[float | None]) -> list[tuple[int | None, int | None]]:
    """Return the previous and the next slice of each, along the normal.

    Args:
        positions_mm: Of the slices of one series, ascending, None last (see `order`).

    Returns:
        Indices; None at an end, beyond one of the `gaps`, and for a slice without a position.
        Slices at the same place share their neighbours.

    >>> neighbours([0.0, 5.0, 10.0, 30.0])
    [(None, 1), (0, 2), (1, None), (None, None)]
    """
    at = places(positions_mm)
    before_gap = {gap.after_mm for gap in gaps(at)}
    first_at: dict[int, int] = {}
    held: list[int | None] = []
    for index, position in enumerate(positions_mm):
        place = None if position is None else place_of(at, position)
        held.append(place)
        if place is not None:
            first_at.setdefault(place, index)

    def following(place: int) -> int | None:
        end = place + 1 == len(at) or at[place] in before_gap
        return None if end else first_at[place + 1]

    def previous(place: int) -> int | None:
        return None if place == 0 or at[place - 1] in before_gap else first_at[place - 1]

    return [(None, None) if p is None else (previous(p), following(p)) for p in held]


def place_of(at: Sequence[float], position: float) -> int:
    """Return which of the `places` of a series a position is at.

    >>> place_of([0.0, 5.0], 5.004)
    1
    """
    return bisect_right(at, position) - 1
