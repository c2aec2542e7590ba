"""Pixels to bytes of a Parquet column and back, lossless.

A CT slice is smooth, so the differences of neighbouring pixels are small. The encoding takes the
second mixed difference (along rows and columns) modulo 2^16, folds the sign into the lowest bit,
and puts the high bytes, nearly all 0, in a plane of their own: zstd, which the column adds, then
packs a head CT to less than half of what it makes of the raw values, in numpy alone.
"""

import zlib
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from ich_ray.errors import ConfigError

MASK_CODEC = "raw-u8-1"

_CODECS: dict[str, np.dtype[Any]] = {
    "gradient-i16-1": np.dtype("<i2"),
    "gradient-u16-1": np.dtype("<u2"),
    "gradient-u8-1": np.dtype("u1"),
    MASK_CODEC: np.dtype("u1"),
}
_CODEC_OF = {dtype: name for name, dtype in _CODECS.items() if name != MASK_CODEC}


def encode(stored: Integer[np.ndarray, "rows columns"]) -> tuple[str, bytes]:
    """Encode stored values of 8 or 16 bits; the codec's name goes with the bytes.

    Raises:
        TypeError: The values are neither int16, uint16 nor uint8.
    """
    codec = _CODEC_OF.get(stored.dtype.newbyteorder("<"))
    if codec is None:
        raise TypeError(f"slices are int16, uint16 or uint8; got {stored.dtype}")
    little = np.ascontiguousarray(stored, _CODECS[codec])
    signed = np.dtype(f"<i{stored.dtype.itemsize}")
    gradient = _differences(_differences(little.view(signed)).T).T
    # Zigzag: 0, -1, 1, -2 ... become 0, 1, 2, 3 ...
    folded = (gradient << 1) ^ (gradient >> (8 * stored.dtype.itemsize - 1))
    return codec, _planes(np.ascontiguousarray(folded))


def decode(codec: str, data: bytes, rows: int, columns: int) -> Integer[np.ndarray, "rows columns"]:
    """Return what was encoded.

    Raises:
        ConfigError: The codec is unknown: the corpus was written by a later version.
        ValueError: The bytes are not those of a slice of this size.
    """
    dtype = _CODECS.get(codec)
    if dtype is None:
        raise ConfigError(
            f"the corpus uses the pixel codec {codec!r}, which this version does not know "
            f"(known: {', '.join(_CODECS)}); read it with the version that wrote it"
        )
    if len(data) != rows * columns * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no {codec} slice of {rows} x {columns}")
    plane = np.frombuffer(data, np.uint8)
    if codec == MASK_CODEC:
        return plane.reshape(rows, columns).copy()
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    if dtype.itemsize == 1:
        folded = plane.reshape(rows, columns)
    else:
        folded = np.empty((rows, columns), unsigned)
        halves = folded.view(np.uint8).reshape(rows, columns, 2)
        halves[..., 0], halves[..., 1] = plane.reshape(2, rows, columns)
    gradient = (folded >> 1) ^ np.negative(folded & 1)
    np.cumsum(gradient, axis=0, dtype=unsigned, out=gradient)
    np.cumsum(gradient, axis=1, dtype=unsigned, out=gradient)
    stored: Integer[np.ndarray, "rows columns"] = gradient.view(dtype)
    return stored


def encode_mask(mask: UInt8[np.ndarray, "rows columns"]) -> bytes:
    """Encode a mask as it is: the column's zstd shrinks it to almost nothing."""
    return np.ascontiguousarray(mask).tobytes()


def checksum(data: bytes) -> int:
    """Return the CRC-32 of encoded bytes."""
    return zlib.crc32(data)


def _differences(
    values: Integer[np.ndarray, "rows columns"],
) -> Integer[np.ndarray, "rows columns"]:
    """Return each column less the one before it, modulo the width of the integers."""
    differences = np.empty_like(values)
    differences[:, :1] = values[:, :1]
    np.subtract(values[:, 1:], values[:, :-1], out=differences[:, 1:])
    return differences


def _planes(values: Integer[np.ndarray, "rows columns"]) -> bytes:
    if values.dtype.itemsize == 1:
        return values.tobytes()
    halves = values.view(np.uint8).reshape(*values.shape, 2)
    return halves[..., 0].tobytes() + halves[..., 1].tobytes()
