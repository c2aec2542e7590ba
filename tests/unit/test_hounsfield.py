import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_ray.errors import InvalidExam, Reason
from ich_ray.hounsfield import (
    AIR_HU,
    narrowed,
    needs_12_bit_repair,
    padded_pixels,
    repair_12_bit,
    to_hounsfield,
    with_air,
)


def test_padding_becomes_air_and_the_input_is_untouched() -> None:
    stored = np.array([-2000, 0], np.int16)
    assert to_hounsfield(stored, slope=2.0, intercept=5.0, padding=-2000).tolist() == [AIR_HU, 5.0]
    assert stored.tolist() == [-2000, 0]


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_a_rescale_that_erases_the_image_is_refused(slope: float, intercept: float) -> None:
    with pytest.raises(InvalidExam, match="Rescale Slope") as caught:
        to_hounsfield(np.zeros(1, np.int16), slope=slope, intercept=intercept)
    assert caught.value.reason == Reason.BAD_HEADER


@given(st.integers(-1000, 3095))
def test_the_12_bit_repair_undoes_the_exporter(hu: int) -> None:
    exported = np.array([(hu + 1000 - 1000) % 4096], np.uint16)
    stored, intercept = repair_12_bit(exported)
    assert to_hounsfield(stored, slope=1.0, intercept=intercept).tolist() == [hu]


def test_sound_files_are_not_repaired() -> None:
    assert not needs_12_bit_repair(bits_stored=12, signed=False, intercept=-1024.0)
    assert not needs_12_bit_repair(bits_stored=12, signed=True, intercept=0.0)
    assert not needs_12_bit_repair(bits_stored=16, signed=False, intercept=0.0)


def test_padding_may_be_a_range_and_may_be_written_unsigned() -> None:
    stored = np.array([-2000, -1999, -1500, 0], np.int16)
    assert padded_pixels(stored, padding=63536, limit=64036).tolist() == [True, True, True, False]
    assert padded_pixels(stored, padding=0).tolist() == [False, False, False, True]


def test_a_padding_range_may_end_at_zero() -> None:
    stored = np.array([-5, -1, 0, 1], np.int16)
    assert padded_pixels(stored, padding=-5, limit=0).tolist() == [True, True, True, False]


def test_stored_padding_reads_as_air() -> None:
    stored = np.array([0, 2000], np.uint16)
    repaired = with_air(stored, stored == 0, slope=1.0, intercept=0.0)
    assert to_hounsfield(repaired, slope=1.0, intercept=0.0).tolist() == [AIR_HU, 2000.0]


@given(arrays.arrays(np.int64, 4, elements=st.integers(-(2**15), 2**16)))
def test_narrowing_keeps_every_value_or_refuses(stored: np.ndarray) -> None:
    try:
        assert narrowed(stored).tolist() == stored.tolist()
    except InvalidExam:
        assert stored.max() > 65535 or (stored.min() < 0 and stored.max() > 32767)
