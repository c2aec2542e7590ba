import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_ray.errors import ConfigError
from ich_ray.storage.slice_codec import MASK_CODEC, checksum, decode, encode, encode_mask

shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
slices = st.sampled_from([np.int16, np.uint16, np.uint8]).flatmap(
    lambda dtype: arrays.arrays(dtype, shapes)
)


@given(slices)
def test_what_is_encoded_is_decoded(stored: np.ndarray) -> None:
    codec, data = encode(stored)
    back = decode(codec, data, *stored.shape)
    assert back.dtype == stored.dtype
    assert np.array_equal(back, stored)


@given(slices)
def test_any_layout_in_memory_encodes_the_same(stored: np.ndarray) -> None:
    assert encode(np.asfortranarray(stored)) == encode(stored)
    assert encode(stored.astype(stored.dtype.newbyteorder(">"))) == encode(stored)


@given(arrays.arrays(np.uint8, shapes))
def test_masks_are_kept_as_they_are(mask: np.ndarray) -> None:
    assert np.array_equal(decode(MASK_CODEC, encode_mask(mask), *mask.shape), mask)


def test_codecs_are_named_and_versioned() -> None:
    named = [encode(np.zeros((1, 1), dtype))[0] for dtype in (np.int16, np.uint16, np.uint8)]
    assert named == ["gradient-i16-2", "gradient-u16-2", "gradient-u8-2"]


def test_a_later_codec_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="gradient-i16-9"):
        decode("gradient-i16-9", b"", 1, 1)


def test_bytes_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes are no gradient-i16-2 slice of 1 x 1"):
        decode("gradient-i16-2", b"abc", 1, 1)


def test_values_of_more_bits_are_refused() -> None:
    with pytest.raises(TypeError, match="int32"):
        encode(np.zeros((2, 2), np.int32))


def test_the_checksum_is_the_crc_of_the_standard() -> None:
    assert checksum(b"123456789") == 0xCBF43926
