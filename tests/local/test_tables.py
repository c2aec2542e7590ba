import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ich_ray.errors import SurroundingsError
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import (
    Table,
    commit,
    iterate_groups,
    open_table,
    read_rows,
    write_groups,
    write_part,
)

SCHEMA = pa.schema(
    [("exam", pa.string()), ("pixels", pa.binary()), ("flags", pa.list_(pa.bool_()))]
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "a store"))


def rows(*exams: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"exam": exam, "pixels": exam.encode(), "flags": [True, False]} for exam in exams],
        schema=SCHEMA,
    )


def add(store: Store, url: str, name: str, data: pa.Table, sizes: list[int] | None = None) -> int:
    part = write_part(store, url, name, data, sizes)
    return commit(
        store,
        url,
        schema=SCHEMA,
        parts=[part],
        properties={"stage": name},
        transaction=f"t-{name}",
    )


def opened(store: Store, url: str, version: int | None = None) -> Table:
    table = open_table(store, url, version)
    assert table is not None
    return table


def test_a_table_grows_by_versions_and_keeps_the_old_ones(store: Store) -> None:
    url = store.url("t")
    assert open_table(store, url) is None
    assert add(store, url, "b", rows("1", "2")) == 0
    assert add(store, url, "a", rows("3")) == 1
    latest, first = opened(store, url), opened(store, url, 0)
    assert (latest.version, latest.rows, latest.properties) == (1, 3, {"stage": "a"})
    assert (first.version, first.rows, first.properties) == (0, 2, {"stage": "b"})
    assert [Path(file).name for file in latest.files] == ["part-a.parquet", "part-b.parquet"]
    assert read_rows(store, latest, ["pixels", "exam"]).to_pylist()[0] == {
        "pixels": b"3",
        "exam": "3",
    }


def test_any_reader_of_delta_tables_reads_it(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1", "2"), [1, 1])
    assert DeltaTable(url).to_pyarrow_table().to_pylist() == rows("1", "2").to_pylist()


def test_a_repeated_commit_changes_nothing(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1"))
    add(store, url, "b", rows("2"))
    assert add(store, url, "a", rows("1")) == 0
    assert opened(store, url).rows == 2


def test_a_part_without_a_commit_is_not_in_the_table(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1"))
    write_part(store, url, "b", rows("2"), None)
    assert opened(store, url).rows == 1


def test_an_exam_is_a_row_group_and_can_be_skipped(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1", "1", "2", "3"), [2, 1, 1])
    (file,) = opened(store, url).files
    assert [group.num_rows for group in iterate_groups(store, file)] == [2, 1, 1]
    wanted = iterate_groups(store, file, ["exam"], where=("exam", lambda exam: exam != "2"))
    assert [group.to_pylist()[0] for group in wanted] == [{"exam": "1"}, {"exam": "3"}]


def test_pixels_have_no_statistics_and_no_dictionary(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1"))
    column = pq.ParquetFile(opened(store, url).files[0]).metadata.row_group(0).column(1)
    assert column.path_in_schema == "pixels"
    assert column.statistics is None
    assert column.compression == "ZSTD"
    assert not column.has_dictionary_page


def test_a_row_that_fills_a_page_has_its_own(store: Store) -> None:
    schema = pa.schema([("pixels", pa.binary()), ("number", pa.int64())])
    rng = np.random.default_rng(1)
    rows = pa.table(
        {"pixels": [rng.bytes(512 * 1024) for _ in range(4)], "number": [0, 1, 2, 3]}, schema=schema
    )
    sizes = {}
    for page_rows in (1, 1024):
        part = write_groups(
            store, store.url("t"), f"{page_rows}", schema, [rows], page_rows=page_rows
        )
        with store.open(store.url("t", part.path)) as stream:
            assert pq.read_table(stream).equals(rows)
            stream.seek(0)
            column = pq.ParquetFile(stream).metadata.row_group(0).column(0)
            sizes[page_rows] = column.total_uncompressed_size
    assert sizes[1] > sizes[1024], "each page has a header of its own"


def test_commits_at_once_all_land(store: Store) -> None:
    url = store.url("t")
    versions: list[int] = []

    def work(name: str) -> None:
        versions.append(add(store, url, name, rows(name)))

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [0, 1, 2, 3]
    assert opened(store, url).rows == 4


def test_a_lost_or_broken_part_is_named(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1"))
    table = opened(store, url)
    Path(table.files[0]).write_bytes(b"PAR1 nothing")
    with pytest.raises(SurroundingsError, match=r"part-a\.parquet is no whole Parquet file"):
        read_rows(store, table)
    Path(table.files[0]).unlink()
    with pytest.raises(SurroundingsError, match=r"names .*part-a\.parquet.*restore"):
        list(iterate_groups(store, table.files[0]))


def test_a_version_that_is_not_there_is_refused(store: Store) -> None:
    url = store.url("t")
    add(store, url, "a", rows("1"))
    with pytest.raises(SurroundingsError, match="version"):
        open_table(store, url, 7)
