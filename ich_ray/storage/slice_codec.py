"""Pixels to bytes of a Parquet column and back, lossless.

A CT slice is smooth, so the differences of neighbouring pixels are small. The encoding takes the
second mixed difference (along rows and columns) modulo 2^16 and puts its high bytes, nearly all 0,
in a plane of their own: zstd, which the column adds, then packs a head CT to about half of what it
makes of the raw values, and faster to decode than any image codec that packs it as well
(benchmarks/pixel_codecs.py).
"""

from threading import local
from typing import Any

import numpy as np
from isal import isal_zlib
from jaxtyping import Integer, UInt8

from ich_ray.errors import ConfigError

MASK_CODEC = "raw-u8-1"

_CODECS: dict[str, np.dtype[Any]] = {
    "gradient-i16-2": np.dtype("<i2"),
    "gradient-u16-2": np.dtype("<u2"),
    "gradient-u8-2": np.dtype("u1"),
    MASK_CODEC: np.dtype("u1"),
}
_CODEC_OF = {dtype: name for name, dtype in _CODECS.items() if name != MASK_CODEC}


def encode(stored: Integer[np.ndarray, "rows columns"]) -> tuple[str, bytes]:
    """Encode stored values of 8 or 16 bits; the codec's name goes with the bytes.

    Raises:
        TypeError: The values are neither int16, uint16 nor uint8.
    """
    data = np.empty(stored.nbytes, np.uint8)
    return encode_into(stored, data), data.tobytes()


def encode_into(
    stored: Integer[np.ndarray, "rows columns"], data: UInt8[np.ndarray, " bytes"]
) -> str:
    """Encode stored values into `data`, as many bytes as they have, and return the codec's name.

    Raises:
        TypeError: The values are neither int16, uint16 nor uint8.
    """
    codec = _CODEC_OF.get(stored.dtype.newbyteorder("<"))
    if codec is None:
        raise TypeError(f"slices are int16, uint16 or uint8; got {stored.dtype}")
    little = np.ascontiguousarray(stored, _CODECS[codec])
    values = little.view(np.dtype(f"<u{stored.dtype.itemsize}"))
    differences = _differences(values, *_scratch(values.size, values.dtype))
    if values.dtype.itemsize == 1:
        data[:] = differences
    else:
        _planes(differences, data.reshape(2, -1))
    return codec


def decode(codec: str, data: bytes, rows: int, columns: int) -> Integer[np.ndarray, "rows columns"]:
    """Return what was encoded.

    Raises:
        ConfigError: The codec is unknown: another version wrote the corpus.
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
    if dtype.itemsize == 1:
        values = plane.reshape(rows, columns).copy()
    else:
        low, high = plane.reshape(2, rows, columns)
        values = high.astype("<i2")
        values <<= 8
        values += low.view(np.int8)
    # A loop over whole rows: numpy's cumsum along axis 0 walks single columns, 5 times as slow.
    for row, above in zip(values[1:], values, strict=False):
        row += above
    np.cumsum(values, axis=1, dtype=values.dtype, out=values)
    stored: Integer[np.ndarray, "rows columns"] = values.view(dtype)
    return stored


def encode_mask(mask: UInt8[np.ndarray, "rows columns"]) -> bytes:
    """Encode a mask as it is: the column's zstd shrinks it to almost nothing."""
    return np.ascontiguousarray(mask).tobytes()


def checksum(data: bytes | UInt8[np.ndarray, " bytes"]) -> int:
    """Return the CRC-32 of encoded bytes."""
    return isal_zlib.crc32(data)


_own = local()


def _scratch(
    size: int, dtype: np.dtype[Any]
) -> tuple[Integer[np.ndarray, " pixels"], Integer[np.ndarray, " pixels"]]:
    """Return two arrays of this thread's, of any content: new memory costs as much as the work."""
    found = getattr(_own, "scratch", None)
    if found is None or found[0].size != size or found[0].dtype != dtype:
        found = _own.scratch = np.empty(size, dtype), np.empty(size, dtype)
    first, second = found
    return first, second


def _differences(
    values: Integer[np.ndarray, "rows columns"],
    down: Integer[np.ndarray, " pixels"],
    both: Integer[np.ndarray, " pixels"],
) -> Integer[np.ndarray, " pixels"]:
    """Return each column less the one before, of each row less the one above, modulo the width.

    Args:
        values: Unsigned.
        down: Scratch.
        both: Becomes the result.
    """
    columns = values.shape[1]
    flat = values.reshape(-1)
    down[:columns] = flat[:columns]
    # Over all rows at once, a third faster than row by row; then the first column is put right.
    np.subtract(flat[columns:], flat[:-columns], out=down[columns:])
    np.subtract(down[1:], down[:-1], out=both[1:])
    both[::columns] = down[::columns]
    return both


def _planes(values: Integer[np.ndarray, " pixels"], planes: UInt8[np.ndarray, "2 pixels"]) -> None:
    """Fill in the low bytes, then the high ones: value = signed low + 256 * high, modulo 2^16.

    `values` is used up.
    """
    np.copyto(planes[0], values, casting="unsafe")
    # Low bytes count from -128: a small negative difference has a high byte of 0 as well.
    values += np.uint16(128)
    values >>= 8
    np.copyto(planes[1], values, casting="unsafe")
