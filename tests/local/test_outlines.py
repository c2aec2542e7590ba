from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from ich_ray.exam import HEMORRHAGE_TYPES, IGNORED
from ich_ray.reporting.outlines import COLOURS, UNNAMED, edge_path, outlines
from tests.local.svg_paths import corners, filled

regions = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(regions)
def test_a_filled_path_is_the_region_by_either_rule(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(filled(edge_path(mask), mask.shape), mask)
    np.testing.assert_array_equal(filled(edge_path(mask), mask.shape, winding=True), mask)


@given(regions)
def test_a_loop_turns_at_every_corner_and_a_region_has_one_outer_loop(mask: np.ndarray) -> None:
    loops = corners(edge_path(mask))
    for loop in loops:
        ways = [(a[0] == b[0]) for a, b in pairwise(loop)]
        assert all(one != other for one, other in pairwise([*ways, ways[0]]))
    outer = [sum(x * v - u * y for (x, y), (u, v) in pairwise(loop)) > 0 for loop in loops]
    assert sum(outer) == ndimage.label(mask)[1]
    holes = ndimage.label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))[1] - 1
    assert len(outer) - sum(outer) == holes


def test_each_value_of_a_mask_has_an_outline_of_its_type() -> None:
    mask = np.array([[1, 5, 5, IGNORED]], np.uint8)
    found = outlines(mask, None)
    assert [(o.name, o.pixels) for o in found] == [(UNNAMED, 1), ("subdural", 2), ("ignored", 1)]
    epidural = outlines(mask, (True, False, False, False, True))
    assert epidural[0].name == "epidural"
    assert outlines(None, None) == []
    assert outlines(np.zeros((2, 2), np.uint8), None) == []


@given(st.sampled_from([1, 2, 3, 4, 5, IGNORED]))
def test_every_outline_has_a_colour_of_its_own(value: int) -> None:
    (outline,) = outlines(np.full((1, 1), value, np.uint8), None)
    assert outline.name in COLOURS
    assert set(HEMORRHAGE_TYPES) < set(COLOURS)
    assert len(set(COLOURS.values())) == len(COLOURS)
