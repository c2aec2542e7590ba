"""Slices of exams to rows of a corpus, in order and with their neighbours."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from ich_ray import volume
from ich_ray.exam import Slice
from ich_ray.storage import slice_codec
from ich_ray.storage.corpus import SCHEMA

_MOST_BYTES = 2**28
"""Of pixels in one piece of a column."""


def to_table(
    exams: Sequence[Sequence[Slice]], *, origins: Mapping[str, tuple[str, str]] | None = None
) -> pa.Table:
    """Return the rows of exams, each exam's slices in order and with their neighbours.

    Args:
        exams: Each with at least one slice, of any order.
        origins: Slice key -> (source, etag) of the object that it came from.
    """
    items: list[Slice] = []
    rows: list[dict[str, Any]] = []
    for exam in exams:
        for item, row in _exam_rows(exam, origins or {}):
            items.append(item)
            rows.append(row)
    chunks = [_encoded(*piece) for piece in _pieces(items, rows)]
    place = SCHEMA.get_field_index("pixels")
    table = pa.Table.from_pylist(rows, schema=SCHEMA.remove(place))
    return table.add_column(place, SCHEMA.field(place), pa.chunked_array(chunks, pa.binary()))


def _pieces(
    items: Sequence[Slice], rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[Sequence[Slice], Sequence[dict[str, Any]]]]:
    """Divide slices so that the offsets of each piece's pixels fit 32 bits."""
    start, size = 0, 0
    for i, item in enumerate(items):
        size += item.stored.nbytes
        if i > start and size > _MOST_BYTES:
            yield items[start:i], rows[start:i]
            start, size = i, item.stored.nbytes
    yield items[start:], rows[start:]


def _encoded(items: Sequence[Slice], rows: Sequence[dict[str, Any]]) -> pa.BinaryArray:
    """Encode pixels, each slice's once into its place; complete the rows."""
    ends = np.cumsum([0, *(item.stored.nbytes for item in items)], dtype=np.int32)
    data = np.empty(int(ends[-1]), np.uint8)
    for item, row, start, end in zip(items, rows, ends, ends[1:], strict=False):
        row["codec"] = slice_codec.encode_into(item.stored, data[start:end])
        row["checksum"] = slice_codec.checksum(data[start:end])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(items), buffers)


def _exam_rows(
    exam: Sequence[Slice], origins: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[Slice, dict[str, Any]]]:
    index = 0
    by_series = sorted(exam, key=lambda item: (item.series, item.key))
    for _, members in groupby(by_series, key=lambda item: item.series):
        series = list(members)
        series = [series[i] for i in volume.order([s.geometry.position_mm for s in series])]
        near = volume.neighbours([s.geometry.position_mm for s in series])
        for item, (previous, following) in zip(series, near, strict=True):
            row = _row(item, origins.get(item.key, ("", ""))) | {
                "index": index,
                "previous": None if previous is None else series[previous].key,
                "next": None if following is None else series[following].key,
                "neighbours": (previous is not None) + (following is not None),
            }
            yield item, row
            index += 1


def _row(item: Slice, origin: tuple[str, str]) -> dict[str, Any]:
    rows, columns = item.stored.shape
    return {
        "exam": item.exam,
        "slice": item.key,
        "patient": item.patient,
        "series": item.series,
        "position_mm": item.geometry.position_mm,
        "spacing_mm": item.geometry.spacing_mm,
        "thickness_mm": item.geometry.thickness_mm,
        "tilt_deg": item.geometry.tilt_deg,
        "rows": rows,
        "columns": columns,
        "slope": item.slope,
        "intercept": item.intercept,
        "kind": item.kind,
        "center": item.center,
        "width": item.width,
        "label": item.label,
        "subtypes": item.subtypes,
        "exam_label": item.exam_label,
        "exam_subtypes": item.exam_subtypes,
        "mask": None if item.mask is None else slice_codec.encode_mask(item.mask),
        "mask_codec": None if item.mask is None else slice_codec.MASK_CODEC,
        "source": origin[0],
        "etag": origin[1],
    }
