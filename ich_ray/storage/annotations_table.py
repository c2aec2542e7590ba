"""The tables of reads and of boxes: what readers and annotators say, by exam and by slice."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ich_ray.annotations import Box, Read
from ich_ray.identity import Pseudonyms
from ich_ray.storage.objects import Store
from ich_ray.storage.table_change import Change, replacing
from ich_ray.storage.tables import open_table, read_rows

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


def reads_change(
    store: Store, corpus: str, reads: Iterable[Read], pseudonyms: Pseudonyms
) -> Change | None:
    """Write what readers say now; None if the table says it already."""
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
    return _change(store, store.url("corpora", corpus, "reads"), READS_SCHEMA, rows)


def reads_version(store: Store, corpus: str) -> int:
    """Return the version of a corpus's reads; -1 where it has none."""
    table = open_table(store, store.url("corpora", corpus, "reads"))
    return -1 if table is None else table.version


def reads_of(store: Store, corpus: str) -> dict[str, list[Read]]:
    """Return exam -> what its readers say, by reader; nothing where a corpus has no reads."""
    table = open_table(store, store.url("corpora", corpus, "reads"))
    said: dict[tuple[str, str, str], dict[str, bool]] = {}
    for row in [] if table is None else read_rows(store, table, READS_SCHEMA.names).to_pylist():
        findings = said.setdefault((row["exam"], row["reader"], row["category"]), {})
        findings[row["finding"]] = row["present"]
    found: dict[str, list[Read]] = {}
    for (exam, reader, category), findings in sorted(said.items()):
        one = Read(exam=exam, reader=reader, category=category, findings=findings)
        found.setdefault(exam, []).append(one)
    return found


def boxes_change(
    store: Store, corpus: str, boxes: Iterable[Box], pseudonyms: Pseudonyms, *, keep: bool
) -> Change | None:
    """Write all boxes of a source; None if the table holds them already.

    Args:
        store: Reaches the corpus.
        corpus: Its name.
        boxes: Of the source as it is now.
        pseudonyms: Of the corpus.
        keep: Whether boxes stay that the table holds and the source does not.
    """
    url = store.url("corpora", corpus, "boxes")
    hashed = (
        replace(box, slice=pseudonyms.of(box.slice), series=pseudonyms.of(box.series))
        for box in boxes
    )
    rows = [asdict(box) for box in hashed]
    table = open_table(store, url) if keep else None
    if table is not None:
        rows += read_rows(store, table, BOXES_SCHEMA.names).to_pylist()
    return _change(store, url, BOXES_SCHEMA, rows)


def _change(
    store: Store, url: str, schema: pa.Schema, rows: Iterable[dict[str, Any]]
) -> Change | None:
    # The same box may stand in two files.
    different = {tuple(row.values()): row for row in rows}
    now = pa.Table.from_pylist(list(different.values()), schema=schema)
    # Every row has a first value: all go, and the table says what the files say now.
    return replacing(store, url, now, lambda part: pc.is_valid(part.column(0)))
