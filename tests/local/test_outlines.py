import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_ray.exam import HEMORRHAGE_TYPES, IGNORED
from ich_ray.reporting.outlines import COLOURS, UNNAMED, edge_path, outlines

regions = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))


def filled(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Fill a path as a renderer does: inside is what has crossed an odd number of edges."""
    crossed = np.zeros(shape, int)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        crossed[int(y) : int(y) + int(length), int(x) :] += 1
    return crossed % 2 == 1


@given(regions)
def test_the_vertical_edges_enclose_the_region(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(filled(edge_path(mask), mask.shape), mask)


@given(regions)
def test_turning_the_region_turns_its_edges(mask: np.ndarray) -> None:
    turned = re.sub(
        r"M(\d+) (\d+)([hv])(\d+)",
        lambda run: f"M{run[2]} {run[1]}{'v' if run[3] == 'h' else 'h'}{run[4]}",
        edge_path(mask),
    )
    split = lambda path: sorted(re.findall(r"M[^M]+", path))  # noqa: E731
    assert split(turned) == split(edge_path(mask.T))


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
