"""How one ingest becomes a version of the ledger and of the other tables, as if at once.

The ledger's commit decides: it is made only if nobody committed since the ledger was read, and it
carries what is to change in the other tables. Whoever finds such a change not made yet makes it,
so that a run may die between the commits, and any number of runs may end it.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ich_ray.identity import content_hash
from ich_ray.storage import annotations_table, corpus, ledger, series_table
from ich_ray.storage.ledger import Ledger
from ich_ray.storage.objects import Store
from ich_ray.storage.table_change import Change, digest
from ich_ray.storage.tables import Part, Table, commit, open_table, write_part

_CHANGES = "changes"

# The slices last: whoever reads them finds what lies beside them.
_SCHEMAS = {
    "series": series_table.SCHEMA,
    "reads": annotations_table.READS_SCHEMA,
    "boxes": annotations_table.BOXES_SCHEMA,
    "slices": corpus.SCHEMA,
}


def unsettled(store: Store, name: str, ledger_table: Table | None, slices: int) -> bool:
    """Tell whether the ledger is ahead of another table: a run died between its commits.

    Args:
        store: Reaches the tables.
        name: Of the corpus.
        ledger_table: As it was read.
        slices: Version of the slices as they were read, -1 for none: another run may have
            committed them since.
    """
    if ledger_table is None:
        return False
    for table, change in _changes(ledger_table).items():
        if table == "slices":
            version = slices
        else:
            there = open_table(store, store.url("corpora", name, table))
            version = -1 if there is None else there.version
        if version < change.version:
            return True
    return False


def settle(store: Store, name: str, ledger_table: Table) -> None:
    """Make the changes that the ledger's latest version carries, those that were not made."""
    properties = dict(ledger_table.properties)
    del properties[_CHANGES]
    changes = _changes(ledger_table)
    for table, schema in _SCHEMAS.items():
        change = changes.get(table)
        if change is not None:
            commit(
                store,
                store.url("corpora", name, table),
                schema=schema,
                parts=change.added,
                properties=properties,
                transaction=f"ingest-{ledger_table.version}",
                removed=change.removed,
                expected=change.version - 1,
            )


def commit_ingest(  # noqa: PLR0913  (what one ingest changes, in all tables)
    store: Store,
    name: str,
    before: Ledger,
    *,
    entries: pa.Table,
    dropped: Collection[str],
    changes: Mapping[str, Change],
    properties: Mapping[str, str],
) -> None:
    """Commit what an ingest did, whole or not at all.

    Args:
        store: Reaches the tables.
        name: Of the corpus.
        before: The ledger from which the ingest was planned.
        entries: New rows of the ledger.
        dropped: `source` of rows of the ledger that no longer hold.
        changes: Of the other tables, by their names.
        properties: Where the rows come from.

    Raises:
        SurroundingsError: Another ingest of this corpus committed first, or the store failed.
    """
    rows, removed = before.merged(entries, dropped=dropped)
    tree = {table: asdict(change) for table, change in changes.items()}
    transaction = content_hash(
        {"version": before.version, "changes": tree, "rows": digest(rows), "removed": removed}
    )
    url = corpus.ledger_url(store, name)
    committed = commit(
        store,
        url,
        schema=ledger.SCHEMA,
        parts=[write_part(store, url, transaction, rows, None)],
        properties={**properties, _CHANGES: json.dumps(tree)},
        transaction=f"ledger-{transaction}",
        removed=removed,
        expected=before.version,
    )
    after = open_table(store, url, committed)
    assert after is not None, url
    settle(store, name, after)


def _changes(ledger_table: Table) -> dict[str, Change]:
    tree: dict[str, dict[str, Any]] = json.loads(ledger_table.properties[_CHANGES])
    return {
        table: Change(
            change["version"], [Part(**part) for part in change["added"]], change["removed"]
        )
        for table, change in tree.items()
    }
