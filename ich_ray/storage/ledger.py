"""The ledger of a corpus: every input object ends in exactly one row."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from ich_ray.errors import EXPECTED, QualityError, Reason
from ich_ray.storage.corpus import ledger_url
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import Table, open_table, read_rows

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("role", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("part", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What became of one object; `source` is the pseudonym of its key."""

    source: str
    etag: str
    size: int
    role: str
    outcome: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None
    exam: str | None = None
    slice: str | None = None
    part: str | None = None


def to_table(entries: Iterable[Entry]) -> pa.Table:
    """Return entries as rows, by source."""
    ordered = sorted(entries, key=lambda entry: (entry.source, entry.etag))
    return pa.Table.from_pylist([asdict(entry) for entry in ordered], schema=SCHEMA)


def read_ledger(store: Store, name: str) -> tuple[Table | None, list[Entry]]:
    """Return the ledger of a corpus; empty before its first ingest."""
    table = open_table(store, ledger_url(store, name))
    if table is None:
        return None, []
    return table, [Entry(**row) for row in read_rows(store, table, SCHEMA.names).to_pylist()]


def counts(entries: Iterable[Entry]) -> dict[Reason, list[str]]:
    """Return the sources of rejected objects by reason, the most frequent reason first."""
    found: dict[Reason, list[str]] = {}
    for entry in entries:
        if entry.outcome == "rejected" and entry.reason is not None:
            found.setdefault(Reason(entry.reason), []).append(entry.source)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def check_rejected(name: str, entries: Iterable[Entry], *, num_objects: int, limit: float) -> None:
    """Fail if too large a share of a source's new objects was rejected.

    Args:
        name: Of the corpus.
        entries: Of the new objects; those rejected for an EXPECTED reason do not count.
        num_objects: New objects of the source.
        limit: Share that may be rejected of those that count.

    Raises:
        QualityError: More were.
    """
    reasons = counts(entries)
    missing = len(reasons.get(Reason.MISSING, ()))
    num_objects -= sum(len(reasons.pop(reason, ())) for reason in EXPECTED) - missing
    rejected = sum(len(sources) for sources in reasons.values())
    if num_objects and rejected > limit * num_objects:
        found = "; ".join(
            f"{len(sources)} {reason.value} (e.g. {', '.join(sorted(sources)[:3])})"
            for reason, sources in reasons.items()
        )
        raise QualityError(
            f"corpus {name}: {rejected} of {num_objects} new objects were rejected, more "
            f"than max_rejected_share={limit:g}: {found}. Nothing was committed. Find the objects "
            "by --private-map FILE; repair or remove them, or raise max_rejected_share"
        )
