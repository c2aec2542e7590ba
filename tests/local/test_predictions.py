"""Maps and masks pass through a table bit by bit, and say of which kind they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_ray.errors import ConfigError
from ich_ray.exam import IGNORED
from ich_ray.storage.predictions import (
    MAP_KIND,
    decode_map,
    decode_mask,
    encode_map,
    encode_mask,
)

few = settings(max_examples=30)

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def row(logits: np.ndarray, **changed: object) -> dict[str, object]:
    rows, columns = logits.shape
    content = {"map": encode_map(logits), "map_kind": MAP_KIND}
    return {**content, "map_rows": rows, "map_columns": columns, **changed}


@few
@given(arrays.arrays(np.float16, shapes))
def test_a_map_comes_back_bit_by_bit(logits: np.ndarray) -> None:
    found = decode_map(row(logits))
    assert found.dtype == np.float16
    assert found.tobytes() == logits.tobytes()
    assert found.shape == logits.shape


def test_a_turned_map_is_stored_row_by_row() -> None:
    logits = np.arange(6, dtype=np.float16).reshape(2, 3).T
    np.testing.assert_array_equal(decode_map(row(logits)), logits)


def test_a_map_of_another_kind_is_refused() -> None:
    unknown = row(np.zeros((2, 2), np.float16), map_kind="logits-f8")
    with pytest.raises(ConfigError, match="maps of kind 'logits-f8', known is logits-f16-stride8"):
        decode_map(unknown)


@few
@given(
    st.integers(1, 9).flatmap(
        lambda side: arrays.arrays(
            np.uint8, (side, side), elements=st.sampled_from([0, 1, IGNORED])
        )
    )
)
def test_a_mask_comes_back_as_it_was(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), side=len(mask)), mask)
