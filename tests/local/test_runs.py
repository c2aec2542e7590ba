"""The runs table: a row each time, and a table of before grows the columns that it lacks."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ich_ray.storage.objects import Store
from ich_ray.storage.runs import RUNS, Run, append_run, record_url, write_record
from ich_ray.storage.tables import add_columns, commit, open_table, read_rows, write_part

OLD = pa.schema([field for field in RUNS if field.name not in ("inputs", "outputs")])
CORPUS = {"kind": "corpus", "url": "s3://ich/corpora/a/slices", "version": 3}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def run_of(name: str) -> Run:
    return Run(
        stage="train",
        name=name,
        settings={"models": {}},
        figures={"line": "done"},
        code_revision="abc",
        started=datetime(2026, 1, 1, 12, tzinfo=UTC),
        ended=datetime(2026, 1, 1, 13, tzinfo=UTC),
        outcome="done",
        inputs=[CORPUS],
    )


def append_old(store: Store, name: str) -> None:
    """Add a row as it was done before the table had inputs and outputs."""
    url = store.url("runs")
    row = {"run": name, "stage": "train", "name": name, "outcome": "done"}
    part = write_part(store, url, name, pa.Table.from_pylist([row], schema=OLD), None)
    commit(store, url, schema=OLD, parts=[part], properties={"schema_version": "1"})


def rows_in(store: Store) -> dict[str, dict[str, Any]]:
    table = open_table(store, store.url("runs"))
    assert table is not None
    return {row["name"]: row for row in read_rows(store, table).to_pylist()}


def test_a_row_tells_what_the_run_read_and_wrote(store: Store) -> None:
    append_run(store, run_of("teacher"))
    row = rows_in(store)["teacher"]
    assert json.loads(row["inputs"]) == [CORPUS]
    assert json.loads(row["outputs"]) == []
    assert row["run"] == run_of("teacher").run


def test_a_table_of_before_is_read_and_gets_the_columns_with_the_next_row(store: Store) -> None:
    append_old(store, "before")
    assert rows_in(store)["before"]["outcome"] == "done"
    append_run(store, run_of("after"))
    append_run(store, run_of("again"))
    rows = rows_in(store)
    assert rows["before"]["inputs"] is None
    assert rows["before"]["outcome"] == "done"
    assert json.loads(rows["after"]["inputs"]) == [CORPUS]
    assert set(rows) == {"before", "after", "again"}
    table = open_table(store, store.url("runs"))
    assert table is not None
    assert table.schema.names == RUNS.names
    # Two rows, the columns once, and one row more.
    assert table.version == 3
    assert table.properties["schema_version"] == "2"


def test_a_table_that_lacks_nothing_and_one_that_is_not_there_are_left_alone(store: Store) -> None:
    add_columns(store, store.url("runs"), RUNS)
    assert open_table(store, store.url("runs")) is None
    append_run(store, run_of("a"))
    add_columns(store, store.url("runs"), RUNS)
    table = open_table(store, store.url("runs"))
    assert table is not None
    assert table.version == 0


def test_a_record_lies_by_stage_name_and_run_whatever_the_name(store: Store) -> None:
    run = run_of("a, b/../c")
    write_record(store, run, {"lock_hash": "1"})
    url = record_url(store, "train", run.name, run.run)
    assert url == store.url("records", "train", "a-b-c", f"{run.run}.json")
    record = json.loads(store.read_bytes(url))
    assert (record["name"], record["seconds"], record["lock_hash"]) == ("a, b/../c", 3600, "1")
    assert record["started"] == "2026-01-01T12:00:00+00:00"
    assert record_url(store, "evaluate", "", "1") == store.url(
        "records", "evaluate", "evaluate", "1.json"
    )
