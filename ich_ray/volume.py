"""The geometry of a series: where a slice lies, in which order, and who its neighbours are."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from ich_ray.errors import InvalidExam, Reason

SAME_PLACE_MM = 0.01
"""Slices closer than this lie at the same place: copies, or another reconstruction."""

LARGEST_STEP = 1.5
"""A step of more than this many median steps is a gap, and what lies beyond no neighbour."""


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
    return unit


def position_along(normal: Float64[np.ndarray, " axis"], corner: Sequence[float]) -> float:
    """Return where a slice lies along its normal, mm.

    Args:
        normal: Unit normal of the slice.
        corner: Image Position (Patient) (0020,0032), mm.

    Ordering by z alone is wrong for a tilted gantry only by scale, but wrong altogether for
    other orientations; the projection is right for all.
    """
    return float(np.dot(normal, np.array(corner, np.float64)))


def tilt_of(normal: Float64[np.ndarray, " axis"]) -> float:
    """Return the angle between a slice's normal and the patient's long axis, degrees.

    >>> tilt_of(np.array([0.0, 0.0, -1.0]))
    0.0
    """
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal[2]))))))


def order(positions_mm: Sequence[float | None]) -> list[int]:
    """Return the indices of slices along the normal; those without a position last, as given.

    >>> order([5.0, None, 0.0])
    [2, 0, 1]
    """
    return sorted(
        range(len(positions_mm)),
        key=lambda i: (positions_mm[i] is None, positions_mm[i] or 0.0),
    )


def spacing_mm(positions_mm: Sequence[float | None]) -> float | None:
    """Return the median step between the places of a series, None below two places.

    >>> spacing_mm([0.0, 5.0, 5.0, 10.0, 40.0])
    5.0
    """
    places = _places(positions_mm)
    return float(np.median(np.diff(places))) if len(places) > 1 else None


def neighbours(positions_mm: Sequence[float | None]) -> list[tuple[int | None, int | None]]:
    """Return the previous and the next slice of each, along the normal.

    Args:
        positions_mm: Of the slices of one series, ascending, None last (see `order`).

    Returns:
        Indices; None at an end, beyond a gap of more than `LARGEST_STEP` median steps, and for
        a slice without a position. Slices at the same place share their neighbours.

    >>> neighbours([0.0, 5.0, 10.0, 30.0])
    [(None, 1), (0, 2), (1, None), (None, None)]
    """
    places = _places(positions_mm)
    largest = LARGEST_STEP * (spacing_mm(positions_mm) or 0.0)
    first_at: dict[int, int] = {}
    place_of: list[int | None] = []
    for index, position in enumerate(positions_mm):
        place = None if position is None else _nearest(places, position)
        place_of.append(place)
        if place is not None:
            first_at.setdefault(place, index)

    def at(place: int, step: int) -> int | None:
        other = place + step
        if not 0 <= other < len(places) or abs(places[other] - places[place]) > largest:
            return None
        return first_at[other]

    return [(None, None) if place is None else (at(place, -1), at(place, 1)) for place in place_of]


def _places(positions_mm: Sequence[float | None]) -> list[float]:
    """Return the distinct positions, ascending."""
    places: list[float] = []
    for position in sorted(p for p in positions_mm if p is not None):
        if not places or position - places[-1] > SAME_PLACE_MM:
            places.append(position)
    return places


def _nearest(places: list[float], position: float) -> int:
    return int(np.searchsorted(places, position, side="right")) - 1
