"""Tables of other software, CSV or Parquet -> their rows, in their order."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ich_ray.errors import ConfigError
from ich_ray.foreign_cells import VALUE, Cell, Role, columns_of
from ich_ray.foreign_exams import Row
from ich_ray.storage.objects import Store

CSV, PARQUET = (".csv", ".csv.gz"), ".parquet"

MAX_TABLE_BYTES = 1 << 28
"""Of one file, unpacked: two million rows of DICOM UIDs."""

_BATCH = 10_000


def rows_of(store: Store, urls: Sequence[str], role: Role) -> Iterator[Row]:
    """Yield the rows of a table; they are counted from 1, below the header.

    Args:
        store: Reaches the files.
        urls: One CSV file, or one or more of Parquet, in their order.
        role: Whether its values are scores or labels.

    Raises:
        ConfigError: It cannot be read, or lacks a column.
    """
    if urls[0].lower().endswith(PARQUET):
        seen: set[frozenset[str]] = set()
        for number, url in enumerate(urls, 1):
            part = f"part {number}, " if len(urls) > 1 else ""
            yield from _parquet_rows(_fetched(store, url), role, part, seen)
    else:
        data = _fetched(store, urls[0])
        yield from _csv_rows(_inflated(data) if urls[0].lower().endswith(".gz") else data, role)


def _fetched(store: Store, url: str) -> bytes:
    try:
        if store.size(url) > MAX_TABLE_BYTES:
            raise _too_large()
        return store.read_bytes(url)
    except FileNotFoundError:
        raise ConfigError("the table does not exist; correct its path") from None


def _inflated(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            found = stream.read(MAX_TABLE_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ConfigError("it is no whole gzip file; pack it again") from None
    if len(found) > MAX_TABLE_BYTES:
        raise _too_large()
    return found


def _too_large() -> ConfigError:
    return ConfigError(
        f"a file of the table is larger than {MAX_TABLE_BYTES >> 20} MiB; leave out columns that "
        "are not needed, or write Parquet in parts"
    )


def _csv_rows(data: bytes, role: Role) -> Iterator[Row]:
    lines = csv.reader(
        io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True
    )
    try:
        header = next(lines, [])
        _check_separator(header)
        columns = columns_of(header, role)
        for number, cells in enumerate(lines, 1):
            where = f"data row {number}"
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(header):
                raise ConfigError(
                    f"{where}: it has {len(cells)} cells and the header {len(header)}; separate "
                    "cells by commas and not semicolons, and put one that holds a comma in quotes"
                )
            yield _row(where, {name: cells[at] for name, at in columns.items()}, role)
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8 text; save it as CSV UTF-8") from None
    except csv.Error:
        raise ConfigError(
            f"it is no CSV near line {lines.line_num}; look for a lone quote there"
        ) from None


def _check_separator(header: Sequence[str]) -> None:
    for name, mark in (("semicolons", ";"), ("tabs", "\t")):
        if len(header) == 1 and mark in header[0]:
            raise ConfigError(
                f"its cells are separated by {name}; save it with commas, and numbers with points"
            )


def _parquet_rows(data: bytes, role: Role, part: str, seen: set[frozenset[str]]) -> Iterator[Row]:
    """Yield the rows of one file; `seen` receives its columns, which are those of all parts."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        columns = columns_of(schema.names, role)
        seen.add(frozenset(columns))
        if len(seen) > 1:
            raise ConfigError(f"{part}its columns are not those of the parts before it")
        for name, at in columns.items():
            if not _is_plain(schema.field(at).type):
                raise ConfigError(f"column {name}: it holds neither text nor numbers")
        number = 0
        for batch in file.iter_batches(
            _BATCH, columns=[schema.names[at] for at in columns.values()], use_threads=False
        ):
            found = {name.strip(): _cells(batch.column(name)) for name in batch.schema.names}
            for cells in zip(*(found[name] for name in columns), strict=True):
                number += 1
                yield _row(f"{part}data row {number}", dict(zip(columns, cells, strict=True)), role)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise ConfigError(f"{part}it is no whole Parquet file; write it again") from None


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    is_text = any(is_one(kind) for is_one in texts)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    exact = pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    return bool(is_text or is_number or exact or pa.types.is_null(kind))


def _cells(column: pa.Array) -> list[Cell]:
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    found: list[Cell] = column.to_pylist()
    return found


def _row(where: str, cells: Mapping[str, Cell], role: Role) -> Row:
    return Row(
        where,
        cells["exam"],
        cells.get("slice"),
        cells.get(VALUE[role]),
        cells.get("patient"),
        cells.get("map"),
    )
