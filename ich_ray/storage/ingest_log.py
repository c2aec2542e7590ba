"""How one ingest becomes a version of the ledger and a version of the slices, as if at once.

The ledger's commit decides: it is made only if nobody committed since the ledger was read, and it
carries what is to change in the slices. Whoever finds that change not made yet makes it, so that
a run may die between the two, and any number of runs may end it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from ich_ray.identity import content_hash
from ich_ray.storage import corpus, ledger
from ich_ray.storage.ledger import Ledger
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import Part, Table, commit, open_table, part_path, write_part

_CHANGE = "slices_change"
_VERSION = "slices_version"


@dataclass(frozen=True, slots=True)
class Change:
    """What one ingest does to the table of slices."""

    added: Sequence[Part]
    removed: Sequence[str]
    """Names of parts."""


def unsettled(ledger_table: Table | None, slices_table: Table | None) -> bool:
    """Tell whether the ledger is ahead of the slices: a run died between its two commits."""
    if ledger_table is None:
        return False
    there = -1 if slices_table is None else slices_table.version
    return there < int(ledger_table.properties[_VERSION])


def settle(store: Store, name: str, ledger_table: Table) -> int:
    """Make the change of slices that the ledger's latest version carries, unless it was made.

    Returns:
        The version of the slices that holds it.
    """
    properties = dict(ledger_table.properties)
    tree = json.loads(properties.pop(_CHANGE))
    version = int(properties.pop(_VERSION))
    if tree is None:
        return version
    return commit(
        store,
        corpus.slices_url(store, name),
        schema=corpus.SCHEMA,
        parts=[Part(**part) for part in tree["added"]],
        properties=properties,
        transaction=f"ingest-{ledger_table.version}",
        removed=[part_path(part) for part in tree["removed"]],
        expected=version - 1,
    )


def commit_ingest(  # noqa: PLR0913  (what one ingest changes, in both tables)
    store: Store,
    name: str,
    before: Ledger,
    *,
    slices_version: int,
    entries: pa.Table,
    dropped: Collection[str],
    change: Change,
    properties: Mapping[str, str],
) -> int:
    """Commit what an ingest did, whole or not at all.

    Args:
        store: Reaches the tables.
        name: Of the corpus.
        before: The ledger from which the ingest was planned.
        slices_version: Version of the slices that belongs to it.
        entries: New rows of the ledger.
        dropped: `source` of rows of the ledger that no longer hold.
        change: Of the slices.
        properties: Where the rows come from.

    Returns:
        The version of the slices.

    Raises:
        SurroundingsError: Another ingest of this corpus committed first, or the store failed.
    """
    rows, removed = before.merged(entries, dropped=dropped)
    changes = bool(change.added or change.removed)
    version = slices_version + changes
    tree = asdict(change) if changes else None
    transaction = content_hash(
        {"version": before.version, "change": tree, "rows": _digest(rows), "removed": removed}
    )
    url = corpus.ledger_url(store, name)
    committed = commit(
        store,
        url,
        schema=ledger.SCHEMA,
        parts=[write_part(store, url, transaction, rows, None)],
        properties={**properties, _CHANGE: json.dumps(tree), _VERSION: str(version)},
        transaction=f"ledger-{transaction}",
        removed=removed,
        expected=before.version,
    )
    after = open_table(store, url, committed)
    assert after is not None, url
    return settle(store, name, after)


def _digest(rows: pa.Table) -> str:
    """Hash rows: two ingests that did the same at once are one commit."""
    digest = hashlib.sha256()
    for batch in rows.to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()
