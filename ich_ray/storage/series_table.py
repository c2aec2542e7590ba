"""The table of series: one row for every series that an ingest decided over, and by which rule."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ich_ray.series_plan import Decision
from ich_ray.storage.objects import Store
from ich_ray.storage.table_change import Change, replacing
from ich_ray.storage.tables import open_table, read_rows

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


def decisions_change(
    store: Store, name: str, decisions: Sequence[Decision], *, anew: Collection[str]
) -> Change | None:
    """Write new decisions, in the place of those over exams that were planned anew.

    Args:
        store: Reaches the corpus.
        name: Of the corpus.
        decisions: New ones.
        anew: Exams whose earlier decisions no longer hold.

    Returns:
        What is to be committed; None if the table holds these decisions already.
    """
    rows = pa.Table.from_pylist([_row(item) for item in decisions], schema=SCHEMA)
    exams = pa.array(sorted(anew), pa.string())
    return replacing(
        store,
        series_url(store, name),
        rows,
        lambda part: pc.is_in(part["exam"], value_set=exams),
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
