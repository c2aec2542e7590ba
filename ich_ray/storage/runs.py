"""The runs table: one row for each time that a stage did something."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from ich_ray.identity import content_hash
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, write_part

RUNS = pa.schema(
    [
        ("run", pa.string()),
        ("stage", pa.string()),
        ("name", pa.string()),
        ("settings", pa.string()),
        ("figures", pa.string()),
        ("code_revision", pa.string()),
        ("started", pa.timestamp("us", tz="UTC")),
        ("ended", pa.timestamp("us", tz="UTC")),
        ("outcome", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One row; mappings are kept as JSON."""

    stage: str
    name: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    code_revision: str
    started: datetime
    ended: datetime
    outcome: str
    """`done`, or the kind of error."""


def append_run(store: Store, run: Run) -> None:
    """Add a row to the runs table of a store."""
    identity = content_hash({"stage": run.stage, "name": run.name, "at": run.started.isoformat()})
    row = {name: getattr(run, name) for name in RUNS.names if name != "run"}
    row |= {
        "run": identity,
        "settings": json.dumps(run.settings, sort_keys=True),
        "figures": json.dumps(run.figures, sort_keys=True),
    }
    url = store.url("runs")
    part = write_part(store, url, identity, pa.Table.from_pylist([row], schema=RUNS), None)
    commit(store, url, schema=RUNS, parts=[part], properties={"schema_version": "1"})
