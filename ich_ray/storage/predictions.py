"""The tables of predictions and of pseudo-labels: schemas, and maps to and from bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float16, Float32, UInt8

from ich_ray.errors import ConfigError

MAP_KIND = "logits-f16-stride8-1"
MAP_COLUMNS = ("map", "map_kind", "map_rows", "map_columns")

MASK_CODEC = "raw-u8-1"
WHOLE_CODEC = "whole-1"
"""No mask: the label is known of the slice as a whole, and of none of its pixels."""

PREDICTIONS = pa.schema(
    [
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("p", pa.float32()),
        ("map", pa.binary()),
        ("map_kind", pa.string()),
        ("map_rows", pa.int32()),
        ("map_columns", pa.int32()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("model", pa.string()),
        ("preprocessing", pa.string()),
    ]
)
"""One row a slice; `map` holds `map_rows` x `map_columns` float16 logits at stride 8 of the grid,
`rows` and `columns` are the slice's own."""

PSEUDO_LABELS = pa.schema(
    [
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("label", pa.bool_()),
        ("mask", pa.binary()),
        ("mask_codec", pa.string()),
        ("mask_side", pa.int32()),
        ("teacher", pa.string()),
        ("rank", pa.int64()),
        ("p", pa.float32()),
        ("cut", pa.float32()),
    ]
)
"""One row a slice. `mask_codec` says what `mask` holds: MASK_CODEC 0, 1 and IGNORED on the input's
square grid; MAP_KIND a teacher's logits at stride 8, which are the target themselves; WHOLE_CODEC
nothing. Null: every pixel is 0 where the label is 0, and ignored where the label is null."""


def encode_map(logits: Float16[np.ndarray, "cells cells2"]) -> bytes:
    """Return the bytes of a map, row by row, little endian."""
    return logits.astype("<f2").tobytes()


def decode_map(row: Mapping[str, Any]) -> Float16[np.ndarray, "cells cells2"]:
    """Return the map of a row of a predictions table.

    Raises:
        ConfigError: The map is of a kind that this code does not know.
    """
    if row["map_kind"] != MAP_KIND:
        raise ConfigError(
            f"predictions hold maps of kind {row['map_kind']!r}, known is {MAP_KIND}; "
            "predict again with this version"
        )
    values = np.frombuffer(row["map"], "<f2").astype(np.float16)
    return values.reshape(row["map_rows"], row["map_columns"])


def encode_mask(mask: UInt8[np.ndarray, "side side2"]) -> bytes:
    """Return the bytes of a mask; Parquet's own compression makes them few."""
    return mask.tobytes()


def decode_mask(data: bytes, *, side: int) -> UInt8[np.ndarray, "side side2"]:
    """Return the mask of a row of a pseudo-label table."""
    return np.frombuffer(data, np.uint8).reshape(side, side)


def encode_soft_mask(logits: Float32[np.ndarray, "cells cells2"]) -> bytes:
    """Return the bytes of a teacher's logits that are the target themselves."""
    return encode_map(logits.astype(np.float16))


def decode_soft_mask(data: bytes, *, cells: int) -> Float16[np.ndarray, "cells cells2"]:
    """Return the logits of a row of a pseudo-label table."""
    return np.frombuffer(data, "<f2").astype(np.float16).reshape(cells, cells)
