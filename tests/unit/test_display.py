"""One byte a pixel shows every window of a head CT: exactly where brain and blood lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.display import (
    BONE,
    BRAIN,
    SCALE_HU,
    SCALE_LEVELS,
    STROKE,
    SUBDURAL,
    Window,
    grey_levels,
    greys_of_levels,
    to_levels,
    windows_within,
)


def shown(hounsfield: np.ndarray, window: Window) -> np.ndarray:
    return np.array(greys_of_levels(window))[to_levels(hounsfield)]


def test_whole_hounsfield_units_of_brain_and_blood_are_shown_exactly() -> None:
    whole = np.arange(-20, 101, dtype=np.float32)[None]
    assert len(set(to_levels(whole)[0].tolist())) == whole.size
    for window in (BRAIN, STROKE, SUBDURAL):
        np.testing.assert_array_equal(shown(whole, window), grey_levels(whole, window))


@given(st.floats(-1000, 1730, width=32))
def test_elsewhere_a_grey_level_is_off_by_half_a_step_of_the_scale(value: float) -> None:
    hounsfield = np.array([[value]], np.float32)
    steps = np.diff(SCALE_HU) / np.diff(SCALE_LEVELS)
    place = np.clip(np.searchsorted(SCALE_HU, value, side="right") - 1, 0, len(steps) - 1)
    for window in (BRAIN, STROKE, SUBDURAL, BONE):
        # A window's grey levels are whole too, so that half of one may be added.
        most = steps[place] / 2 * 255 / window.width + 1
        away = shown(hounsfield, window).astype(int) - grey_levels(hounsfield, window)
        assert abs(away[0, 0]) <= most


def test_a_window_that_was_published_shows_only_what_lies_within() -> None:
    every = (BRAIN, SUBDURAL, STROKE, BONE)
    assert windows_within(None, None, of=every) == every
    assert [w.name for w in windows_within(40.0, 120.0, of=every)] == [
        *("as published", "brain", "stroke"),
    ]
