"""When the voxels of two volumes are the same, and how one without some slices gets them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.errors import QualityError
from ich_ray.exam import Plane
from ich_ray.scored_volume import ScoredVolume, aligned, mismatch, on_grid_of

TILTED = [1.0, 0.0, 0.0, 0.0, 0.9483237, -0.3173047]


def grid(
    count: int = 5,
    *,
    rows: int = 4,
    spacing: tuple[float, float, float] = (5.0, 0.5, 0.4),
    start_mm: float = 0.0,
    shift_mm: float = 0.0,
) -> ScoredVolume:
    """Slices under a tilted gantry that moves along the table; values tell where they are."""
    step, *pixel = spacing
    planes = [
        Plane.of([shift_mm, -70.0, start_mm + step * number], TILTED, pixel)
        for number in range(count)
    ]
    values = np.random.default_rng(0).random((count, rows, 3)).astype(np.float32)
    return ScoredVolume(values=values, ignored=None, planes=tuple(planes), sparse=False)


def only(full: ScoredVolume, kept: list[int]) -> ScoredVolume:
    """What a segmentation holds that leaves slices out."""
    planes = tuple(full.planes[number] for number in kept)
    return replace(full, values=full.values[kept], planes=planes, sparse=True)


def test_a_step_between_slices_is_measured_along_their_normal() -> None:
    spacing = grid().spacing_mm
    assert spacing == pytest.approx((5.0 * 0.9483237, 0.5, 0.4))


def test_of_one_slice_or_where_some_may_be_missing_the_step_is_unknown() -> None:
    assert grid(1).spacing_mm is None
    assert only(grid(), [0, 3]).spacing_mm is None


def test_a_volume_lies_on_itself_and_within_a_quarter_of_a_pixel_of_itself() -> None:
    assert mismatch(grid(), grid()) is None
    assert mismatch(grid(), grid(shift_mm=0.09)) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (grid(6), "^5 x 4 x 3 voxels .* against 6 x 4 x 3; write both on the grid"),
        (grid(spacing=(4.0, 0.5, 0.4)), r"^a spacing of 4.74 x 0.50 x 0.40 mm .* 3.79 x 0.50"),
        (grid(spacing=(5.0, 0.5, 0.8)), r"^a spacing of .* against 4.74 x 0.50 x 0.80 mm"),
        (grid(shift_mm=0.11), "^5 of 5 slices lie elsewhere, .* number 1 .* are 0.11 mm apart"),
        (grid(start_mm=5.0), "^5 of 5 slices lie elsewhere, .* are 5.00 mm apart"),
    ],
)
def test_why_two_volumes_are_not_the_same_is_said_in_numbers(
    other: ScoredVolume, said: str
) -> None:
    with pytest.raises(QualityError, match=said):
        aligned(grid(), other)


def test_slices_in_the_middle_that_lie_elsewhere_are_counted() -> None:
    full = grid()
    moved = replace(full.planes[2], corner_mm=(0.0, -70.0, 11.0))
    other = replace(full, planes=(*full.planes[:2], moved, *full.planes[3:]))
    why = mismatch(full, other)
    assert why is not None
    assert why.startswith("1 of 5 slices lie elsewhere, the first of them number 3 from the feet")
    assert "1.00 mm apart" in why


@given(st.sets(st.integers(0, 4)).filter(bool))
def test_what_a_segmentation_leaves_out_is_zero(kept: set[int]) -> None:
    full, numbers = grid(), sorted(kept)
    found = on_grid_of(only(full, numbers), full)
    assert np.array_equal(found.values[numbers], full.values[numbers])
    assert not np.delete(found.values, numbers, axis=0).any()
    assert mismatch(found, full) is None


@settings(max_examples=50)
@given(st.sets(st.integers(0, 4)).filter(bool), st.sets(st.integers(0, 4)).filter(bool))
def test_two_that_leave_slices_out_meet_on_all_slices_of_either(a: set[int], b: set[int]) -> None:
    full = grid()
    both = sorted(a | b)
    left, right = aligned(only(full, sorted(a)), only(full, sorted(b)))
    assert left.planes == right.planes == tuple(full.planes[number] for number in both)
    for found, kept in ((left, a), (right, b)):
        expected = full.values[both] * np.isin(both, list(kept))[:, None, None]
        assert np.array_equal(found.values, expected)
        assert found.spacing_mm is None


def test_the_one_that_leaves_slices_out_is_brought_to_the_other_whichever_it_is() -> None:
    full, part = grid(), only(grid(), [1, 3])
    for left, right in (aligned(full, part), aligned(part, full)):
        assert mismatch(left, right) is None
        assert left.values.shape == full.values.shape


def test_what_is_ignored_goes_with_its_slice() -> None:
    full = grid()
    ignored = np.zeros(full.values.shape, np.bool_)
    ignored[3, 1, 2] = True
    part = replace(only(full, [3]), ignored=ignored[[3]])
    found = on_grid_of(part, full).ignored
    assert found is not None
    assert np.array_equal(found, ignored)


def test_a_mark_where_there_is_no_slice_is_refused_and_zeros_there_are_not() -> None:
    beyond = only(grid(6), [1, 5])
    with pytest.raises(QualityError, match="slice 2 of 2, counted from the feet, marks pixels"):
        on_grid_of(beyond, grid())
    empty = replace(beyond, values=beyond.values * np.float32([1, 0])[:, None, None])
    assert np.array_equal(on_grid_of(empty, grid()).values[1], grid(6).values[1])


def test_a_mark_between_the_pixels_of_a_grid_is_refused() -> None:
    with pytest.raises(QualityError, match="where the other volume has none"):
        on_grid_of(only(grid(shift_mm=0.2), [1]), grid())
    with pytest.raises(QualityError, match=r"6 x 3 pixels .* against 4 x 3"):
        on_grid_of(only(grid(rows=6), [1]), grid())
