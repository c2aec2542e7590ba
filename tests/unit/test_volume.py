import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray import volume
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Plane

steps = st.lists(st.floats(0.5, 10.0), min_size=1, max_size=30)


def test_a_tilted_gantry_is_ordered_and_spaced_along_its_normal() -> None:
    tilt = np.radians(20.0)
    normal = volume.normal_of([1.0, 0.0, 0.0, 0.0, np.cos(tilt), -np.sin(tilt)])
    places = [volume.position_along(normal, [0.0, 0.0, z]) for z in (10.0, 0.0, 5.0)]
    assert volume.tilt_of(normal) == pytest.approx(20.0)
    assert volume.order(places) == [1, 2, 0]
    assert volume.spacing_mm(places) == pytest.approx(5.0 * np.cos(tilt))


@pytest.mark.parametrize("orientation", [[0.0] * 6, [np.nan] * 6, [1.0, 0, 0, 1.0, 0, 0]])
def test_an_orientation_that_is_no_plane_is_refused(orientation: list[float]) -> None:
    with pytest.raises(InvalidExam, match="0020,0037") as caught:
        volume.normal_of([float(value) for value in orientation])
    assert caught.value.reason == Reason.BAD_HEADER


@given(
    st.floats(0.2, 2.0),
    st.tuples(*[st.floats(-300.0, 300.0)] * 3),
    st.floats(-0.5, 0.5),
    st.floats(0.0, 1.0),
    st.sampled_from([(0, 0), (511, 0), (0, 511), (511, 511), (200, 100)]),
)
def test_pixels_are_the_same_within_a_quarter_of_one(
    pixel: float,
    corner: tuple[float, float, float],
    tilt: float,
    off: float,
    turned_about: tuple[int, int],
) -> None:
    cos, sin = np.cos(tilt), np.sin(tilt)
    axes = [1.0, 0.0, 0.0, 0.0, float(cos), -float(sin)]
    here = Plane.of(corner, axes, [pixel, pixel])
    assert volume.same_pixels(here, here, (512, 512))
    # Off across the plane, within it, and by a turn about any pixel, which moves the far ones more.
    across = np.array(corner) + off * pixel * np.array([0.0, sin, cos])
    for other in (
        Plane.of(across.tolist(), axes, [pixel, pixel]),
        Plane.of([corner[0] + off * pixel, *corner[1:]], axes, [pixel, pixel]),
    ):
        if abs(off - 0.25) > 1e-6:
            assert volume.same_pixels(here, other, (512, 512)) == (off < 0.25)
    angle = np.radians(0.5)
    column, row = turned_about
    steps = np.array([here.column_step_mm, here.row_step_mm])
    a, b = steps / pixel
    turned = np.array(
        [a * np.cos(angle) + b * np.sin(angle), b * np.cos(angle) - a * np.sin(angle)]
    )
    start = np.array(corner) + (column, row) @ steps - (column, row) @ (turned * pixel)
    other = Plane.of(start.tolist(), turned.ravel().tolist(), [pixel, pixel])
    assert not volume.same_pixels(here, other, (512, 512))


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e308])
def test_what_lies_nowhere_has_no_pixel_in_common(odd: float) -> None:
    axes = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    here = Plane.of([0.0, 0.0, 0.0], axes, [0.5, 0.5])
    for other in (Plane.of([odd] * 3, axes, [0.5, 0.5]), Plane.of([0.0] * 3, axes, [odd, odd])):
        assert not volume.same_pixels(here, other, (512, 512))


@given(st.integers(1, 40), st.floats(0.1, 10.0))
def test_in_a_complete_series_every_slice_has_its_neighbours(count: int, step: float) -> None:
    near = volume.neighbours([step * i for i in range(count)])
    assert near == [(i - 1 if i else None, i + 1 if i < count - 1 else None) for i in range(count)]


@given(steps)
def test_neighbours_are_mutual(gaps: list[float]) -> None:
    places = np.cumsum([0.0, *gaps]).tolist()
    near = volume.neighbours(places)
    for index, (_, following) in enumerate(near):
        if following is not None:
            assert near[following][0] == index


def test_beyond_a_gap_there_is_no_neighbour() -> None:
    assert volume.neighbours([0.0, 5.0, 10.0, 20.0, 25.0])[2:4] == [(1, None), (None, 4)]


def test_slices_at_one_place_share_their_neighbours() -> None:
    assert volume.neighbours([0.0, 5.0, 5.0, 10.0]) == [(None, 1), (0, 3), (0, 3), (1, None)]


def test_without_positions_nothing_is_known() -> None:
    assert volume.order([None, None]) == [0, 1]
    assert volume.neighbours([None, None]) == [(None, None), (None, None)]
    assert volume.spacing_mm([None, 3.0]) is None


def test_a_change_of_spacing_is_no_gap() -> None:
    # As in a real head scan: 4 mm through the skull base, a short step, then 7 mm.
    steps = [4.0] * 13 + [1.08] + [7.0] * 13
    places = np.cumsum([0.0, *steps]).tolist()
    assert volume.gaps(places) == []
    near = volume.neighbours(places)
    assert near == [(i - 1 if i else None, i + 1 if i < 27 else None) for i in range(28)]


@given(st.integers(4, 30), st.data(), st.floats(0.3, 10.0))
def test_a_slice_that_is_taken_out_is_missed_where_it_was(
    count: int, data: st.DataObject, step: float
) -> None:
    taken = data.draw(st.integers(1, count - 2))
    places = [step * i for i in range(count) if i != taken]
    (gap,) = volume.gaps(places)
    assert gap == volume.Gap(step * (taken - 1), step * (taken + 1), 1)


@given(steps)
def test_neighbours_and_gaps_tell_the_same(lengths: list[float]) -> None:
    places = np.cumsum([0.0, *lengths]).tolist()
    apart = {
        places[i] for i, (_, following) in enumerate(volume.neighbours(places)) if following is None
    }
    assert apart == {gap.after_mm for gap in volume.gaps(places)} | {places[-1]}


def gaps_as_defined(places: list[float]) -> list[tuple[float, float]]:
    """The sentence of `gaps`, word for word, for each step of a series."""
    steps = np.diff(places)
    found = []
    for i, step in enumerate(steps):
        before, after = steps[max(0, i - volume.STEPS_AROUND) : i], steps[i + 1 :]
        sides = [side for side in (before, after[: volume.STEPS_AROUND]) if len(side)]
        if all(step > volume.LARGEST_STEP * np.median(side) for side in sides) and sides:
            found.append((places[i], places[i + 1]))
    return found


@given(st.one_of(steps, st.lists(st.sampled_from([1.0, 2.0, 2.5, 5.0]), max_size=30)))
def test_gaps_are_those_of_their_definition(between: list[float]) -> None:
    places = np.cumsum([0.0, *between]).tolist()
    found = [(gap.after_mm, gap.before_mm) for gap in volume.gaps(places)]
    assert found == gaps_as_defined(places)


@given(steps)
def test_a_place_of_a_series_is_found_by_its_position(between: list[float]) -> None:
    at = volume.places(np.cumsum([0.0, *between]).tolist())
    assert [volume.place_of(at, position) for position in at] == list(range(len(at)))
