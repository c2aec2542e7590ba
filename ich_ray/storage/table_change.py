"""A change of a table that is written now and committed later: rows that take others' place."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from ich_ray.storage.objects import Store
from ich_ray.storage.tables import Part, Table, open_table, read_rows, write_part


@dataclass(frozen=True, slots=True)
class Change:
    """What one version of a table does to the version before it."""

    version: int
    """That it makes."""

    added: Sequence[Part]
    removed: Sequence[str]
    """Paths of parts."""


def replacing(
    store: Store, table_url: str, rows: pa.Table, replaced: Callable[[pa.Table], pa.ChunkedArray]
) -> Change | None:
    """Write the part that new rows and those beside the replaced ones become; nobody sees it yet.

    Args:
        store: Reaches the table.
        table_url: Of a small table.
        rows: New ones, in the schema of the table.
        replaced: Tells of rows of the table whether they go.

    Returns:
        The change; None if the table holds these rows already.
    """
    table = open_table(store, table_url)
    held, removed = merged(store, table, rows, replaced)
    added = []
    if held.num_rows:
        held = held.sort_by([(name, "ascending") for name in _sortable(held.schema)])
        part = write_part(store, table_url, digest(held), held, None)
        if part.path in removed:
            removed.remove(part.path)
        else:
            added = [part]
    if not added and not removed:
        return None
    return Change(0 if table is None else table.version + 1, added, removed)


def merged(
    store: Store,
    table: Table | None,
    rows: pa.Table,
    replaced: Callable[[pa.Table], pa.ChunkedArray],
) -> tuple[pa.Table, list[str]]:
    """Return new rows with those that are beside the replaced ones, and the parts that held these.

    Args:
        store: Reaches the table.
        table: None if there is none yet.
        rows: New ones, in the schema of the table.
        replaced: Tells of rows of the table whether they go.

    Returns:
        (rows, paths of the parts in whose place they come).
    """
    pieces, removed = [rows], []
    for url in () if table is None else table.files:
        assert table is not None
        part = read_rows(store, replace(table, files=(url,)), rows.schema.names)
        goes = replaced(part)
        if pc.any(goes).as_py():
            pieces.append(part.filter(pc.invert(goes)))
            removed.append(url.rpartition("/")[2])
    return pa.concat_tables(pieces), removed


def digest(rows: pa.Table) -> str:
    """Hash rows, of whatever chunks: two runs that did the same write the same part."""
    found = hashlib.sha256()
    for batch in rows.combine_chunks().to_batches():
        found.update(batch.serialize())
    return found.hexdigest()


def _sortable(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not pa.types.is_nested(field.type)]
