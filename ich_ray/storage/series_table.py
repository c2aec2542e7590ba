"""The table of series: one row for every series that an ingest decided over, and by which rule."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ich_ray.identity import content_hash
from ich_ray.series_plan import Decision
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, open_table, read_rows, write_part

SCHEMA = pa.schema(
    [
        ("exam", pa.string()),
        ("series", pa.string()),
        ("kept", pa.bool_()),
        ("rule", pa.string()),
        ("signs", pa.list_(pa.string())),
        ("number", pa.int64()),
        ("num_slices", pa.int64()),
        ("num_positions", pa.int64()),
        ("same_position", pa.int64()),
        ("coverage_mm", pa.float64()),
        ("spacing_mm", pa.float64()),
        ("thickness_mm", pa.float64()),
        ("tilt_deg", pa.float64()),
        (
            "gaps",
            pa.list_(
                pa.struct(
                    [
                        ("after_mm", pa.float64()),
                        ("before_mm", pa.float64()),
                        ("missing", pa.int64()),
                    ]
                )
            ),
        ),
    ]
)
"""As at the ingest that decided; `rule` and `signs` are of closed lists (ich_ray/series.py)."""


def series_url(store: Store, name: str) -> str:
    """Return the folder of a corpus's table of series."""
    return store.url("corpora", name, "series")


def read_series(store: Store, name: str) -> list[dict[str, Any]]:
    """Return every row; none where no header decided over a series."""
    table = open_table(store, series_url(store, name))
    if table is None:
        return []
    rows: list[dict[str, Any]] = read_rows(store, table, SCHEMA.names).to_pylist()
    return rows


def known_series(store: Store, name: str) -> dict[str, dict[str, bool]]:
    """Return exam -> series -> whether it was kept."""
    known: dict[str, dict[str, bool]] = defaultdict(dict)
    for row in read_series(store, name):
        known[row["exam"]][row["series"]] = row["kept"]
    return known


def append_decisions(
    store: Store, name: str, decisions: Sequence[Decision], properties: Mapping[str, str]
) -> None:
    """Append new decisions; the same ones again change nothing."""
    if not decisions:
        return
    rows = [_row(item) for item in sorted(decisions, key=lambda d: (d.exam, d.choice.series))]
    transaction = content_hash({"series": [[row["exam"], row["series"]] for row in rows]})
    url = series_url(store, name)
    part = write_part(store, url, transaction, pa.Table.from_pylist(rows, schema=SCHEMA), None)
    commit(
        store,
        url,
        schema=SCHEMA,
        parts=[part],
        properties=properties,
        transaction=f"series-{transaction}",
    )


def _row(item: Decision) -> dict[str, Any]:
    facts = item.facts
    return {
        "exam": item.exam,
        "series": item.choice.series,
        "kept": item.choice.kept,
        "rule": item.choice.rule.value,
        "signs": sorted(sign.value for sign in facts.signs),
        "number": facts.number,
        "num_slices": facts.num_slices,
        "num_positions": facts.num_positions,
        "same_position": item.same_position,
        "coverage_mm": facts.coverage_mm,
        "spacing_mm": facts.spacing_mm,
        "thickness_mm": facts.thickness_mm,
        "tilt_deg": facts.tilt_deg,
        "gaps": [asdict(gap) for gap in item.gaps],
    }
