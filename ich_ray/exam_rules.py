"""The rules that find what is odd about one exam, in the facts of its slices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from ich_ray import volume
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.findings import (
    FIELD_OF_VIEW_MM,
    MATRIX,
    NO_AIR_HU,
    NO_BONE_HU,
    NOT_AXIAL_DEG,
    PADDING_HU,
    SCALE_HU,
    STEP_MM,
    TILTED_DEG,
    Finding,
    Oddity,
)
from ich_ray.slice_facts import SliceFacts
from ich_ray.volume import LARGEST_STEP, SAME_PLACE_MM

EXAMPLES = 3
"""Slices that a finding names."""


def of_exam(corpus: str, exam: Sequence[SliceFacts]) -> list[Finding]:
    """Return what is odd about one exam.

    Args:
        corpus: Name of the corpus.
        exam: All slices of it, at least one.
    """
    found = [
        _finding(corpus, odd, oddity)
        for oddity, holds in _OF_SLICE.items()
        if (odd := [item for item in exam if holds(item)])
    ]
    found += _of_range(corpus, exam)
    by_series = sorted(exam, key=lambda item: item.series)
    for _, members in groupby(by_series, key=lambda item: item.series):
        found += _of_series(corpus, list(members))
    return found


def _finding(corpus: str, odd: Sequence[SliceFacts], oddity: Oddity, detail: str = "") -> Finding:
    slices = tuple(item.slice for item in odd[:EXAMPLES])
    return Finding(
        oddity=oddity,
        corpus=corpus,
        exam=odd[0].exam,
        count=len(odd),
        slices=slices,
        detail=detail,
    )


def _denied(item: SliceFacts) -> bool:
    # Value 1 is epidural or a bleed without a type, so it denies and asserts nothing.
    if not item.marked or item.subtypes is None or item.label is False:
        return False
    return any(not item.subtypes[value - 1] for value in item.marked if 1 < value <= 5)


def _unmarked(item: SliceFacts) -> bool:
    if not item.marked or item.subtypes is None or 1 in item.marked:
        return False
    named = [code for code in range(1, len(HEMORRHAGE_TYPES) + 1) if item.subtypes[code - 1]]
    return any(code not in item.marked for code in named)


def _any_differs(item: SliceFacts) -> bool:
    known = item.label is not None and item.subtypes is not None
    return known and item.label != any(item.subtypes or ())


def _field_of_view_is_odd(item: SliceFacts) -> bool:
    spacing = item.geometry.spacing_mm
    low, high = FIELD_OF_VIEW_MM
    return spacing is not None and not (
        low <= max(item.rows * spacing[0], item.columns * spacing[1]) <= high
    )


def _is_oblong(item: SliceFacts) -> bool:
    spacing = item.geometry.spacing_mm
    return spacing is not None and abs(spacing[0] / spacing[1] - 1) > 0.01


_OF_SLICE: Mapping[Oddity, Callable[[SliceFacts], bool]] = {
    Oddity.NEGATIVE_BUT_MARKED: lambda item: item.label is False and bool(item.marked),
    Oddity.POSITIVE_BUT_UNMARKED: lambda item: item.label is True and item.marked == (),
    Oddity.ANY_CONTRADICTS_SUBTYPES: _any_differs,
    Oddity.MASK_CONTRADICTS_SUBTYPES: _denied,
    Oddity.SUBTYPE_UNMARKED: _unmarked,
    Oddity.BLANK: lambda item: item.blank,
    Oddity.NO_POSITION: lambda item: item.geometry.position_mm is None,
    Oddity.NOT_AXIAL: lambda item: (item.geometry.tilt_deg or 0) > NOT_AXIAL_DEG,
    Oddity.NO_SPACING: lambda item: item.geometry.spacing_mm is None,
    Oddity.OBLONG_PIXELS: _is_oblong,
    Oddity.ODD_FIELD_OF_VIEW: _field_of_view_is_odd,
    Oddity.OTHER_MATRIX: lambda item: (item.rows, item.columns) != (MATRIX, MATRIX),
}


def _of_range(corpus: str, exam: Sequence[SliceFacts]) -> Iterator[Finding]:
    """Judge HU, of slices that hold them: a window cuts both ends off."""
    items = [item for item in exam if item.kind == "hu" and not item.blank]
    if not items:
        return
    low, high = min(item.low_hu for item in items), max(item.high_hu for item in items)
    below = [item for item in items if item.low_hu < PADDING_HU]
    padded = [item for item in items if PADDING_HU <= item.low_hu < SCALE_HU[0]]
    beyond = [item for item in items if item.high_hu > SCALE_HU[1]]
    if below:
        yield _finding(corpus, below, Oddity.BELOW_AIR, f"down to {low:g} HU")
    if padded:
        least = min(item.low_hu for item in padded)
        yield _finding(corpus, padded, Oddity.PADDED, f"down to {least:g} HU")
    if beyond:
        yield _finding(corpus, beyond, Oddity.BEYOND_SCALE, f"up to {high:g} HU")
    if high < NO_BONE_HU:
        yield _finding(corpus, items, Oddity.NO_BONE, f"at most {high:g} HU")
    if low > NO_AIR_HU:
        yield _finding(corpus, items, Oddity.NO_AIR, f"at least {low:g} HU")


def _of_series(corpus: str, series: Sequence[SliceFacts]) -> Iterator[Finding]:
    if len(series) == 1:
        yield _finding(corpus, series, Oddity.SINGLE_SLICE)
    grids = {(i.rows, i.columns, _rounded(i.geometry.spacing_mm, 3)) for i in series}
    if len(grids) > 1:
        yield _finding(corpus, series, Oddity.MIXED_GRID, f"{len(grids)} grids")
    thicknesses = {i.geometry.thickness_mm for i in series if i.geometry.thickness_mm is not None}
    if len({round(value, 2) for value in thicknesses}) > 1:
        said = f"{min(thicknesses):g} to {max(thicknesses):g} mm"
        yield _finding(corpus, series, Oddity.MIXED_THICKNESS, said)
    tilt = max((item.geometry.tilt_deg or 0 for item in series), default=0)
    if TILTED_DEG < tilt <= NOT_AXIAL_DEG:
        yield _finding(corpus, series, Oddity.TILTED, f"{tilt:.1f} degrees")
    yield from _of_steps(corpus, series)


def _of_steps(corpus: str, series: Sequence[SliceFacts]) -> Iterator[Finding]:
    """Judge the steps from each slice of a series to the next along the normal."""
    placed = [item for item in series if item.geometry.position_mm is not None]
    placed.sort(key=lambda item: item.geometry.position_mm or 0.0)
    steps = np.diff([item.geometry.position_mm or 0.0 for item in placed])
    same = [placed[i + 1] for i in np.flatnonzero(steps <= SAME_PLACE_MM)]
    if same:
        yield _finding(corpus, same, Oddity.SAME_PLACE)
    apart = steps[steps > SAME_PLACE_MM]
    if not len(apart):
        return
    usual = float(np.median(apart))
    gaps = volume.gaps([item.geometry.position_mm for item in placed])
    if gaps:
        ends = {gap.before_mm for gap in gaps}
        said = f"about {sum(gap.missing for gap in gaps)} missing, usual step {usual:.4g} mm"
        after = [item for item in placed if item.geometry.position_mm in ends]
        yield _finding(corpus, after, Oddity.GAP, said)
    if apart.min() < usual / LARGEST_STEP:
        said = f"{apart.min():.4g} to {apart.max():.4g} mm, usually {usual:.4g} mm"
        yield _finding(corpus, placed, Oddity.UNEVEN_STEPS, said)
    if not STEP_MM[0] <= usual <= STEP_MM[1]:
        yield _finding(corpus, placed, Oddity.ODD_STEP, f"usually {usual:.4g} mm")


def _rounded(values: tuple[float, float] | None, digits: int) -> tuple[float, float] | None:
    return None if values is None else (round(values[0], digits), round(values[1], digits))
