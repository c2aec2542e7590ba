"""Two readings of a slice beside each other: what one of them ignores is counted for neither."""

import numpy as np

from ich_ray.distributed.segmentations import counted_readings
from ich_ray.exam import IGNORED, Geometry, Slice
from ich_ray.statistics.masks.reading_agreement import read_exam


def read(*mask: int) -> Slice:
    pixels = np.array([mask], np.uint8)
    return Slice(
        exam="e",
        key="s",
        patient="p",
        series="r",
        stored=np.zeros(pixels.shape, np.int16),
        slope=1.0,
        intercept=0.0,
        geometry=Geometry(position_mm=0.0, spacing_mm=(1.0, 1.0), thickness_mm=5.0, tilt_deg=0.0),
        mask=pixels,
    )


def test_what_either_reading_ignores_is_counted_for_neither() -> None:
    first, second = read(1, 1, 0, IGNORED, 0, 2), read(1, IGNORED, IGNORED, 1, 5, 0)
    found = read_exam("e", "p", counted_readings([first], [second]))
    assert (found.tp, found.fp, found.fn) == (1, 1, 1)


def test_a_type_of_bleed_is_a_bleed() -> None:
    found = read_exam("e", "p", counted_readings([read(1, 2, 0)], [read(5, 0, 3)]))
    assert (found.tp, found.fp, found.fn) == (1, 1, 1)
