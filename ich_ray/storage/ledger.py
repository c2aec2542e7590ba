"""The ledger of a corpus: one row an input object, its latest state.

The ledger is read as columns, and few of its rows become objects: a corpus has a million.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from ich_ray.errors import EXPECTED, QualityError, Reason
from ich_ray.ingest_plan import Entry, Planned
from ich_ray.storage.corpus import ledger_url
from ich_ray.storage.objects import Store
from ich_ray.storage.table_change import merged
from ich_ray.storage.tables import Table, open_table, read_rows

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("role", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("patient", pa.string()),
        ("exam", pa.string()),
        ("slice", pa.string()),
        ("part", pa.string()),
    ]
)

EXAMPLES = 3
"""Objects of each reason that a summary names."""


@dataclass(frozen=True)
class Ledger:
    """One version of a ledger, empty before the first ingest; read when it is first asked."""

    store: Store
    table: Table | None

    @property
    def version(self) -> int:
        """Of the table; -1 if there is none yet."""
        return -1 if self.table is None else self.table.version

    @cached_property
    def rows(self) -> pa.Table:
        """All rows."""
        if self.table is None:
            return SCHEMA.empty_table()
        return read_rows(self.store, self.table, SCHEMA.names)

    def etags(self) -> tuple[dict[str, str], frozenset[str]]:
        """Return source -> etag of every object, and the sources of those to be tried again.

        What the store listed and did not give has no content that could have been refused: it is
        tried again. Labels without an object are none.
        """
        if self.table is None:
            return {}, frozenset()
        rows = read_rows(self.store, self.table, ["source", "etag", "reason"])
        # Not by Arrow's functions: giving them a constant imports pandas, for half a second.
        columns = [rows[name].to_pylist() for name in ("source", "etag", "reason")]
        listed = [row for row in zip(*columns, strict=True) if row[2] != Reason.MISSING]
        unread = (source for source, _, reason in listed if reason == Reason.UNREADABLE)
        return {source: etag for source, etag, _ in listed}, frozenset(unread)

    def where(self, column: str, values: Collection[str]) -> list[Entry]:
        """Return the rows whose column holds one of these values."""
        return list(entries_of(self.rows.filter(_is_in(self.rows[column], values))))

    def near(
        self,
        placed: Collection[Planned],
        *,
        changed: Collection[str],
        exams: Collection[str] = (),
    ) -> list[Entry]:
        """Return the rows that new objects could concern, and some more; in order.

        Those are the rows of their slices, their exams and their patients, of all that lies in
        the same parts, and of copies of these slices.

        Args:
            placed: The new objects.
            changed: `source` of rows whose objects have changed.
            exams: More exams that they concern.
        """
        if self.table is None:
            return []
        near = _is_in(self.rows["source"], changed)
        near = pc.or_(near, _is_in(self.rows["slice"], {item.slice for item in placed}))
        near = pc.or_(near, _is_in(self.rows["exam"], {item.exam for item in placed}.union(exams)))
        near = pc.or_(near, _is_in(self.rows["patient"], {item.patient for item in placed}))
        for column in ("slice", "exam", "patient", "part", "slice"):
            values = self.rows[column].filter(near).unique().drop_null()
            near = pc.or_(near, pc.is_in(self.rows[column], value_set=values))
        return list(entries_of(self.rows.filter(near)))

    def says(self, entries: pa.Table) -> bool:
        """Tell whether it says the same of these objects already, whichever part holds them."""
        if self.table is None:
            return False
        there = self.rows.filter(pc.is_in(self.rows["source"], value_set=entries["source"]))
        now, before = (
            rows.drop_columns(["part"]).sort_by("source").combine_chunks()
            for rows in (entries, there)
        )
        return bool(now.equals(before))

    def merged(self, entries: pa.Table, *, dropped: Collection[str]) -> tuple[pa.Table, list[str]]:
        """Return what a new part holds and the paths of the parts in whose place it comes.

        Args:
            entries: New rows; those of the same objects are replaced.
            dropped: `source` of rows that are replaced by nothing.
        """
        old = pa.array([*entries["source"].to_pylist(), *dropped], pa.string())
        rows, removed = merged(
            self.store, self.table, entries, lambda part: pc.is_in(part["source"], value_set=old)
        )
        return rows.sort_by("source"), removed


def open_ledger(store: Store, name: str) -> Ledger:
    """Return the latest version of the ledger of a corpus."""
    return Ledger(store, open_table(store, ledger_url(store, name)))


def outcome_counts(store: Store, name: str) -> dict[str, int]:
    """Count the input objects of a corpus by what became of them."""
    table = open_table(store, ledger_url(store, name))
    assert table is not None, name
    keys = ["role", "outcome", "reason"]
    counted: Counter[str] = Counter()
    rows = read_rows(store, table, keys).group_by(keys).aggregate([([], "count_all")])
    for row in rows.to_pylist():
        what = f"{row['outcome']} {row['role'] or 'object'}"
        counted[f"{what} ({row['reason']})" if row["reason"] else what] += row["count_all"]
    return dict(sorted(counted.items()))


def to_table(entries: Iterable[Entry]) -> pa.Table:
    """Return entries as rows, by source."""
    ordered = sorted(entries, key=lambda entry: entry.source)
    # By columns: asdict and from_pylist cost twenty times as much, a million times over.
    columns = [pa.array([getattr(e, f.name) for e in ordered], f.type) for f in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def entries_of(rows: pa.Table) -> Iterator[Entry]:
    """Yield rows as entries, a batch of them in memory at a time."""
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield Entry(**row)


def _is_in(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(list(values), pa.string()))


def refused(rows: pa.Table, *, unless: Collection[str]) -> list[Entry]:
    """Return the rejected rows, but those of some sources."""
    found = rows.filter(pc.equal(rows["outcome"], "rejected"))
    return [entry for entry in entries_of(found) if entry.source not in unless]


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
            f"{len(sources)} {reason.value} (e.g. {', '.join(sorted(sources)[:EXAMPLES])})"
            for reason, sources in reasons.items()
        )
        raise QualityError(
            f"corpus {name}: {rejected} of {num_objects} new objects were rejected, more "
            f"than max_rejected_share={limit:g}: {found}. Nothing was committed. Find the objects "
            "by --private-map FILE; repair or remove them, or raise max_rejected_share"
        )
