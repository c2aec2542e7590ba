from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.averaging import FINEST_HU, averaged
from ich_ray.exam import Geometry, Slice

SPACING = (0.5, 0.5)


def a_slice(number: int, step: float = 0.625, **changes: object) -> Slice:
    item = Slice(
        exam="e",
        key=f"{number:03d}",
        patient="p",
        series="s",
        stored=np.full((2, 3), 1000 + number, np.int16),
        slope=1.0,
        intercept=-1024.0,
        geometry=Geometry(
            position_mm=step * number, spacing_mm=SPACING, thickness_mm=step, tilt_deg=0.0
        ),
    )
    return replace(item, **changes)


def hu(item: Slice) -> np.ndarray:
    return item.stored * item.slope + item.intercept


def test_eight_thin_slices_are_one_of_five_millimetres() -> None:
    found = averaged([a_slice(i) for i in range(16)], thickness_mm=5.0)
    assert [item.key for item in found] == ["000", "008"]
    assert [item.geometry.position_mm for item in found] == [3.5 * 0.625, 11.5 * 0.625]
    assert [item.geometry.thickness_mm for item in found] == [5.0, 5.0]
    assert [hu(item)[0, 0] for item in found] == [-24 + 3.5, -24 + 11.5]
    assert found[0].stored.dtype == np.int16


@given(
    st.lists(st.integers(-1024, 3071), min_size=2, max_size=12),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([-1024.0, 0.0, 0.3]),
)
def test_an_average_is_right_to_half_a_step(
    values: list[int], slope: float, intercept: float
) -> None:
    slices = [
        a_slice(i, stored=np.full((2, 3), v, np.int16), slope=slope, intercept=intercept)
        for i, v in enumerate(values)
    ]
    (item,) = averaged(slices, thickness_mm=0.625 * len(values))
    expected = np.mean([slope * v + intercept for v in values])
    assert item.slope >= FINEST_HU
    assert abs(hu(item) - expected).max() <= item.slope / 2 + 1e-3


def test_metal_is_kept_with_a_coarser_step() -> None:
    bright = [a_slice(i, stored=np.full((2, 3), 31_000, np.int16)) for i in range(8)]
    (item,) = averaged(bright, thickness_mm=5.0)
    assert item.slope == 1.0
    assert hu(item)[0, 0] == 31_000 - 1024


def test_the_order_in_which_slices_come_does_not_matter() -> None:
    slices = [a_slice(i) for i in range(20)]
    first = averaged(slices, thickness_mm=5.0)
    second = averaged(slices[::-1], thickness_mm=5.0)
    assert [item.key for item in first] == [item.key for item in second] == ["000", "008", "016"]
    assert all(np.array_equal(a.stored, b.stored) for a, b in zip(first, second, strict=True))


def test_an_average_never_spans_a_gap() -> None:
    slices = [a_slice(i) for i in range(40) if i not in (10, 11, 12)]
    found = averaged(slices, thickness_mm=5.0)
    assert [item.key for item in found] == ["000", "008", "013", "021", "029", "037"]
    # What is left over before the gap is thinner, and says so.
    assert [item.geometry.thickness_mm for item in found] == [5.0, 1.25, 5.0, 5.0, 5.0, 1.875]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "window"},
        {
            "geometry": Geometry(
                position_mm=None, spacing_mm=SPACING, thickness_mm=1.0, tilt_deg=0.0
            )
        },
    ],
)
def test_what_cannot_be_averaged_stays(changes: dict[str, object]) -> None:
    slices = [a_slice(i, **changes) for i in range(8)]
    assert len(averaged(slices, thickness_mm=5.0)) == 8


def test_thick_and_tilted_series_stay_as_they_are() -> None:
    thick = [a_slice(i, step=5.0) for i in range(8)]
    assert averaged(thick, thickness_mm=5.0) == thick
    tilted = [
        replace(item, geometry=replace(item.geometry, tilt_deg=18.5))
        for item in (a_slice(i) for i in range(8))
    ]
    assert averaged(tilted, thickness_mm=5.0) == tilted
    other_grid = [a_slice(0), a_slice(1, stored=np.zeros((4, 4), np.int16))]
    assert len(averaged(other_grid, thickness_mm=5.0)) == 2


def masked(*marks: int | None, label: bool | None = None) -> Slice:
    """The average of slices whose first pixel bears the marks."""
    slices = []
    for i, mark in enumerate(marks):
        mask = np.zeros((2, 3), np.uint8)
        mask[0, 0] = mark or 0
        slices.append(a_slice(i, mask=None if mark is None else mask, label=label))
    (item,) = averaged(slices, thickness_mm=0.625 * len(marks))
    return item


@pytest.mark.parametrize(
    ("marks", "code"),
    [((5, 5, 0, 0), 5), ((5, 0, 0, 0), 0), ((2, 5, 5, 0), 5), ((1, 1, 1, 1), 1)],
)
def test_a_mask_follows_the_majority(marks: tuple[int, ...], code: int) -> None:
    mask = masked(*marks).mask
    assert mask is not None
    assert (int(mask[0, 0]), int(mask.sum())) == (code, code)


def test_a_positive_average_is_never_left_without_a_mask() -> None:
    item = masked(5, 0, 0, 0, label=True)
    assert item.label is True
    assert item.mask is not None
    assert item.mask[0, 0] == 5


def test_what_one_slice_lacks_the_average_lacks() -> None:
    assert masked(5, None).mask is None
    labelled = [a_slice(0, label=True), a_slice(1, label=None)]
    assert averaged(labelled, thickness_mm=1.25)[0].label is None
    types = (False, True, False, False, True)
    both = [
        a_slice(i, label=bool(i), subtypes=types if i else (False,) * 5, exam_label=True)
        for i in range(2)
    ]
    (item,) = averaged(both, thickness_mm=1.25)
    assert (item.label, item.subtypes, item.exam_label) == (True, types, True)
