"""The tables of reads and of boxes: what readers and annotators say, by exam and by slice."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa

from ich_ray.annotations import Box, Read
from ich_ray.identity import Pseudonyms, content_hash
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, open_table, read_rows, write_part

READS_SCHEMA = pa.schema(
    [
        ("exam", pa.string()),
        ("reader", pa.string()),
        ("category", pa.string()),
        ("finding", pa.string()),
        ("present", pa.bool_()),
    ]
)
"""One row an exam, reader and finding."""

BOXES_SCHEMA = pa.schema(
    [
        ("slice", pa.string()),
        ("series", pa.string()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("width", pa.float64()),
        ("height", pa.float64()),
        ("type", pa.string()),
        ("origin", pa.string()),
    ]
)
"""In pixels of the slice. A box may lie on a series that the corpus does not hold."""


def append_reads(
    store: Store,
    corpus: str,
    reads: Iterable[Read],
    pseudonyms: Pseudonyms,
    properties: Mapping[str, str],
) -> None:
    """Append what readers say; rows that are there already are not added again."""
    rows = [
        {
            "exam": pseudonyms.of(read.exam),
            "reader": read.reader,
            "category": read.category,
            "finding": finding,
            "present": present,
        }
        for read in reads
        for finding, present in read.findings.items()
    ]
    _append(store, store.url("corpora", corpus, "reads"), READS_SCHEMA, rows, properties)


def append_boxes(
    store: Store,
    corpus: str,
    boxes: Iterable[Box],
    pseudonyms: Pseudonyms,
    properties: Mapping[str, str],
) -> None:
    """Append boxes; those that are there already are not added again."""
    hashed = (
        replace(box, slice=pseudonyms.of(box.slice), series=pseudonyms.of(box.series))
        for box in boxes
    )
    rows = [asdict(box) for box in hashed]
    _append(store, store.url("corpora", corpus, "boxes"), BOXES_SCHEMA, rows, properties)


def _append(
    store: Store,
    url: str,
    schema: pa.Schema,
    rows: Iterable[dict[str, Any]],
    properties: Mapping[str, str],
) -> None:
    table = open_table(store, url)
    known = set() if table is None else _values(read_rows(store, table, schema.names).to_pylist())
    new = sorted(_values(rows) - known)
    if not new:
        return
    columns = zip(*new, strict=True)
    data = pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
    name = content_hash({"rows": [list(row) for row in new]})
    commit(
        store,
        url,
        schema=schema,
        parts=[write_part(store, url, name, data, None)],
        properties=properties,
        transaction=f"annotations-{name}",
    )


def _values(rows: Iterable[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in rows}
