"""Thin slices averaged to thick ones, in HU and in the order of their positions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from math import radians, tan

import numpy as np
from jaxtyping import Float32, Int16, UInt8

from ich_ray import volume
from ich_ray.exam import Slice

FINEST_HU = 0.125
"""Precision of averaged HU, where they span less than 8,192 HU; a power of two coarser if not."""

LARGEST_SHEAR = 0.5
"""Pixels by which the slices of one average may be displaced against each other."""


def averaged(slices: Sequence[Slice], *, thickness_mm: float) -> list[Slice]:
    """Average runs of thin slices of each series to about a thickness.

    The slices of a series are averaged in groups of round(thickness / spacing), in the order of
    their positions, from the first on; a group ends at a gap, and where rows, columns or pixel
    spacing change. The last group of a run may be smaller. What is as thick already, has no
    position, is a window and not HU, or lies under a tilted gantry (whose slices are displaced
    against each other by more than half a pixel in a group) stays as it is.

    Args:
        slices: Of one exam, any order.
        thickness_mm: Of the averages.

    Returns:
        Slices whose key, patient and exam are those of the first of their group, whose position is
        the mean of the positions, whose thickness is what they cover together, and whose pixels
        are int16 with a slope of at least `FINEST_HU`: the error is at most half of it. A pixel of
        a mask is the type that most members have there, where at least half of them have one.
        Labels and types hold if any member's does; if no pixel has a majority then, every pixel of
        any member is taken, so that label and mask do not contradict. What one member lacks, the
        average lacks.
    """
    result: list[Slice] = []
    for _, members in groupby(sorted(slices, key=_by_series), key=lambda item: item.series):
        series = list(members)
        for run in _runs(series):
            size = _group_size(run, thickness_mm)
            result += (_average(run[i : i + size]) for i in range(0, len(run), size))
    return result


def _by_series(item: Slice) -> tuple[str, bool, float, str]:
    position = item.geometry.position_mm
    return item.series, position is None, position or 0.0, item.key


def _runs(series: Sequence[Slice]) -> Iterator[list[Slice]]:
    """Divide a series, in order, at its gaps and where its grid changes."""
    before_gap = {gap.after_mm for gap in volume.gaps(s.geometry.position_mm for s in series)}
    run = [series[0]]
    for before, after in pairwise(series):
        same = _grid(before) == _grid(after) and after.geometry.position_mm is not None
        if not same or before.geometry.position_mm in before_gap:
            yield run
            run = []
        run.append(after)
    yield run


def _grid(item: Slice) -> object:
    return item.stored.shape, item.geometry.spacing_mm, item.kind


def _group_size(run: Sequence[Slice], thickness_mm: float) -> int:
    step = volume.spacing_mm(item.geometry.position_mm for item in run)
    if step is None or run[0].kind != "hu":
        return 1
    size = max(1, round(thickness_mm / step))
    if _shear_pixels(run[0], (size - 1) * step) > LARGEST_SHEAR:
        return 1
    return size


def _shear_pixels(item: Slice, extent_mm: float) -> float:
    tilt, spacing = item.geometry.tilt_deg, item.geometry.spacing_mm
    if not tilt or spacing is None:
        return 0.0
    return extent_mm * tan(radians(tilt)) / spacing[0]


def _average(group: Sequence[Slice]) -> Slice:
    first = group[0]
    if len(group) == 1:
        return first
    positions = [item.geometry.position_mm for item in group]
    known = [position for position in positions if position is not None]
    assert len(known) == len(group)
    step = volume.spacing_mm(known) or 0.0
    total = np.zeros(first.stored.shape, np.float64)
    for item in group:
        total += item.stored * item.slope + item.intercept
    stored, slope = _quantised((total / len(group)).astype(np.float32))
    labels = [item.label for item in group]
    types = [item.subtypes for item in group if item.subtypes is not None]
    label = None if None in labels else any(labels)
    subtypes = None
    if len(types) == len(group):
        one, two, three, four, five = (any(column) for column in zip(*types, strict=True))
        subtypes = (one, two, three, four, five)
    return replace(
        first,
        stored=stored,
        slope=slope,
        intercept=0.0,
        geometry=replace(
            first.geometry,
            position_mm=float(np.mean(known)),
            thickness_mm=known[-1] - known[0] + step,
        ),
        label=label,
        subtypes=subtypes,
        mask=_mask(group, positive=bool(label)),
    )


def _quantised(
    hu: Float32[np.ndarray, "rows columns"],
) -> tuple[Int16[np.ndarray, "rows columns"], float]:
    slope, most = FINEST_HU, float(np.abs(hu).max(initial=0.0))
    while most / slope > np.iinfo(np.int16).max:
        slope *= 2
    return np.rint(hu / slope).astype(np.int16), slope


def _mask(group: Sequence[Slice], *, positive: bool) -> UInt8[np.ndarray, "rows columns"] | None:
    masks = [item.mask for item in group if item.mask is not None]
    if len(masks) < len(group):
        return None
    stack = np.stack(masks)
    codes = sorted(set(Counter(stack.ravel().tolist())) - {0})
    if not codes:
        return np.zeros(stack.shape[1:], np.uint8)
    counts = np.stack([(stack == code).sum(axis=0) for code in codes])
    most = np.array(codes, np.uint8)[counts.argmax(axis=0)]
    marked = counts.sum(axis=0)
    majority = np.where(2 * marked >= len(group), most, np.uint8(0))
    if positive and not majority.any():
        return np.where(marked > 0, most, np.uint8(0))
    return majority
