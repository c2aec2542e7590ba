"""The runs table: one row for each time that a stage did something, and a record beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from ich_ray.identity import content_hash
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import add_columns, commit, write_part

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
        ("inputs", pa.string()),
        ("outputs", pa.string()),
    ]
)
"""A table of before may lack the last two columns; it gets them with the next row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One row; mappings and sequences are kept as JSON."""

    stage: str
    name: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    code_revision: str
    started: datetime
    ended: datetime
    outcome: str
    """`done`, or the kind of error; of a record alone, `running`."""

    inputs: Sequence[Mapping[str, Any]] = ()
    """Kind, URL and version of each."""

    outputs: Sequence[Mapping[str, Any]] = ()

    @property
    def run(self) -> str:
        """Identity of the run."""
        return run_identity(self.stage, self.name, self.started)


def run_identity(stage: str, name: str, started: datetime) -> str:
    """Return what a run is called, which is known when it starts."""
    return content_hash({"stage": stage, "name": name, "at": started.isoformat()})


def append_run(store: Store, run: Run) -> None:
    """Add a row to the runs table of a store."""
    row = {name: getattr(run, name) for name in RUNS.names}
    for name in ("settings", "figures", "inputs", "outputs"):
        row[name] = json.dumps(row[name], sort_keys=True)
    url = store.url("runs")
    add_columns(store, url, RUNS)
    part = write_part(store, url, run.run, pa.Table.from_pylist([row], schema=RUNS), None)
    commit(store, url, schema=RUNS, parts=[part], properties={"schema_version": "2"})


def record_url(store: Store, stage: str, name: str, run: str) -> str:
    """Return where the record of a run lies."""
    # An audit is named by all of its corpora, a comparison by nothing.
    folder = re.sub(r"[^\w-]+", "-", name) or stage
    return store.url("records", stage, folder, f"{run}.json")


def write_record(store: Store, run: Run, more: Mapping[str, Any]) -> None:
    """Write all that is known of a run, also what differs from run to run; at its end anew."""
    seconds = (run.ended - run.started).total_seconds()
    record = {**asdict(run), "run": run.run, "seconds": seconds, **more}
    text = json.dumps(record, sort_keys=True, indent=1, default=datetime.isoformat)
    store.write_bytes(record_url(store, run.stage, run.name, run.run), text.encode())
