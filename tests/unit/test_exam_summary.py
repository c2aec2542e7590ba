import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.exam_summary import MarkedSlice, extents_mm, summary_of, voxel_mm3


def marked(number: int, *, p: float, pixels: int) -> MarkedSlice:
    return MarkedSlice(slice=f"s{number}", number=number, p=p, pixels=pixels)


def test_a_ball_has_the_volume_of_a_ball() -> None:
    radius, step, spacing = 20.0, 1.0, (0.5, 0.4)
    positions = np.arange(-25, 26) * step
    y, x = np.mgrid[-25:25:0.5, -25:25:0.4]
    slices = [
        marked(i, p=0.5, pixels=int((x**2 + y**2 + z**2 <= radius**2).sum()))
        for i, z in enumerate(positions, 1)
    ]
    extents = extents_mm(positions.tolist(), [step] * len(slices))
    voxels = [voxel_mm3(spacing, extent) for extent in extents]
    found = summary_of("e", slices, voxels, score_slices=1, top_slices=1)
    assert found.volume_ml == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=0.005)


def test_overlapping_slices_are_not_counted_twice() -> None:
    assert extents_mm([0.0, 1.0, 2.0, 3.0], [2.0] * 4) == [1.0] * 4


def test_beside_a_gap_a_slice_is_as_long_as_on_its_other_side() -> None:
    assert extents_mm([0.0, 5.0, 10.0, 40.0, 45.0], [5.0] * 5) == [5.0] * 5


def test_where_thin_slices_change_to_thick_ones_the_way_is_shared() -> None:
    # Thin through the base, thick above it: 1, 1, then 7.
    assert extents_mm([0.0, 1.0, 2.0, 9.0, 16.0, 23.0], [1.0] * 3 + [7.0] * 3) == [
        *(1.0, 1.0, 4.0),
        *(7.0, 7.0, 7.0),
    ]


@given(st.lists(st.floats(0.5, 5.0), min_size=1, max_size=20), st.floats(-100, 100))
def test_extents_do_not_depend_on_where_the_patient_lies(steps: list[float], shift: float) -> None:
    here = [0.0, *np.cumsum(steps).tolist()]
    there = [position + shift for position in here]
    thick = [1.0] * len(here)
    assert extents_mm(here, thick) == pytest.approx(extents_mm(there, thick), abs=1e-6)


def test_a_volume_is_not_guessed() -> None:
    slices = [marked(1, p=0.9, pixels=10), marked(2, p=0.1, pixels=0)]
    known = summary_of("e", slices, [1.0, None], score_slices=1, top_slices=3)
    assert known.volume_ml == 0.01
    silent = summary_of("e", slices, [None, 1.0], score_slices=1, top_slices=3)
    assert silent.volume_ml is None
    assert voxel_mm3(None, 5.0) is None


def test_the_highest_slices_are_named_and_scored() -> None:
    slices = [marked(i, p=p, pixels=0) for i, p in enumerate((0.25, 1.0, 0.5, 1.0), 1)]
    found = summary_of("e", slices, [1.0] * 4, score_slices=3, top_slices=3)
    assert [item.number for item in found.top_slices] == [2, 4, 3]
    assert found.score == pytest.approx(2.5 / 3)
    assert (found.volume_ml, found.positive_slices, found.slices) == (0.0, 0, 4)
